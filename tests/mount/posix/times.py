"""Which operations change which times, and how times are set."""

import ctypes
import os
from collections.abc import Callable

from tests.mount.posix.cases import case, root_case
from tests.mount.posix.observation import Observation, by, called, outcome, put

AT_FDCWD, NOFOLLOW = -100, 0x100
NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
LONG_AGO = 1_000_000_000 * 10**9 + 123_456_789


def _times(path: str) -> tuple[int, int, int]:
    found = os.lstat(path)
    return found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns


def _age(*paths: str) -> None:
    for path in paths:
        os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)


def _ctime_passes(path: str) -> None:
    """Waits until the clock of the filesystem has moved on from a file's ctime."""
    before = os.lstat(path).st_ctime_ns
    while True:
        put("clock", b"x")
        if os.lstat("clock").st_mtime_ns > before:
            os.unlink("clock")
            return


def _what_changes(call: Callable[[], object], *paths: str) -> dict[str, object]:
    """Which of atime, mtime and ctime a call changes."""
    _age(*paths)
    _ctime_passes(paths[0])
    before = {path: _times(path) for path in paths}
    result = outcome(call)
    seen: dict[str, object] = {"result": result if isinstance(result, str) else "ok"}
    for path in paths:
        if os.path.lexists(path):
            pairs = zip("amc", before[path], _times(path), strict=True)
            seen[path] = [letter for letter, old, new in pairs if old != new]
    return seen


@case
def times_of_a_file_that_is_changed() -> Observation:
    put("f", b"content")
    writer, reader = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: os.pwrite(writer, b"X", 0),
        "write nothing": lambda: os.pwrite(writer, b"", 0),
        "read": lambda: os.pread(reader, 10, 0),
        "ftruncate": lambda: os.ftruncate(writer, 3),
        "ftruncate to the same size": lambda: os.ftruncate(writer, 3),
        "truncate": lambda: os.truncate("f", 2),
        "truncate to the same size": lambda: os.truncate("f", 2),
        "chmod": lambda: os.chmod("f", 0o600),
        "chmod to the same": lambda: os.chmod("f", 0o600),
        "chown": lambda: os.chown("f", os.getuid(), os.getgid()),
        "setxattr": lambda: os.setxattr("f", "user.x", b"1"),
        "removexattr": lambda: os.removexattr("f", "user.x"),
        "link": lambda: os.link("f", "g"),
        "unlink of a link": lambda: os.unlink("g"),
        "rename": lambda: (os.rename("f", "g"), os.rename("g", "f")),
        "open": lambda: os.close(os.open("f", os.O_RDWR)),
        "open with O_TRUNC": lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
        "open with O_TRUNC again": lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
        "open with O_CREAT": lambda: os.close(os.open("f", os.O_WRONLY | os.O_CREAT)),
        "utime": lambda: os.utime("f", ns=(LONG_AGO, LONG_AGO)),
    }
    return {words: _what_changes(call, "f", ".") for words, call in calls.items()}


@case
def times_of_directories_in_which_names_come_and_go() -> Observation:
    os.mkdir("d")
    os.mkdir("e")
    put("f")
    calls: dict[str, Callable[[], object]] = {
        "creat": lambda: os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY)),
        "creat of what is there": lambda: os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY)),
        "mkdir": lambda: os.mkdir("d/sub"),
        "mkdir of what is there": lambda: os.mkdir("d/sub"),
        "symlink": lambda: os.symlink("x", "d/l"),
        "mkfifo": lambda: os.mkfifo("d/p"),
        "link": lambda: os.link("f", "d/g"),
        "rename within": lambda: os.rename("d/g", "d/h"),
        "rename between": lambda: os.rename("d/h", "e/h"),
        "rename of a directory": lambda: os.rename("d/sub", "e/sub"),
        "rename over": lambda: os.rename("e/h", "e/i"),
        "unlink": lambda: os.unlink("d/l"),
        "rmdir": lambda: os.rmdir("e/sub"),
        "rmdir of what is not there": lambda: os.rmdir("e/sub"),
        "listing": lambda: os.listdir("d"),
        "lookup": lambda: os.lstat("d/f"),
        "chmod": lambda: os.chmod("d", 0o700),
    }
    found: Observation = {words: _what_changes(call, "d", "e") for words, call in calls.items()}
    return {words: {**seen, "d": [t for t in seen.get("d", "") if t != "a"]} for words, seen in found.items()}


