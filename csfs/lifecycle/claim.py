"""Taking a directory for this instance: what create and attach have in common."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Literal

from csfs.backing import broken_lock, lockfile
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import refusals
from csfs.lifecycle import intents
from csfs.lifecycle.instance import Instance, owner_of, timestamp
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change


async def claim(
    instance: Instance,
    directory: Descriptor,
    path: bytes,
    content: bytes | None,
    action: Literal["create", "attach"],
    fill: Callable[[records.Project], Awaitable[records.Project]],
    former: records.Project | None = None,
) -> Project:
    """Takes the lock of a directory, fills the store, and makes it a project.

    `content` are the bytes for cs.lock where a user wrote some of his own. `fill` stores the documents
    and returns the record with its title; nobody sees them before the record is committed, after which
    all of it is there. What it raises takes the whole action back, lock and documents included.
    `former` is the record of an earlier claim on the directory, to be kept as it is given here. Raises
    Refusal EROFS if another instance has the lock.
    """
    epoch = await in_thread(_next_epoch, instance, directory)
    lock_id, project_uuid = str(uuid.uuid4()), str(uuid.uuid4())

    def begin(change: Change) -> records.Intent:
        number = change.take_number()
        record = records.Project(
            number=number,
            uuid=project_uuid,
            title="",
            state="attached",
            path=path,
            inode=directory.inode,
            born=directory.born(),
            lock_id=lock_id,
            lock_content=content
            or instance.new_lock(
                directory,
                path,
                lock_id=lock_id,
                project_uuid=project_uuid,
                number=number,
                epoch=epoch,
            ),
            epoch=epoch,
            since=timestamp(),
        )
        intent = records.Intent(action=action, before=None, after=record)
        change.put_intent(intent)
        return intent

    intent = await instance.store.write(begin)
    record = intent.after

    def commit(change: Change) -> None:
        if former is not None:
            intents.commit(instance, change, former)
        change.put_project(record)
        change.drop_intent(record.number)

    async with intents.finished_or_taken_back(instance, intent):
        await in_thread(_take, directory, record.lock_content)
        record = await fill(record)
        await instance.store.write(commit)
    if former is not None:
        instance.claims.put(former)
    instance.claims.put(record)
    sight = await in_thread(instance.look, directory)
    project = instance.settle(directory, path, sight)
    assert project is not None, "a directory with a lock is a project"
    return project


def _take(directory: Descriptor, content: bytes) -> None:
    try:
        lockfile.take(directory, content, owner=owner_of(directory))
    except lockfile.Taken as error:
        found = lockfile.read(directory, network=True)
        raise refusals.foreign(found.owner if found is not None else "unknown") from error


def _next_epoch(instance: Instance, directory: Descriptor) -> int:
    """Greater than that of any earlier attach of the directory.

    A former owner's lock is gone, so its epoch cannot be read, unless it was broken: milliseconds of the
    clock grow from one owner to the next, and this store's own claims keep it growing if the clock was set
    back.
    """
    known = [record.epoch for record in instance.claims.by_number.values() if record.inode == directory.inode]
    known += broken_lock.epochs(directory)
    return max(max(known, default=0) + 1, time.time_ns() // 1_000_000)
