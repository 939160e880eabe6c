"""Judges what workers of several instances recorded of a race: was each project ever held by two at once?

A record is the interval in which a call was made, and what it returned. What a call did, it did at one
moment in its interval; the history of a project is good if such moments can be chosen, one for each call
that succeeded, so that the rules hold in that order. A call that was cut short by the end of its daemon may
have done its work, or not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["take", "let", "use", "take back"]
"""`take`: touch of cs.lock. `let`: rm of cs.lock. `use`: a file or document of the project was changed.
`take back`: a touch that failed, or the mount after it, undoes what it did; never certain.
"""
_TOO_MANY = 200_000


class Violation(AssertionError):
    """The history cannot have come about by the rules; `at` tells which call shows it."""

    def __init__(self, message: str, at: "Call | None" = None) -> None:
        super().__init__(message)
        self.at = at


@dataclass(frozen=True)
class Call:
    """What one worker did to one project, in seconds of the monotonic clock."""

    instance: str
    kind: Kind
    start: float
    end: float
    certain: bool = True
    """Whether it returned without an error; otherwise it may have done its work, or not."""


@dataclass(frozen=True)
class Silence:
    """No beat of an instance reached the storage between two moments."""

    instance: str
    start: float
    end: float


class World(NamedTuple):
    """Where a project may stand: who holds it, whose claim was broken, and which calls under way are done."""

    owner: str
    lost: frozenset[str]
    done: frozenset[int]
    """Of those that succeeded."""
    spent: frozenset[int]
    """Of the others."""

    def covers(self, other: "World") -> bool:
        """Whether whatever can follow the other can follow this one, too."""
        same = (self.owner, self.done) == (other.owner, other.done)
        return same and self.lost >= other.lost and self.spent <= other.spent


def check_holdings(
    calls: Sequence[Call], silences: Iterable[Silence], takeover: float, owner: str = ""
) -> None:
    """Raises Violation unless the project was held by at most one instance at a time.

    It may change hands by a release of its owner, or by a rescue by another while the owner had been silent
    for `takeover` seconds. `owner` has it at the beginning; empty: nobody.
    """
    silent = list(silences)
    dead = {
        index: frozenset(
            each.instance
            for each in silent
            if each.instance != call.instance and each.start + takeover <= call.end and call.start <= each.end
        )
        for index, call in enumerate(calls)
        if call.kind == "let"
    }
    events = sorted(
        [(call.start, 0, index) for index, call in enumerate(calls)]
        + [(call.end, 1, index) for index, call in enumerate(calls)]
    )
    worlds = {World(owner, frozenset(), frozenset(), frozenset())}
    under_way: set[int] = set()
    for _, ending, index in events:
        if not ending:
            under_way.add(index)
            continue
        reached = _reachable(worlds, calls, under_way, dead)
        if calls[index].certain:
            reached = {world for world in reached if index in world.done}
        if not reached:
            owners = sorted({world.owner or "nobody" for world in worlds})
            raise Violation(
                f"{calls[index]} cannot have succeeded: it was held by {' or '.join(owners)}", calls[index]
            )
        worlds = {world._replace(done=world.done - {index}, spent=world.spent - {index}) for world in reached}
        under_way.discard(index)


def _reachable(
    worlds: set[World], calls: Sequence[Call], under_way: set[int], dead: dict[int, frozenset[str]]
) -> set[World]:
    """All that the calls under way can have made of these worlds, in whatever order.

    Left out is what another covers.
    """
    found: dict[tuple[str, frozenset[int]], list[World]] = {}
    pending = list(worlds)
    while pending:
        world = _used(pending.pop(), calls, under_way)
        alike = found.setdefault((world.owner, world.done), [])
        if any(each.covers(world) for each in alike):
            continue
        alike[:] = [each for each in alike if not world.covers(each)] + [world]
        for index in under_way - world.done - world.spent:
            pending += _outcomes(world, index, calls[index], dead)
        if len(pending) > _TOO_MANY:
            raise RuntimeError("too many calls at once to be judged")
    return {world for alike in found.values() for world in alike}


def _used(world: World, calls: Sequence[Call], under_way: set[int]) -> World:
    """The world after each change of a file that can be made in it: those have no other effect."""
    uses = {
        index
        for index in under_way
        if calls[index].kind == "use" and world.owner in ("", calls[index].instance)
    }
    return world._replace(done=world.done | uses)


def _outcomes(world: World, index: int, call: Call, dead: dict[int, frozenset[str]]) -> list[World]:
    """What one call may make of a world; nothing where it cannot have succeeded."""
    mine = world.owner == call.instance
    if call.certain:
        world = world._replace(done=world.done | {index})
    else:
        world = world._replace(spent=world.spent | {index})
    match call.kind:
        case "take" if mine:
            return [world]
        case "take" if not world.owner:
            return [world._replace(owner=call.instance, lost=world.lost - {call.instance})]
        case "take back" if mine:
            return [world._replace(owner="")]
        case "let":
            outcomes = []
            if mine:
                outcomes.append(world._replace(owner=""))
            if call.instance in world.lost:
                outcomes.append(world._replace(lost=world.lost - {call.instance}))
            if world.owner in dead[index]:
                outcomes.append(world._replace(owner="", lost=world.lost | {world.owner}))
            return outcomes
    return []


# -- fencing tokens ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sighting:
    """A lock as it was read from the storage; sightings come in the order in which they were made."""

    lock_id: str
    epoch: int
    instance: str


def check_epochs(sightings: Iterable[Sighting]) -> None:
    """Raises Violation unless the epoch of each lock is greater than that of the lock before it."""
    before: Sighting | None = None
    for each in sightings:
        if before is not None and each.lock_id != before.lock_id and each.epoch <= before.epoch:
            raise Violation(f"the epoch does not grow from {before} to {each}")
        if before is not None and each.lock_id == before.lock_id and each.epoch != before.epoch:
            raise Violation(f"the epoch of a lock has changed from {before} to {each}")
        before = each


# -- what was written ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A value that was written, in seconds of the monotonic clock; `certain` if it was acknowledged."""

    value: str
    start: float
    end: float
    certain: bool = True


def check_last(written: Sequence[Written], found: str, initial: str = "") -> None:
    """Raises Violation unless `found` can be what was written last.

    What was cut short may have taken effect at any time after it began.
    """
    latest = max((each.start for each in written if each.certain), default=None)
    if found == initial and latest is None:
        return
    for each in written:
        if each.value == found and (not each.certain or latest is None or each.end >= latest):
            return
    newest = max((each for each in written if each.certain), key=lambda each: each.start, default=None)
    raise Violation(f"found {found!r}; the last that was acknowledged is {newest}")