@case
def times_of_a_link() -> Observation:
    put("f")
    os.symlink("f", "l")
    return {
        "utime": _what_changes(lambda: os.utime("l", ns=(5, 6), follow_symlinks=False), "l", "f"),
        "utime through it": _what_changes(lambda: os.utime("l", ns=(5, 6)), "l", "f"),
        "chmod through it": _what_changes(lambda: os.chmod("l", 0o600), "l", "f"),
        "lchown": _what_changes(lambda: os.lchown("l", os.getuid(), os.getgid()), "l", "f"),
        "set": (os.utime("l", ns=(7, 8), follow_symlinks=False), os.lstat("l").st_mtime_ns),
    }


@case
def times_of_new_files_are_now() -> Observation:
    put("before")
    put("f")
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    put("after")
    start, end = os.lstat("before").st_mtime_ns, os.lstat("after").st_mtime_ns
    return {name: all(start <= each <= end for each in _times(name)) for name in ("f", "d", "l", "p")}


def _utimensat(path: str | None, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> object:
    times = (ctypes.c_long * 4)(*atime, *mtime)
    return called("utimensat", AT_FDCWD, os.fsencode(path) if path else None, times, flags)


@case
def times_to_the_nanosecond_now_and_omitted() -> Observation:
    put("f")
    found: Observation = {}
    for words, atime, mtime in (
        ("nanoseconds", (1, 999_999_999), (2, 1)),
        ("omit atime", (0, OMIT), (3, 5)),
        ("omit mtime", (4, 7), (0, OMIT)),
        ("omit both", (0, OMIT), (0, OMIT)),
        ("before 1970", (-1, 5), (-1000, 999)),
        ("after 2038", (1 << 31, 1), (1 << 32, 2)),
        ("too many nanoseconds", (0, 10**9), (0, 0)),
        ("negative nanoseconds", (0, -1), (0, 0)),
    ):
        done = _utimensat("f", atime, mtime)
        found[words] = (done, os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns)
    _age("f")
    found["now for mtime"] = (_utimensat("f", (0, OMIT), (0, NOW)), os.stat("f").st_atime_ns)
    found["is now"] = os.stat("f").st_mtime_ns > LONG_AGO
    found["now for both"] = (_utimensat("f", (0, NOW), (0, NOW)), os.stat("f").st_atime_ns > LONG_AGO)
    fd = os.open("f", os.O_RDONLY)
    found["by descriptor"] = (outcome(os.utime, fd, ns=(11, 12)), os.fstat(fd).st_mtime_ns)
    return found


@root_case
def who_may_set_times() -> Observation:
    put("mine", mode=0o644)
    put("open", mode=0o666)
    put("theirs", mode=0o444)
    os.chown("theirs", 1001, 1001)

    def tries() -> Observation:
        found: Observation = {}
        for name in ("mine", "open", "theirs"):
            found[f"{name}: now"] = outcome(os.utime, name)
            found[f"{name}: given"] = outcome(os.utime, name, ns=(1, 2))
            found[f"{name}: now and omitted"] = _utimensat(name, (0, NOW), (0, OMIT))
            found[f"{name}: both omitted"] = _utimensat(name, (0, OMIT), (0, OMIT))
            found[f"{name}: both now"] = _utimensat(name, (0, NOW), (0, NOW))
        return found

    return by(1001, 1001, tries)
