"""Copying a directory so that the copy is known to be whole: each file is read back before it counts.

A file gets its name when it has been copied, read back from the storage and found to be the same. So what
an interrupted copy has left is right as far as it goes, and a repetition goes on from there.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import xxhash

from csfs.domain.manifest import MTIME_TOLERANCE_NS

_BLOCK = 4 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FICLONE = 0x40049409
"""ioctl(2): a file shares the blocks of another (linux/fs.h)."""
_NO_REFLINK = frozenset({errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS})
_OWN_ATTRIBUTES = "user.csfs."
_PART = ".csfs-part"
"""What is being copied, until it has been read back."""


class NotTheSame(click.ClickException):
    """A file changed while it was copied, or the storage gave back something else than was written."""


class TreeCopy:
    """Copies a directory into another one that is nobody else's. Follows no symlink.

    Owner, mode, times, hard links, symlinks and extended attributes are kept. `told` hears of each number of
    bytes that is done. `part_in` is a directory on the same filesystem as the target.
    """

    def __init__(self, part_in: int, told: Callable[[int], None], *, reflink: bool = False) -> None:
        self._part_in = part_in
        self._told = told
        self._reflink = reflink
        self._linked: dict[tuple[int, int], tuple[int, str]] = {}
        self._kept: list[int] = []

    def copy(self, source: str, target: str, skip: Callable[[str], bool]) -> None:
        """Copies what lies in `source`, but for the paths, relative to it, that are to be skipped.

        What is in `target` and not in the source is removed: an earlier attempt left it. Raises NotTheSame,
        OSError.
        """
        with opened(source) as at, opened(target) as to:
            try:
                self._directory(at, to, "", skip)
            finally:
                for fd in self._kept:
                    os.close(fd)
                self._kept.clear()
                self._linked.clear()
            os.fsync(to)

    def _directory(self, at: int, to: int, path: str, skip: Callable[[str], bool]) -> None:
        names = os.listdir(at)
        for name in set(os.listdir(to)) - set(names):
            if not skip(path + name):
                _remove(to, name)
        for name in names:
            if not skip(path + name):
                self._entry(at, to, name, path + name, skip)

    def _entry(self, at: int, to: int, name: str, path: str, skip: Callable[[str], bool]) -> None:
        found = os.stat(name, dir_fd=at, follow_symlinks=False)
        there = _stat(to, name)
        if there is not None and stat.S_IFMT(there.st_mode) != stat.S_IFMT(found.st_mode):
            _remove(to, name)
            there = None
        if stat.S_ISDIR(found.st_mode):
            if there is None:
                os.mkdir(name, 0o700, dir_fd=to)
            with opened(name, at) as below, opened(name, to) as into:
                self._directory(below, into, path + "/", skip)
                os.fsync(into)
                _dress(below, into, found)
        elif stat.S_ISREG(found.st_mode):
            self._file(at, to, name, path, found, there)
        elif stat.S_ISLNK(found.st_mode):
            _symlink(at, to, name, found, there)
        elif stat.S_ISFIFO(found.st_mode):
            if there is None:
                os.mkfifo(name, stat.S_IMODE(found.st_mode), dir_fd=to)
        else:
            raise click.ClickException(
                f"{path} is neither file, directory nor symlink: remove it, then repeat"
            )

    def _file(
        self, at: int, to: int, name: str, path: str, found: os.stat_result, there: os.stat_result | None
    ) -> None:
        key = (found.st_dev, found.st_ino)
        first = self._linked.get(key)
        if first is not None:
            if there is not None:
                os.unlink(name, dir_fd=to)
            os.link(first[1], name, src_dir_fd=first[0], dst_dir_fd=to, follow_symlinks=False)
        elif there is None or not is_same(found, there):
            self._contents(at, to, name, path, found)
        else:
            self._told(found.st_size)
        if found.st_nlink > 1 and first is None:
            self._kept.append(os.dup(to))
            self._linked[key] = (self._kept[-1], name)

    def _contents(self, at: int, to: int, name: str, path: str, found: os.stat_result) -> None:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            part = os.open(_PART, flags, 0o600, dir_fd=self._part_in)
            try:
                self._fill(source, part, path, found)
                _dress(source, part, found)
            finally:
                os.close(part)
        finally:
            os.close(source)
        os.rename(_PART, name, src_dir_fd=self._part_in, dst_dir_fd=to)

    def _fill(self, source: int, part: int, path: str, found: os.stat_result) -> None:
        if self._reflink and _share(source, part):
            self._told(found.st_size)
            os.fsync(part)
        else:
            written = self._written(source, part, sparse=found.st_blocks * 512 < found.st_size)
            os.fsync(part)
            os.posix_fadvise(part, 0, 0, os.POSIX_FADV_DONTNEED)
            if _read_back(part) != written:
                raise NotTheSame(f"{path}: what was read back is not what was written: look at the storage")
        now = os.fstat(source)
        if (now.st_size, now.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
            raise NotTheSame(f"{path} was written while it was copied; repeat when that has ended")
        if os.fstat(part).st_size != found.st_size:
            raise NotTheSame(f"{path} could not be read to its end: look at the storage, then repeat")

    def _written(self, source: int, part: int, *, sparse: bool) -> bytes:
        """Copies the contents; holes stay holes. Their hash."""
        digest = xxhash.xxh3_128()
        size = 0
        while block := os.read(source, _BLOCK):
            digest.update(block)
            if not sparse or block.count(0) != len(block):
                _write(part, block, size)
            size += len(block)
            self._told(len(block))
        os.ftruncate(part, size)
        return digest.digest()


@contextmanager
def opened(path: str, directory: int | None = None) -> Iterator[int]:
    """A descriptor of a directory. Raises OSError, ELOOP or ENOTDIR for a symlink."""
    fd = os.open(path, _DIRECTORY, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two files are alike in size and time, as far as filesystems keep that."""
    return (
        one.st_size == other.st_size
        and abs(one.st_mtime_ns - other.st_mtime_ns) < MTIME_TOLERANCE_NS
        and stat.S_IFMT(one.st_mode) == stat.S_IFMT(other.st_mode)
    )


