"""The lock: what `cs.lock` holds, and to which directory it is bound (design section 4)."""

import hashlib
import re
from typing import Literal

import msgspec

FORMAT = 1
MAX_BYTES = 64 * 1024
"""No cs.lock is larger; one that is counts as written by somebody else."""

_EPOCH = re.compile(rb'"csfs_lock"')


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """One claim of an instance on one directory."""

    csfs_lock: int = FORMAT
    lock_id: str
    """UUID4 of this claim; a new one with each attach."""
    instance_uuid: str
    instance_name: str
    project_uuid: str
    """UUID4 of the project as this instance knows it."""
    project_uid: str
    """`P12`, in the instance's own counting."""
    state: Literal["attached", "archived"]
    epoch: int
    """The fencing token: grows with each attach of this directory."""
    inode: int
    """Of the directory that the lock binds; in any other directory it is inert."""
    born: int = 0
    """When that directory was made, nanoseconds; 0 where the filesystem does not tell."""
    path: str
    """Of that directory, relative to the backing directory when it was written; tells a human."""
    host: str
    since: str
    """ISO 8601, UTC."""

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def binds(self, inode: int, born: int) -> bool:
        """Whether the lock is bound to the directory with this inode and time of birth."""
        return is_same_directory(self.inode, self.born, inode, born)

    @property
    def owner(self) -> str:
        return f"{self.instance_name} ({self.project_uid}) on {self.host} since {self.since}"


class Opaque(msgspec.Struct, frozen=True):
    """Bytes that csfs did not write: the lock of a program whose claims csfs respects."""

    content: bytes

    @property
    def lock_id(self) -> str:
        """What names it to `csfs rescue`: it has no id of its own."""
        return hashlib.sha256(self.content).hexdigest()[:16]

    @property
    def owner(self) -> str:
        return "unknown: its cs.lock was not written by csfs"


def is_same_directory(inode: int, born: int, other_inode: int, other_born: int) -> bool:
    """Whether two sightings are of one directory.

    An inode number alone does not tell: filesystems give that of a removed directory to the next one,
    such as the one that is restored from an archive. The time of birth decides where it is known.
    """
    return inode == other_inode and (not born or not other_born or born == other_born)


def parse(content: bytes) -> Lock | Opaque:
    """What these bytes of a `cs.lock` say. Never fails: what csfs cannot read is opaque."""
    if len(content) > MAX_BYTES or not _EPOCH.search(content):
        return Opaque(content)
    try:
        lock = msgspec.json.decode(content, type=Lock)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return Opaque(content)
    return lock if lock.csfs_lock == FORMAT else Opaque(content)
