"""One project on its way into a rebuilt store: its documents, of each the newer of backup and directory."""

import itertools
import os
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from csfs.backing import contents, manifest
from csfs.backing.contents import Found
from csfs.backing.descriptor import Descriptor
from csfs.domain import document, job, names
from csfs.domain.document import Document, Kind, Value
from csfs.domain.job import JobStatus
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle import documents, importing
from csfs.lifecycle.importing import Read
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.new_job import belonging
from csfs.store import records
from csfs.store.store import Change, Store

_TOGETHER = 128
"""Jobs that are read and stored in one go."""


class NeverExported(msgspec.Struct):
    """A job of which the directory does not tell how it went on."""

    job: str
    why: str


class RecoveredProject(msgspec.Struct, kw_only=True):
    """What became of one project."""

    uid: str
    title: str = ""
    path: str
    """Relative to the backing directory."""
    state: str
    jobs: int = 0
    from_backup: list[str] = []
    """The documents that the directory does not hold, or in an older version only."""
    notes: list[str] = []
    never_exported: list[NeverExported] = []


class _Version(NamedTuple):
    """The newest that is known of a document."""

    document: Document
    mtime_ns: int
    exported: bool
    is_stored: bool
    """It is in the backup; else on the backing directory alone."""


async def take(
    store: Store,
    directory: Descriptor,
    record: records.Project,
    former: records.Project | None,
    told: RecoveredProject,
    project_directory: str,
) -> None:
    """Stores a project as its lock and its directory tell of it, and what the backup knows beyond that.

    `former` is its record in the backup. The directory is only read. `project_directory` is for a
    project.json that has to be made. Raises Refusal EINVAL for a project.json or workspaces.json that
    is not valid where the backup has none, with nothing stored; OSError.
    """

    def work(change: Change) -> records.Project:
        return _take_project(change, directory, record, told, project_directory)

    record = await store.write(work)
    seen: set[str] = set()
    jobs = contents.jobs(directory)
    while some := list(itertools.islice(jobs, _TOGETHER)):
        seen.update(uid for uid, _ in some)
        await store.write(lambda change, some=some: _take_jobs(change, record, some, told))  # type: ignore[misc]
    await store.write(lambda change: _finish(change, directory, record, former, seen, told))


def _take_project(
    change: Change,
    directory: Descriptor,
    record: records.Project,
    told: RecoveredProject,
    project_directory: str,
) -> records.Project:
    name = names.PROJECT_DOCUMENT
    version = _newest_at_top(change, directory, record.number, name, told)
    values = {**identity(record), "project_dir": project_directory}
    if version is None:
        told.notes.append(f"{name} is missing; a new one is made")
        title = os.path.basename(project_directory)
        made = document.new_project(title=title, created_at=timestamp(), values=values)
        importing.put(change, record.number, Read(name, document.parse(made, Kind.PROJECT)))
    else:
        title = version.document.head.text("title")
        _store(change, record.number, name, version, identity(record), told)
    name = names.WORKSPACES_DOCUMENT
    version = _newest_at_top(change, directory, record.number, name, told)
    if version is None:
        importing.put(change, record.number, importing.new_workspaces(record))
    else:
        _store(change, record.number, name, version, belonging(record), told)
    told.title = title
    return msgspec.structs.replace(record, title=title)


def identity(record: records.Project) -> dict[str, Value]:
    """The identity keys of a project.json but for the mount point, which is not known here."""
    return {
        "uid": record.uid,
        "uid_num": record.number,
        "archived": record.state == "archived",
        "detached": record.state == "detached",
    }


def _newest_at_top(
    change: Change, directory: Descriptor, number: int, name: str, told: RecoveredProject
) -> _Version | None:
    """Raises Refusal EINVAL if what lies there is not valid, and the backup has none."""
    if not directory.exists(name.encode()):
        return _newest(change, number, name, None)
    try:
        found = importing.required(directory, name)
    except Refusal as refusal:
        if refusal.rule is not Rule.BAD_DOCUMENT or change.head(number, name) is None:
            raise
        told.notes.append(f"{refusal.detail}; that of the backup is taken")
        return _newest(change, number, name, None, is_readable=False)
    return _newest(change, number, name, found)


