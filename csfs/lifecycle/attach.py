"""Attach: a detached project directory is imported whole and becomes this instance's."""

import errno
import logging
from collections.abc import Callable

import msgspec

from csfs.backing import contents
from csfs.backing.contents import Found
from csfs.backing.descriptor import Descriptor
from csfs.domain import document, job, names, refusals
from csfs.domain.document import Document, Invalid, Kind, Value
from csfs.domain.job import JobStatus
from csfs.lifecycle import documents, intents
from csfs.lifecycle.claim import claim
from csfs.lifecycle.instance import Instance, is_directory_of, timestamp
from csfs.lifecycle.intents import as_detached
from csfs.lifecycle.new_job import belonging
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change

log = logging.getLogger(__name__)


async def attach(
    instance: Instance,
    directory: Descriptor,
    path: bytes,
    content: bytes | None,
    progress: Callable[[int], None] = lambda done: None,
) -> Project:
    """Takes the lock, then imports every document in one store transaction, under a new P-number.

    All or nothing: a failure leaves no lock behind. A job that was active elsewhere is imported as
    killed; one whose document cannot be read is listed as failed and its file left alone. Raises
    Refusal EINVAL for a project.json or workspaces.json that is not valid (naming line and column),
    EROFS if another instance was quicker, EPERM for a project inside another one, OSError.
    `progress` is told, from another thread, how many jobs have been read.
    """
    found = instance.claims.by_inode(directory.inode)
    former = None
    if found is not None and found.state == "attached" and is_directory_of(found, directory):
        former = as_detached(found, timestamp())

    def fill(change: Change, record: records.Project) -> records.Project:
        for below, _ in contents.projects_below(directory):
            raise refusals.nested(below.decode(errors="backslashreplace"))
        if former is not None:
            intents.commit(instance, change, former)
        return _import(instance, change, directory, record, progress)

    project = await claim(instance, directory, path, content, "attach", fill)
    if former is not None:
        instance.claims.put(former)
    try:
        await documents.export_all(instance, project)
    except OSError as error:
        log.warning("exports of %s failed, will be tried again: %s", project.uid, error)
    return project


def _import(
    instance: Instance,
    change: Change,
    directory: Descriptor,
    record: records.Project,
    progress: Callable[[int], None],
) -> records.Project:
    """Stores every document of the directory. Blocking; runs in the store's transaction."""
    project, mtime_ns = _required(directory, names.PROJECT_DOCUMENT)
    record = msgspec.structs.replace(record, title=project.head.text("title"))
    values = instance.identity_values(record)
    _store(change, record, names.PROJECT_DOCUMENT, project, mtime_ns, values)
    belongs = belonging(record)

    if directory.exists(names.WORKSPACES_DOCUMENT.encode()):
        workspaces, mtime_ns = _required(directory, names.WORKSPACES_DOCUMENT)
        _store(change, record, names.WORKSPACES_DOCUMENT, workspaces, mtime_ns, belongs)
    else:
        made = document.new_workspaces(
            created_at=timestamp(), project_uid=record.uid, project_number=record.number
        )
        documents.store_document(
            change,
            record.number,
            names.WORKSPACES_DOCUMENT,
            document.parse(made, Kind.WORKSPACES),
            exported=False,
        )

    for done, (uid, found) in enumerate(contents.jobs(directory), start=1):
        _import_job(change, record, uid, found, belongs)
        progress(done)
    return record


def _import_job(
    change: Change,
    record: records.Project,
    uid: str,
    found: Found | OSError | None,
    belongs: dict[str, Value],
) -> None:
    if found is None:
        return
    parsed = None
    if isinstance(found, Found):
        try:
            parsed = document.parse(found.content, Kind.JOB)
        except Invalid:
            pass
    if parsed is None or not isinstance(found, Found):
        placeholder = records.Job(uid=uid, type="", title="", status="", attach_status="failed")
        change.put_job(record.number, placeholder)
        return
    if job.is_active(parsed.head.text("status")):
        belongs = {**belongs, "status": JobStatus.KILLED.value}
    _store(change, record, documents.job_path(uid), parsed, found.mtime_ns, belongs)


def _store(
    change: Change,
    record: records.Project,
    path: str,
    found: Document,
    mtime_ns: int,
    values: dict[str, Value],
) -> None:
    ours = found.rewritten(values)
    if ours is found:
        documents.store_document(change, record.number, path, found, exported=True, mtime_ns=mtime_ns)
    else:
        documents.store_document(change, record.number, path, ours, exported=False)


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
