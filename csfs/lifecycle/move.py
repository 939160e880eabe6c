"""Move and rename: one rename(2), the store follows (`mv`)."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from csfs.backing import contents
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import names
from csfs.domain.state import State
from csfs.lifecycle import documents, history, intents
from csfs.lifecycle.held_lock import relock
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project, Sight
from csfs.lifecycle.quiescence import refuse_active_jobs, refuse_in_transition, refuse_unless_quiescent
from csfs.store import records


async def projects_within(instance: Instance, container: Descriptor, path: bytes) -> list[Project]:
    """Every project below a container directory; walks the containers in it. Raises OSError."""

    def walk() -> list[tuple[Descriptor, bytes, Sight]]:
        return [
            (directory, path + b"/" + below, instance.look(directory))
            for below, directory in contents.projects_below(container)
        ]

    seen = [instance.settle(*found) for found in await in_thread(walk)]
    return [project for project in seen if project is not None]


async def move(
    instance: Instance,
    projects: Sequence[Project],
    old: bytes,
    new: bytes,
    rename: Callable[[], Awaitable[None]],
) -> None:
    """Renames a directory from the path `old` to `new`, and all projects at or below it with it.

    `rename` does it on the backing directory. Nothing is rewritten but the lock and the
    `project_dir` of each attached project. Raises Refusal EBUSY unless each that is held is
    quiescent, EPERM for one of another instance, or what `rename` raises.
    """
    for project in projects:
        if project.state in (State.FOREIGN, State.LOST):
            project.refuse_leaving()
        if project.state is State.ATTACHED:
            refuse_active_jobs(instance, project)
        if project.is_free:
            refuse_in_transition(project)
        else:
            refuse_unless_quiescent(instance, project)
    held = [project for project in projects if project.record is not None]
    before = [project.held for project in held]
    after = [_record_at(instance, project, _moved(project.path, old, new)) for project in held]
    for project in projects:
        project.transition = "move"
    try:
        async with intents.whole(
            instance,
            *(
                records.Intent(action="move", before=was, after=will)
                for was, will in zip(before, after, strict=True)
            ),
        ):
            await rename()
            for project in projects:
                project.path = _moved(project.path, old, new)
            await in_thread(intents.sync_around, instance, old, new)
            for project, was, will in zip(held, before, after, strict=True):
                await _follow(instance, project, was, will)
        for project, will in zip(held, after, strict=True):
            await instance.arrive(project, will)
    finally:
        for project in projects:
            project.transition = project.unsettled
    for project, record in zip(held, after, strict=True):
        if project.state is State.ATTACHED:
            await documents.export_one(instance, project, record.number, names.PROJECT_DOCUMENT)


async def _follow(instance: Instance, project: Project, was: records.Project, will: records.Project) -> None:
    if will.lock_content != was.lock_content:
        await relock(instance, project, was, will)
    deed = history.deed("move", will, came_from=was.path)
    await instance.store.write(lambda change: intents.commit(instance, change, will, deed))
    instance.claims.put(will)


def _record_at(instance: Instance, project: Project, path: bytes) -> records.Project:
    """The record of a project that lies at `path`. In an archived one nothing is written."""
    record = project.held
    if record.state == "archived":
        return msgspec.structs.replace(record, path=path, inode=project.inode)
    return instance.relocked(record, project.directory, path, archived=False)


def _moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new + path[len(old) :]
