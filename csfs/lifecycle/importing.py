"""What the documents of a project directory become in the store: at attach, and when a store is rebuilt."""

import errno
from collections.abc import Mapping
from typing import NamedTuple

from csfs.backing import contents
from csfs.backing.contents import Found
from csfs.backing.descriptor import Descriptor
from csfs.domain import document, job, names, refusals
from csfs.domain.document import Document, Invalid, Kind, Value
from csfs.domain.job import JobStatus
from csfs.lifecycle import documents
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.new_job import belonging
from csfs.store import records
from csfs.store.store import Change


class Read(NamedTuple):
    """A document as it is to be stored, or a job whose document cannot be read (None)."""

    path: str
    document: Document | None
    exported: bool = False
    mtime_ns: int | None = None


def read_project(
    directory: Descriptor, record: records.Project, values: Mapping[str, Value]
) -> tuple[str, list[Read]]:
    """The project's title, and its project.json, with these identity values, and workspaces.json.

    Blocking. Raises Refusal EINVAL if one of them is not valid, or there is no project.json; OSError.
    """
    project = required(directory, names.PROJECT_DOCUMENT)
    read = [identified(names.PROJECT_DOCUMENT, *project, values)]
    if directory.exists(names.WORKSPACES_DOCUMENT.encode()):
        workspaces = required(directory, names.WORKSPACES_DOCUMENT)
        read.append(identified(names.WORKSPACES_DOCUMENT, *workspaces, belonging(record)))
    else:
        read.append(new_workspaces(record))
    return project[0].head.text("title"), read


def new_workspaces(record: records.Project) -> Read:
    """The workspaces.json of a project that has none."""
    made = document.new_workspaces(
        created_at=timestamp(), project_uid=record.uid, project_number=record.number
    )
    return Read(names.WORKSPACES_DOCUMENT, document.parse(made, Kind.WORKSPACES))


def required(directory: Descriptor, name: str) -> tuple[Document, int]:
    """A document at the top of a project, and its mtime. Raises Refusal EINVAL, OSError."""
    try:
        found = contents.read(directory, name)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO):
            raise
        raise refusals.bad_project_document(name, "it is no regular file, or too large") from error
    if found is None:
        raise refusals.not_a_project(f"{name} is missing")
    try:
        return document.parse(found.content, Kind(name)), found.mtime_ns
    except Invalid as error:
        raise refusals.bad_project_document(name, str(error)) from error


def read_job(record: records.Project, uid: str, found: Found | OSError) -> Read:
    """The document of a job. One that says that it is active is killed: it does not run here."""
    path = documents.job_path(uid)
    parsed = parsed_job(found)
    if parsed is None:
        return Read(path, None)
    assert isinstance(found, Found)
    return identified(path, parsed, found.mtime_ns, job_values(record, parsed))


def parsed_job(found: Found | OSError) -> Document | None:
    """None if it cannot be read."""
    if isinstance(found, OSError):
        return None
    try:
        return document.parse(found.content, Kind.JOB)
    except Invalid:
        return None


def job_values(record: records.Project, found: Document) -> dict[str, Value]:
    """What a job's document has to say in this project."""
    values = belonging(record)
    if job.is_active(found.head.text("status")):
        values["status"] = JobStatus.KILLED.value
    return values


def identified(path: str, found: Document, mtime_ns: int, values: Mapping[str, Value]) -> Read:
    """A document of the backing directory with these values; exported if it had them already."""
    ours = found.rewritten(values)
    return Read(path, ours, exported=True, mtime_ns=mtime_ns) if ours is found else Read(path, ours)


def put(change: Change, number: int, read: Read) -> None:
    """Stores a document, or that a job's could not be read."""
    if read.document is None:
        uid = read.path.partition("/")[0]
        placeholder = records.Job(uid=uid, type="", title="", status="", attach_status="failed")
        change.put_job(number, placeholder)
        return
    documents.store_document(
        change, number, read.path, read.document, exported=read.exported, mtime_ns=read.mtime_ns
    )
