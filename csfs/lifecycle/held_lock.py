"""Changing the lock that this instance holds; finding out that it is lost on the way."""

from collections.abc import Callable
from typing import Any

from csfs.backing import lockfile
from csfs.backing.io import in_thread
from csfs.domain import refusals
from csfs.lifecycle.instance import Instance, owner_of
from csfs.lifecycle.project import Project
from csfs.store import records


async def relock(
    instance: Instance, project: Project, before: records.Project, after: records.Project
) -> None:
    """Replaces the project's lock by that of a later record. Raises Refusal EROFS if it is lost."""

    def replace() -> None:
        owner = owner_of(project.directory)
        lockfile.replace(project.directory, before.lock_content, after.lock_content, owner=owner)

    await _or_lost(instance, project, replace)


async def unlock(instance: Instance, project: Project, record: records.Project) -> None:
    """Releases the project's lock. Raises Refusal EROFS if it is lost."""
    await _or_lost(instance, project, lockfile.release, project.directory, record.lock_content)


async def _or_lost(
    instance: Instance, project: Project, function: Callable[..., None], *arguments: Any
) -> None:
    try:
        await in_thread(function, *arguments)
    except lockfile.NotOurs as error:
        sight = await in_thread(instance.look, project.directory)
        instance.settle(project.directory, project.path, sight)
        raise refusals.lost(project.verdict.reason) from error
