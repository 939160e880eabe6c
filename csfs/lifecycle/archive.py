"""Archive: the project becomes read-only and may leave, the lock stays (`chmod a-w`)."""

from csfs.backing import manifest
from csfs.backing.io import in_thread
from csfs.domain.manifest import Page
from csfs.lifecycle import documents, history, intents
from csfs.lifecycle.held_lock import relock
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import refuse_active_jobs, transition
from csfs.store import records
from csfs.store.store import Change


async def archive(instance: Instance, project: Project) -> None:
    """Archives an attached project. Raises Refusal EBUSY unless it is quiescent, OSError.

    The store keeps a manifest of every file, against which unarchive checks what comes back.
    """
    refuse_active_jobs(instance, project)
    with transition(instance, project, "archive"):
        before = project.held
        after = instance.relocked(before, project.directory, project.path, archived=True)
        async with intents.whole(instance, records.Intent(action="archive", before=before, after=after)):
            await instance.store.write(lambda change: documents.identify(instance, change, after))
            await documents.export_all(instance, project, held_back=True)
            pages = await in_thread(lambda: list(manifest.walk(project.directory)))
            await instance.store.write(lambda change: _keep_manifest(change, after.number, pages))
            await relock(instance, project, before, after)
            deed = history.deed("archive", after)
            await instance.store.write(lambda change: intents.commit(instance, change, after, deed))
        await instance.arrive(project, after)


def _keep_manifest(change: Change, number: int, pages: list[Page]) -> None:
    change.drop_manifest(number)
    for index, page in enumerate(pages):
        change.put_manifest_page(number, index, page)
