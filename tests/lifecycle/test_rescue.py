"""Rescue: the lock of an instance that is gone is broken, once, and nothing is lost."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from csfs.backing import broken_lock, lockfile
from csfs.backing.broken_lock import Reservation
from csfs.domain import names
from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import clock, documents, intents
from csfs.lifecycle.detach import let_go
from csfs.lifecycle.rescue import rescue
from tests.lifecycle.power import cut_after
from tests.lifecycle.test_intents import settle_with_cuts
from tests.lifecycle.world import Lab, World, add_job


class Clock:
    """The clock of the observer, for the test to set."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr(clock, "seconds", lambda: self.now)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def die(owner: Lab, observer: Lab, time: Clock) -> None:
    """The owner beats once, and is then watched in silence for as long as it takes."""
    await owner.liveness.beat()
    for _ in range(40):
        await observer.liveness.beat()
        await observer.liveness.look()
        time.now += 10


def kept(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(names.RESCUED_PREFIX)]


async def test_from_a_dead_owner(world: World, lab: Lab, other: Lab, time: Clock) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    lock = (directory / "cs.lock").read_bytes()
    before = sorted(os.listdir(directory))
    await die(lab, other, time)
    await rescue(other.instance, other.project("CS-x"))
    assert other.state_of("CS-x") is State.DETACHED
    assert sorted({*os.listdir(directory), "cs.lock"} - set(kept(directory))) == before
    [name] = kept(directory)
    assert (directory / name).read_bytes() == lock
    assert other.pending() == []
    assert other.states() == {}
    project = await other.attach("CS-x")
    assert project.uid == "P1"
    assert project.held.epoch > msgspec.json.decode(lock, type=Lock).epoch


@pytest.mark.parametrize("life", ["alive", "silent", "unmounted", "unknown"])
async def test_not_from_one_that_is_not_known_to_be_dead(
    world: World, lab: Lab, other: Lab, time: Clock, life: str
) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    if life == "alive":
        await die(lab, other, time)
        await lab.liveness.beat()
    elif life == "silent":
        await lab.liveness.beat()
        await other.liveness.look()
    elif life == "unmounted":
        await lab.liveness.end()
        await other.liveness.look()
        time.now += 10_000
    lock = (directory / "cs.lock").read_bytes()
    with pytest.raises(Refusal) as caught:
        await rescue(other.instance, other.project("CS-x"))
    assert caught.value.rule is Rule.NOT_DEAD
    lock_id = msgspec.json.decode(lock, type=Lock).lock_id
    assert f"csfs rescue --lock-id {lock_id}" in caught.value.advice
    assert (directory / "cs.lock").read_bytes() == lock
    assert other.pending() == []
    await rescue(other.instance, other.project("CS-x"), lock_id)
    assert other.state_of("CS-x") is State.DETACHED


