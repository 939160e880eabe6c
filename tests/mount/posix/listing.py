"""Directories that are listed while names in them come and go."""

import ctypes
import os
import stat
import struct

from tests.mount.posix.cases import case, large_case
from tests.mount.posix.observation import Observation, in_child, outcome, put

_SYS_GETDENTS64 = 217 if os.uname().machine == "x86_64" else 61
_libc = ctypes.CDLL(None, use_errno=True)


def entries(fd: int, size: int = 32768) -> list[tuple[int, int, int, bytes]]:
    """The next entries of a directory: inode number, where to go on after it, type, name."""
    buffer = ctypes.create_string_buffer(size)
    count = _libc.syscall(_SYS_GETDENTS64, fd, buffer, size)
    if count < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    found, at = [], 0
    while at < count:
        number, after, length, kind = struct.unpack_from("<QqHB", buffer, at)
        name = buffer.raw[at + 19 : at + length].split(b"\0", 1)[0]
        found.append((number, after, kind, name))
        at += length
    return found


def names(fd: int) -> list[bytes]:
    """All that is still to come."""
    found: list[bytes] = []
    while more := entries(fd):
        found += [name for *_, name in more]
    return found


@case
def types_and_numbers_of_entries() -> Observation:
    put("file")
    os.mkdir("directory")
    os.symlink("x", "link")
    os.mkfifo("fifo")
    os.mknod("socket", stat.S_IFSOCK | 0o600)
    fd = os.open(".", os.O_RDONLY)
    found: Observation = {}
    for number, _, kind, name in entries(fd):
        seen = os.lstat(name)
        same = seen.st_ino == number if name != b".." else ""
        found[ascii(name)] = (kind, kind == stat.S_IFMT(seen.st_mode) >> 12, same)
    found["at the end"] = entries(fd)
    found["too small a buffer"] = outcome(entries, os.open(".", os.O_RDONLY), 10)
    found["no directory"] = outcome(entries, os.open("file", os.O_RDONLY))
    return found


@case
def an_empty_directory() -> Observation:
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    return {"entries": sorted(names(fd)), "listdir": os.listdir("d"), "then": names(fd)}


@case
def rewinding_sees_what_is_new() -> Observation:
    for number in range(10):
        put(f"f{number}")
    fd = os.open(".", os.O_RDONLY)
    found: Observation = {"first": sorted(names(fd))}
    put("new")
    os.unlink("f3")
    os.rename("f4", "renamed")
    os.lseek(fd, 0, os.SEEK_SET)
    found["rewound"] = sorted(names(fd))
    put("newer")
    os.lseek(fd, 0, os.SEEK_SET)
    found["again"] = sorted(names(fd))
    found["by another"] = sorted(os.listdir())
    return found


@case
def going_on_from_where_one_was() -> Observation:
    for number in range(50):
        put(f"f{number:02}")
    fd = os.open(".", os.O_RDONLY)
    whole = entries(fd)
    found: Observation = {"all": sorted(name for *_, name in whole)}
    for index in (0, 1, 17, 50):
        os.lseek(fd, whole[index][1], os.SEEK_SET)
        found[f"after {index}"] = names(fd) == [name for *_, name in whole[index + 1 :]]
    os.lseek(fd, 0, os.SEEK_SET)
    few = entries(fd, 200)
    removed = {name for *_, name in whole[20:30]} - {b".", b".."}
    for name in removed:
        os.unlink(name)
    rest = names(fd)
    seen = [name for *_, name in few] + rest
    found["each once"] = len(seen) == len(set(seen))
    found["what stayed"] = {name for *_, name in whole} - removed <= set(seen)
    return found


@large_case
def each_entry_that_stays_is_seen_once() -> Observation:
    stay = {b"stays%04d" % number for number in range(2000)}
    for name in stay:
        os.mknod(name)
    fd = os.open(".", os.O_RDONLY)
    seen: list[bytes] = []
    made = 0
    while more := entries(fd, 8192):
        seen += [name for *_, name in more if name.startswith(b"stays")]

        def come_and_go(made: int = made) -> None:
            for number in range(made, made + 10):
                os.mknod(b"comes%04d" % number)
                if number % 2:
                    os.unlink(b"comes%04d" % number)

        in_child(come_and_go)
        made += 10
    return {"once": len(seen) == len(set(seen)), "all": set(seen) == stay}


@large_case
def thousands_of_entries() -> Observation:
    os.mkdir("d")
    expected = {f"entry{number:04}" for number in range(3000)}
    for name in expected:
        os.mknod(f"d/{name}")
    listed = os.listdir("d")
    found: Observation = {"all": set(listed) == expected, "once": len(listed) == len(expected)}
    for number in range(0, 3000, 3):
        os.unlink(f"d/entry{number:04}")
    left = os.listdir("d")
    found["left"] = (len(left), len(set(left)))
    found["types"] = {entry.is_file(follow_symlinks=False) for entry in os.scandir("d")}
    return found


@case
def removing_while_listing() -> Observation:
    os.mkdir("d")
    for number in range(200):
        os.mknod(f"d/f{number}")
    fd = os.open("d", os.O_RDONLY)
    removed = 0
    while more := entries(fd, 1024):
        for *_, name in more:
            if name not in (b".", b".."):
                os.unlink(name, dir_fd=fd)
                removed += 1
    return {"removed": removed, "left": os.listdir("d"), "rmdir": outcome(os.rmdir, "d")}


@case
def a_listing_sees_each_change_of_its_own_process() -> Observation:
    found: Observation = {}
    for turn in range(20):
        put(f"f{turn}")
        found[f"made {turn}"] = sorted(os.listdir())
    for turn in range(0, 20, 2):
        os.unlink(f"f{turn}")
        found[f"removed {turn}"] = sorted(os.listdir())
        os.rename(f"f{turn + 1}", f"g{turn}")
        found[f"renamed {turn}"] = sorted(os.listdir())
    return found
