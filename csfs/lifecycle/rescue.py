"""Rescue: breaks the lock of an instance that is gone (`csfs rescue`, or `rm cs.lock` if it is dead).

Nothing else in the project is touched: the broken lock's bytes stay beside it, and what its owner had not
exported stays in the owner's store. Afterwards the project is detached.
"""

import msgspec

from csfs.backing import broken_lock, lockfile
from csfs.backing.broken_lock import Reservation
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import lock, names, refusals
from csfs.domain.lock import Lock, Opaque
from csfs.domain.session import Life
from csfs.domain.state import State
from csfs.lifecycle import history, intents, leftovers
from csfs.lifecycle.instance import Instance, owner_of, timestamp
from csfs.lifecycle.liveness import Liveness
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import transition
from csfs.store import records
from csfs.store.records import Intent


async def rescue(instance: Instance, project: Project, lock_id: str = "") -> None:
    """Breaks the lock of a foreign project, and keeps its bytes as `cs.lock.rescued-<time>`.

    With the lock's id it is broken whatever is known of its owner; without, only if the owner's heartbeat
    has stopped for long enough. Of two rescuers one wins. Raises Refusal EINVAL if there is no foreign lock,
    EPERM if it is another one than `lock_id` or its owner is not known to be dead, EBUSY while another
    instance rescues the project, OSError.
    """
    with transition(instance, project, "rescue"):
        await _look(instance, project)
        found = project.sight.lock
        if project.state is not State.FOREIGN or found is None:
            raise refusals.nothing_to_rescue(project.state.value)
        if not lock_id:
            await _refuse_unless_dead(instance.liveness(project.directory), found)
        elif lock_id != found.lock_id:
            raise refusals.wrong_lock_id(found.lock_id)
        content = await in_thread(lockfile.content_of, project.directory)
        if content is None or lock.parse(content) != found:
            raise refusals.nothing_to_rescue(project.state.value)
        try:
            await _break(instance, project, found.lock_id, content)
        finally:
            await _look(instance, project)


async def _look(instance: Instance, project: Project) -> None:
    sight = await in_thread(instance.look, project.directory)
    instance.settle(project.directory, project.path, sight)


async def _refuse_unless_dead(liveness: Liveness, found: Lock | Opaque) -> None:
    if isinstance(found, Opaque):
        raise refusals.not_dead(found.owner, "it has no heartbeat", found.lock_id)
    await liveness.look()
    if liveness.life(found.instance_uuid) is not Life.DEAD:
        heartbeat = liveness.describe(found.instance_uuid)
        raise refusals.not_dead(found.owner, heartbeat, found.lock_id)


async def _break(instance: Instance, project: Project, lock_id: str, content: bytes) -> None:
    directory = project.directory
    broken = records.Project(
        number=0,
        uuid="",
        title="",
        state="detached",
        path=project.path,
        inode=directory.inode,
        born=directory.born(),
        lock_id=lock_id,
        lock_content=content,
        epoch=0,
        since=timestamp(),
    )
    intent = Intent(action="rescue", before=None, after=broken)
    number = await instance.store.write(lambda change: change.put_rescue(intent))
    intent = msgspec.structs.replace(intent, after=msgspec.structs.replace(broken, number=number))
    own = Reservation(instance.identity.uuid, instance.identity.name)
    noted = leftovers.noted(instance, directory, project.path)
    async with noted, intents.finished_or_taken_back(instance, intent):
        await _reserve(instance, directory, lock_id, own)
        try:
            kept = names.rescued(broken.since)
            await in_thread(broken_lock.break_lock, directory, content, kept)
        except lockfile.NotOurs as error:
            raise refusals.nothing_to_rescue("its lock was changed at this moment") from error
        finally:
            await in_thread(broken_lock.release, directory, lock_id, own)
        await intents.withdraw(instance, number, history.deed("rescue", broken))


async def _reserve(instance: Instance, directory: Descriptor, lock_id: str, own: Reservation) -> None:
    """Raises Refusal EBUSY if an instance that is not known to be dead has reserved it, OSError."""
    owner = owner_of(directory)
    other = await in_thread(lambda: broken_lock.reserve(directory, lock_id, own, owner=owner))
    if other is None:
        return
    if instance.liveness(directory).life(other.instance_uuid) is Life.DEAD:
        await in_thread(broken_lock.release, directory, lock_id, other)
        other = await in_thread(lambda: broken_lock.reserve(directory, lock_id, own, owner=owner))
        if other is None:
            return
    raise refusals.in_transition(f"rescue by {other.instance_name or 'another instance'}")
