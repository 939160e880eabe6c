"""A project directory as this mount sees it: its state, its record, and what goes on in it."""

import os
from dataclasses import dataclass, field

import trio

from csfs.backing.descriptor import Descriptor
from csfs.domain import lock, refusals, state
from csfs.domain.state import FREE, State, Verdict
from csfs.store import records


@dataclass(frozen=True)
class Sight:
    """What was seen of a directory on the backing filesystem."""

    signature: tuple[int, int, int] | None
    """Of its cs.lock; see `lockfile.signature`."""
    lock: lock.Lock | lock.Opaque | None
    has_project_document: bool
    born: int = 0
    """Of the directory; see `Descriptor.born`."""
    read_at: float = field(default=0.0, compare=False)
    """By `clock.seconds`: when its cs.lock was read."""


@dataclass(eq=False)
class Project:
    """A directory that is, or may become, a project directory; one object as long as it is known.

    `record` is the store's, where this instance holds the project or held it last. `jobs` are the
    names of its registered job directories while it is attached or archived.
    """

    directory: Descriptor
    path: bytes
    """Relative to the backing directory; the mount keeps it up to date."""
    sight: Sight
    verdict: Verdict
    record: records.Project | None = None
    jobs: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    """Documents, and the lock, that an archived project has already left behind on its way out."""
    transition: str = ""
    """The action that is under way; empty between actions."""
    unsettled: str = ""
    """An action that failed half way, so that nothing may change before it is settled; see `intents`."""
    progress: int = 0
    """Of an attach: jobs that were read so far. Of checksums: bytes."""
    total: int = 0
    """Of checksums: bytes to be read; see `checksums`."""
    reading: str = ""
    """How the last reading for checksums goes, or how it ended; empty in the next state."""
    stop_reading: trio.CancelScope | None = None
    """While one is under way: what ends it."""
    other_contents: list[str] = field(default_factory=list)
    """What the last comparison found, until the project is unarchived, or that was refused."""
    new_jobs: dict[str, int] = field(default_factory=dict)
    """Jobs whose directory was just made -> the process that made it, and may be about to fill it."""
    export_failures: dict[str, str] = field(default_factory=dict)
    """Documents that could not be exported at the last attempt -> why."""
    left_behind: set[str] = field(default_factory=set)
    """Documents of which an export that failed may have left a temporary file."""
    exporting: trio.Lock = field(default_factory=trio.Lock)
    """Held while a document of the project is written to the backing directory."""
    fresh_until: float = 0.0
    """By `clock.seconds`: when the backing directory is to be looked at again."""

    @property
    def inode(self) -> int:
        return self.directory.inode

    @property
    def state(self) -> State:
        return self.verdict.state

    @property
    def is_free(self) -> bool:
        return self.state in FREE

    @property
    def uid(self) -> str:
        """`P7`, or what names the project best where this instance holds no record of it."""
        return self.record.uid if self.record is not None else os.fsdecode(self.path)

    @property
    def held(self) -> records.Project:
        """The record of a project that this instance holds, or has lost."""
        assert self.record is not None, "only a held or lost project is asked for its record"
        return self.record

    def refuse_change(self) -> None:
        """Passes if files in the project may be changed now; otherwise raises EBUSY or EROFS."""
        if self.transition:
            raise refusals.in_transition(self.transition)
        state.refuse_change(self.state, self.verdict, self.uid)

    def refuse_leaving(self) -> None:
        """Passes if the whole directory may be removed now; otherwise raises EBUSY or EPERM."""
        if self.transition:
            raise refusals.in_transition(self.transition)
        state.refuse_leaving(self.state, self.verdict, self.uid)
