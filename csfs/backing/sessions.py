"""Sessions on the storage: one small file per instance under `.csfs/sessions/`, rewritten with each beat."""

import errno
import os
import re

from csfs.backing import control
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import session
from csfs.domain.session import Session

_DIRECTORY = b"sessions"
_NAME = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json\Z")


def write(backing: Descriptor, beat: Session) -> None:
    """Puts what an instance says of itself on the storage. Raises OSError.

    The file is written in place, in one call: a reader sees it change, and a name that is replaced
    again and again is hard to open over some network filesystems.
    """
    directory = control.directory(backing, _DIRECTORY)
    fd = os.open(
        f"{beat.instance_uuid}.json",
        os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
        0o644,
        dir_fd=directory.fd,
    )
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
            beat = session.parse(read_file(directory, name, session.MAX_BYTES))
        except OSError:
            # Its owner may be writing it, or it is not ours to read: that is no sign of life or death.
            continue
        if beat is not None and name == f"{beat.instance_uuid}.json".encode():
            found.append(beat)
    return found
