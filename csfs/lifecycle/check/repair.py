"""Repair: what of a check's findings can be mended without losing anything.

The instance must not be mounted: nobody else may write its store or its documents meanwhile.
"""

import errno
import os
from datetime import UTC, datetime

from csfs.backing import lockfile, temporary
from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor
from csfs.backing.export import Export, export
from csfs.backing.syscalls import RENAME_NOREPLACE, renameat2
from csfs.domain import names
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.check.findings import Finding, Kind, shown
from csfs.lifecycle.check.seen import look
from csfs.lifecycle.instance import owner_of
from csfs.store import records
from csfs.store.store import Store


class CannotMend(Exception):
    """What was found is not so any more, or not as it was found."""


async def mend(store: Store, backings: Backings, finding: Finding) -> str:
    """Does what the finding announces, and says what was done. Raises CannotMend, OSError.

    A file that differs is kept beside as `NAME.before-repair-TIME` before anything else is done, so both
    versions are there afterwards. Cut short at any point, the next check finds it again, or the
    document counts as outstanding and the next mount exports it.
    """
    if finding.kind in (Kind.TEMPORARY, Kind.ASIDE_LOCK):
        above, _, name = finding.path.rpartition(b"/")
        directory = backings.descend(finding.directory).descend(above)
        temporary.remove(directory, name)
        directory.sync()
        return "removed"
    record, project = _held(store, backings, finding)
    if finding.kind is Kind.LOCK_DIFFERS:
        return _relock(record, project)
    if finding.kind is Kind.DOCUMENT_DIFFERS:
        return await _export_again(store, record, project, finding.path.decode())
    if finding.kind is Kind.JOB_WITHOUT_DIRECTORY:
        return await _make_job_directory(store, record, project, finding.path.decode())
    raise CannotMend(f"nothing can be done about {finding.kind}")


def _held(store: Store, backings: Backings, finding: Finding) -> tuple[records.Project, Descriptor]:
    """The attached project of a finding, looked at anew: nothing is written to any other."""
    seen = look(store, backings, backings.descend(finding.directory), finding.directory)
    if seen.verdict.state is not State.ATTACHED or seen.verdict.rebind or seen.uid != finding.project:
        raise CannotMend(f"{shown(finding.directory)} is not attached as {finding.project} any more")
    assert seen.record is not None, "what is attached has a record"
    return seen.record, seen.directory


def _relock(record: records.Project, project: Descriptor) -> str:
    found = lockfile.content_of(project)
    if found is None:
        raise CannotMend("the lock is gone")
    kept = _keep(project, names.LOCK.encode())
    try:
        lockfile.replace(project, found, record.lock_content, owner=owner_of(project))
    except lockfile.NotOurs as error:
        raise CannotMend("the lock has just been replaced") from error
    return f"the lock of the record is in place; what was there is {shown(kept or b'gone')}"


async def _export_again(store: Store, record: records.Project, project: Descriptor, path: str) -> str:
    parent, _, name = path.encode().rpartition(b"/")
    directory = project.descend(parent)
    kept = _keep(directory, name)
    await store.write(lambda change: change.mark_unexported(record.number, path))
    await _export(store, record, project, path)
    if kept is None:
        return "written anew"
    return f"written anew; what was there is {shown(os.path.join(parent, kept))}"


async def _make_job_directory(store: Store, record: records.Project, project: Descriptor, uid: str) -> str:
    """Its document is exported unless its status holds it back, as a mount would."""
    path = documents.job_path(uid)
    documents.directory_again(project, uid.encode())
    project.sync()
    await store.write(lambda change: change.mark_unexported(record.number, path))
    if store.read(lambda view: documents.is_held_back(view, record.number, path)):
        return "its directory is made again, its data are not in it"
    await _export(store, record, project, path)
    return "its directory is made again with its job.json, its data are not in it"


async def _export(store: Store, record: records.Project, project: Descriptor, path: str) -> None:
    head = store.read(lambda view: view.head(record.number, path))
    content = store.read(lambda view: view.document(record.number, path))
    if head is None or content is None:
        raise CannotMend(f"the store has no {path} any more")
    parent, _, name = path.encode().rpartition(b"/")
    directory = project.descend(parent)
    due = Export(directory, name, content, head.mtime_ns, owner_of(directory))
    try:
        export([due], lambda: lockfile.confirm(project, record.lock_content))
    except lockfile.NotOurs as error:
        raise CannotMend("the lock is not ours any more") from error
    await store.write(lambda change: change.mark_exported(record.number, path, head))


def _keep(directory: Descriptor, name: bytes) -> bytes | None:
    """Gives what lies under a name another one beside it; None if there is nothing. Raises OSError.

    A file keeps its old name as well, so that there is one at any instant.
    """
    stem = f"{os.fsdecode(name)}.before-repair-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    while True:
        kept = names.unique(stem, lambda each: directory.exists(os.fsencode(each))).encode()
        try:
            os.link(name, kept, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except FileExistsError:
            continue
        except OSError as error:  # a directory, or a filesystem without hard links
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            renameat2(directory.fd, name, directory.fd, kept, RENAME_NOREPLACE)
        directory.sync()
        return kept


def now_ns(backing: Descriptor) -> int:
    """The time by the clock of the backing filesystem: that of a file made there. Raises OSError."""
    with temporary.holding(backing, b"", mode=0o600, owner=owner_of(backing), sync=False) as name:
        return backing.stat(name).st_ctime_ns