async def test_another_lock_than_the_one_that_is_named(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    with pytest.raises(Refusal) as caught:
        await rescue(other.instance, other.project("CS-x"), "another")
    assert caught.value.rule is Rule.WRONG_LOCK_ID
    assert lab.state_of("CS-x") is State.ATTACHED


async def test_a_lock_that_csfs_did_not_write_is_named_by_its_bytes(world: World, lab: Lab) -> None:
    directory = world.small()
    (directory / "cs.lock").write_bytes(b"theirs")
    with pytest.raises(Refusal) as caught:
        await rescue(lab.instance, lab.project("CS-x"))
    assert caught.value.rule is Rule.NOT_DEAD
    found = lab.project("CS-x").sight.lock
    assert found is not None
    await rescue(lab.instance, lab.project("CS-x"), found.lock_id)
    assert [(directory / name).read_bytes() for name in kept(directory)] == [b"theirs"]
    assert (await lab.attach("CS-x")).state is State.ATTACHED


async def test_there_is_nothing_to_rescue(world: World, lab: Lab) -> None:
    world.small()
    for state in (State.DETACHED, State.ATTACHED):
        with pytest.raises(Refusal) as caught:
            await rescue(lab.instance, lab.project("CS-x"))
        assert caught.value.rule is Rule.NOTHING_TO_RESCUE
        assert lab.state_of("CS-x") is state
        if state is State.DETACHED:
            await lab.attach("CS-x")


async def test_the_old_owner_comes_back(world: World, lab: Lab, other: Lab, time: Clock) -> None:
    """It has lost the project, writes nothing more, and keeps what it had not exported."""
    add_job(world.small(), "J2", "building")
    project = await lab.attach("CS-x")
    await lab.set_status(project, "J2", "running")
    await die(lab, other, time)
    await rescue(other.instance, other.project("CS-x"))
    await other.attach("CS-x")
    theirs = (world.backing / "CS-x/J2/job.json").read_bytes()
    changed = json.dumps({**lab.live_json(1), "title": "mine"}).encode()
    with pytest.raises(Refusal) as caught:
        await documents.edit(lab.instance, project, "project.json", changed)
    assert caught.value.rule is Rule.LOST
    assert lab.live_json(1)["title"] == "mine"
    assert json.loads((world.backing / "CS-x/project.json").read_bytes())["title"] == "small"
    assert lab.state_of("CS-x") is State.LOST
    await let_go(lab.instance, project)
    assert lab.states() == {"P1": "detached"}
    assert lab.unexported(1) == {"J2/job.json", "project.json"}
    assert lab.live_json(1, "J2/job.json")["status"] == "running"
    assert (world.backing / "CS-x/J2/job.json").read_bytes() == theirs
    assert other.state_of("CS-x") is State.ATTACHED
    other.check_consistent()


async def test_while_another_one_rescues_it(world: World, lab: Lab, other: Lab, time: Clock) -> None:
    world.small()
    await lab.attach("CS-x")
    await die(lab, other, time)
    directory, found = other.directory("CS-x"), other.project("CS-x").sight.lock
    assert found is not None
    third = world.lab("lab3")
    reservation = Reservation(third.instance.identity.uuid, "lab3")
    broken_lock.reserve(directory, found.lock_id, reservation, owner=(0, 0))
    with pytest.raises(Refusal) as caught:
        await rescue(other.instance, other.project("CS-x"))
    assert (caught.value.rule, caught.value.detail) == (Rule.IN_TRANSITION, "rescue by lab3")
    assert other.state_of("CS-x") is State.FOREIGN
    await die(third, other, time)
    await rescue(other.instance, other.project("CS-x"))
    assert other.state_of("CS-x") is State.DETACHED
    assert world.temporaries() == []


async def test_a_lock_that_changes_meanwhile_is_not_broken(
    world: World, lab: Lab, other: Lab, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    await die(lab, other, time)
    lock = (directory / "cs.lock").read_bytes()
    content_of, looks = lockfile.content_of, []

    def late(*arguments: object) -> bytes | None:
        looks.append(arguments)
        if len(looks) == 2:
            (directory / "cs.lock").unlink()
            (directory / "cs.lock").write_bytes(lock.replace(b"attached", b"archived"))
        return content_of(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(lockfile, "content_of", late)
        with pytest.raises(Refusal) as caught:
            await rescue(other.instance, other.project("CS-x"))
    assert caught.value.rule is Rule.NOTHING_TO_RESCUE
    assert (directory / "cs.lock").exists()
    assert kept(directory) == []
    assert other.pending() == []
    assert world.temporaries() == []


async def test_cut_short_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, was_cut = 0, True
    while was_cut:
        world = World(tmp_path / str(steps))
        try:
            directory = world.small()
            owner, lab = world.lab("owner"), world.lab()
            lock_id = (await owner.attach("CS-x")).held.lock_id

            async def act(lab: Lab = lab, lock_id: str = lock_id) -> None:
                if lab.state_of("CS-x") is State.FOREIGN:
                    await rescue(lab.instance, lab.project("CS-x"), lock_id)

            was_cut = await cut_after(steps, lab, act)
            lab.restart()
            await settle_with_cuts(lab)
            assert lab.pending() == []
            for left in world.temporaries():
                assert not left.name.startswith(".csfs-tmp.rescue"), left
            foreign = lab.state_of("CS-x") is State.FOREIGN
            assert (owner.state_of("CS-x") is State.ATTACHED) == foreign
            assert len(kept(directory)) == (not foreign)
            await act()
            assert lab.state_of("CS-x") is State.DETACHED
            assert owner.state_of("CS-x") is State.LOST
            assert len(kept(directory)) == 1
            await lab.attach("CS-x")
            lab.check_consistent()
        finally:
            world.close()
        steps += 1
    assert steps > 5


async def test_what_was_cut_short_puts_another_lock_back(world: World, lab: Lab, other: Lab) -> None:
    """The rescuer died between the rename and the look at what it had renamed."""
    directory = world.small()
    await other.attach("CS-x")
    lock = (directory / "cs.lock").read_bytes()
    here = lab.directory("CS-x")
    broken = msgspec.structs.replace(other.record(1), lock_content=b"older", lock_id="id", number=0)
    intent = await lab.store.write(
        lambda change: change.put_rescue(intents.Intent(action="rescue", before=None, after=broken))
    )
    os.rename(directory / "cs.lock", directory / names.rescued(broken.since))
    lab.restart()
    await intents.settle(lab.instance)
    assert intent >= 1 << 31
    assert (directory / "cs.lock").read_bytes() == lock
    assert kept(directory) == []
    assert other.state_of("CS-x") is State.ATTACHED
    assert here.inode == other.record(1).inode


async def test_the_bytes_of_a_lock_that_was_broken_are_no_new_claim(
    world: World, lab: Lab, other: Lab
) -> None:
    """The old owner, when it comes back, would take that lock for its own."""
    directory = world.small()
    await lab.attach("CS-x", b"mine")
    project = other.project("CS-x")
    assert project.sight.lock is not None
    await rescue(other.instance, project, project.sight.lock.lock_id)
    with pytest.raises(Refusal) as caught:
        await other.attach("CS-x", b"mine")
    assert caught.value.rule is Rule.REUSED_LOCK
    assert not (directory / "cs.lock").exists()
    assert (other.states(), other.pending()) == ({}, [])
    await other.attach("CS-x", b"ours")
    assert lab.state_of("CS-x") is State.LOST
    assert other.state_of("CS-x") is State.ATTACHED
