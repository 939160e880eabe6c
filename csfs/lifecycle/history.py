"""Who does what: each lifecycle action that is done is noted in the store, with what it has done."""

import os
import socket
from contextvars import ContextVar
from typing import NamedTuple

from csfs.lifecycle import processes
from csfs.lifecycle.instance import timestamp
from csfs.store import records


class Actor(NamedTuple):
    """Whose request is being answered."""

    uid: int
    thread: int


actor: ContextVar[Actor | None] = ContextVar("actor", default=None)
"""Set by the mount for each request that may be an action; None: csfs acts by itself."""


def deed(
    action: str, record: records.Project, *, came_from: bytes = b"", number: int | None = None
) -> records.Deed:
    """What is to be noted of an action that leaves this record. To be asked for in the actor's own task."""
    who = actor.get()
    program, process = "", 0
    if who is not None:
        process = processes.process_of(who.thread)
        try:
            program = processes.command(process)
        except OSError:
            program = ""
    return records.Deed(
        at=timestamp(),
        action=action,
        number=record.number if number is None else number,
        title=record.title,
        path=_shown(record.path),
        came_from=_shown(came_from),
        host=socket.gethostname(),
        uid=None if who is None else who.uid,
        pid=process,
        program=program,
    )


def _shown(path: bytes) -> str:
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