def _newest(
    change: Change, number: int, path: str, found: tuple[Document, int] | None, *, is_readable: bool = True
) -> _Version | None:
    """The newer of what was found on the backing directory, with its mtime, and what is stored.

    An export gives the file the mtime of the stored document, so a later one is of a later version.
    A file that cannot be read stays as it is until the document is edited.
    """
    head, stored = change.head(number, path), change.document(number, path)
    if head is None or stored is None:
        return None if found is None else _Version(*found, exported=True, is_stored=False)
    if found is not None and found[1] > head.mtime_ns:
        return _Version(*found, exported=True, is_stored=False)
    same = found is not None and found[0].encode() == stored
    exported = same or (not is_readable and change.is_exported(number, path))
    return _Version(document.parse(stored, documents.kind_of(path)), head.mtime_ns, exported, is_stored=True)


def _store(
    change: Change,
    number: int,
    path: str,
    version: _Version,
    values: dict[str, Value],
    told: RecoveredProject,
) -> None:
    if version.is_stored and not version.exported:
        told.from_backup.append(path)
    read = importing.identified(path, version.document, version.mtime_ns, values)
    if read.exported and not version.exported:
        read = read._replace(exported=False)
    importing.put(change, number, read)


def _take_jobs(
    change: Change,
    record: records.Project,
    some: Iterable[tuple[str, Found | OSError | None]],
    told: RecoveredProject,
) -> None:
    for uid, found in some:
        path = documents.job_path(uid)
        parsed = importing.parsed_job(found) if found is not None else None
        dated = (parsed, found.mtime_ns) if parsed is not None and isinstance(found, Found) else None
        is_readable = found is None or parsed is not None
        version = _newest(change, record.number, path, dated, is_readable=is_readable)
        if not is_readable:
            taken = "that of the backup is taken" if version is not None else "it is left alone"
            told.notes.append(f"{path} cannot be read; {taken}")
        if version is not None:
            told.jobs += 1
            if unknown := _unknown_since(version):
                told.never_exported.append(NeverExported(uid, unknown))
            values = importing.job_values(record, version.document)
            _store(change, record.number, path, version, values, told)
        elif found is not None:
            told.jobs += 1
            importing.put(change, record.number, Read(path, None))
        else:
            told.never_exported.append(NeverExported(uid, "has no job.json"))


def _unknown_since(version: _Version) -> str:
    """Why it is not known how a job went on; empty if it had ended."""
    status = version.document.head.text("status")
    told_by = "in the backup" if version.is_stored and not version.exported else "in its job.json"
    if job.is_active(status):
        return f"was {status} {told_by}, and is killed now: what became of it is not known"
    if status == JobStatus.BUILDING:
        return f"is building {told_by}: if it has run since, that is not known"
    return ""


def _finish(
    change: Change,
    directory: Descriptor,
    record: records.Project,
    former: records.Project | None,
    seen: set[str],
    told: RecoveredProject,
) -> None:
    number = record.number
    for uid in sorted(change.job_uids(number) - seen, key=lambda each: int(each[1:])):
        change.drop_document(number, documents.job_path(uid))
        change.drop_job(number, uid)
        told.notes.append(f"{uid} is in the backup, but its directory is gone: it is left out")
    if record.state != "archived":
        change.drop_manifest(number)
    elif former is None or former.lock_content != record.lock_content or former.state != "archived":
        change.drop_manifest(number)
        for index, page in enumerate(manifest.walk(directory)):
            change.put_manifest_page(number, index, page)
        told.notes.append("its manifest is taken now: changes since it was archived are not known")
    change.put_project(record)
