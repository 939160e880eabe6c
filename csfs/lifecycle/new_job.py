"""New job: a directory `J7` at the top of an attached project becomes one (`mkdir`, `cp -a`, `mv`)."""

from csfs.backing.descriptor import Descriptor, read_file
from csfs.backing.io import in_thread
from csfs.domain import document, job, names, refusals
from csfs.domain.document import Document, Invalid, Kind, Value
from csfs.domain.job import JobStatus
from csfs.domain.rule import Rule
from csfs.lifecycle import documents
from csfs.lifecycle.documents import job_path
from csfs.lifecycle.instance import Instance, timestamp
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change


async def new_job(instance: Instance, project: Project, uid: str) -> None:
    """Makes the directory `uid` a job in status building, in the first workspace. Raises OSError.

    A job whose directory was removed on the backing directory is the same job in its new one.
    """
    record = project.held
    path = job_path(uid)
    if uid in project.jobs and documents.head(instance, project, path) is not None:
        await instance.store.write(lambda change: change.mark_unexported(record.number, path))
        await documents.export_one(instance, project, record.number, path)
        return
    content = document.new_job(
        uid=uid,
        number=int(uid[1:]),
        created_at=timestamp(),
        workspace="W1",
        belongs=belonging(record),
    )
    await _store(instance, project, uid, document.parse(content, Kind.JOB))


async def write_first(instance: Instance, project: Project, uid: str, content: bytes) -> None:
    """Takes the first document that is written for a new job: an edit of its own, or that of a copy.

    Raises Refusal EINVAL as either does, OSError.
    """
    path = job_path(uid)
    before = document.parse(documents.read(instance, project, path), Kind.JOB)
    try:
        await in_thread(document.edited, content, before, path)
    except refusals.Refusal as refusal:
        if refusal.rule is not Rule.IDENTITY_KEY:
            raise
        await adopt(instance, project, uid, content)
    else:
        await documents.edit(instance, project, path, content)


async def adopt(instance: Instance, project: Project, uid: str, content: bytes) -> None:
    """Makes the document of another job that of the job `uid`: a copy, from this project or another.

    It gets the identity of its new place. Parents and children that do not exist here are dropped,
    and what was active elsewhere is killed, for it does not run here. Raises Refusal EINVAL for what
    is no valid document, OSError.
    """
    try:
        found = await in_thread(document.parse, content, Kind.JOB)
    except Invalid as error:
        raise refusals.bad_document(job_path(uid), str(error)) from error
    await _store(instance, project, uid, _adopted(found, uid, project))


def _adopted(found: Document, uid: str, project: Project) -> Document:
    values: dict[str, Value] = {"uid": uid, "uid_num": int(uid[1:]), **belonging(project.held)}
    if "job_dir" in found.head.members:
        values["job_dir"] = uid
    for key in ("parents", "children"):
        if key in found.head.members:
            values[key] = [each for each in found.head.texts(key) if each in project.jobs and each != uid]
    if job.is_active(found.head.text("status")):
        values["status"] = JobStatus.KILLED.value
    return found.rewritten(values)


async def register(instance: Instance, project: Project, directory: Descriptor, uid: str) -> None:
    """Makes a job of a directory that was renamed to `uid`: with its job.json if it has one.

    One that cannot be read is listed as failed and left alone, as at attach. Raises OSError.
    """
    try:
        content = await in_thread(read_file, directory, names.JOB_DOCUMENT.encode(), document.MAX_BYTES)
    except FileNotFoundError:
        await new_job(instance, project, uid)
        return
    try:
        await adopt(instance, project, uid, content)
    except refusals.Refusal:
        placeholder = records.Job(uid=uid, type="", title="", status="", attach_status="failed")
        number = project.held.number
        await instance.store.write(lambda change: change.put_job(number, placeholder))
        project.jobs.add(uid)


def belonging(record: records.Project) -> dict[str, Value]:
    """The identity keys of what belongs to a project."""
    return {"project_uid": record.uid, "project_uid_num": record.number}


async def _store(instance: Instance, project: Project, uid: str, found: Document) -> None:
    number = project.held.number

    def work(change: Change) -> None:
        documents.store_document(change, number, job_path(uid), found, exported=False)

    await instance.store.write(work)
    project.jobs.add(uid)
    await documents.export_one(instance, project, number, job_path(uid))
