"""Attach: a detached project directory is imported whole and becomes this instance's."""

import itertools
import logging
from collections.abc import Callable

import msgspec

from csfs.backing import contents
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import refusals
from csfs.lifecycle import documents, importing
from csfs.lifecycle.claim import claim
from csfs.lifecycle.importing import Read
from csfs.lifecycle.instance import Instance, is_directory_of, timestamp
from csfs.lifecycle.intents import as_detached
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change

log = logging.getLogger(__name__)

_TOGETHER = 128
"""Jobs that are read and stored in one go."""


async def attach(
    instance: Instance,
    directory: Descriptor,
    path: bytes,
    content: bytes | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Project:
    """Takes the lock, then imports every document, under a new P-number.

    All or nothing: a failure leaves no lock behind. A job that was active elsewhere is imported as
    killed; one whose document cannot be read is listed as failed and its file left alone. Raises
    Refusal EINVAL for a project.json or workspaces.json that is not valid (naming line and column),
    EROFS if another instance was quicker, EPERM for a project inside another one, OSError.
    `progress` is told how many jobs have been imported.
    """
    found = instance.claims.by_inode(directory.inode, instance.backings.of(directory).filesystem)
    former = None
    if found is not None and found.state == "attached" and is_directory_of(found, directory):
        former = as_detached(found, timestamp())

    async def fill(record: records.Project) -> records.Project:
        await in_thread(_refuse_nested, directory)
        values = instance.identity_values(record)
        title, read = await in_thread(importing.read_project, directory, record, values)
        await _store(instance, record, read)
        await _import_jobs(instance, directory, record, progress)
        return msgspec.structs.replace(record, title=title)

    project = await claim(instance, directory, path, content, "attach", fill, former)
    try:
        await documents.export_all(instance, project)
    except OSError as error:
        log.warning("exports of %s failed, will be tried again: %s", project.uid, error)
    return project


def _refuse_nested(directory: Descriptor) -> None:
    for below, _ in contents.projects_below(directory):
        raise refusals.holds_another(below.decode(errors="backslashreplace"))


async def _import_jobs(
    instance: Instance,
    directory: Descriptor,
    record: records.Project,
    progress: Callable[[int], None],
) -> None:
    """Stores every job, some at a time: neither memory nor a transaction grows with the project."""
    jobs = contents.jobs(directory)

    def some() -> tuple[int, list[Read]]:
        found = list(itertools.islice(jobs, _TOGETHER))
        read = [importing.read_job(record, uid, content) for uid, content in found if content is not None]
        return len(found), read

    done, (seen, read) = 0, await in_thread(some)
    while seen:
        await _store(instance, record, read)
        done += seen
        progress(done)
        seen, read = await in_thread(some)


async def _store(instance: Instance, record: records.Project, read: list[Read]) -> None:
    def work(change: Change) -> None:
        for each in read:
            importing.put(change, record.number, each)

    await instance.store.write(work)
