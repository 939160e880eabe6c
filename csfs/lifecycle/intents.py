"""The intent journal: what makes each action whole although the daemon may die at any step.

An action writes its intent (the record before, the record after) to the store before its first step
on the backing directory, and drops it in the transaction that commits its outcome. What is still
there at the next mount was cut short: the lock on the backing directory tells how far it came, and
the action is finished or taken back.
"""

import logging
import os

import msgspec

from csfs.backing import broken_lock, lockfile
from csfs.backing.broken_lock import Reservation
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import names
from csfs.lifecycle import documents, leftovers
from csfs.lifecycle.instance import Instance, is_directory_of, owner_of
from csfs.store import records
from csfs.store.records import Intent
from csfs.store.store import Change, View

log = logging.getLogger(__name__)


async def declare(instance: Instance, *intents: Intent) -> None:
    """Writes intents before the first step of their action; durable on return."""

    def work(change: Change) -> None:
        for intent in intents:
            change.put_intent(intent)

    await instance.store.write(work)


async def withdraw(instance: Instance, number: int) -> None:
    """Drops the intent of an action that was taken back."""
    await instance.store.write(lambda change: change.drop_intent(number))


async def take_back(instance: Instance, before: records.Project) -> None:
    """Puts the project.json back to what it was before an action, and drops its intent."""

    def work(change: Change) -> None:
        documents.identify(instance, change, before)
        change.drop_intent(before.number)

    await instance.store.write(work)
    instance.exports_due.set()


def commit(instance: Instance, change: Change, after: records.Project) -> None:
    """Makes the outcome of an action the truth, and drops its intent, in one transaction."""
    change.put_project(after)
    documents.identify(instance, change, after)
    if after.state != "archived":
        change.drop_manifest(after.number)
    change.drop_intent(after.number)


async def settle(instance: Instance) -> None:
    """Finishes or takes back every action that was cut short. Called once, before the mount serves.

    Raises OSError if the backing directory cannot be read: nothing is decided then.
    """
    for intent in instance.store.read(View.intents):
        if intent.action == "rescue":
            await _settle_rescue(instance, intent)
            continue
        outcome = await in_thread(_settle_on_backing, instance, intent)
        await instance.store.write(lambda change, i=intent, o=outcome: _conclude(instance, change, i, o))  # type: ignore[misc]
        if outcome is not None:
            instance.claims.put(outcome)
        log.warning(
            "%s of %s was cut short and is now %s",
            intent.action,
            intent.after.uid,
            "finished" if outcome == intent.after else "taken back",
        )


async def _settle_rescue(instance: Instance, intent: Intent) -> None:
    """A rescue has one step: the lock has been broken, or it has not."""
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
    await withdraw(instance, broken.number)
    path = os.fsdecode(broken.path)
    log.warning("rescue of %s was cut short and is now %s", path, "finished" if done else "taken back")


def _conclude(instance: Instance, change: Change, intent: Intent, outcome: records.Project | None) -> None:
    if outcome is None:
        change.forget_project(intent.after.number)
        return
    commit(instance, change, outcome)
    if outcome.state != "detached":
        for name in names.PROJECT_DOCUMENTS:
            change.mark_unexported(outcome.number, name)


def _settle_on_backing(instance: Instance, intent: Intent) -> records.Project | None:
    """Makes the backing directory agree with one of the two records, and says with which."""
    before, after = intent.before, intent.after
    for record in (before, after):
        if record is not None:
            leftovers.clear(instance, record.path, {record.lock_content})
    if before is None:
        directory = _find(instance, after)
        if directory is not None and lockfile.content_of(directory) == after.lock_content:
            lockfile.release(directory, after.lock_content)
        return None
    if intent.action == "detach":
        directory = _find(instance, before)
        kept = directory is not None and lockfile.content_of(directory) == before.lock_content
        return before if kept else after
    directory = _find(instance, after)
    if directory is None:
        return before
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
    above = {b"/".join(path.split(b"/")[:depth]) for path in paths for depth in range(path.count(b"/") + 1)}
    for parent in sorted(above):
        instance.backing.descend(parent).sync()


def _find(instance: Instance, record: records.Project) -> Descriptor | None:
    """The directory of a record, if it is still that one."""
    try:
        directory = instance.backing.descend(record.path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return directory if is_directory_of(record, directory) else None


def as_detached(record: records.Project, since: str) -> records.Project:
    """The record that the store keeps of a project that was detached."""
    return msgspec.structs.replace(record, state="detached", since=since)
