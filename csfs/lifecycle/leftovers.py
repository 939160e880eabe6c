"""Left-overs: temporary files of a mount that was cut short, removed by the next one.

They are found without a walk of the backing directory. Whoever makes a temporary file has noted before
where it will lie: an action by its intent, an export by the document that is outstanding, and anything
else by a note of its own in the store.
"""

import logging
import uuid
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from typing import NamedTuple

from csfs.backing import lockfile
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.lifecycle.instance import Instance
from csfs.store.store import Change, View

log = logging.getLogger(__name__)


async def note(instance: Instance, path: bytes) -> str:
    """Notes that a temporary file will lie in the directory at `path`; durable on return. Raises OSError."""
    made = uuid.uuid4().hex
    await instance.store.write(lambda change: change.put_temporary(made, path))
    return made


async def drop(instance: Instance, made: str, directory: Descriptor) -> None:
    """Drops a note when its file is gone from `directory`, which is made durable first.

    Where that fails the note stays: it costs the next mount a look.
    """
    try:
        await in_thread(directory.sync)
    except OSError as error:
        log.warning("a note of a temporary file stays in the store: %s", error)
        return
    await _drop(instance, [made])


async def _drop(instance: Instance, notes: list[str]) -> None:
    def work(change: Change) -> None:
        for made in notes:
            change.drop_temporary(made)

    if notes:
        try:
            await instance.store.write(work)
        except OSError as error:
            log.warning("notes of temporary files stay in the store: %s", error)


@asynccontextmanager
async def noted(instance: Instance, directory: Descriptor, path: bytes) -> AsyncIterator[None]:
    """For the time of one temporary file in `directory`, which lies at `path`. Raises OSError.

    When something fails the file may have stayed, and so does the note: the next mount looks.
    """
    made = await note(instance, path)
    yield
    await drop(instance, made, directory)


def clear(instance: Instance, path: bytes, ours: Container[bytes]) -> None:
    """Removes what earlier mounts left in the directory at `path`, if there is one there. Blocking.

    `ours` are the locks that may have been set aside in it. Raises OSError.
    """
    try:
        directory = instance.backings.descend(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    lockfile.clear(directory, instance.identity.uuid, ours)


class Left(NamedTuple):
    """Where temporary files of earlier mounts may lie."""

    noted: dict[str, bytes]
    """By its note, a directory on the backing directory."""
    in_projects: list[tuple[int, bytes]]
    """Directories in held projects: number and path in the project.

    Its own directory is always one: a lock may be replaced without an intent.
    """


def find(instance: Instance) -> Left:
    """To be called before requests are answered: what is noted from then on is this mount's own."""

    def look(view: View) -> Left:
        in_projects = []
        for record in view.projects():
            if record.state != "detached":
                outstanding = {path.encode().rpartition(b"/")[0] for path in view.unexported(record.number)}
                in_projects += [(record.number, path) for path in sorted(outstanding | {b""})]
        return Left(view.temporaries(), in_projects)

    return instance.store.read(look)


async def remove(instance: Instance, left: Left) -> None:
    """Removes the temporary files of earlier mounts; those of an intent `intents.settle` has removed.

    A background task of the mount. What cannot be reached is logged, and left to the next mount.
    """
    for number, path in left.in_projects:
        record = instance.claims.by_number.get(number)
        if record is not None:
            await _try_clear(instance, record.path + b"/" + path, {record.lock_content})
    cleared = [made for made, path in left.noted.items() if await _try_clear(instance, path, frozenset())]
    await _drop(instance, cleared)


async def _try_clear(instance: Instance, path: bytes, ours: Container[bytes]) -> bool:
    if not instance.backings.has(path):
        return False
    try:
        await in_thread(clear, instance, path, ours)
    except OSError as error:
        log.warning("what was left in %s stays for now: %s", path.decode(errors="replace"), error)
        return False
    return True
