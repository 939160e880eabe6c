"""What files hold: sparse and large ones, truncated, appended, mapped, synced, copied within the kernel."""

import ctypes
import fcntl
import mmap
import os
import random
from collections.abc import Callable

from tests.mount.posix.cases import case
from tests.mount.posix.observation import (
    Observation,
    called,
    content,
    in_child,
    look,
    outcome,
    put,
)

GIB = 1 << 30


@case
def holes_and_files_over_four_gib() -> Observation:
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    found: Observation = {"write": os.pwrite(fd, b"at five", 5 * GIB)}
    found["size"] = os.fstat(fd).st_size
    found["few blocks"] = os.fstat(fd).st_blocks < 100
    found["holes are zeros"] = [
        os.pread(fd, 4, at) for at in (0, 4096, GIB, 4 * GIB - 2, 4 * GIB, 5 * GIB - 4)
    ]
    found["read"] = os.pread(fd, 100, 5 * GIB)
    os.pwrite(fd, b"around 4 GiB", 4 * GIB - 6)
    found["around"] = os.pread(fd, 16, 4 * GIB - 8)
    found["end"] = os.lseek(fd, 0, os.SEEK_END)
    os.write(fd, b" and more")
    found["appended"] = (os.fstat(fd).st_size, os.pread(fd, 100, 5 * GIB))
    found["truncate"] = (outcome(os.ftruncate, fd, 4 * GIB + 1), os.fstat(fd).st_size)
    found["last"] = os.pread(fd, 10, 4 * GIB - 6)
    found["by name"] = (outcome(os.truncate, "f", 6 * GIB), os.stat("f").st_size)
    found["too large"] = (outcome(os.ftruncate, fd, 1 << 62), outcome(os.pwrite, fd, b"x", 1 << 62))
    os.ftruncate(fd, 0)
    return found


