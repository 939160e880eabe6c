"""The documents of a held project: read from the store, edited through it, exported from it."""

import logging
import os
import stat
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
import trio

from csfs.backing.descriptor import Descriptor
from csfs.backing.export import Export, clear_failed, export
from csfs.domain import document, job, names, refusals
from csfs.domain.document import Document, Kind
from csfs.domain.refusals import Refusal
from csfs.lifecycle.held_lock import holding
from csfs.lifecycle.instance import Instance, owner_of
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change, View

log = logging.getLogger(__name__)

_TOGETHER = 256
"""Documents that are exported in one go: bounds the memory and the descriptors that this takes."""

RETRY_SECONDS = 5.0
"""How long an export that failed waits for its next attempt."""


def kind_of(path: str) -> Kind:
    """The kind of the document at this path in a project, `J7/job.json` for instance."""
    return Kind(path.rpartition("/")[2])


def job_path(uid: str) -> str:
    return f"{uid}/{names.JOB_DOCUMENT}"


def summary(uid: str, found: Document) -> records.Job:
    """The store's record of a job, from its document (v4 and v5)."""
    head = found.head
    spec = head.members.get("spec")
    kind = head.text("job_type") or head.text("type")
    if not kind and spec is not None and isinstance(spec.value, dict):
        kind = next(document.strings([spec.value.get("type")]), "")
    return records.Job(
        uid=uid,
        type=kind,
        title=head.text("title"),
        status=head.text("status"),
        parents=head.texts("parents"),
        workspaces=head.texts("workspace_uids"),
    )


def read(instance: Instance, project: Project, path: str) -> bytes:
    """The live document. Raises FileNotFoundError if the store has none at this path."""
    number = project.held.number
    content = instance.store.read(lambda view: view.document(number, path))
    if content is None:
        raise FileNotFoundError(2, path)
    return content


def head(instance: Instance, project: Project, path: str) -> records.DocumentHead | None:
    """What is known of the live document; None if the store has none at this path."""
    number = project.held.number
    return instance.store.read(lambda view: view.head(number, path))


async def edit(instance: Instance, project: Project, path: str, content: bytes) -> None:
    """Puts a user's new version of a document in the place of the old one.

    Durable in the store on return, and exported if its status lets it. Raises Refusal EINVAL if it
    is not valid, an identity key was changed or a job does not go to that status; OSError if the store
    cannot keep it. The old document stays then. An export that fails is tried again later, and loses
    nothing.
    """
    number = project.held.number
    await put(instance, project, path, lambda before: document.edited(content, before, path))
    await export_one(instance, project, number, path)


async def set_status(instance: Instance, project: Project, uid: str, status: str) -> None:
    """Takes a job to another status. Raises Refusal EINVAL if it does not go there, OSError."""
    number, path = project.held.number, job_path(uid)
    await put(instance, project, path, lambda before: before.rewritten({"status": status}))
    await export_one(instance, project, number, path)


async def put(instance: Instance, project: Project, path: str, make: Callable[[Document], Document]) -> None:
    """Stores what `make` makes of the live document, in one transaction.

    Raises what `make` raises, FileNotFoundError if there is no such document, Refusal, OSError.
    """
    number = project.held.number

    def work(change: Change) -> None:
        content = change.document(number, path)
        if content is None:
            raise FileNotFoundError(2, path)
        before = document.parse(content, kind_of(path))
        after = make(before)
        if after.kind is Kind.JOB:
            uid = path.partition("/")[0]
            job.refuse_transition(uid, before.head.text("status"), after.head.text("status"))
        store_document(change, number, path, after, exported=False)
        if after.kind is Kind.PROJECT:
            record = change.project(number)
            assert record is not None, "a held project has its record"
            change.put_project(msgspec.structs.replace(record, title=after.head.text("title")))

    await instance.store.write(work)
    if kind_of(path) is Kind.PROJECT:
        # Not what was written: of two writes the later may have been told of first.
        record = instance.store.read(lambda view: view.project(number))
        if record is not None and project.record is not None:
            instance.claims.put(record)
            project.record = record


def identify(instance: Instance, change: Change, record: records.Project) -> None:
    """Gives the live project.json the identity keys that `record` stands for."""
    content = change.document(record.number, names.PROJECT_DOCUMENT)
    if content is None:
        return
    before = document.parse(content, Kind.PROJECT)
    after = before.rewritten(instance.identity_values(record))
    if after is not before:
        store_document(change, record.number, names.PROJECT_DOCUMENT, after, exported=False)


def store_document(
    change: Change,
    number: int,
    path: str,
    found: Document,
    *,
    exported: bool,
    mtime_ns: int | None = None,
) -> None:
    """Stores a document, and of a job's its summary. Its mtime is now unless one is given."""
    when = time.time_ns() if mtime_ns is None else mtime_ns
    change.put_document(number, path, found.encode(), mtime_ns=when, exported=exported)
    if found.kind is Kind.JOB:
        change.put_job(number, summary(path.partition("/")[0], found))


async def set_mtime(instance: Instance, project: Project, path: str, mtime_ns: int) -> None:
    """Gives the live document another mtime (`touch -d`, `cp -p`, rsync), and exports that too."""
    number = project.held.number

    def work(change: Change) -> None:
        content = change.document(number, path)
        if content is None:
            raise FileNotFoundError(2, path)
        change.put_document(number, path, content, mtime_ns=mtime_ns, exported=False)

    await instance.store.write(work)
    await export_one(instance, project, number, path)


