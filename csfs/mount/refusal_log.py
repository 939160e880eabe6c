"""The refusals of this mount, newest last: what `csfs why` and `.csfs/refusals` show."""

import errno
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from pyfuse3 import RequestContext

from csfs.domain.printable import printable, shown
from csfs.domain.refusals import Refusal
from csfs.lifecycle import processes
from csfs.lifecycle.instance import timestamp

_KEPT = 1000
_LONGEST = 4096
"""Bytes of a path and letters of a reason that are kept: both may be as long as a user likes."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was refused."""

    at: str
    """ISO 8601, UTC."""
    errno: str
    """`EBUSY`."""
    path: str
    """Relative to the mount point."""
    operation: str
    pid: int
    command: str
    uid: int
    rule: str
    """The rule's name, which does not change with the wording."""
    reason: str
    advice: str
    """What to do next."""
    count: int = 1
    """How often in a row: one `rm -rf` may be refused a thousand times for one reason."""


class Refused(NamedTuple):
    """An entry, and the path that it is about as the kernel has it."""

    entry: Entry
    path: bytes
    project: int | None
    """The number, on the mount, of the directory of the project that it is about, if there is one."""


class RefusalLog:
    """The last refusals; one by the same process under the same rule, in the same project, counts up."""

    def __init__(self) -> None:
        self.entries: deque[Refused] = deque(maxlen=_KEPT)

    def record(
        self, refusal: Refusal, operation: str, path: bytes, project: int | None, context: RequestContext
    ) -> None:
        path, rule = path[:_LONGEST], refusal.rule.name
        if self.entries:
            last, before, of = self.entries[-1]
            same = project == of if project is not None else path == before
            if same and (last.pid, last.rule, last.operation) == (context.pid, rule, operation):
                self.entries[-1] = Refused(msgspec.structs.replace(last, count=last.count + 1), before, of)
                return
        try:
            command = processes.command(context.pid)
        except OSError:
            command = ""
        reason = refusal.rule.value + (f" ({refusal.detail[:_LONGEST]})" if refusal.detail else "")
        entry = Entry(
            at=timestamp(),
            errno=errno.errorcode.get(refusal.errno, str(refusal.errno)),
            path=shown(path),
            operation=operation,
            pid=context.pid,
            command=printable(command),
            uid=context.uid,
            rule=rule,
            reason=printable(reason),
            advice=refusal.advice,
        )
        self.entries.append(Refused(entry, path, project))

    def lines(self, to_show: Callable[[Refused], bool] = lambda refused: True) -> bytes:
        """One JSON object a line, of those that are to be shown."""
        return b"".join(msgspec.json.encode(each.entry) + b"\n" for each in self.entries if to_show(each))
