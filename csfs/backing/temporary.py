"""Files written under a name that nobody looks at, to be put in place when they are whole."""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

from csfs.backing.descriptor import Descriptor
from csfs.domain import names

Holding: TypeAlias = AbstractContextManager[bytes]
"""What `holding` gives."""


def name() -> bytes:
    return (names.TEMPORARY_PREFIX + uuid.uuid4().hex).encode()


def write_all(fd: int, content: bytes) -> None:
    """Raises OSError, ENOSPC and EDQUOT among them."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def holding(
    directory: Descriptor, content: bytes, *, mode: int, owner: tuple[int, int], sync: bool = True
) -> Iterator[bytes]:
    """The name of a temporary file in `directory` with this content; on disk if `sync`.

    Whoever renames it away takes it over; otherwise it is removed at the end.
    """
    temporary = name()
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