def bytes_in(directory: str) -> int:
    """The sizes of all regular files below a directory. Raises OSError."""
    total, pending = 0, [directory]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def differences(source: str, target: str, skip: Callable[[str], bool], *, of_rest: bool) -> Iterator[str]:
    """What is not alike in two directories by type, size, time and target, as paths. Raises OSError.

    `of_rest`: what is missing in the source is no difference, for it is being removed.
    """
    with opened(source) as at, opened(target) as to:
        yield from _differences(at, to, skip, "", of_rest)


def _differences(at: int, to: int, skip: Callable[[str], bool], path: str, of_rest: bool) -> Iterator[str]:
    for name in sorted({*os.listdir(at), *([] if of_rest else os.listdir(to))}):
        if skip(path + name):
            continue
        one, other = _stat(at, name), _stat(to, name)
        if one is None or other is None or stat.S_IFMT(one.st_mode) != stat.S_IFMT(other.st_mode):
            yield path + name
        elif stat.S_ISDIR(one.st_mode):
            with opened(name, at) as below, opened(name, to) as into:
                yield from _differences(below, into, skip, path + name + "/", of_rest)
        elif stat.S_ISLNK(one.st_mode):
            if os.readlink(name, dir_fd=at) != os.readlink(name, dir_fd=to):
                yield path + name
        elif stat.S_ISREG(one.st_mode) and not is_same(one, other):
            yield path + name


def _stat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _write(fd: int, block: bytes, offset: int) -> None:
    view = memoryview(block)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _read_back(fd: int) -> bytes:
    digest = xxhash.xxh3_128()
    os.lseek(fd, 0, os.SEEK_SET)
    while block := os.read(fd, _BLOCK):
        digest.update(block)
    return digest.digest()


def _share(source: int, target: int) -> bool:
    """Whether the target now shares the blocks of the source. Raises OSError."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def _symlink(at: int, to: int, name: str, found: os.stat_result, there: os.stat_result | None) -> None:
    leads = os.readlink(name, dir_fd=at)
    if there is not None:
        if os.readlink(name, dir_fd=to) == leads:
            return
        os.unlink(name, dir_fd=to)
    os.symlink(leads, name, dir_fd=to)
    _give(name, found, to)
    os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=to, follow_symlinks=False)


def _dress(source: int, target: int, found: os.stat_result) -> None:
    """Owner, extended attributes, mode and times of a file or directory; its own are not csfs's to copy."""
    if os.geteuid() == 0:
        os.fchown(target, found.st_uid, found.st_gid)
    for name in os.listxattr(source):
        if name.startswith(_OWN_ATTRIBUTES):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA):
                raise
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _give(name: str, found: os.stat_result, directory: int) -> None:
    if os.geteuid() == 0:
        os.chown(name, found.st_uid, found.st_gid, dir_fd=directory, follow_symlinks=False)


def _remove(directory: int, name: str) -> None:
    """Removes a file or a whole directory. Raises OSError."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=directory)
        return
    with opened(name, directory) as below:
        for each in os.listdir(below):
            _remove(below, each)
    os.rmdir(name, dir_fd=directory)
