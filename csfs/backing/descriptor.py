"""Directory descriptors: where every access to the backing directory starts.

All system calls take a (directory descriptor, name) pair, so neither a path's length nor a symlink
swapped into it matters (design section 7).
"""

import errno
import os
import stat
from typing import Final

from csfs.backing.syscalls import birth_time

_OPEN: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Descriptor:
    """An O_PATH descriptor of a directory; closed when nobody refers to it any more.

    Whoever is in the middle of using one holds a reference, so a cache may drop its own at any time.
    """

    __slots__ = ("fd", "inode", "device", "mark", "container", "_born")

    def __init__(self, fd: int, mark: bytes = b"", container: bytes = b"") -> None:
        self.fd = fd
        self.mark = mark
        """Whose the temporary files are that are made through it; see `temporary.mark`."""
        self.container = container
        """Of the backing directory below which it lies; see `backings`."""
        found = os.fstat(fd)
        self.inode = found.st_ino
        self.device = found.st_dev
        self._born = 0

    @classmethod
    def root(cls, path: str) -> "Descriptor":
        """The directory at `path` (symlinks in it are followed). Raises OSError."""
        return cls(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def child(self, name: bytes) -> "Descriptor":
        """A directory in this one; a symlink is ENOTDIR. Raises OSError."""
        return Descriptor(os.open(name, _OPEN, dir_fd=self.fd), self.mark, self.container)

    def descend(self, path: bytes) -> "Descriptor":
        """The directory at this relative path, component by component, following no symlink."""
        found = self
        for name in path.split(b"/"):
            if name and name != b".":
                found = found.child(name)
        return found

    def born(self) -> int:
        """When the directory was made, nanoseconds; 0 where the filesystem does not tell."""
        if not self._born:
            self._born = birth_time(self.fd)
        return self._born

    def stat(self, name: bytes) -> os.stat_result:
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def exists(self, name: bytes) -> bool:
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def path(self, name: bytes = b"") -> bytes:
        """A path of a file in it for the calls that take no descriptor, and are not to follow a symlink.

        Without a name, of the directory itself: it leads there also where nobody may search it.
        """
        return held_path(self.fd) + (b"/" + name if name else b"")

    def open(self) -> int:
        """The directory, opened for reading: that asks for no permission to search it. Raises OSError."""
        return os.open(self.path(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def has_default_acl(self) -> bool:
        """Whether what is made in it gets its access control list, and not what the umask leaves.

        Raises OSError.
        """
        try:
            os.getxattr(self.path(), b"system.posix_acl_default")
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                raise
            return False
        return True

    def names(self) -> list[bytes]:
        """What the directory holds. Raises OSError."""
        fd = self.open()
        try:
            return [os.fsencode(name) for name in os.listdir(fd)]
        finally:
            os.close(fd)

    def subdirectories(self) -> list[bytes]:
        """The directories in this one, symlinks to some left out. Raises OSError."""
        fd = self.open()
        try:
            with os.scandir(fd) as entries:
                return [os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False)]
        finally:
            os.close(fd)

    def revalidate(self) -> None:
        """Opens and lists a little of the directory, which ends what an NFS client has cached of it."""
        fd = self.open()
        try:
            with os.scandir(fd) as entries:
                next(entries, None)
        finally:
            os.close(fd)

    def sync(self) -> None:
        """Makes names that were linked, renamed or removed here durable."""
        fd = self.open()
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def __del__(self) -> None:
        os.close(self.fd)


class Pin:
    """An O_PATH descriptor of a file of any kind: while it is there, the file stays, with a name or without.

    It is closed when nobody refers to it any more.
    """

    __slots__ = ("fd",)

    def __init__(self, directory: Descriptor, name: bytes) -> None:
        """Raises OSError."""
        self.fd = -1
        self.fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def held_path(fd: int) -> bytes:
    """A path that leads to the file of a descriptor, also an O_PATH one, whether it has a name or not."""
    return b"/proc/self/fd/%d" % fd


def open_file(directory: Descriptor, name: bytes, flags: int, mode: int = 0) -> int:
    """Opens a regular file, never through a symlink and never waiting on a FIFO.

    Raises OSError; ELOOP for a symlink, EINVAL for anything else that is not a regular file.
    """
    fd, _ = open_known(directory, name, flags, mode)
    return fd


def open_known(directory: Descriptor, name: bytes, flags: int, mode: int = 0) -> tuple[int, os.stat_result]:
    """The same, and what is open now."""
    fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, mode, dir_fd=directory.fd)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, f"{os.fsdecode(name)} is not a regular file")
    return fd, found


def read_file(directory: Descriptor, name: bytes, limit: int) -> bytes:
    """The content of a regular file.

    Raises OSError: FileNotFoundError if it is not there, EFBIG if it has more than `limit` bytes.
    """
    content, _ = read_dated_file(directory, name, limit)
    return content


def read_dated_file(directory: Descriptor, name: bytes, limit: int) -> tuple[bytes, int]:
    """The same, with the file's mtime in nanoseconds."""
    fd = open_file(directory, name, os.O_RDONLY)
    try:
        found = os.fstat(fd)
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"{os.fsdecode(name)} has more than {limit} bytes")
        chunks = []
        while chunk := os.read(fd, 1 << 20):
            chunks.append(chunk)
        return b"".join(chunks), found.st_mtime_ns
    finally:
        os.close(fd)
