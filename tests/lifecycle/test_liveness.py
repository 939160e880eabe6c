"""The heartbeat, what it is worth to its own instance, and which storage that is on."""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from csfs.backing import control, lockfile, sessions
from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor
from csfs.domain.session import Life, Session
from csfs.domain.state import State
from csfs.lifecycle import storage
from csfs.lifecycle.instance import CONFIRM_SECONDS, Instance
from csfs.lifecycle.liveness import Liveness
from tests.lifecycle.test_rescue import Clock, die, time
from tests.lifecycle.world import MOUNTPOINT, Lab, World

__all__ = ["time"]


async def test_beats_are_counted_and_tell_the_next_number(world: World, lab: Lab) -> None:
    world.small()
    await lab.liveness.beat()
    await lab.attach("CS-x")
    await lab.liveness.beat()
    [found] = sessions.read(lab.root)
    assert (found.counter, found.next_project, found.ended) == (2, 2, False)
    assert found.instance_uuid == lab.instance.identity.uuid
    await lab.liveness.end()
    [found] = sessions.read(lab.root)
    assert (found.counter, found.ended) == (3, True)


def quick(lab: Lab) -> Liveness:
    """The same instance with a heart that beats 30 times in a second."""
    return Instance(lab.store, Backings.of_one(lab.root), MOUNTPOINT, takeover=1.0).liveness(lab.root)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not condition():
            await trio.sleep(0.01)


async def test_it_beats_and_looks_by_itself(lab: Lab, other: Lab) -> None:
    watched, watching = quick(lab), quick(other)
    uuid = lab.instance.identity.uuid
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watching.keep)
        async with trio.open_nursery() as heart:
            heart.start_soon(watched.keep)
            await until(lambda: watching.life(uuid) is Life.ALIVE)
            heart.cancel_scope.cancel()
        assert watching.life(uuid) is not Life.DEAD
        await until(lambda: watching.life(uuid) is Life.DEAD)
        nursery.cancel_scope.cancel()
    assert [pulse.session.instance_name for pulse in watching.others] == ["lab1"]


