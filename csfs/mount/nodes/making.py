"""Makes files on the backing filesystem that are their caller's from the first."""

import logging
import os
import stat

from pyfuse3 import RequestContext

from csfs.backing.descriptor import Descriptor, held_path, open_known

log = logging.getLogger(__name__)

_SET_ID = stat.S_ISUID | stat.S_ISGID
"""The mode bits that make a program run as its owner, or its group."""


def create_file(
    directory: Descriptor, name: bytes, mode: int, flags: int, context: RequestContext
) -> tuple[int, os.stat_result]:
    """Makes a file that is the caller's, and opens it; without O_EXCL one that is there is opened.

    Also what is open now. Raises OSError; a file that cannot be given to the caller is not made.
    """
    always = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags | always, stat.S_IMODE(mode), dir_fd=directory.fd)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return open_known(directory, name, flags)
    try:
        return fd, give_to_caller(directory, fd, mode, context)
    except BaseException:
        os.close(fd)
        unmake(directory, name)
        raise


def unmake(directory: Descriptor, name: bytes) -> None:
    """Removes what was just made and cannot be given to its caller; a directory, if it is empty still."""
    try:
        try:
            os.unlink(name, dir_fd=directory.fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=directory.fd)
    except OSError as error:
        log.warning("%s was made, but could not be given to its caller: %s", os.fsdecode(name), error)


def is_callers(made: os.stat_result, context: RequestContext) -> bool:
    """Whether a new file is the caller's already. Only root's mount serves others than its own user."""
    return (made.st_uid == context.uid and made.st_gid == context.gid) or os.geteuid() != 0


def give_to_caller(directory: Descriptor, fd: int, mode: int, context: RequestContext) -> os.stat_result:
    """Makes a new file the caller's, and says what it is now. In a setgid directory it keeps that's group.

    By its descriptor, which may be an O_PATH one: another file may have its name by now. Raises OSError.
    """
    made = os.fstat(fd)
    if is_callers(made, context):
        return made
    path = held_path(fd)
    inherits = os.fstat(directory.fd).st_mode & stat.S_ISGID
    os.chown(path, context.uid, -1 if inherits else context.gid)
    if mode & _SET_ID and not stat.S_ISLNK(made.st_mode):
        os.chmod(path, stat.S_IMODE(os.fstat(fd).st_mode) | mode & _SET_ID)
    return os.fstat(fd)
