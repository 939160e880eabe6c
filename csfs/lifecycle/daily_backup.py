"""The backup that a mount makes by itself, each day unless told otherwise."""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trio

from csfs.backing.io import in_thread
from csfs.store import backup
from csfs.store.store import Damaged, Store, UnknownFormat, View

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0
"""How often it is looked whether a backup is due: a node that was suspended is not a day late."""


@dataclass
class DailyBackup:
    """What is backed up to where and how often; `last` and `failure` tell how that goes."""

    store: Store
    directory: Path
    every: float = 24 * 3600.0
    """Seconds; 0: never."""
    keep: int = backup.KEEP
    clock: Callable[[], float] = field(default=time.time)
    """Seconds since 1970."""
    last: datetime | None = None
    """When the newest backup in the directory was made."""
    failure: str = ""
    """Why the last attempt failed; it is repeated at the next look."""

    async def run(self) -> None:
        """Looks again and again, for ever: a background task of the mount."""
        while True:
            await self.look()
            await trio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Makes a backup if one is due. A failure is kept in `failure`, and logged once."""
        try:
            await in_thread(self._make_if_due)
        except (OSError, Damaged, UnknownFormat) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            if reason != self.failure:
                log.warning("the backup to %s failed, will be tried again: %s", self.directory, reason)
            self.failure = reason
        else:
            self.failure = ""

    def _make_if_due(self) -> None:
        newest = backup.listed(self.directory)[-1:]
        self.last = backup.made_at(newest[0]) if newest else None
        if not self.every or not self._is_due() or not self.store.read(View.projects):
            return
        self.directory.mkdir(mode=0o700, exist_ok=True)
        backup.clear_partial(self.directory)
        made = backup.make(self.store, self.directory / backup.name(self._now()))
        self.last = made.made
        gone = backup.prune(self.directory, self.keep)
        log.info("backup %s (%d bytes); %d older ones removed", made.path.name, made.bytes, len(gone))

    def _is_due(self) -> bool:
        """A backup of the future was made while the clock was wrong: it does not count."""
        if self.last is None:
            return True
        age = (self._now() - self.last).total_seconds()
        return not 0 <= age < self.every

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def status(self) -> dict[str, object]:
        """For `.csfs/status.json`."""
        return {
            "last": self.last.isoformat(timespec="seconds") if self.last is not None else None,
            "every_hours": self.every / 3600,
            "failing": self.failure,
            "directory": os.fspath(self.directory),
        }
