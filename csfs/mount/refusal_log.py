"""The refusals of this mount, newest last: what `csfs why` and `.csfs/refusals` show."""

import errno
import os
from collections import deque

import msgspec
from pyfuse3 import RequestContext

from csfs.domain.refusals import Refusal
from csfs.lifecycle import processes
from csfs.lifecycle.instance import timestamp

_KEPT = 1000


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


class RefusalLog:
    """The last refusals; a repetition by the same process under the same rule counts up."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=_KEPT)

    def record(self, refusal: Refusal, operation: str, path: bytes, context: RequestContext) -> None:
        last = self.entries[-1] if self.entries else None
        rule = refusal.rule.name
        if last is not None and (last.pid, last.rule, last.operation) == (context.pid, rule, operation):
            self.entries[-1] = msgspec.structs.replace(last, count=last.count + 1)
            return
        try:
            command = processes.command(context.pid)
        except OSError:
            command = ""
        reason = refusal.rule.value + (f" ({refusal.detail})" if refusal.detail else "")
        self.entries.append(
            Entry(
                at=timestamp(),
                errno=errno.errorcode.get(refusal.errno, str(refusal.errno)),
                path=os.fsdecode(path).encode(errors="backslashreplace").decode(),
                operation=operation,
                pid=context.pid,
                command=command,
                uid=context.uid,
                rule=rule,
                reason=reason,
                advice=refusal.advice,
            )
        )

    def lines(self) -> bytes:
        """One JSON object a line."""
        return b"".join(msgspec.json.encode(entry) + b"\n" for entry in self.entries)
