"""The documents that are to be exported and are not yet, and for how long."""

import logging
from dataclasses import dataclass, field
from functools import partial

import trio

from csfs.backing.io import in_thread
from csfs.lifecycle import clock, documents
from csfs.lifecycle.instance import Instance
from csfs.store.store import View

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""How often it is looked: a document may have waited for so much longer than is said of it."""


@dataclass
class Backlog:
    """What the background has still to export of an instance's attached projects."""

    instance: Instance
    since: dict[tuple[int, str], float] = field(default_factory=dict)
    """(project number, path) of a document that waits -> when that was first seen, by `clock.seconds`."""
    held_back: int = 0
    """Documents that do not wait: the status of their job keeps them from being exported."""

    problem: str = ""
    """Why the last look failed; empty if it did not."""

    async def look(self) -> None:
        """Looks at the store anew. What was known stays if that fails, which is logged once."""
        numbers = [
            record.number
            for record in list(self.instance.claims.by_number.values())
            if record.state == "attached"
        ]

        now = clock.seconds()
        try:
            found = await in_thread(self._find, numbers)
        except OSError as error:
            if not self.problem:
                log.warning("it is not known which exports are outstanding: %s", error)
            self.problem = error.strerror or str(error)
            return
        self.problem = ""
        self.since = {each: self.since.get(each, now) for each, held_back in found if not held_back}
        self.held_back = len(found) - len(self.since)

    def _find(self, numbers: list[int]) -> list[tuple[tuple[int, str], bool]]:
        """What was not exported of these projects, each with whether it is held back. Raises OSError."""
        found = []
        for number in numbers:  # one by one: while the store is read here the others wait for it
            found += self.instance.store.read(partial(_unexported, number))
        return found

    async def keep_looking(self) -> None:
        """Looks again and again, for ever: a background task of the mount."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    @property
    def oldest_seconds(self) -> float:
        """For how long the one that waits longest has waited; 0 if none does."""
        return clock.seconds() - min(self.since.values()) if self.since else 0.0


def _unexported(number: int, view: View) -> list[tuple[tuple[int, str], bool]]:
    return [((number, path), documents.is_held_back(view, number, path)) for path in view.unexported(number)]
