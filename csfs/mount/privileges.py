"""What a file may do for whoever runs it (set-id bits, capabilities) ends when its content is changed.

The kernel asks for them before each write(2) unless a filesystem undertakes to end them itself: a request to
the daemon for each write, through passthrough too. csfs undertakes it (FUSE_HANDLE_KILLPRIV_V2, see the C
module) with the rules of the kernel: write(2), truncate(2), capabilities(7). chown(2) ends them on the
backing filesystem, whoever calls it.

What passthrough writes is not seen, so what has such privileges is not opened so for writing, and is not
given any while another user writes it so.
"""

import errno
import os
import stat

_CAPABILITY = "security.capability"
CAPABILITY = _CAPABILITY.encode()
_NONE = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


def bits(mode: int, uid: int) -> int:
    """The bits of a file's mode that end when this user changes its content."""
    if uid == 0 or not stat.S_ISREG(mode):
        return 0
    ending = mode & stat.S_ISUID
    if mode & stat.S_IXGRP:
        ending |= mode & stat.S_ISGID
    return ending


def given(mode: int) -> bool:
    """Whether a mode that is to be set gives a file privileges."""
    return bool(mode & (stat.S_ISUID | stat.S_ISGID))


def ends_by_writing(fd: int, mode: int, uid: int) -> bool:
    """Whether the file has privileges that end when this user changes its content. Raises OSError.

    Where the daemon is not root's they end as those of any writer's files do.
    """
    return os.geteuid() == 0 and (bool(bits(mode, uid)) or _has_capability(fd))


def end(fd: int, uid: int) -> None:
    """Ends the privileges of a file whose content this user is about to change. Raises OSError."""
    mode = os.fstat(fd).st_mode
    if not ends_by_writing(fd, mode, uid):
        return
    ending = bits(mode, uid)
    if ending:
        os.fchmod(fd, stat.S_IMODE(mode) & ~ending)
    if _has_capability(fd):
        os.removexattr(fd, _CAPABILITY)


def _has_capability(fd: int) -> bool:
    try:
        return bool(os.getxattr(fd, _CAPABILITY))
    except OSError as error:
        if error.errno not in _NONE:
            raise
        return False
