"""Detach: everything is exported, the lock is released, the store keeps a record (`rm cs.lock`)."""

from csfs.backing.io import in_thread
from csfs.lifecycle import documents, intents
from csfs.lifecycle.held_lock import unlock
from csfs.lifecycle.instance import Instance, timestamp
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import refuse_active_jobs, transition
from csfs.store import records


async def detach(instance: Instance, project: Project) -> None:
    """Lets go of an attached project. Raises Refusal EBUSY unless it is quiescent, OSError.

    An export that fails leaves the project attached, whole and usable.
    """
    refuse_active_jobs(instance, project)
    with transition(instance, project, "detach"):
        record = project.held
        after = intents.as_detached(record, timestamp())
        await intents.declare(instance, records.Intent(action="detach", before=record, after=after))
        try:
            await instance.store.write(lambda change: documents.identify(instance, change, after))
            await documents.export_all(instance, project, held_back=True)
            await unlock(instance, project, record)
        except BaseException:
            await intents.take_back(instance, record)
            raise
        await _commit(instance, project, after)


async def let_go(instance: Instance, project: Project) -> None:
    """Gives up a project whose lock on the backing directory is not ours any more."""
    with transition(instance, project, "detach"):
        await _commit(instance, project, intents.as_detached(project.held, timestamp()))


async def _commit(instance: Instance, project: Project, after: records.Project) -> None:
    await instance.store.write(lambda change: intents.commit(instance, change, after))
    sight = await in_thread(instance.look, project.directory)
    instance.enter(project, after, sight)
