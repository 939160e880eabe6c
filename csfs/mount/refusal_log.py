"""The refusals of this mount, newest last: what `csfs why`, `.csfs/refusals` and the log show."""

import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from pyfuse3 import RequestContext

from csfs.domain import names
from csfs.domain.printable import printable, shown
from csfs.domain.refusal_entry import RefusalEntry
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle import clock, processes
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.project import Project

log = logging.getLogger(__name__)

_KEPT = 1000
_LONGEST = 4096
"""Bytes of a path and letters of a reason that are kept: both may be as long as a user likes."""
_LONGEST_IN_LOG = 1000
_LINES, _PER_SECONDS = 300, 60.0
"""So many refusals are logged in so much time: anybody may be refused as often as they like, and the log lies
beside the store."""


class Refused(NamedTuple):
    """An entry, and the path that it is about as the kernel has it."""

    entry: RefusalEntry
    path: bytes
    project: tuple[bytes, int] | None
    """Container and inode number of the directory of the project that it is about, if there is one."""


class RefusalLog:
    """The last refusals; one by the same process under the same rule, in the same project, counts up."""

    def __init__(self) -> None:
        self.entries: deque[Refused] = deque(maxlen=_KEPT)
        self.counts = dict.fromkeys(Rule, 0)
        """How often each rule was a reason since the mount."""
        self._logged = 0
        self._logging_since = clock.seconds()

    def record(
        self,
        refusal: Refusal,
        operation: str,
        path: bytes,
        project: Project | None,
        context: RequestContext,
        target: bytes = b"",
    ) -> None:
        """Keeps a refusal, and logs it unless it only counts another one up.

        `target` is where a rename or link was to lead.
        """
        path, rule = path[:_LONGEST], refusal.rule.name
        self.counts[refusal.rule] += 1
        directory = None if project is None else (project.directory.container, project.inode)
        if self.entries:
            last, before, of = self.entries[-1]
            same = directory == of if project is not None else path == before
            if same and (last.pid, last.rule, last.operation) == (context.pid, rule, operation):
                self.entries[-1] = Refused(msgspec.structs.replace(last, count=last.count + 1), before, of)
                return
        try:
            command = processes.command(context.pid)
        except OSError:
            command = ""
        reason = refusal.rule.value + (f" ({refusal.detail[:_LONGEST]})" if refusal.detail else "")
        entry = RefusalEntry(
            at=timestamp(),
            errno=errno.errorcode.get(refusal.errno, str(refusal.errno)),
            path=shown(path),
            target=shown(target[:_LONGEST]),
            directory=shown(_about(refusal, path, project, target)[:_LONGEST]),
            operation=operation,
            pid=context.pid,
            command=printable(command),
            uid=context.uid,
            rule=rule,
            reason=printable(reason),
            advice=printable(refusal.advice),
        )
        self.entries.append(Refused(entry, path, directory))
        self._log(entry, project)

    def _log(self, entry: RefusalEntry, project: Project | None) -> None:
        now = clock.seconds()
        if now > self._logging_since + _PER_SECONDS:
            if self._logged > _LINES:
                log.info("%d refusals were not logged: they were too many", self._logged - _LINES)
            self._logged, self._logging_since = 0, now
        self._logged += 1
        if self._logged > _LINES:
            return
        path, reason = entry.path[:_LONGEST_IN_LOG], entry.reason[:_LONGEST_IN_LOG]
        request = {
            "kind": entry.operation,
            "project": None if project is None or project.record is None else project.record.uid,
            "path": path,
            "pid": entry.pid,
            "command": entry.command,
            "uid": entry.uid,
            "errno": entry.errno,
            "rule": entry.rule,
        }
        who = f"{entry.command or 'process'} ({entry.pid}), uid {entry.uid}"
        log.info(
            "%s of %s by %s: %s, %s",
            entry.operation,
            path or ".",
            who,
            entry.errno,
            reason,
            extra={"request": request},
        )

    def lines(self, to_show: Callable[[Refused], bool] = lambda refused: True) -> bytes:
        """One JSON object a line, of those that are to be shown."""
        return b"".join(msgspec.json.encode(each.entry) + b"\n" for each in self.entries if to_show(each))


def _about(refusal: Refusal, path: bytes, project: Project | None, target: bytes) -> bytes:
    """The project directory that a refusal is about, or what comes nearest to it."""
    if refusal.directory is not None:
        return refusal.directory
    if project is not None:
        return project.path
    for place in (path, target):
        if os.path.basename(place) == names.LOCK.encode():
            return os.path.dirname(place)
    return path