@case
def truncating_up_and_down() -> Observation:
    put("f", b"0123456789" * 1000)
    fd = os.open("f", os.O_RDWR)
    found: Observation = {}
    for size in (5, 3, 5000, 4096, 4095, 4097, 10, 0, 1, 9000):
        os.ftruncate(fd, size)
        found[f"to {size}"] = (os.fstat(fd).st_size, os.stat("f").st_size, content("f"))
        os.pwrite(fd, b"x", size // 2)
    for size in (100, 5, 300):
        os.truncate("f", size)
        found[f"by name to {size}"] = (os.fstat(fd).st_size, os.pread(fd, 400, 0))
    appender = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.ftruncate(fd, 2)
    os.write(appender, b"appended")
    found["append after truncate"] = content("f")
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    os.write(appender, b"again")
    found["append after O_TRUNC"] = content("f")
    os.lseek(fd, 20, os.SEEK_SET)
    os.write(fd, b"far")
    found["write beyond the end"] = content("f")
    return found


@case
def random_writes_of_every_size() -> Observation:
    found: Observation = {}
    chance = random.Random(1)
    fd, model = os.open("f", os.O_RDWR | os.O_CREAT, 0o644), bytearray()
    for turn in range(30):
        at, block = chance.randrange(300_000), chance.randbytes(chance.choice((1, 511, 4096, 5000, 140_000)))
        if at > len(model):
            model.extend(bytes(at - len(model)))
        model[at : at + len(block)] = block
        assert os.pwrite(fd, block, at) == len(block)
        at, size = chance.randrange(300_000), chance.choice((1, 4096, 131_072))
        found[f"turn {turn}"] = os.pread(fd, size, at) == bytes(model[at : at + size])
    found["all"] = content("f") == bytes(model)
    found["size"] = os.stat("f").st_size == len(model)
    return found


@case
def vectors_and_ends() -> Observation:
    put("f", b"abcdefghij")
    fd = os.open("f", os.O_RDWR)
    one, two = bytearray(4), bytearray(10)
    return {
        "readv": (os.preadv(fd, [one, two], 0), bytes(one), bytes(two)),
        "writev": (os.pwritev(fd, [b"12", b"345"], 8), content("f")),
        "read over the end": os.pread(fd, 100, 11),
        "read at the end": os.pread(fd, 100, 13),
        "read beyond": os.pread(fd, 100, 1000),
        "write nothing": (os.pwrite(fd, b"", 100), os.fstat(fd).st_size),
    }


@case
def files_made_durable() -> Observation:
    found: Observation = {}
    os.mkdir("d")
    for words, path, flags in (("writer", "f", os.O_RDWR | os.O_CREAT), ("reader", "f", os.O_RDONLY)):
        fd = os.open(path, flags, 0o644)
        if words == "writer":
            os.write(fd, b"durable")
        found[words] = (outcome(os.fsync, fd), outcome(os.fdatasync, fd))
    fd = os.open("d", os.O_RDONLY)
    found["directory"] = (outcome(os.fsync, fd), outcome(os.fdatasync, fd))
    found["syncfs"] = called("syncfs", fd)
    os.mkfifo("p")
    found["fifo"] = outcome(os.fsync, os.open("p", os.O_RDWR))
    synced = os.open("s", os.O_RDWR | os.O_CREAT | os.O_SYNC, 0o644)
    found["O_SYNC"] = (os.write(synced, b"x" * 5000), os.pread(synced, 3, 0))
    found["sync_file_range"] = called("sync_file_range", synced, ctypes.c_long(0), ctypes.c_long(0), 7)
    found["fadvise"] = outcome(os.posix_fadvise, synced, 0, 0, os.POSIX_FADV_DONTNEED)
    found["readahead"] = called("readahead", synced, ctypes.c_long(0), ctypes.c_size_t(4096))
    return found


@case
def shared_mappings() -> Observation:
    put("f", b"a" * 10_000)
    fd = os.open("f", os.O_RDWR)
    found: Observation = {}
    with mmap.mmap(fd, 10_000) as mapped:
        mapped[5:10] = b"mmap!"
        found["by read"] = os.pread(fd, 12, 0)
        found["by another descriptor"] = content("f")[:12]
        found["by another process"] = in_child(lambda: content("f")[:12])
        os.pwrite(fd, b"write", 20)
        found["writes are mapped"] = mapped[18:27]

        def child() -> bytes:
            with open("f", "r+b") as file, mmap.mmap(file.fileno(), 0) as other:
                other[100:105] = b"child"
            return content("f")[98:107]

        found["of a child"] = in_child(child)
        found["is mapped here"] = mapped[98:107]
        mapped.flush()
        os.close(fd)
        mapped[9000:9004] = b"late"
    found["after close"] = content("f")[8998:9006]
    return found


@case
def private_and_read_only_mappings() -> Observation:
    put("f", b"a" * 5000)
    fd, reader = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    found: Observation = {}
    with mmap.mmap(fd, 5000, flags=mmap.MAP_PRIVATE) as mapped:
        mapped[0:7] = b"private"
        found["private"] = (mapped[:8], content("f")[:8])
    with mmap.mmap(reader, 5000, prot=mmap.PROT_READ) as mapped:
        os.pwrite(fd, b"shared", 0)
        found["read only"] = mapped[:7]
    found["shared of a reader"] = outcome(lambda: mmap.mmap(reader, 5000).close())
    found["private of a reader"] = outcome(lambda: mmap.mmap(reader, 5000, flags=mmap.MAP_PRIVATE).close())
    found["of a writer"] = outcome(lambda: mmap.mmap(os.open("f", os.O_WRONLY), 5000).close())
    found["executable"] = outcome(
        lambda: mmap.mmap(reader, 5000, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
    )
    directory = os.open(".", os.O_RDONLY)
    found["of a directory"] = outcome(lambda: mmap.mmap(directory, 100, prot=mmap.PROT_READ).close())
    return found


@case
def mappings_of_removed_and_grown_files() -> Observation:
    put("f", b"a" * 4096)
    fd = os.open("f", os.O_RDWR)
    os.ftruncate(fd, 8192)
    with mmap.mmap(fd, 8192) as mapped:
        os.unlink("f")
        os.close(fd)
        mapped[5000:5005] = b"still"
        found: Observation = {"read": mapped[4999:5006], "gone": look("f")}
        put("f", b"another")
        found["another"] = (content("f"), mapped[:3])
    return found


@case
def a_program_is_run() -> Observation:
    put("script", b"#!/bin/sh\necho $1\n", 0o755)
    found: Observation = {}
    read, write = os.pipe()
    pid = os.posix_spawn(
        "./script", ["script", "heard"], dict(os.environ), file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)]
    )
    found["status"] = os.waitpid(pid, 0)[1]
    found["said"] = os.read(read, 100)
    with open("/bin/true", "rb") as file:
        put("true", file.read(), 0o755)
    found["binary"] = os.waitpid(os.posix_spawn("./true", ["true"], {}), 0)[1]
    os.chmod("script", 0o644)
    found["not executable"] = outcome(os.posix_spawn, "./script", ["script"], {})
    writer = os.open("true", os.O_WRONLY)
    found["being written"] = outcome(os.posix_spawn, "./true", ["true"], {})
    os.close(writer)
    return found


