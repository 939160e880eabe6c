"""Forget: the store drops what it keeps of a detached project (`rm .csfs/projects/P12`)."""

from csfs.domain import refusals
from csfs.lifecycle.instance import Instance
from csfs.store import records


async def forget(instance: Instance, record: records.Project) -> None:
    """Drops the record and the documents of a detached project; its number is not given again.

    The project directory is not touched. Raises Refusal EPERM for any other, OSError.
    """
    if record.state != "detached":
        raise refusals.not_detached(record.uid, record.state)
    await instance.store.write(lambda change: change.forget_project(record.number))
    instance.claims.drop(record.number)
