"""`.csfs` at the top of a backing directory: what csfs itself keeps on the storage.

storage                    which storage this is
sessions/<instance>.json   the heartbeat of each instance
sessions/<instance>.held   locked by the mount that has the instance
"""

import errno
import os
import stat
import uuid

import msgspec

from csfs.backing import temporary
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import names

NAME = names.CONTROL.encode()
_STORAGE = b"storage"
_MAX_BYTES = 4096
_SHARED = 0o1777
"""Instances of several users may share a storage; none may touch the files of another."""


class _Storage(msgspec.Struct):
    storage: str


def directory(backing: Descriptor, name: bytes = b"") -> Descriptor:
    """`.csfs`, or a directory in it; made if it is not there. Raises OSError."""
    found = _made(backing, NAME)
    return _made(found, name) if name else found


def _made(parent: Descriptor, name: bytes) -> Descriptor:
    try:
        return parent.child(name)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, _SHARED, dir_fd=parent.fd)
    except FileExistsError:
        return parent.child(name)
    found = parent.child(name)
    if stat.S_IMODE(os.fstat(found.fd).st_mode) != _SHARED:
        os.chmod(found.path(), _SHARED)
    parent.sync()
    return found


def clear(backing: Descriptor) -> None:
    """Removes what an earlier mount of the same instance left in `.csfs`, cut short. Raises OSError."""
    try:
        at = backing.child(NAME)
    except FileNotFoundError:
        return
    for name in temporary.left_over(at):
        temporary.remove(at, name)


def storage(backing: Descriptor) -> str:
    """The UUID of the storage that lies here; empty if it has none. Raises OSError."""
    try:
        content = read_file(backing.child(NAME), _STORAGE, _MAX_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO):
            raise
        return ""  # nothing that csfs has put there
    try:
        return msgspec.json.decode(content, type=_Storage).storage
    except msgspec.DecodeError:
        return ""


def name_storage(backing: Descriptor) -> str:
    """Gives a storage without one a UUID, once for all instances; the one that it has. Raises OSError."""
    at = directory(backing)
    content = msgspec.json.encode(_Storage(str(uuid.uuid4()))) + b"\n"
    with temporary.holding(at, content, mode=0o444, owner=(os.geteuid(), os.getegid())) as made:
        try:
            os.link(made, _STORAGE, src_dir_fd=at.fd, dst_dir_fd=at.fd, follow_symlinks=False)
        except FileExistsError:
            pass
    at.sync()
    return storage(backing)
