"""Breaking the lock of another instance, so that of several who want to one does, and its bytes stay.

Whoever breaks a lock first reserves that, by a file in the directory that is named after the lock's id:
otherwise a second one that is slower would take away the lock that the first has just put there itself.
"""

import os

import msgspec

from csfs.backing import lockfile, temporary
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import lock, names

_NAME = names.LOCK.encode()
_MODE = 0o444


class Reservation(msgspec.Struct, frozen=True):
    """Which instance is about to break a lock."""

    instance_uuid: str
    instance_name: str


def reserve(
    directory: Descriptor, lock_id: str, own: Reservation, *, owner: tuple[int, int]
) -> Reservation | None:
    """Makes `own` the only one that may break the lock; returns who is that already, if it is another.

    Raises OSError.
    """
    name = _reservation(lock_id)
    with temporary.holding(directory, msgspec.json.encode(own), mode=_MODE, owner=owner) as made:
        try:
            os.link(made, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileExistsError:
            found = _reserved(directory, name)
            return None if found == own else found
    directory.sync()
    return None


def release(directory: Descriptor, lock_id: str, reservation: Reservation) -> None:
    """Ends a reservation, one's own or that of an instance that is dead. Raises OSError.

    Another's is renamed to a name of its own first, which exactly one of several can do.
    """
    name, aside = _reservation(lock_id), temporary.name(directory)
    try:
        os.rename(name, aside, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    except FileNotFoundError:
        return
    if _reserved(directory, aside) != reservation:
        try:
            os.link(aside, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileExistsError:
            pass
    temporary.remove(directory, aside)
    directory.sync()


def break_lock(directory: Descriptor, expected: bytes, kept: str) -> None:
    """Renames the lock to `kept`. Durable on return.

    Raises NotOurs if its content is not `expected`: it is back in its place then. OSError.
    """
    lockfile.confirm(directory, expected)
    if directory.exists(kept.encode()):
        raise FileExistsError(17, kept)
    os.rename(_NAME, kept, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    if not was_broken(directory, expected, kept):
        raise lockfile.NotOurs
    directory.sync()


def was_broken(directory: Descriptor, expected: bytes, kept: str) -> bool:
    """Whether the lock lies under the name `kept`; what should not lie there is put back. Raises OSError."""
    found = lockfile.content_of(directory, kept.encode())
    if found == expected:
        return True
    if directory.exists(kept.encode()):
        lockfile.put_back(directory, kept.encode())
        directory.sync()
    return False


def contents(directory: Descriptor) -> list[bytes]:
    """The bytes of the locks that were broken in a directory. Raises OSError."""
    kept = sorted(name for name in directory.names() if name.startswith(names.RESCUED_PREFIX.encode()))
    return [lockfile.content_of(directory, name) or b"" for name in kept]


def _reservation(lock_id: str) -> bytes:
    return f"{names.TEMPORARY_PREFIX}rescue.{lock_id}".encode()


def _reserved(directory: Descriptor, name: bytes) -> Reservation:
    """Who a reservation names; nobody, if it cannot be read: it is whole once it has its name."""
    try:
        return msgspec.json.decode(read_file(directory, name, lock.MAX_BYTES), type=Reservation)
    except (FileNotFoundError, msgspec.DecodeError):
        return Reservation("", "")
