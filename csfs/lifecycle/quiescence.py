"""The quiescence rule: nothing writes and no job runs while a project changes hands or place."""

from collections.abc import Iterator
from contextlib import contextmanager

from csfs.domain import job, refusals
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project


def refuse_active_jobs(instance: Instance, project: Project) -> None:
    """Passes if no job of a held project is active; otherwise raises EBUSY, naming them."""
    number = project.held.number
    active = instance.store.read(
        lambda view: [(j.uid, j.status) for j in view.jobs(number) if job.is_active(j.status)]
    )
    if active:
        raise refusals.active_jobs(active)


def refuse_in_transition(project: Project) -> None:
    """Passes if no action on the project is under way (EBUSY)."""
    if project.transition:
        raise refusals.in_transition(project.transition)


def refuse_unless_quiescent(instance: Instance, project: Project) -> None:
    """Passes if no action is under way and no file of the project is open for writing (EBUSY)."""
    refuse_in_transition(project)
    writers = instance.writers(project)
    if writers:
        raise refusals.open_writer(writers)


@contextmanager
def transition(instance: Instance, project: Project, action: str) -> Iterator[None]:
    """Keeps every change out of a quiescent project while an action is under way. Raises EBUSY."""
    refuse_unless_quiescent(instance, project)
    project.transition = action
    try:
        yield
    finally:
        project.transition = project.unsettled
