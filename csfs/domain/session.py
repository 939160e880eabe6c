"""Sessions: how instances that share a storage know of each other, and when one counts as dead.

Each mount writes a counter to the storage; whoever watches it judges by its own clock whether it still
moves. No two clocks have to agree (design section 4).
"""

import enum
from dataclasses import dataclass
from typing import Annotated, Self, TypeAlias

import msgspec

FORMAT = 1
MAX_BYTES = 4096
"""No session's file is larger."""

LONGEST_INTERVAL = 10.0
"""Seconds between two beats, at the most."""

TAKEOVER_SECONDS = 300.0
"""How long a counter must have stood still for its instance to count as dead, unless told otherwise."""

SILENT_BEATS = 3
"""A counter that has stood still for so many intervals is not called alive any more."""

LATE_BEATS = 2
"""An owner whose last beat is so many intervals old believes nothing that it saw before: fewer than others
wait, so that it has looked before it does anything."""


Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a mounted instance says of itself on the storage."""

    csfs_session: int = FORMAT
    session: str
    """UUID4 of this mount."""
    instance_uuid: str
    instance_name: str
    host: str
    boot: str = ""
    """Which run of which kernel: what one process of it locks, another finds locked."""
    pid: int
    since: str
    """ISO 8601, UTC."""
    counter: int = 0
    """Grows with each beat."""
    interval: Seconds
    """Seconds between two beats."""
    takeover: Seconds
    """Seconds for which the instance may be silent before others may count it as dead."""
    next_project: int = 1
    """The next P-number of the instance: a store that is rebuilt goes on from there."""
    ended: bool = False
    """It was unmounted: nothing is running, and nothing has crashed."""

    def encode(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def describe(self) -> str:
        """Which mount it is, for people."""
        return f"process {self.pid} on {self.host}, since {self.since}"


def parse(content: bytes) -> Session | None:
    """What a session's file says; None for anything else."""
    try:
        found = msgspec.json.decode(content, type=Session)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.csfs_session == FORMAT else None


class Life(enum.StrEnum):
    """What an observer may say of the instance behind a session."""

    ALIVE = "alive"
    SILENT = "silent"
    DEAD = "dead"
    ENDED = "unmounted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Pulse:
    """What one observer has seen of one session, by its own clock (seconds)."""

    session: Session
    still: float
    """For how long it was watched without a beat."""
    looked: float
    """When it was looked at last."""
    moved: bool
    """Whether a beat was seen at all."""

    @classmethod
    def first(cls, session: Session, now: float) -> Self:
        return cls(session, 0.0, now, moved=False)

    def seen(self, session: Session, now: float, patience: float) -> "Pulse":
        """The same after another look.

        Only time that was watched counts: an observer that itself slept for longer than `patience`
        (it was stopped, or its storage hung) has missed beats, and says nothing about that time.
        """
        if session != self.session:
            return Pulse(session, 0.0, now, moved=session.session == self.session.session or self.moved)
        return Pulse(session, self.still + min(now - self.looked, patience), now, self.moved)

    def life(self, takeover: float) -> Life:
        """`takeover` is the observer's own; the longer of the two counts."""
        if self.session.ended:
            return Life.ENDED
        if self.still >= max(takeover, self.session.takeover):
            return Life.DEAD
        if self.moved and self.still <= SILENT_BEATS * self.session.interval:
            return Life.ALIVE
        return Life.SILENT

    def describe(self, takeover: float) -> str:
        """For people: `silent for 40 s; after 300 s it counts as dead`."""
        at = f"on {self.session.host}"
        limit = max(takeover, self.session.takeover)
        match self.life(takeover):
            case Life.ENDED:
                return f"it was unmounted {at}, and may come back"
            case Life.ALIVE:
                return f"it is alive {at}"
            case Life.DEAD:
                return f"it has been silent {at} for {self.still:.0f} s and counts as dead"
            case Life.SILENT if not self.moved and self.still <= SILENT_BEATS * self.session.interval:
                return f"its heartbeat {at} is watched since {self.still:.0f} s"
            case _:
                return (
                    f"it has been silent {at} for {self.still:.0f} s; after {limit:.0f} s it counts as dead"
                )
