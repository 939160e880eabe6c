"""Sets what a request changes of a file on the backing filesystem: size, owner, mode and times."""

import errno
import os
import stat

from pyfuse3 import EntryAttributes, SetattrFields

from csfs.backing.descriptor import Descriptor, held_path
from csfs.mount import privileges


def apply_by_name(
    directory: Descriptor,
    name: bytes,
    wanted: EntryAttributes,
    fields: SetattrFields,
    uid: int,
    number: int | None = None,
) -> None:
    """Sets it for a user, never through a symlink. Raises OSError.

    ESTALE if the file under the name is not the one with the inode `number`: it was replaced behind our back.
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        if number is not None and os.fstat(fd).st_ino != number:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        apply(fd, wanted, fields, uid)
    finally:
        os.close(fd)


def apply(fd: int, wanted: EntryAttributes, fields: SetattrFields, uid: int, writable: bool = False) -> None:
    """The same by a descriptor, which may be an O_PATH one; or it is `writable`. Raises OSError."""
    path = held_path(fd)
    if fields.update_size:
        opened = fd if writable else os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            privileges.end(opened, uid)
            os.ftruncate(opened, wanted.st_size)
        finally:
            if not writable:
                os.close(opened)
    if _is_chown(fields):
        owner = wanted.st_uid if fields.update_uid else -1
        group = wanted.st_gid if fields.update_gid else -1
        os.chown(path, owner, group)
    if fields.update_mode:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, "a symlink has no mode")
        os.chmod(path, stat.S_IMODE(wanted.st_mode))
    if fields.update_atime or fields.update_mtime:
        now = os.fstat(fd)
        atime = wanted.st_atime_ns if fields.update_atime else now.st_atime_ns
        mtime = wanted.st_mtime_ns if fields.update_mtime else now.st_mtime_ns
        os.utime(path, ns=(atime, mtime))


def _is_chown(fields: SetattrFields) -> bool:
    """Whether an owner or group is to be set; the kernel's request for chown(2) to -1, -1 sets nothing.

    That ends the privileges of a file all the same, which the backing filesystem does by itself.
    """
    others = fields.update_size or fields.update_mode or fields.update_atime or fields.update_mtime
    return bool(fields.update_uid or fields.update_gid or not others)
