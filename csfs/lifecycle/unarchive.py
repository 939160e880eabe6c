"""Unarchive: an archived project becomes writable again, here or at a new place (`chmod u+w`)."""

from csfs.backing import lockfile, manifest
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import lock, names, refusals
from csfs.domain.manifest import Page
from csfs.lifecycle import documents, history, intents
from csfs.lifecycle.held_lock import relock
from csfs.lifecycle.instance import Instance, is_directory_of
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import transition
from csfs.store import records
from csfs.store.store import Change


async def returning(instance: Instance, project: Project) -> records.Project | None:
    """The archived project whose restored or moved copy this directory is, if that can return here.

    A copy next to the original is only a copy: it returns once the archived directory is gone from
    its place. Raises OSError.
    """
    found = project.sight.lock
    if not project.verdict.inert or not isinstance(found, lock.Lock):
        return None
    record = instance.claims.by_lock(found.lock_id)
    if record is None or record.state != "archived" or found.encode() != record.lock_content:
        return None
    return None if await in_thread(_is_in_its_place, instance, record) else record


def _is_in_its_place(instance: Instance, record: records.Project) -> bool:
    """Whether the archived directory lies where it was; another may have got its inode number.

    What lies in a container that is not named any more is no longer in its place. Raises OSError, ENODEV
    for a container that is away.
    """
    if not instance.backings.knows(record.path):
        return False
    try:
        original = instance.backings.descend(record.path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return is_directory_of(record, original) and lockfile.content_of(original) == record.lock_content


async def unarchive(
    instance: Instance,
    project: Project,
    record: records.Project,
    *,
    accept_changes: bool = False,
) -> None:
    """Makes the archived project of `record` live again in the directory of `project`.

    Raises Refusal EIO, naming the files, if something of its manifest is missing or changed, or
    `checksums.compare` has just found other contents, and `accept_changes` is not set; EBUSY unless
    quiescent; OSError.
    """
    with transition(instance, project, "unarchive"):
        other, project.other_contents = project.other_contents, []
        if not accept_changes:
            pages = instance.store.read(lambda view: list(view.manifest(record.number)))
            found = await in_thread(_differences, project.directory, pages) + other
            if found:
                raise refusals.incomplete(found)
        after = instance.relocked(record, project.directory, project.path, archived=False)
        async with intents.whole(instance, records.Intent(action="unarchive", before=record, after=after)):
            await relock(instance, project, record, after)
            deed = history.deed("unarchive", after)
            await instance.store.write(lambda change: _commit(instance, change, after, deed, accept_changes))
        await instance.arrive(project, after)
    for name in names.PROJECT_DOCUMENTS:
        await documents.export_one(instance, project, after.number, name)
    instance.exports_due.set()


def _commit(
    instance: Instance, change: Change, after: records.Project, deed: records.Deed, accept_changes: bool
) -> None:
    """Also has the documents written anew that came back otherwise, or of which no manifest tells."""
    intents.commit(instance, change, after, deed)
    for path in list(change.paths(after.number)) if accept_changes else names.PROJECT_DOCUMENTS:
        change.mark_unexported(after.number, path)


def _differences(directory: Descriptor, pages: list[Page]) -> list[str]:
    return list(manifest.differences(directory, pages))
