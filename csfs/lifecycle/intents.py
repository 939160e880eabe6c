"""The intent journal: what makes each action whole although the daemon may die at any step.

An action writes its intent (the record before, the record after) to the store before its first step
on the backing directory, and drops it in the transaction that commits its outcome. What is still
there at the next mount was cut short: the lock on the backing directory tells how far it came, and
the action is finished or taken back.
"""

import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

from csfs.backing import broken_lock, lockfile
from csfs.backing.broken_lock import Reservation
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import names
from csfs.domain.refusals import Refusal
from csfs.lifecycle import documents, history, leftovers
from csfs.lifecycle.instance import Instance, is_directory_of, owner_of
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.records import Intent
from csfs.store.store import Change, View

log = logging.getLogger(__name__)


async def declare(instance: Instance, *intents: Intent) -> None:
    """Writes intents before the first step of their action; durable on return. Raises OSError."""

    def work(change: Change) -> None:
        for intent in intents:
            change.put_intent(intent)

    await instance.store.write(work)


@asynccontextmanager
async def whole(instance: Instance, *intents: Intent) -> AsyncIterator[None]:
    """Makes the action in its body whole: its intents are written before, the body ends with its commit.

    When the body fails, the backing directory tells how far the action came, as after a crash: it is taken
    back, and the error is raised; or it had come far enough, is finished, and has not failed. Where the
    storage or the store does not let either be done, the error is raised, the projects take no change, and
    `settle_failed` tries again. Raises OSError.
    """
    if not intents:
        yield
        return
    await declare(instance, *intents)
    async with finished_or_taken_back(instance, *intents):
        yield


@asynccontextmanager
async def finished_or_taken_back(instance: Instance, *intents: Intent) -> AsyncIterator[None]:
    """As `whole`, with intents that are in the store already."""
    try:
        yield
    except BaseException as error:
        with trio.CancelScope(shield=True):
            refused = isinstance(error, Refusal)
            finished = [await _try_to_settle(instance, intent, refused=refused) for intent in intents]
        if not isinstance(error, OSError):
            raise
        if error.errno == errno.ESTALE and any(each.after.number in instance.unsettled for each in intents):
            # The kernel repeats at once what fails with ESTALE: not what is done in part.
            raise OSError(errno.EIO, error.strerror) from error
        if not all(finished):
            raise
        log.warning("%s was finished although it failed at first: %s", _name(intents[0]), error)


async def _try_to_settle(instance: Instance, intent: Intent, *, refused: bool = False) -> bool:
    """Whether the action was finished; one that cannot be settled now is kept for later."""
    try:
        finished = await _settle_here(instance, intent, refused=refused)
    except (OSError, Refusal, lockfile.NotOurs) as error:
        log.warning("%s failed half way and cannot be settled yet: %s", _name(intent), error)
        instance.unsettled[intent.after.number] = intent
        for project in _projects(instance, intent):
            project.unsettled = f"{intent.action}, which failed half way and is still to be settled"
        return False
    instance.unsettled.pop(intent.after.number, None)
    for project in _projects(instance, intent):
        project.unsettled = ""
    return finished


async def _settle_here(instance: Instance, intent: Intent, *, refused: bool) -> bool:
    """Settles an action of this mount: its projects are looked at anew. Raises OSError.

    One that was `refused`, for its lock is lost, has not come so far: that a lock is gone is no sign of it.
    """
    if intent.action == "rescue":
        return await _settle_rescue(instance, intent, logging.INFO if refused else logging.WARNING)
    if refused and intent.before is not None and intent.action != "move":
        outcome: records.Project | None = intent.before
        await _conclude(instance, intent, outcome)
    else:
        outcome = await _settle(instance, intent)
    for project in _projects(instance, intent):
        if outcome is not None and is_directory_of(outcome, project.directory):
            project.path = outcome.path
        await instance.arrive(project, outcome)
    instance.exports_due.set()
    return outcome == intent.after


def _projects(instance: Instance, intent: Intent) -> list[Project]:
    """What this mount knows of the directories that an action is about."""
    about = [record for record in (intent.before, intent.after) if record is not None]
    places = {(instance.backings.filesystem(record.path), record.inode) for record in about}
    return [instance.projects[place] for place in places if place in instance.projects]


def _name(intent: Intent) -> str:
    return f"{intent.action} of {os.fsdecode(intent.after.path)}"


async def settle_failed(instance: Instance) -> None:
    """Settles what failed half way, as soon as that can be done, for ever: a background task of the mount."""
    while True:
        await trio.sleep(documents.RETRY_SECONDS)
        for intent in list(instance.unsettled.values()):
            if await _try_to_settle(instance, intent):
                log.info("%s is finished", _name(intent))
            for project in _projects(instance, intent):
                if not project.unsettled:
                    project.transition = ""


async def withdraw(instance: Instance, number: int, deed: records.Deed | None = None) -> None:
    """Drops the intent of an action that was taken back, or of one that leaves no record but a deed."""

    def work(change: Change) -> None:
        change.drop_intent(number)
        if deed is not None:
            change.put_deed(deed)

    await instance.store.write(work)