async def test_a_beat_that_was_given_up_does_not_follow_the_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is held up on its way to the storage, given up by the mount that ends, and let go after that."""
    liveness, write = lab.liveness, sessions.write
    on_its_way, let_go, arrived = threading.Event(), threading.Event(), threading.Event()

    def slow(backing: Descriptor, beat: Session) -> None:
        if not beat.ended:
            on_its_way.set()
            assert let_go.wait(20)
        write(backing, beat)
        if not beat.ended:
            arrived.set()

    monkeypatch.setattr(sessions, "write", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.beat)
        await until(on_its_way.is_set)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.end)
        # Without waiting for the other it would have ended by then.
        with trio.move_on_after(0.3):
            await until(lambda: any(each.ended for each in sessions.read(lab.root)))
        let_go.set()
    await until(arrived.is_set)
    [found] = sessions.read(lab.root)
    assert found.ended


async def test_a_storage_that_cannot_be_written_is_told_and_keeps_nobody(
    world: World, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    (world.backing / ".csfs").write_bytes(b"in the way")
    liveness = quick(lab)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(liveness.keep)
        await until(lambda: "Not a directory" in liveness.problem)
        assert not liveness.is_late
        (world.backing / ".csfs").unlink()
        await until(lambda: liveness.problem == "")
        nursery.cancel_scope.cancel()
    assert len(sessions.read(lab.root)) == 1
    assert caplog.text.count("the heartbeat cannot be written") == 1


async def test_one_that_is_late_believes_nothing_it_saw_earlier(
    world: World, lab: Lab, time: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    await lab.liveness.beat()
    project = await lab.attach("CS-x")
    assert project.fresh_until > time.now
    reads: list[str] = []
    read = lockfile.read

    def counted(*arguments: object, **more: object) -> object:
        reads.append("read")
        return read(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(lockfile, "read", counted)
        for _ in range(5):
            sight = lab.instance.glance(project.directory, project.sight)
            lab.instance.settle(project.directory, project.path, sight)
        assert reads == []
        time.now += CONFIRM_SECONDS + 0.1
        lab.instance.settle(
            project.directory, project.path, lab.instance.glance(project.directory, project.sight)
        )
        assert reads == ["read"]
        assert project.fresh_until > time.now
        time.now += lab.liveness.takeover / 3 + 1
        for _ in range(3):
            sight = lab.instance.glance(project.directory, project.sight)
            lab.instance.settle(project.directory, project.path, sight)
            assert project.fresh_until < time.now
        assert len(reads) == 4
        await lab.liveness.beat()
        assert not lab.liveness.is_late


async def test_a_lock_that_is_rewritten_in_place_is_noticed(world: World, lab: Lab, time: Clock) -> None:
    """Inode, size and mtime are what they were: only reading it tells, and that is done every few seconds."""
    directory = world.small()
    project = await lab.attach("CS-x")
    lock = directory / "cs.lock"
    before = lock.stat()
    content = lock.read_bytes()
    lock.write_bytes(content.replace(lab.instance.identity.uuid.encode(), b"f" * 36))
    os.utime(lock, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.now += CONFIRM_SECONDS + 0.1
    sight = lab.instance.glance(project.directory, project.sight)
    lab.instance.settle(project.directory, project.path, sight)
    assert project.state is State.LOST


async def test_the_dead_come_back(lab: Lab, other: Lab, time: Clock) -> None:
    await die(lab, other, time)
    assert other.liveness.life(lab.instance.identity.uuid) is Life.DEAD
    await lab.liveness.beat()
    await other.liveness.look()
    assert other.liveness.life(lab.instance.identity.uuid) is Life.ALIVE


# Which storage it is.


async def test_the_storage_is_remembered(world: World, lab: Lab, other: Lab) -> None:
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    await storage.recognise(other.instance, other.instance.backings.of(other.root))
    name = control.storage(lab.root)
    assert name
    assert lab.instance.identity.storage == other.instance.identity.storage == name
    lab.restart()
    assert lab.instance.identity.storage == name
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))


async def test_a_backing_directory_that_is_not_mounted_is_refused_and_left_alone(
    world: World, lab: Lab, tmp_path: Path
) -> None:
    world.small()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    await lab.attach("CS-x")
    shutil.move(world.backing, tmp_path / "away")
    world.backing.mkdir()
    lab.restart()
    with pytest.raises(storage.WrongStorage, match=r"mounted\?.*accept_storage"):
        await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    assert os.listdir(world.backing) == []
    world.backing.rmdir()
    shutil.move(tmp_path / "away", world.backing)
    lab.restart()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    assert lab.state_of("CS-x") is State.ATTACHED


async def test_another_storage_is_accepted_when_that_is_intended(
    world: World, lab: Lab, tmp_path: Path
) -> None:
    world.small()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    await lab.attach("CS-x")
    before = lab.instance.identity.storage
    shutil.rmtree(world.backing / ".csfs")
    lab.restart()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root), accept=True)
    assert lab.instance.identity.storage not in ("", before)
    lab.restart()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))


async def test_an_instance_without_projects_goes_anywhere(world: World, lab: Lab) -> None:
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    shutil.rmtree(world.backing / ".csfs")
    lab.restart()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    assert lab.instance.identity.storage == control.storage(lab.root)


async def test_a_storage_that_cannot_be_written_has_no_name(
    world: World, lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    (world.backing / ".csfs").mkdir()
    (world.backing / ".csfs/storage").mkdir()
    await storage.recognise(lab.instance, lab.instance.backings.of(lab.root))
    assert lab.instance.identity.storage == control.storage(lab.root) == ""
    assert "the storage cannot be given a name" in caplog.text
