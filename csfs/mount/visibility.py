"""Who may look at a file, by the mode bits on the way to it: for what csfs tells of it in another place.

The kernel checks each step to a file on the mount. What `.csfs` holds of that file is reached on another
way, and is shown to those alone who could have read it there.
"""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from pyfuse3 import RequestContext

from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor

_ACL = "system.posix_acl_access"


class Caller(NamedTuple):
    """Whose request it is."""

    uid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, context: RequestContext) -> "Caller":
        """Without the supplementary groups of a process that has ended, or is in another pid namespace."""
        return cls(context.uid, frozenset({context.gid, *_supplementary(context.pid)}))

    @property
    def sees_all(self) -> bool:
        """Whether it is root, or the user whose mount it is."""
        return self.uid in (0, os.geteuid())

    def may(self, wanted: int, found: os.stat_result, *, has_acl: bool) -> bool:
        """Whether the mode lets the caller do this: 4 to read, 1 to search.

        Of an access list just the owner's part is known: where there is one, group bits tell too much.
        """
        mode = found.st_mode
        if self.uid == found.st_uid:
            return mode >> 6 & wanted == wanted
        group, other = mode >> 3 & wanted == wanted, mode & wanted == wanted
        if has_acl:
            return group and other
        return group if found.st_gid in self.groups else other


def may_look(caller: Caller, backings: Backings, path: bytes, *, inode: int = 0) -> bool:
    """Whether the caller may read the file or directory at a path on the mount.

    The last name may be missing, as that of a file that was never made; the directory it would lie in
    decides then. Not if it is not the one with the number `inode`, where that is given. Blocking.
    """
    if caller.sees_all:
        return True
    if not backings.has(path):
        return False
    names = [name for name in backings.below(path).split(b"/") if name]
    try:
        at = backings.at(path).descriptor
        found = os.fstat(at.fd)
        for name in names:
            if not caller.may(1, found, has_acl=_has_acl(at)):
                return False
            try:
                found = at.stat(name)
            except FileNotFoundError:
                return not inode and name is names[-1] and caller.may(5, found, has_acl=_has_acl(at))
            if not stat.S_ISDIR(found.st_mode):
                return name is names[-1] and not inode and caller.may(4, found, has_acl=_has_acl(at, name))
            at = at.child(name)
            found = os.fstat(at.fd)
        return inode in (0, at.inode) and caller.may(5, found, has_acl=_has_acl(at))
    except OSError:  # it changes while it is looked at: then there is nothing to see
        return False


def _has_acl(at: Descriptor, name: bytes = b".") -> bool:
    try:
        return bool(os.getxattr(at.path(name), _ACL, follow_symlinks=False))
    except OSError:
        return False


def _supplementary(pid: int) -> list[int]:
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return []
    lines = [line for line in status.splitlines() if line.startswith("Groups:")]
    return [int(word) for line in lines for word in line.split()[1:]]
