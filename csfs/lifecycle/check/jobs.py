"""Jobs: those of the store against the directories that are there."""

import os
from collections.abc import Iterator

from csfs.backing.descriptor import Descriptor
from csfs.domain import names
from csfs.domain.state import State
from csfs.lifecycle.check.findings import Finding, Kind, Severity
from csfs.lifecycle.check.seen import Seen
from csfs.lifecycle.documents import job_path
from csfs.store import records
from csfs.store.store import View

_DOCUMENT = names.JOB_DOCUMENT.encode()


def examine(seen: Seen, record: records.Project) -> Iterator[Finding]:
    """Jobs of a held project. The manifest tells of the directories of an archived one. Raises OSError."""
    number, store = record.number, seen.instance.store
    if seen.verdict.state is State.ATTACHED:
        directories = {name for name in seen.directory.subdirectories() if names.is_job(os.fsdecode(name))}
        with_document = {name for name in directories if _has_document(seen.directory, name)}
        known = {uid.encode() for uid in store.read(lambda view: view.job_uids(number))}
        for name in sorted(known - directories, key=_in_order):
            yield _without_directory(seen, record, name.decode())
        for name in sorted(with_document - known, key=_in_order):
            yield _without_job(seen, name)
    failed, stale = store.read(lambda view: _doubtful(view, number))
    for uid in failed:
        yield Finding(
            kind=Kind.FAILED_IMPORT,
            severity=Severity.WARNING,
            project=seen.uid,
            directory=seen.path,
            path=uid.encode(),
            meaning="its job.json could not be read when the project was attached",
            advice=f"on the mount: rm {job_path(uid)}, which deletes the job; then put a valid one there",
        )
    for uid, parents in stale:
        yield Finding(
            kind=Kind.STALE_PARENT,
            severity=Severity.NOTE,
            project=seen.uid,
            directory=seen.path,
            path=uid.encode(),
            meaning=f"parents of it do not exist: {', '.join(parents)}",
            advice="nothing needs to be done",
        )


def _doubtful(view: View, number: int) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Jobs that could not be imported, and those with parents that are no jobs."""
    known = view.job_uids(number)
    failed, stale = [], []
    for job in view.jobs(number):
        if job.attach_status == "failed":
            failed.append(job.uid)
        missing = [uid for uid in job.parents if uid not in known]
        if missing:
            stale.append((job.uid, missing))
    return failed, stale


def _has_document(project: Descriptor, name: bytes) -> bool:
    try:
        return project.child(name).exists(_DOCUMENT)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False


def _in_order(name: bytes) -> int:
    return int(name[1:])


def _without_directory(seen: Seen, record: records.Project, uid: str) -> Finding:
    head = seen.instance.store.read(lambda view: view.head(record.number, job_path(uid)))
    again = "--repair makes the directory again with its job.json alone" if head is not None else ""
    return Finding(
        kind=Kind.JOB_WITHOUT_DIRECTORY,
        severity=Severity.ERROR,
        project=seen.uid,
        directory=seen.path,
        path=uid.encode(),
        meaning="the store has this job, but its directory, with all its data, is not there",
        advice="; ".join(filter(None, ("restore it from a backup", again))),
        mendable=head is not None,
    )


def _without_job(seen: Seen, name: bytes) -> Finding:
    shown = name.decode()
    return Finding(
        kind=Kind.DIRECTORY_WITHOUT_JOB,
        severity=Severity.WARNING,
        project=seen.uid,
        directory=seen.path,
        path=name,
        meaning="a job directory with a document, of which the store knows nothing",
        advice=f"it becomes a job when it gets its name on the mount: mv {shown} new && mv new {shown}",
    )
