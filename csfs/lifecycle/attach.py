"""Attach: a detached project directory is imported whole and becomes this instance's."""

import errno
import itertools
import logging
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from csfs.backing import contents
from csfs.backing.contents import Found
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import document, job, names, refusals
from csfs.domain.document import Document, Invalid, Kind, Value
from csfs.domain.job import JobStatus
from csfs.lifecycle import documents
from csfs.lifecycle.claim import claim
from csfs.lifecycle.instance import Instance, is_directory_of, timestamp
from csfs.lifecycle.intents import as_detached
from csfs.lifecycle.new_job import belonging
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
    found = instance.claims.by_inode(directory.inode)
    former = None
    if found is not None and found.state == "attached" and is_directory_of(found, directory):
        former = as_detached(found, timestamp())

    async def fill(record: records.Project) -> records.Project:
        await in_thread(_refuse_nested, directory)
        title, read = await in_thread(_read_project, instance, directory, record)
        await _store(instance, record, read)
        await _import_jobs(instance, directory, record, progress)
        return msgspec.structs.replace(record, title=title)

    project = await claim(instance, directory, path, content, "attach", fill, former)
    try:
        await documents.export_all(instance, project)
    except OSError as error:
        log.warning("exports of %s failed, will be tried again: %s", project.uid, error)
    return project


class _Read(NamedTuple):
    """A document as it is to be stored, or a job whose document cannot be read."""

    path: str
    document: Document | None
    exported: bool = False
    mtime_ns: int | None = None


def _refuse_nested(directory: Descriptor) -> None:
    for below, _ in contents.projects_below(directory):
        raise refusals.nested(below.decode(errors="backslashreplace"))


def _read_project(
    instance: Instance, directory: Descriptor, record: records.Project
) -> tuple[str, list[_Read]]:
    """The project's title, and its project.json and workspaces.json. Blocking. Raises Refusal."""
    project, mtime_ns = _required(directory, names.PROJECT_DOCUMENT)
    read = [_identified(names.PROJECT_DOCUMENT, project, mtime_ns, instance.identity_values(record))]
    if directory.exists(names.WORKSPACES_DOCUMENT.encode()):
        workspaces, mtime_ns = _required(directory, names.WORKSPACES_DOCUMENT)
        read.append(_identified(names.WORKSPACES_DOCUMENT, workspaces, mtime_ns, belonging(record)))
    else:
        made = document.new_workspaces(
            created_at=timestamp(), project_uid=record.uid, project_number=record.number
        )
        read.append(_Read(names.WORKSPACES_DOCUMENT, document.parse(made, Kind.WORKSPACES)))
    return project.head.text("title"), read


async def _import_jobs(
    instance: Instance,
    directory: Descriptor,
    record: records.Project,
    progress: Callable[[int], None],
) -> None:
    """Stores every job, some at a time: neither memory nor a transaction grows with the project."""
    jobs = contents.jobs(directory)

    def some() -> tuple[int, list[_Read]]:
        found = list(itertools.islice(jobs, _TOGETHER))
        read = [_read_job(record, uid, content) for uid, content in found if content is not None]
        return len(found), read

    done, (seen, read) = 0, await in_thread(some)
    while seen:
        await _store(instance, record, read)
        done += seen
        progress(done)
        seen, read = await in_thread(some)


def _read_job(record: records.Project, uid: str, found: Found | OSError) -> _Read:
    path = documents.job_path(uid)
    if isinstance(found, OSError):
        return _Read(path, None)
    try:
        parsed = document.parse(found.content, Kind.JOB)
    except Invalid:
        return _Read(path, None)
    values = belonging(record)
    if job.is_active(parsed.head.text("status")):
        values = {**values, "status": JobStatus.KILLED.value}
    return _identified(path, parsed, found.mtime_ns, values)


def _identified(path: str, found: Document, mtime_ns: int, values: dict[str, Value]) -> _Read:
    ours = found.rewritten(values)
    return _Read(path, ours, exported=True, mtime_ns=mtime_ns) if ours is found else _Read(path, ours)


async def _store(instance: Instance, record: records.Project, read: list[_Read]) -> None:
    number = record.number

    def work(change: Change) -> None:
        for each in read:
            if each.document is None:
                uid = each.path.partition("/")[0]
                placeholder = records.Job(uid=uid, type="", title="", status="", attach_status="failed")
                change.put_job(number, placeholder)
                continue
            documents.store_document(
                change,
                number,
                each.path,
                each.document,
                exported=each.exported,
                mtime_ns=each.mtime_ns,
            )

    await instance.store.write(work)


def _required(directory: Descriptor, name: str) -> tuple[Document, int]:
    """A document without which there is no attach, and its mtime. Raises Refusal EINVAL."""
    try:
        found = contents.read(directory, name)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO):
            raise
        raise refusals.bad_document(name, "it is no regular file, or too large") from error
    if found is None:
        raise refusals.not_a_project(f"{name} is missing")
    try:
        return document.parse(found.content, Kind(name)), found.mtime_ns
    except Invalid as error:
        raise refusals.bad_document(name, str(error)) from error