def commit(
    instance: Instance, change: Change, after: records.Project, deed: records.Deed | None = None
) -> None:
    """Makes the outcome of an action the truth, notes the deed, drops the intent: in one transaction."""
    change.put_project(after)
    if deed is not None:
        change.put_deed(deed)
    documents.identify(instance, change, after)
    if after.state != "archived":
        change.drop_manifest(after.number)
    change.drop_intent(after.number)


async def settle(instance: Instance) -> None:
    """Finishes or takes back every action that was cut short. Called once, before the mount serves.

    One in a container that is away waits for a mount that has it. Raises OSError if a backing directory
    cannot be read: nothing is decided then.
    """
    for intent in instance.store.read(View.intents):
        if not instance.backings.has(intent.after.path):
            log.warning("%s waits: its container is away", _name(intent))
            continue
        if intent.action == "rescue":
            await _settle_rescue(instance, intent, logging.WARNING)
            continue
        outcome = await _settle(instance, intent)
        log.warning(
            "%s of %s was cut short and is now %s",
            intent.action,
            intent.after.uid,
            "finished" if outcome == intent.after else "taken back",
        )


async def _settle(instance: Instance, intent: Intent) -> records.Project | None:
    """What became of an action: one of its two records. Durable, on backing directory and in the store."""
    outcome = await in_thread(_settle_on_backing, instance, intent)
    await _conclude(instance, intent, outcome)
    return outcome


async def _settle_rescue(instance: Instance, intent: Intent, level: int) -> bool:
    """A rescue has one step: the lock has been broken, or it has not. Which of the two, logged at this level.

    The second of two rescuers is refused half way, as it should be: that is no warning.
    """
    broken = intent.after
    own = Reservation(instance.identity.uuid, instance.identity.name)

    def look() -> bool:
        leftovers.clear(instance, broken.path, frozenset())
        directory = _find(instance, broken)
        if directory is None:
            return False
        done = broken_lock.was_broken(directory, broken.lock_content, names.rescued(broken.since))
        broken_lock.release(directory, broken.lock_id, own)
        return done

    done = await in_thread(look)
    await withdraw(instance, broken.number, _finished("rescue", broken) if done else None)
    path = os.fsdecode(broken.path)
    log.log(level, "rescue of %s was cut short and is now %s", path, "finished" if done else "taken back")
    return done


async def _conclude(instance: Instance, intent: Intent, outcome: records.Project | None) -> None:
    """Makes an outcome the truth in the store. Raises OSError."""
    deed = _finished(intent.action, intent.after) if outcome == intent.after else None

    def work(change: Change) -> None:
        if outcome is None:
            change.forget_project(intent.after.number)
            return
        commit(instance, change, outcome, deed)
        if outcome.state != "detached":
            for name in names.PROJECT_DOCUMENTS:
                change.mark_unexported(outcome.number, name)

    await instance.store.write(work)
    if outcome is not None:
        instance.claims.put(outcome)


def _finished(action: str, after: records.Project) -> records.Deed:
    number = 0 if action == "rescue" else after.number
    deed = history.deed(action, after, number=number)
    return msgspec.structs.replace(deed, outcome="finished after it was cut short")


def _settle_on_backing(instance: Instance, intent: Intent) -> records.Project | None:
    """Makes the backing directory agree with one of the two records, and says with which.

    Raises Refusal EROFS if another mount of this instance has taken its place, OSError.
    """
    before, after = intent.before, intent.after
    instance.confirm_sole_mount(instance.backings.at(after.path).descriptor)
    for record in (before, after):
        if record is not None and instance.backings.has(record.path):
            leftovers.clear(instance, record.path, {record.lock_content})
    if before is None:
        directory = _find(instance, after)
        if directory is not None and lockfile.content_of(directory) == after.lock_content:
            lockfile.release(directory, after.lock_content)
        return None
    if intent.action == "detach":
        directory = _find(instance, before)
        if directory is not None:
            directory.sync()
        kept = directory is not None and lockfile.content_of(directory) == before.lock_content
        return before if kept else after
    directory = _find(instance, after)
    if directory is None:
        return before
    # An action that failed may have failed here: what is told of the lock is to stay true.
    directory.sync()
    found = lockfile.content_of(directory)
    # A lock of the user's own bytes is the same before and after: it does not tell.
    told = before.lock_content != after.lock_content
    if intent.action == "move":
        sync_around(instance, after.path)
        if told and found == before.lock_content:
            lockfile.replace(directory, before.lock_content, after.lock_content, owner=owner_of(directory))
        return after
    return after if told and found == after.lock_content else before


def sync_around(instance: Instance, *paths: bytes) -> None:
    """Makes durable that these paths, or directories above them, were renamed: the store relies on it.

    Blocking. Raises OSError.
    """
    backings = instance.backings
    above = set()
    for path in paths:
        steps = backings.below(path).split(b"/")
        top = backings.container(path)
        above |= {os.path.join(top, *steps[:depth]) for depth in range(len(steps))}
    for parent in sorted(above):
        backings.descend(parent).sync()


def _find(instance: Instance, record: records.Project) -> Descriptor | None:
    """The directory of a record, if it is still that one."""
    try:
        directory = instance.backings.descend(record.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return directory if is_directory_of(record, directory) else None


def as_detached(record: records.Project, since: str) -> records.Project:
    """The record that the store keeps of a project that was detached."""
    return msgspec.structs.replace(record, state="detached", since=since)
