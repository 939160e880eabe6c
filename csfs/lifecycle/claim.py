"""Taking a directory for this instance: what create and attach have in common."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from csfs.backing import broken_lock, lockfile
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import lock, names, refusals
from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.lifecycle import history, intents
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
    Refusal EROFS if another instance has the lock, or another mount of this one has its projects, EBUSY if
    another has had it since this began, EPERM for the bytes of a lock that was broken here.
    """
    instance.refuse_mounted_twice(directory)
    before, epoch = await in_thread(_next_epoch, instance, directory)
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
        change.put_deed(deed)
        change.drop_intent(record.number)

    refused: Refusal | None = None
    async with intents.finished_or_taken_back(instance, intent):
        try:
            await in_thread(_take, instance, directory, record.lock_content, before)
        except Refusal as error:
            # Nothing was done: the lock there is another's, even if it has the same bytes.
            refused = error
        else:
            record = await fill(record)
            deed = history.deed(action, record)
            await instance.store.write(commit)
    if refused is not None:
        await intents.withdraw(instance, record.number)
        instance.settle(directory, path, await in_thread(instance.look, directory))
        raise refused
    if former is not None:
        instance.claims.put(former)
    instance.claims.put(record)
    sight = await in_thread(instance.look, directory)
    project = instance.settle(directory, path, sight)
    assert project is not None, "a directory with a lock is a project"
    return project


class _Past(NamedTuple):
    """What the claims of others leave in a directory. No two of its former owners leave the same."""

    document: tuple[int, int] | None
    """Inode and ctime of its project.json, which is written anew by each attach and each detach."""
    broken: list[bytes]
    """The locks that were broken."""


def _past(directory: Descriptor) -> _Past:
    try:
        found = directory.stat(names.PROJECT_DOCUMENT.encode())
    except FileNotFoundError:
        return _Past(None, broken_lock.contents(directory))
    return _Past((found.st_ino, found.st_ctime_ns), broken_lock.contents(directory))


def _take(instance: Instance, directory: Descriptor, content: bytes, before: _Past) -> None:
    """Takes the lock, unless another instance has had it since `before`.

    The daemon may have been stopped for so long: the epoch of its lock would be too small, and a directory
    that was empty may hold a project.
    """

    def confirm() -> None:
        instance.confirm_sole_mount(directory)
        if _past(directory) != before:
            raise refusals.in_transition("another instance has had it meanwhile")
        if content in before.broken:  # whose claim that was would take this lock for its own
            raise refusals.reused_lock()

    try:
        lockfile.take(directory, content, owner=owner_of(directory), confirm=confirm)
    except lockfile.Taken as error:
        found = lockfile.read(directory, network=True)
        raise refusals.foreign(found.owner if found is not None else "unknown") from error


def _next_epoch(instance: Instance, directory: Descriptor) -> tuple[_Past, int]:
    """An epoch greater than that of any earlier attach of the directory, as long as its past is this.

    A former owner's lock is gone, so its epoch cannot be read, unless it was broken: milliseconds of the
    clock grow from one owner to the next, and this store's own claims keep it growing if the clock was set
    back.
    """
    past = _past(directory)
    known = [record.epoch for record in instance.claims.by_number.values() if record.inode == directory.inode]
    broken = [found.epoch for found in map(lock.parse, past.broken) if isinstance(found, Lock)]
    return past, max(max([*known, *broken], default=0) + 1, time.time_ns() // 1_000_000)
