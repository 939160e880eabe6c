"""Delete a job: its document goes first, then its directory may (`rm J7/job.json`)."""

import os
from collections.abc import Callable

from csfs.backing.descriptor import Descriptor
from csfs.domain import job, names, refusals
from csfs.lifecycle.documents import job_path
from csfs.lifecycle.held_lock import holding
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project
from csfs.store.store import Change, View


async def delete_job(instance: Instance, project: Project, uid: str) -> None:
    """Drops a job from an attached project, and its job.json from the backing directory.

    Raises Refusal EBUSY while the job is active or another has it as a parent, OSError.
    """
    number = project.held.number

    def look(view: View) -> tuple[str, list[str]]:
        found = view.job(number, uid)
        children = [j.uid for j in view.jobs(number) if uid in j.parents]
        return (found.status if found is not None else ""), children

    status, children = instance.store.read(look)
    if job.is_active(status):
        raise refusals.active_jobs([(uid, status)])
    if children:
        raise refusals.job_has_children(children)

    def work(change: Change) -> None:
        change.drop_document(number, job_path(uid))
        change.drop_job(number, uid)

    # Cut short in between, the document counts as outstanding: it is exported again, and the job stays.
    async with project.exporting:
        await instance.store.write(lambda change: change.mark_unexported(number, job_path(uid)))
        await holding(instance, project, lambda confirm: _unlink(project.directory, uid, confirm))
        await instance.store.write(work)
    project.jobs.discard(uid)
    project.new_jobs.pop(uid, None)
    project.export_failures.pop(job_path(uid), None)


def _unlink(project: Descriptor, uid: str, confirm: Callable[[], None]) -> None:
    directory = project.child(uid.encode())
    confirm()
    try:
        os.unlink(names.JOB_DOCUMENT, dir_fd=directory.fd)
    except FileNotFoundError:
        pass
    directory.sync()
