"""open(2): every flag on every kind of file, modes and umask, appending, and what cannot be opened."""

import functools
import mmap
import os
import socket
import stat

from tests.mount.posix.cases import case, register
from tests.mount.posix.observation import (
    Observation,
    content,
    in_child,
    look,
    mode,
    opened,
    outcome,
    put,
)

KINDS = ("missing", "file", "directory", "link", "dangling", "link to directory", "loop", "fifo", "socket")
NONBLOCK = os.O_NONBLOCK
FLAGS = {
    "RDONLY": os.O_RDONLY,
    "WRONLY": os.O_WRONLY,
    "RDWR": os.O_RDWR,
    "RDONLY|NOFOLLOW": os.O_NOFOLLOW,
    "RDONLY|DIRECTORY": os.O_DIRECTORY,
    "WRONLY|DIRECTORY": os.O_WRONLY | os.O_DIRECTORY,
    "DIRECTORY|NOFOLLOW": os.O_DIRECTORY | os.O_NOFOLLOW,
    "PATH": os.O_PATH,
    "PATH|NOFOLLOW": os.O_PATH | os.O_NOFOLLOW,
    "PATH|DIRECTORY": os.O_PATH | os.O_DIRECTORY,
    "RDONLY|TRUNC": os.O_TRUNC,
    "WRONLY|TRUNC": os.O_WRONLY | os.O_TRUNC,
    "WRONLY|APPEND": os.O_WRONLY | os.O_APPEND,
    "RDWR|SYNC": os.O_RDWR | os.O_SYNC,
    "RDWR|DSYNC": os.O_RDWR | os.O_DSYNC,
    "CREAT": os.O_CREAT,
    "CREAT|EXCL": os.O_CREAT | os.O_EXCL | os.O_WRONLY,
    "CREAT|NOFOLLOW": os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR,
    "CREAT|DIRECTORY": os.O_CREAT | os.O_DIRECTORY,
    "CREAT|TRUNC": os.O_CREAT | os.O_TRUNC | os.O_WRONLY,
    "NOATIME": os.O_NOATIME,
    "RDONLY|EXCL": os.O_EXCL,
}


def make(kind: str, name: str = "it") -> None:
    """Makes a file of a kind under a name; what a link leads to lies beside it."""
    if kind == "file":
        put(name)
    elif kind == "directory":
        os.mkdir(name)
    elif kind == "link":
        put("target")
        os.symlink("target", name)
    elif kind == "dangling":
        os.symlink("nowhere", name)
    elif kind == "link to directory":
        os.mkdir("target")
        os.symlink("target", name)
    elif kind == "loop":
        os.symlink(name, name)
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "socket":
        os.mknod(name, stat.S_IFSOCK | 0o644)


def _open_kind(kind: str) -> Observation:
    make(kind)
    found: Observation = {}
    for words, flags in FLAGS.items():
        found[words] = opened("it", flags | NONBLOCK)
        found[f"after {words}"] = (look("it"), look("target"), sorted(os.listdir()))
        if kind == "missing" and found[words] == "ok":
            os.unlink("it")
        elif kind == "dangling" and os.path.exists("nowhere"):
            os.unlink("nowhere")
        elif kind == "file":
            put("it")
    return found


for _kind in KINDS:
    register(f"open_{_kind.replace(' ', '_')}", functools.partial(_open_kind, _kind))


@case
def modes_of_new_files_and_umask() -> Observation:
    found: Observation = {}
    for umask in (0, 0o22, 0o77, 0o777):
        os.umask(umask)
        for wanted in (0, 0o444, 0o666, 0o777, 0o1777, 0o2755, 0o4755, 0o7777):
            tag = f"{umask:o}-{wanted:o}"
            os.close(os.open(f"f{tag}", os.O_CREAT | os.O_EXCL | os.O_RDWR, wanted))
            os.mkdir(f"d{tag}", wanted)
            os.mknod(f"n{tag}", stat.S_IFREG | wanted)
            os.mkfifo(f"p{tag}", wanted)
            found[tag] = [look(f"{kind}{tag}") for kind in "fdnp"]
    for name in os.listdir():
        if name.startswith("d"):
            os.chmod(name, 0o755)
    return found


