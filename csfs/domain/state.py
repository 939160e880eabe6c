"""The states of a directory, how each is recognised, and what each permits (design section 3)."""

import enum
from dataclasses import dataclass
from typing import Literal, Protocol

from csfs.domain import refusals
from csfs.domain.lock import Lock, Opaque, is_same_directory


class State(enum.StrEnum):
    PLAIN = "plain"
    DETACHED = "detached"
    ATTACHED = "attached"
    ARCHIVED = "archived"
    FOREIGN = "foreign"
    LOST = "lost"


FREE = frozenset({State.PLAIN, State.DETACHED})
"""Owned by nobody: only the mode bits rule."""
HELD = frozenset({State.ATTACHED, State.ARCHIVED})
"""Owned by this instance."""


class Claim(Protocol):
    """What the store knows of a project; `store.records.Project` is one."""

    @property
    def lock_id(self) -> str: ...
    @property
    def state(self) -> Literal["attached", "archived", "detached"]: ...
    @property
    def inode(self) -> int: ...
    @property
    def born(self) -> int: ...
    @property
    def path(self) -> bytes: ...
    @property
    def lock_content(self) -> bytes: ...


@dataclass(frozen=True)
class Verdict:
    """What a directory is now, for one instance.

    `owner` says who holds it when that is another instance; `reason` explains what is unusual;
    `rebind` asks the owner to write its lock anew, for the directory was restored in place, or moved.
    `successor` names another mount of this very instance, which has what this one held.
    """

    state: State
    owner: str = ""
    reason: str = ""
    inert: bool = False
    rebind: bool = False
    successor: str = ""

    def left_to(self, successor: str) -> "Verdict":
        """The same for a mount that another one of the same instance has taken the place of."""
        if self.state not in HELD:
            return self
        return Verdict(State.LOST, reason=f"its instance is mounted by {successor} too", successor=successor)


def judge(
    *,
    lock: Lock | Opaque | None,
    has_project_document: bool,
    inode: int,
    path: bytes,
    instance_uuid: str,
    claim: Claim | None,
    born: int = 0,
    elsewhere: bool = False,
) -> Verdict:
    """Judges one directory from its lock, its project.json, and the store's claim on it.

    `inode` and `born` (nanoseconds, 0: unknown) say which directory it is, `path` where it lies.

    `claim` is the store's record of a project that is attached in this very directory, or, failing
    that, whose lock id is the lock's, or whose directory has this inode; None if there is none of
    them. `elsewhere`: that record's directory lies on another filesystem, where the same numbers name
    another directory. Pure: the same facts, the same verdict.
    """
    free = State.DETACHED if has_project_document else State.PLAIN
    held = claim is not None and claim.state != "detached"
    near = claim is not None and held and not elsewhere
    here = claim is not None and near and is_same_directory(claim.inode, claim.born, inode, born)
    ours_here = claim is not None and here and claim.state == "attached" and claim.path == path

    if isinstance(lock, Opaque):
        if claim is not None and here and claim.lock_content == lock.content:
            return Verdict(State(claim.state))
        if ours_here:
            return Verdict(State.LOST, lock.owner, "its cs.lock was replaced by one that csfs did not write")
        return Verdict(State.FOREIGN, lock.owner)

    if lock is None:
        if ours_here:
            return Verdict(State.LOST, reason="its cs.lock was removed from the backing directory")
        return Verdict(free)

    mine = lock.instance_uuid == instance_uuid
    same_claim = claim is not None and claim.lock_id == lock.lock_id
    if not lock.binds(inode, born) or (mine and same_claim and elsewhere):
        if mine and same_claim and claim is not None and claim.state == "attached" and claim.path == path:
            return Verdict(State.ATTACHED, rebind=True, reason="the directory was restored in place")
        if ours_here:
            return Verdict(State.LOST, lock.owner, "its cs.lock was replaced by that of a copy")
        return Verdict(free, reason=f"its cs.lock came with a copy and is inert: {lock.owner}", inert=True)

    if not mine:
        if ours_here:
            return Verdict(State.LOST, lock.owner, "another instance has taken it")
        return Verdict(State.FOREIGN, lock.owner)
    if claim is not None and same_claim and held:
        if here:
            moved = claim.state == "attached" and claim.path != path
            reason = "its directory was moved on the backing directory" if moved else ""
            return Verdict(State(claim.state), rebind=moved, reason=reason)
        if claim.state == "attached" and claim.path == path:
            return Verdict(State.ATTACHED, rebind=True, reason="the directory was restored in place")
        return Verdict(free, reason="the project of its cs.lock lies in another directory now", inert=True)
    if ours_here:
        return Verdict(State.LOST, lock.owner, "its cs.lock was replaced by that of another claim")
    return Verdict(
        State.FOREIGN,
        lock.owner,
        "its cs.lock names this instance, but the store does not know that claim",
    )


def refuse_change(state: State, verdict: Verdict, uid: str) -> None:
    """Passes if files in a directory in this state may change; otherwise raises EROFS."""
    if state in FREE or state is State.ATTACHED:
        return
    if state is State.ARCHIVED:
        raise refusals.archived(uid)
    if state is State.FOREIGN:
        raise refusals.foreign(verdict.owner)
    if verdict.successor:
        raise refusals.mounted_twice(verdict.successor)
    raise refusals.lost(verdict.reason)


def refuse_leaving(state: State, verdict: Verdict, uid: str) -> None:
    """Passes if the whole directory may be removed; otherwise raises EPERM."""
    if state in FREE or state is State.ARCHIVED:
        return
    if state is State.ATTACHED:
        raise refusals.attached_directory(uid)
    if state is State.FOREIGN:
        raise refusals.foreign_directory(verdict.owner)
    if verdict.successor:
        raise refusals.mounted_twice(verdict.successor)
    raise refusals.lost_directory(verdict.reason)
