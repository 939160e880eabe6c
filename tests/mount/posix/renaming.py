"""Hard links and renames: of every kind of file over every other, with flags, over what is open."""

import ctypes
import functools
import os
from typing import Any

from tests.mount.posix.cases import case, register
from tests.mount.posix.observation import Observation, called, content, look, mode, outcome, put
from tests.mount.posix.opening import make

AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old: str, new: str, flags: int) -> object:
    done = called("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags))
    return "ok" if done == 0 else done


SOURCES = ("file", "link", "dangling", "fifo", "empty directory", "full directory")
TARGETS = (
    "missing",
    "file",
    "link",
    "dangling",
    "link to directory",
    "fifo",
    "empty directory",
    "full directory",
)


def _made(kind: str, name: str) -> None:
    os.mkdir(name)
    os.chdir(name)
    if kind == "full directory":
        os.makedirs("it/inner")
    elif kind == "empty directory":
        os.mkdir("it")
    elif kind != "missing":
        make(kind)
    os.chdir("..")


def _tree(top: str) -> list[tuple[str, list[str], list[str]]]:
    return [(at, sorted(directories), sorted(files)) for at, directories, files in sorted(os.walk(top))]


def _rename_over_everything(source: str, flags: int) -> Observation:
    found: Observation = {}
    for number, target in enumerate(TARGETS):
        old, new = f"s{number}", f"t{number}"
        _made(source, old)
        _made(target, new)
        found[target] = renameat2(f"{old}/it", f"{new}/it", flags)
        found[f"{target}, then"] = (look(f"{old}/it"), look(f"{new}/it"), _tree(old), _tree(new))
    return found


for _flags, _words in ((0, "rename"), (NOREPLACE, "rename_noreplace"), (EXCHANGE, "exchange")):
    for _kind in SOURCES:
        _run = functools.partial(_rename_over_everything, _kind, _flags)
        register(f"{_words}_{_kind.replace(' ', '_')}_over_everything", _run)


@case
def impossible_renames() -> Observation:
    os.makedirs("a/b/c")
    put("f")
    found: Observation = {
        "into itself": outcome(os.rename, "a", "a/x"),
        "into its own subdirectory": outcome(os.rename, "a", "a/b/c/x"),
        "over its own subdirectory": outcome(os.rename, "a", "a/b"),
        "over what it lies in": outcome(os.rename, "a/b", "a"),
        "over the parent of what it lies in": outcome(os.rename, "a/b/c", "a"),
        "to itself": outcome(os.rename, "a", "a"),
        "exchange with what it lies in": renameat2("a/b", "a", EXCHANGE),
        "exchange with what lies in it": renameat2("a", "a/b", EXCHANGE),
        "exchange with itself": renameat2("a", "a", EXCHANGE),
        "exchange with nothing": renameat2("a", "none", EXCHANGE),
        "noreplace itself": renameat2("a", "a", NOREPLACE),
        "noreplace and exchange": renameat2("a", "f", NOREPLACE | EXCHANGE),
        "unknown flags": renameat2("a", "x", 1 << 10),
        "whiteout and exchange": renameat2("a", "f", WHITEOUT | EXCHANGE),
        "to another filesystem": outcome(os.rename, "f", "/dev/shm/none/f"),
    }
    found["left"] = _tree(".")
    return found


@case
def hard_links() -> Observation:
    put("one", b"first")
    found: Observation = {"link": outcome(os.link, "one", "two"), "again": outcome(os.link, "one", "two")}
    os.mkdir("d")
    os.link("two", "d/three")
    found["one file"] = len({os.stat(name).st_ino for name in ("one", "two", "d/three")})
    found["links"] = [look(name) for name in ("one", "two", "d/three")]
    put("two", b"through the second")
    os.chmod("d/three", 0o600)
    found["seen through the first"] = (content("one"), mode("one"))
    found["rename over itself"] = outcome(os.rename, "one", "two")
    found["both stay"] = sorted(os.listdir())
    found["rename the first"] = outcome(os.rename, "one", "d/renamed")
    found["then"] = (content("two"), content("d/renamed"), look("d/renamed"))
    found["unlink"] = (outcome(os.unlink, "two"), look("d/three"), look("d/renamed"))
    found["replace one"] = (put("new", b"n"), os.replace("new", "d/three"), look("d/renamed"))
    found["last"] = (content("d/renamed"), content("d/three"))
    return found


@case
def links_of_other_kinds() -> Observation:
    found: Observation = {}
    for kind in ("directory", "fifo", "dangling", "socket"):
        make(kind, kind)
        found[kind] = outcome(os.link, kind, f"{kind}2", follow_symlinks=False)
        found[f"{kind}, then"] = (look(kind), look(f"{kind}2"))
        found[f"{kind}, one removed"] = (outcome(os.unlink, kind), look(f"{kind}2"))
    put("f")
    os.symlink("f", "l")
    found["following"] = (outcome(os.link, "l", "by link", follow_symlinks=True), look("by link"))
    fd = os.open("f", os.O_RDONLY)
    found["of a descriptor"] = (
        outcome(os.link, f"/proc/self/fd/{fd}", "by fd", follow_symlinks=True),
        look("by fd"),
    )
    os.unlink("f")
    for name in ("by link", "by fd"):
        if os.path.lexists(name):
            os.unlink(name)
    found["of a removed file"] = outcome(os.link, f"/proc/self/fd/{fd}", "back", follow_symlinks=True)
    return found


@case
def many_links() -> Observation:
    put("f")
    for number in range(40):
        os.link("f", f"l{number}")
    found: Observation = {"links": os.stat("l39").st_nlink}
    os.unlink("f")
    for number in range(0, 40, 2):
        os.unlink(f"l{number}")
    found["fewer"] = (os.stat("l39").st_nlink, content("l1"))
    fd = os.open("l1", os.O_RDWR)
    for number in range(1, 40, 2):
        os.unlink(f"l{number}")
    found["none"] = (os.fstat(fd).st_nlink, os.read(fd, 10), os.listdir())
    return found


@case
def rename_over_an_open_file() -> Observation:
    put("old", b"the old one")
    put("new", b"the new one")
    old, new = os.open("old", os.O_RDWR), os.open("new", os.O_RDWR)
    os.rename("new", "old")
    found: Observation = {
        "read": [os.pread(fd, 100, 0) for fd in (old, new)],
        "links": [os.fstat(fd).st_nlink for fd in (old, new)],
        "by name": content("old"),
    }
    os.pwrite(old, b"XXX", 0)
    os.pwrite(new, b"YYY", 0)
    found["written"] = (content("old"), os.pread(old, 100, 0))
    os.ftruncate(old, 2)
    found["truncated"] = (os.fstat(old).st_size, os.stat("old").st_size)
    return found


@case
def exchange_of_open_files_and_directories() -> Observation:
    put("f", b"file")
    os.makedirs("d/sub")
    put("d/sub/g", b"inner")
    put("h", b"other")
    file, directory = os.open("f", os.O_RDWR), os.open("d/sub", os.O_RDONLY)
    other = os.open("h", os.O_RDWR)
    found: Observation = {"file and directory": renameat2("f", "d", EXCHANGE)}
    found["then"] = (content("d"), sorted(os.listdir("f/sub")), os.listdir(directory))
    found["files"] = renameat2("d", "h", EXCHANGE)
    os.pwrite(file, b"FI", 0)
    os.pwrite(other, b"OT", 0)
    found["contents"] = (content("h"), content("d"))
    os.mkdir("e")
    found["across directories"] = renameat2("f/sub", "e", EXCHANGE)
    found["trees"] = _tree(".")
    found["dotdot"] = os.path.samefile("f/sub/..", "f") and os.path.samefile("e/..", ".")
    found["by descriptor"] = os.read(os.open("g", os.O_RDONLY, dir_fd=directory), 10)
    return found


@case
def a_working_directory_that_is_renamed() -> Observation:
    os.makedirs("a/b")
    put("a/b/f", b"x")
    os.chdir("a/b")
    os.rename("../../a", "../../z")
    found: Observation = {"cwd": os.getcwd().rpartition("/z/")[2], "read": content("f")}
    put("g", b"made after")
    os.chdir("../..")
    found["tree"] = _tree("z")
    os.mkdir("y")
    os.rename("z/b", "y/b")
    found["dotdot"] = os.path.samefile("y/b/..", "y")
    found["moved"] = _tree("y")
    return found


@case
def renames_there_and_back() -> Observation:
    found: Observation = {}
    put("a", b"a")
    put("b", b"b")
    for turn in range(8):
        os.rename("a", "t")
        os.rename("b", "a")
        os.rename("t", "b")
        found[f"turn {turn}"] = (content("a"), content("b"))
    os.mkdir("d")
    for turn in range(4):
        os.rename("a", "d/a")
        found[f"away {turn}"] = (outcome(content, "a"), content("d/a"))
        os.rename("d/a", "a")
        found[f"back {turn}"] = (content("a"), outcome(content, "d/a"))
    return found


@case
def replaced_again_and_again() -> Observation:
    found: dict[str, Any] = {}
    for turn in range(10):
        put("new", b"%d" % turn * turn)
        os.replace("new", "f")
        found[str(turn)] = (content("f"), look("f"))
        put("g", b"%d" % turn)
        os.unlink("g")
    return found