@case
def a_new_file_without_permissions_is_written_through_its_descriptor() -> Observation:
    fd = os.open("f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0)
    found: Observation = {"write": os.write(fd, b"secret"), "read": os.pread(fd, 10, 0)}
    found["truncate"] = outcome(os.ftruncate, fd, 3)
    os.close(fd)
    found["open again"] = opened("f", os.O_RDONLY)
    found["open to write"] = opened("f", os.O_RDWR | os.O_CREAT)
    found["is"] = look("f")
    os.chmod("f", 0o600)
    found["content"] = content("f")
    return found


@case
def two_processes_append() -> Observation:
    def lines(letter: bytes) -> int:
        fd = os.open("f", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        return sum(os.write(fd, letter * 40 + b"\n") for _ in range(30))

    def both() -> tuple[int, int]:
        return in_child(lambda: lines(b"b")), lines(b"c")

    first = os.open("f", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    found: Observation = {"others": in_child(both), "own": lines(b"a"), "late": os.write(first, b"end\n")}
    written = content("f").splitlines()
    found["lines"] = sorted((line[:1], len(line), len(set(line))) for line in written[:-1])
    found["last"] = written[-1]
    os.pwrite(first, b"not at the beginning", 0)
    found["pwrite appends"] = content("f").startswith(b"not")
    return found


@case
def offsets_of_an_appending_descriptor() -> Observation:
    put("f", b"12345")
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    found: Observation = {"at first": os.lseek(fd, 0, os.SEEK_CUR), "written": os.write(fd, b"67")}
    found["then"] = os.lseek(fd, 0, os.SEEK_CUR)
    os.ftruncate(fd, 3)
    found["after truncate"] = (os.write(fd, b"ab"), os.lseek(fd, 0, os.SEEK_CUR), content("f"))
    os.ftruncate(fd, 10)
    found["after growing"] = (os.write(fd, b"cd"), os.lseek(fd, 0, os.SEEK_CUR), content("f"))
    return found


@case
def path_descriptors() -> Observation:
    put("f", b"hello")
    os.mkdir("d")
    put("d/g", b"in d")
    os.symlink("f", "l")
    file, directory = os.open("f", os.O_PATH), os.open("d", os.O_PATH)
    link = os.open("l", os.O_PATH | os.O_NOFOLLOW)
    found: Observation = {
        "read": outcome(os.read, file, 1),
        "write": outcome(os.write, file, b"x"),
        "fchmod": outcome(os.fchmod, file, 0o600),
        "ftruncate": outcome(os.ftruncate, file, 0),
        "fsync": outcome(os.fsync, file),
        "listdir": outcome(os.listdir, directory),
        "stat": [oct(os.fstat(fd).st_mode) for fd in (file, directory, link)],
        "readlink": outcome(os.readlink, b"", dir_fd=link),
        "openat": os.read(os.open("g", os.O_RDONLY, dir_fd=directory), 10),
    }
    os.rename("f", "moved")
    os.rename("d", "e")
    found["reopened"] = os.read(os.open(f"/proc/self/fd/{file}", os.O_RDONLY), 10)
    found["openat after rename"] = os.read(os.open("g", os.O_RDONLY, dir_fd=directory), 10)
    found["chmod through proc"] = outcome(os.chmod, f"/proc/self/fd/{file}", 0o640)
    found["mode"] = mode("moved")
    return found


@case
def direct_io() -> Observation:
    memory = mmap.mmap(-1, 8192)
    memory.write(b"d" * 8192)
    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    found: Observation = {"write": os.pwritev(fd, [memory], 0), "size": os.fstat(fd).st_size}
    found["read by another"] = content("f") == b"d" * 8192
    put("g", b"g" * 5000)
    other = os.open("g", os.O_RDONLY | os.O_DIRECT)
    found["read"] = os.preadv(other, [memory], 0)
    found["what"] = memory[:5000] == b"g" * 5000
    found["at the end"] = os.preadv(other, [memory], 8192)
    return found


@case
def temporary_files_without_a_name() -> Observation:
    return {"open": opened(".", os.O_TMPFILE | os.O_RDWR, 0o600)}


@case
def truncating_opens_of_an_open_file() -> Observation:
    put("f", b"x" * 5000)
    reader, writer = os.open("f", os.O_RDONLY), os.open("f", os.O_RDWR)
    found: Observation = {"before": len(os.pread(reader, 10000, 0))}
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    found["after"] = (os.fstat(reader).st_size, os.fstat(writer).st_size, os.pread(reader, 10, 0))
    os.pwrite(writer, b"new", 10)
    found["written"] = (os.pread(reader, 100, 0), os.stat("f").st_size)
    found["creat"] = opened("f", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    found["then"] = (os.fstat(reader).st_size, look("f"))
    return found


@case
def what_a_descriptor_may_not_do() -> Observation:
    put("f")
    reader, writer = os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    directory = os.open(".", os.O_RDONLY)
    return {
        "write to a reader": outcome(os.write, reader, b"x"),
        "read from a writer": outcome(os.read, writer, 1),
        "truncate a reader": outcome(os.ftruncate, reader, 0),
        "truncate to less than nothing": outcome(os.ftruncate, writer, -1),
        "truncate a directory": outcome(os.ftruncate, directory, 0),
        "read a directory": outcome(os.read, directory, 1),
        "write a directory": outcome(os.write, directory, b"x"),
        "pread before the beginning": outcome(os.pread, reader, 1, -1),
        "pwrite before the beginning": outcome(os.pwrite, writer, b"x", -1),
        "seek before the beginning": outcome(os.lseek, reader, -1, os.SEEK_SET),
        "seek far": outcome(os.lseek, reader, 1 << 40, os.SEEK_SET),
        "read there": outcome(os.read, reader, 10),
        "seek from the end": outcome(os.lseek, reader, -2, os.SEEK_END),
        "read the end": outcome(os.read, reader, 10),
    }


@case
def fifos() -> Observation:
    os.mkfifo("p")
    found: Observation = {"no reader": opened("p", os.O_WRONLY | os.O_NONBLOCK)}
    reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
    found["nobody writes"] = outcome(os.read, reader, 10)
    writer = os.open("p", os.O_WRONLY | os.O_NONBLOCK)
    found["nothing yet"] = outcome(os.read, reader, 10)
    found["write"] = os.write(writer, b"through")
    os.rename("p", "q")
    found["read"] = os.read(reader, 100)
    found["by another process"] = in_child(lambda: os.write(os.open("q", os.O_WRONLY), b"hello"))
    found["arrives"] = os.read(reader, 100)
    os.unlink("q")
    found["still"] = (os.write(writer, b"x"), os.read(reader, 10), os.fstat(reader).st_nlink)
    return found


@case
def sockets() -> Observation:
    found: Observation = {}
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        found["is"] = look("s")
        client.connect("s")
        client.sendall(b"hello")
        connection, _ = server.accept()
        with connection:
            found["heard"] = connection.recv(10)
        with socket.socket(socket.AF_UNIX) as again:
            found["bind again"] = outcome(again.bind, "s")
        os.rename("s", "t")
        with socket.socket(socket.AF_UNIX) as late:
            found["old name"] = outcome(late.connect, "s")
            found["new name"] = outcome(late.connect, "t")
    with socket.socket(socket.AF_UNIX) as late:
        found["nobody listens"] = outcome(late.connect, "t")
    found["open"] = opened("t", os.O_RDONLY)
    return found
