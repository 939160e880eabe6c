"""Forget: the store drops what it keeps of a detached project (`rm .csfs/projects/P12`)."""

from csfs.domain import refusals
from csfs.lifecycle import history
from csfs.lifecycle.instance import Instance
from csfs.store import records
from csfs.store.store import Change


async def forget(instance: Instance, record: records.Project) -> None:
    """Drops the record and the documents of a detached project; its number is not given again.

    The project directory is not touched. Raises Refusal EPERM for any other, OSError.
    """
    if record.state != "detached":
        raise refusals.not_detached(record.uid, record.state, record.path)
    deed = history.deed("forget", record)

    def work(change: Change) -> None:
        change.forget_project(record.number)
        change.put_deed(deed)

    await instance.store.write(work)
    instance.claims.drop(record.number)
