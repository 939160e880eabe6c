"""Files written under a name that nobody looks at, to be put in place when they are whole.

The name says which instance made the file, and in which of its mounts: what an earlier mount of its own
has left, an instance may remove, whatever others that live are doing in the same directory.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from csfs.backing.descriptor import Descriptor
from csfs.domain import names

_PREFIX = names.TEMPORARY_PREFIX.encode()

Holding: TypeAlias = AbstractContextManager[bytes]
"""What `holding` gives."""


def mark(instance_uuid: str) -> bytes:
    """What tells the temporary files of one mount of an instance from all others."""
    return f"{instance_uuid}.{uuid.uuid4().hex}.".encode()


def name(directory: Descriptor, ending: bytes = b"") -> bytes:
    """A new name in `directory`, with its mark."""
    return _PREFIX + directory.mark + uuid.uuid4().hex.encode() + ending


def left_over(directory: Descriptor) -> list[bytes]:
    """The temporary files in `directory` that earlier mounts of the same instance made. Raises OSError."""
    instance_uuid, _, _ = directory.mark.partition(b".")
    if not instance_uuid:
        return []
    before, now = _PREFIX + instance_uuid + b".", _PREFIX + directory.mark
    return [found for found in directory.names() if found.startswith(before) and not found.startswith(now)]


def remove_own(directory: Descriptor, ending: bytes) -> None:
    """Removes the temporary files of this mount whose names end so; none is to be in use. Raises OSError."""
    now = _PREFIX + directory.mark
    for found in directory.names():
        if directory.mark and found.startswith(now) and found.endswith(ending):
            remove(directory, found)


def write_all(fd: int, content: bytes) -> None:
    """Raises OSError, ENOSPC and EDQUOT among them."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def holding(
    directory: Descriptor,
    content: bytes,
    *,
    mode: int,
    owner: tuple[int, int],
    sync: bool = True,
    ending: bytes = b"",
) -> Iterator[bytes]:
    """The name of a temporary file in `directory` with this content; on disk if `sync`.

    Whoever renames it away takes it over; otherwise it is removed at the end.
    """
    temporary = name(directory, ending)
    fd = os.open(
        temporary,
        os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=directory.fd,
    )
    try:
        try:
            write_all(fd, content)
            if os.geteuid() == 0:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        yield temporary
    finally:
        remove(directory, temporary)


def remove(directory: Descriptor, temporary: bytes) -> None:
    """Removes a temporary file if it is still there."""
    try:
        os.unlink(temporary, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
