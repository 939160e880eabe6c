"""Rebind: an attached project whose directory was restored in place, or moved, gets its lock back."""

import msgspec

from csfs.domain import lock
from csfs.lifecycle import documents
from csfs.lifecycle.held_lock import relock
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project
from csfs.store.store import Change


async def rebind(instance: Instance, project: Project) -> None:
    """Binds our lock to the directory in which the project lies now, and the record to its path.

    The lock that was restored may be an older version of ours; it is replaced by the current one.
    Raises Refusal EROFS if another was quicker, OSError.
    """
    record = project.held
    found = project.sight.lock
    assert isinstance(found, lock.Lock), "only a lock of ours asks to be bound anew"
    after = instance.relocked(record, project.directory, project.path, archived=False)

    def commit(change: Change) -> None:
        change.put_project(after)
        documents.identify(instance, change, after)
        for path in change.paths(record.number):
            change.mark_unexported(record.number, path)

    on_disk = msgspec.structs.replace(record, lock_content=found.encode())
    await relock(instance, project, on_disk, after)
    await instance.store.write(commit)
    await instance.arrive(project, after)
    instance.exports_due.set()
