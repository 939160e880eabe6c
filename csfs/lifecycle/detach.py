"""Detach: everything is exported, the lock is released, the store keeps a record (`rm cs.lock`)."""

from csfs.lifecycle import documents, history, intents
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
        async with intents.whole(instance, records.Intent(action="detach", before=record, after=after)):
            await instance.store.write(lambda change: documents.identify(instance, change, after))
            await documents.export_all(instance, project, held_back=True)
            await unlock(instance, project, record)
            deed = history.deed("detach", after)
            await instance.store.write(lambda change: intents.commit(instance, change, after, deed))
        await instance.arrive(project, after)


async def let_go(instance: Instance, project: Project) -> None:
    """Gives up a project whose lock on the backing directory is not ours any more.

    Raises Refusal EROFS if it is another mount of this instance that has it.
    """
    instance.refuse_mounted_twice(project.directory)
    with transition(instance, project, "detach"):
        after = intents.as_detached(project.held, timestamp())
        deed = history.deed("let go", after)
        await instance.store.write(lambda change: intents.commit(instance, change, after, deed))
        await instance.arrive(project, after)
