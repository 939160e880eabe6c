"""`cs.lock` on the backing directory: read, taken, replaced and released so that one instance wins.

Which primitives may be trusted on shared storage is measured (design section 4): link(2) of a whole
file has one winner everywhere, and so has rename(2) of one source; O_EXCL and unlink(2) have not.
"""

import errno
import os
from collections.abc import Callable, Container

from csfs.backing import temporary
from csfs.backing.descriptor import Descriptor, read_file
from csfs.backing.syscalls import RENAME_NOREPLACE, renameat2
from csfs.domain import lock, names

_NAME = names.LOCK.encode()
_MODE = 0o444
_ATTEMPTS = 5
_ASIDE = b".lock"
"""Ends the temporary name of a lock that is being released."""
_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ENXIO)
"""What reading a cs.lock gives that is no readable regular file: a symlink, a FIFO, far too large."""


class Taken(Exception):
    """There is a lock already."""


class NotOurs(Exception):
    """The lock on the backing directory is not the one that was expected."""


def signature(directory: Descriptor) -> tuple[int, int, int] | None:
    """Inode, mtime (ns) and size of the lock file; None if there is none. Changes when it does."""
    try:
        found = directory.stat(_NAME)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read(directory: Descriptor, *, network: bool) -> lock.Lock | lock.Opaque | None:
    """The lock that lies in `directory`; None if there is none.

    On a network filesystem the directory is listed first: a client may believe for 30 s that a name
    is still missing. A file that is replaced while it is opened (ENOENT, ESTALE) is tried again.
    Something that is no readable regular file is opaque: it is in the way, and not ours.
    """
    for attempt in range(_ATTEMPTS):
        if network or attempt:
            directory.revalidate()
        try:
            return lock.parse(read_file(directory, _NAME, lock.MAX_BYTES))
        except FileNotFoundError:
            if not network or attempt:
                return None
        except OSError as error:
            if error.errno == errno.ESTALE:
                continue
            if error.errno in _NO_FILE:
                return lock.Opaque(b"")
            raise
    raise OSError(errno.ESTALE, f"{names.LOCK} is being replaced again and again")


def take(
    directory: Descriptor,
    content: bytes,
    *,
    owner: tuple[int, int],
    confirm: Callable[[], None] = lambda: None,
) -> None:
    """Puts a lock of this content into `directory`, if there is none. Durable on return.

    `confirm` is called as the last thing before that; what it raises leaves the directory as it was.
    Raises Taken if there is a lock; OSError if the backing filesystem fails.
    """
    with temporary.holding(directory, content, mode=_MODE, owner=owner) as name:
        confirm()
        try:
            os.link(name, _NAME, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileExistsError as error:
            raise Taken from error
    directory.sync()


def replace(directory: Descriptor, expected: bytes, content: bytes, *, owner: tuple[int, int]) -> None:
    """Replaces our lock by a newer version of itself. Durable on return.

    Raises NotOurs if its content is not `expected`; OSError if the backing filesystem fails.
    """
    with temporary.holding(directory, content, mode=_MODE, owner=owner) as name:
        # As the last thing before the rename: to write and sync may take long, and a daemon may be stopped.
        confirm(directory, expected)
        os.rename(name, _NAME, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    directory.sync()


def confirm(directory: Descriptor, expected: bytes) -> None:
    """Passes if the lock has this content. Raises NotOurs if it has not, OSError.

    The directory is listed first, so that it is not an earlier version that a network filesystem shows.
    """
    directory.revalidate()
    if content_of(directory) != expected:
        raise NotOurs


def release(directory: Descriptor, expected: bytes) -> None:
    """Removes our lock. Durable on return.

    It is renamed to a name of its own first, which exactly one of several can do, then looked at,
    and linked back if it is not the expected one.
    Raises NotOurs if there is none, or one with another content; OSError if the filesystem fails.
    """
    aside = temporary.name(directory) + _ASIDE
    try:
        os.rename(_NAME, aside, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    except FileNotFoundError as error:
        raise NotOurs from error
    found = None
    try:
        found = content_of(directory, aside)
    finally:
        if found == expected:
            temporary.remove(directory, aside)
        else:
            put_back(directory, aside)
        directory.sync()
    if found != expected:
        raise NotOurs


def put_back(directory: Descriptor, aside: bytes) -> None:
    """Gives a lock that is not ours its name again, unless there is another one by now."""
    try:
        os.link(aside, _NAME, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
    except FileExistsError:
        pass
    except PermissionError:  # a directory, or a file that only its owner may link
        renameat2(directory.fd, aside, directory.fd, _NAME, RENAME_NOREPLACE)
        return
    temporary.remove(directory, aside)


def clear(directory: Descriptor, instance_uuid: str, ours: Container[bytes]) -> None:
    """Removes the temporary files that earlier mounts of this instance have left in `directory`. Durable.

    A lock that was set aside, but neither names this instance nor is one of `ours`, gets its name again.
    Raises OSError.
    """
    left = temporary.left_over(directory)
    for name in left:
        if name.endswith(_ASIDE) and not _is_ours(content_of(directory, name), instance_uuid, ours):
            put_back(directory, name)
        else:
            temporary.remove(directory, name)
    if left:
        directory.sync()


def _is_ours(content: bytes | None, instance_uuid: str, ours: Container[bytes]) -> bool:
    if content is None:
        return False
    found = lock.parse(content)
    return content in ours or (isinstance(found, lock.Lock) and found.instance_uuid == instance_uuid)


def content_of(directory: Descriptor, name: bytes = _NAME) -> bytes | None:
    """The bytes of the lock; None if there is none, or something that csfs cannot have put there.

    Raises OSError.
    """
    try:
        return read_file(directory, name, lock.MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