def is_held_back(view: View, number: int, path: str) -> bool:
    """Whether the status of its job keeps a document from being exported for now."""
    if kind_of(path) is not Kind.JOB:
        return False
    found = view.job(number, path.partition("/")[0])
    return found is not None and not job.is_exported(found.status)


async def export_one(instance: Instance, project: Project, number: int, path: str) -> None:
    """Exports one document if its status lets it; a failure is logged and left to the backlog.

    `number` is the project's, from before the document was stored: another process may have detached it
    since. Raises Refusal EROFS if it is lost.
    """
    if instance.store.read(lambda view: is_held_back(view, number, path)):
        return
    try:
        await _export(instance, project, number, path)
    except OSError as error:
        log.warning("export of %s of %s failed, will be tried again: %s", path, project.uid, error)


async def export_all(instance: Instance, project: Project, *, held_back: bool = False) -> None:
    """Exports every document that the backing directory does not hold as the store does.

    With `held_back` also those that the status of their job holds back. Those that fail do not keep
    the others from being exported. Raises OSError, the first that was met.
    """
    number = project.held.number

    def due(view: View) -> list[str]:
        return [path for path in view.unexported(number) if held_back or not is_held_back(view, number, path)]

    paths = instance.store.read(due)
    for path in project.export_failures.keys() - set(paths):
        del project.export_failures[path]  # it was to be exported for a detach that failed
    failure: OSError | None = None
    for start in range(0, len(paths), _TOGETHER):
        together = paths[start : start + _TOGETHER]
        try:
            await _export(instance, project, number, *together)
            continue
        except OSError as error:
            if len(together) == 1:
                failure = failure or error
                continue
        for path in together:
            try:
                await _export(instance, project, number, path)
            except OSError as error:
                failure = failure or error
    if failure is not None:
        raise failure


async def _export(instance: Instance, project: Project, number: int, *paths: str) -> None:
    """Writes those documents to the backing directory that are not there already.

    Raises Refusal EROFS, and writes nothing, if the project is lost by now; OSError.

    One export of a project at a time: an old version must not come to lie over a newer one.
    """

    def look(view: View) -> list[_Due]:
        due = []
        for path in paths:
            found, content = view.head(number, path), view.document(number, path)
            if found is not None and content is not None and not view.is_exported(number, path):
                due.append(_Due(path, found, content))
        return due

    def mark(change: Change) -> None:
        for each in due:
            change.mark_exported(number, each.path, each.head)

    async with project.exporting:
        due = instance.store.read(look)
        if not due:
            return
        if project.record is None or project.record.number != number:
            raise refusals.lost("another process has let go of it meanwhile")
        failed = project.left_behind.intersection(paths)
        try:
            await holding(instance, project, lambda confirm: _write(project.directory, due, failed, confirm))
        except OSError as error:
            project.export_failures.update(dict.fromkeys(paths, error.strerror or str(error)))
            project.left_behind.update(paths)
            raise
        project.left_behind.difference_update(paths)
        await instance.store.write(mark)
        for path in paths:
            project.export_failures.pop(path, None)


class _Due(NamedTuple):
    """A document on its way to the backing directory."""

    path: str
    head: records.DocumentHead
    content: bytes


def _write(
    project: Descriptor, due: list[_Due], failed: Collection[str], confirm: Callable[[], None]
) -> None:
    """`failed` are those among them of which the last attempt may have left a temporary file."""
    exports = []
    for each in due:
        parent, _, name = each.path.encode().rpartition(b"/")
        try:
            directory = project.descend(parent)
        except FileNotFoundError:
            confirm()
            directory = directory_again(project, parent)
        if each.path in failed:
            clear_failed(directory)
        owner = owner_of(directory)
        exports.append(Export(directory, name, each.content, each.head.mtime_ns, owner))
    export(exports, confirm)


def directory_again(project: Descriptor, name: bytes) -> Descriptor:
    """Makes the directory of a job anew: it was removed behind our back, but its document is ours.

    Raises OSError, FileExistsError if something lies there.
    """
    around = os.fstat(project.fd)
    os.mkdir(name, stat.S_IMODE(around.st_mode), dir_fd=project.fd)
    directory = project.child(name)
    if os.geteuid() == 0:
        os.chown(directory.path(), around.st_uid, around.st_gid)
    return directory


async def _work_off(instance: Instance, record: records.Project) -> None:
    """Exports what is outstanding in one project. Raises Refusal, OSError."""
    if not instance.store.read(lambda view: view.unexported(record.number)):
        return
    project = await instance.visit(record)
    if project is not None and project.state == "attached" and not project.transition:
        await export_all(instance, project)


async def work_off(instance: Instance) -> None:
    """Exports what is outstanding in attached projects, for ever: a background task of the mount."""
    while True:
        for record in list(instance.claims.by_number.values()):
            if record.state != "attached" or not instance.backings.has(record.path):
                continue
            try:
                await _work_off(instance, record)
            except Refusal as refusal:
                log.warning("exports of %s wait: %s", record.uid, refusal)
            except OSError as error:
                log.warning("exports of %s failed, will be tried again: %s", record.uid, error)
        with trio.move_on_after(RETRY_SECONDS):
            await instance.exports_due.wait()
        instance.exports_due = trio.Event()
