"""Changing, and relying on, the lock that this instance holds; finding out that it is lost on the way."""

from collections.abc import Callable
from typing import TypeVar

from csfs.backing import lockfile
from csfs.backing.io import in_thread
from csfs.domain import refusals
from csfs.lifecycle.instance import Instance, owner_of
from csfs.lifecycle.project import Project
from csfs.store import records

T = TypeVar("T")


async def relock(
    instance: Instance, project: Project, before: records.Project, after: records.Project
) -> None:
    """Replaces the project's lock by that of a later record. Raises Refusal EROFS if it is lost."""

    def replace() -> None:
        instance.confirm_sole_mount(project.directory)
        owner = owner_of(project.directory)
        lockfile.replace(project.directory, before.lock_content, after.lock_content, owner=owner)

    await _or_lost(instance, project, replace)


async def unlock(instance: Instance, project: Project, record: records.Project) -> None:
    """Releases the project's lock. Raises Refusal EROFS if it is lost."""

    def release() -> None:
        instance.confirm_sole_mount(project.directory)
        lockfile.release(project.directory, record.lock_content)

    await _or_lost(instance, project, release)


async def holding(instance: Instance, project: Project, work: Callable[[Callable[[], None]], T]) -> T:
    """Runs `work`, which changes the project's directory, in a thread, and gives it what confirms the lock.

    It is to call that as the last thing before its first change: the daemon may have been stopped, or the
    storage may have hung, for so long that another instance has the project by now. Raises Refusal EROFS
    if the lock is lost, or what `work` raises.
    """
    expected = project.held.lock_content

    def confirm() -> None:
        instance.confirm_sole_mount(project.directory)
        lockfile.confirm(project.directory, expected)

    return await _or_lost(instance, project, lambda: work(confirm))


async def _or_lost(instance: Instance, project: Project, function: Callable[[], T]) -> T:
    try:
        return await in_thread(function)
    except lockfile.NotOurs as error:
        sight = await in_thread(instance.look, project.directory)
        instance.settle(project.directory, project.path, sight)
        raise refusals.lost(project.verdict.reason) from error
