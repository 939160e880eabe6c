"""Sessions on the storage: one small file per instance under `.csfs/sessions/`, rewritten with each beat.

Beside it lies one that a mount holds locked, which its own user alone can open: whoever can open a file can
lock it, and everybody may read the heartbeat.
"""

import errno
import fcntl
import os
import re
import stat

from csfs.backing import control
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import session
from csfs.domain.session import Session

_DIRECTORY = b"sessions"
_NAME = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json\Z")


class Held(Exception):
    """Another process holds the session of the instance: there it is mounted."""


def hold(backing: Descriptor, instance_uuid: str) -> int:
    """Makes this process the only one that holds an instance's session, as long as the descriptor is open.

    A process that dies lets go of it; within one run of a kernel that is certain. Between nodes it depends on
    the filesystem. Raises Held, OSError (ENOLCK, EOPNOTSUPP and others where there are no locks).
    """
    name = f"{instance_uuid}.held"
    try:
        # Held for reading, for a filesystem with a file open for writing cannot be remounted read-only.
        return _lock(_open(backing, name, os.O_RDONLY, 0o600))
    except OSError as error:
        if error.errno != errno.EBADF:  # NFS wants it open for writing
            raise
    return _lock(_open(backing, name, os.O_RDWR, 0o600))


def _lock(fd: int) -> int:
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise PermissionError(errno.EPERM, "others can open the file that is to be held")
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Held from error
    except OSError:
        os.close(fd)
        raise
    return fd


def hold_still(backing: Descriptor, instance_uuid: str, held: int | None) -> int | None:
    """The same descriptor; another one if the file was removed meanwhile, and made anew. Raises OSError."""
    if held is None or os.fstat(held).st_nlink:
        return held
    try:
        anew = hold(backing, instance_uuid)
    except Held:
        return held
    os.close(held)
    return anew


def _open(backing: Descriptor, name: str, access: int, mode: int) -> int:
    directory = control.directory(backing, _DIRECTORY)
    flags = access | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.open(name, flags, mode, dir_fd=directory.fd)


def write(backing: Descriptor, beat: Session) -> None:
    """Puts what an instance says of itself on the storage. Raises OSError.

    The file is written in place, in one call: a reader sees it change, and a name that is replaced
    again and again is hard to open over some network filesystems.
    """
    fd = _open(backing, f"{beat.instance_uuid}.json", os.O_WRONLY, 0o644)
    try:
        if os.fstat(fd).st_nlink > 1:
            raise OSError(errno.EMLINK, "the session's file has another name too, and may be another's file")
        content = beat.encode()
        os.pwrite(fd, content, 0)
        os.ftruncate(fd, len(content))
    finally:
        os.close(fd)


def read(backing: Descriptor) -> list[Session]:
    """The sessions on this storage; what cannot be read as one is left out. Raises OSError."""
    try:
        directory = backing.child(control.NAME).child(_DIRECTORY)
    except FileNotFoundError:
        return []
    found = []
    for name in directory.names():
        if not _NAME.match(name):
            continue
        try:
            beat = _read(directory, name)
        except OSError:
            # Its owner may be writing it, or it is not ours to read: that is no sign of life or death.
            continue
        if beat is not None:
            found.append(beat)
    return found


def read_own(backing: Descriptor, instance_uuid: str) -> Session | None:
    """What the last mount of an instance said of itself; None if nothing can be read. Raises OSError.

    The directory is listed first, so that it is not an earlier version that a network filesystem shows.
    """
    try:
        directory = backing.child(control.NAME).child(_DIRECTORY)
        directory.revalidate()
        return _read(directory, f"{instance_uuid}.json".encode())
    except FileNotFoundError:
        return None


def _read(directory: Descriptor, name: bytes) -> Session | None:
    beat = session.parse(read_file(directory, name, session.MAX_BYTES))
    return beat if beat is not None and name == f"{beat.instance_uuid}.json".encode() else None
