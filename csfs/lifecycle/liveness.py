"""Liveness: this instance's heartbeat on the storage, and what is seen of the heartbeats of others."""

import logging
import math
import os
import socket
import threading
import uuid
from collections.abc import Callable

import msgspec
import trio

from csfs.backing import sessions
from csfs.backing.descriptor import Descriptor
from csfs.domain import session
from csfs.domain.session import Life, Pulse, Session
from csfs.lifecycle import clock, sole_mount
from csfs.store import records

log = logging.getLogger(__name__)

_BEATS = 30
"""How often a heart beats in the time after which it counts as stopped."""


class Liveness:
    """The heartbeat of one mount. `takeover`: seconds of silence after which others may take over."""

    def __init__(
        self,
        backing: Descriptor,
        identity: records.Instance,
        since: str,
        next_project: Callable[[], int],
        takeover: float = session.TAKEOVER_SECONDS,
    ) -> None:
        self.takeover = takeover
        self.problem = ""
        """Why the last beat could not be written; empty if it was."""
        self.successor: Session | None = None
        """Another mount of this instance, which has taken its place on the storage: this one owns nothing."""
        self._backing = backing
        self._next_project = next_project
        self._pulses: dict[str, Pulse] = {}
        self._held: int | None = None
        """The descriptor that holds the session on the storage, if there is one."""
        self._beaten: float | None = None
        self._looking = trio.Lock()
        self._writing = threading.Lock()
        self._own = Session(
            session=str(uuid.uuid4()),
            instance_uuid=identity.uuid,
            instance_name=identity.name,
            host=socket.gethostname(),
            boot=sole_mount.boot(),
            pid=os.getpid(),
            since=since,
            interval=min(takeover / _BEATS, session.LONGEST_INTERVAL),
            takeover=takeover,
        )

    @property
    def late_from(self) -> float:
        """From when on, by `clock.seconds`, somebody may be about to take this instance's projects.

        Nothing that was seen earlier is to be believed then. An instance that never had a heartbeat on
        this storage is not taken for dead by anybody.
        """
        if self._beaten is None:
            return math.inf
        return self._beaten + session.LATE_BEATS * self._own.interval

    @property
    def is_late(self) -> bool:
        """Whether the last beat is so old."""
        return clock.seconds() > self.late_from

    @property
    def age(self) -> float | None:
        """Seconds since the last beat that was written; None if none ever was."""
        return None if self._beaten is None else clock.seconds() - self._beaten

    @property
    def others(self) -> list[Pulse]:
        """What was seen of the other instances on this storage, by name."""
        found = [pulse for uuid, pulse in self._pulses.items() if uuid != self._own.instance_uuid]
        return sorted(found, key=lambda pulse: (pulse.session.instance_name, pulse.session.instance_uuid))

    def life(self, instance_uuid: str) -> Life:
        """Whether another instance lives, as far as it is known from the looks so far."""
        pulse = self._pulses.get(instance_uuid)
        return Life.UNKNOWN if pulse is None else pulse.life(self.takeover)

    def describe(self, instance_uuid: str) -> str:
        """The same in words."""
        pulse = self._pulses.get(instance_uuid)
        return "nothing is known of a session of it" if pulse is None else pulse.describe(self.takeover)

    async def take(self) -> None:
        """Makes this the only mount of the instance on the storage. Raises `sole_mount.MountedElsewhere`."""
        self._held = await sole_mount.hold(self._backing, self._own.instance_uuid)

    async def beat(self) -> None:
        """Writes one beat. Raises OSError."""
        beat = msgspec.structs.replace(
            self._own, counter=self._own.counter + 1, next_project=self._next_project()
        )
        began = clock.seconds()
        await trio.to_thread.run_sync(self._write, beat, abandon_on_cancel=True)
        if self.successor is not None:
            return
        self._own = beat
        self._beaten = began

    def _write(self, beat: Session) -> None:
        """A beat that was given up when the mount ended may still be on its way: it is not to be the last."""
        with self._writing:
            if not beat.ended and self._own.ended:
                return
            self._find_successor()
            if self.successor is None:
                sessions.write(self._backing, beat)
                self._held = sessions.hold_still(self._backing, self._own.instance_uuid, self._held)

    def confirm(self) -> None:
        """Finds out whether another mount has taken this one's place, where the last beat is too old to tell.

        Blocking. Raises OSError.
        """
        if self.is_late and self.successor is None:
            self._find_successor()

    def _find_successor(self) -> None:
        if self._beaten is None:
            return
        found = sessions.read_own(self._backing, self._own.instance_uuid)
        if found is not None and found.session != self._own.session:
            log.error(
                "the instance is mounted a second time, by %s: this mount owns nothing now", found.describe()
            )
            self.successor = found

    async def look(self) -> None:
        """Looks at the sessions on the storage. Raises OSError."""
        async with self._looking:
            found = await trio.to_thread.run_sync(sessions.read, self._backing, abandon_on_cancel=True)
            now = clock.seconds()
            patience = 3 * self._own.interval
            for each in found:
                before = self._pulses.get(each.instance_uuid)
                self._pulses[each.instance_uuid] = (
                    Pulse.first(each, now) if before is None else before.seen(each, now, patience)
                )

    async def turn(self) -> None:
        """One beat and one look; what fails is told. The first comes before a mount answers requests."""
        problem = ""
        try:
            await self.beat()
        except OSError as error:
            problem = f"the heartbeat cannot be written: {error.strerror or error}"
        try:
            await self.look()
        except OSError as error:
            problem = problem or f"the sessions cannot be read: {error.strerror or error}"
        if self.successor is None:
            self._note(problem)
        else:
            self.problem = f"the instance is mounted a second time, by {self.successor.describe()}"

    async def keep(self) -> None:
        """Beats and looks for ever: a background task of the mount."""
        while True:
            await trio.sleep(self._own.interval)
            await self.turn()

    async def end(self) -> None:
        """The last beat of a mount that ends as it should: nobody is to take it for a crash."""
        self._own = msgspec.structs.replace(self._own, ended=True)
        try:
            await self.beat()
        except OSError as error:
            log.warning("the end of the session cannot be written: %s", error)
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.warning("%s; others will need the lock's id to rescue a project of this instance", problem)
        elif self.problem and not problem:
            log.info("the heartbeat is written again")
        self.problem = problem