# -- what the kernel can do for a filesystem that helps: done, or refused so that programs do it themselves


def _copied(call: Callable[[int, int], object]) -> tuple[object, bool]:
    """What a call on two files returns, and whether the second is the same as the first then."""
    put("source", b"0123456789" * 2000)
    source, target = os.open("source", os.O_RDONLY), os.open("target", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        return outcome(call, source, target), content("target") == content("source")
    finally:
        os.close(source)
        os.close(target)
        os.unlink("target")


@case
def copies_within_the_kernel() -> Observation:
    def splice(source: int, target: int) -> int:
        read, write = os.pipe()
        done = 0
        while count := os.splice(source, write, 65536):
            while count:
                moved = os.splice(read, target, count)
                count, done = count - moved, done + moved
        return done

    return {
        "copy_file_range": _copied(lambda source, target: os.copy_file_range(source, target, 1 << 20)),
        "sendfile": _copied(lambda source, target: os.sendfile(target, source, 0, 1 << 20)),
        "splice": _copied(splice),
    }


@case
def clones() -> Observation:
    ficlone = 0x40049409
    return {"FICLONE": _copied(lambda source, target: fcntl.ioctl(target, ficlone, source))[0]}


@case
def space_reserved_and_punched() -> Observation:
    found: Observation = {}
    modes = {"": 0, "keep size": 1, "punch": 3, "collapse": 8, "zero": 16, "insert": 32}
    for words, how in modes.items():
        put("f", b"x" * 16384)
        fd = os.open("f", os.O_RDWR)
        found[f"fallocate {words}"] = called("fallocate", fd, how, ctypes.c_long(4096), ctypes.c_long(4096))
        found[f"{words}, then"] = (os.fstat(fd).st_size, content("f").count(b"x"))
        os.close(fd)
    fd = os.open("g", os.O_RDWR | os.O_CREAT, 0o644)
    found["posix_fallocate"] = (outcome(os.posix_fallocate, fd, 0, 20_000), os.fstat(fd).st_size)
    reader = os.open("g", os.O_RDONLY)
    found["of a reader"] = called("fallocate", reader, 0, ctypes.c_long(0), ctypes.c_long(100))
    return found


@case
def holes_are_found_or_passed_over() -> Observation:
    fd = os.open("f", os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b"x" * 4096, 1 << 20)
    os.fsync(fd)
    return {
        "first data": outcome(os.lseek, fd, 0, os.SEEK_DATA),
        "first hole": outcome(os.lseek, fd, 0, os.SEEK_HOLE),
        "hole after data": outcome(os.lseek, fd, 1 << 20, os.SEEK_HOLE),
        "data beyond the end": outcome(os.lseek, fd, 2 << 20, os.SEEK_DATA),
        "hole beyond the end": outcome(os.lseek, fd, 2 << 20, os.SEEK_HOLE),
    }


@case
def ioctls() -> Observation:
    put("f")
    fd, directory = os.open("f", os.O_RDWR), os.open(".", os.O_RDONLY)
    fs_ioc_getflags, fionread, unknown = 0x80086601, 0x541B, 0x5599
    buffer = bytearray(8)
    return {
        "FIONREAD": outcome(lambda: bytes(fcntl.ioctl(fd, fionread, bytes(4)))),
        "unknown": outcome(fcntl.ioctl, fd, unknown, 0),
        "TCGETS": outcome(os.isatty, fd),
        "unknown of a directory": outcome(fcntl.ioctl, directory, unknown, 0),
        "GETFLAGS": outcome(lambda: fcntl.ioctl(fd, fs_ioc_getflags, buffer) and None),
    }
