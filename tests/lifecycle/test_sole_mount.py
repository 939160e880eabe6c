"""An instance is mounted once: what another mount of it, alive or dead, on this node or another, leads to."""

import fcntl
import os
from pathlib import Path

import msgspec
import pytest
import trio

from csfs.backing import sessions
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.session import SILENT_BEATS, Session
from csfs.domain.state import State
from csfs.lifecycle import clock, sole_mount
from csfs.lifecycle.detach import detach
from csfs.lifecycle.recover import Wanted, recover
from csfs.lifecycle.sole_mount import MountedElsewhere
from csfs.lifecycle.survey import CannotRecover
from tests.lifecycle.world import Lab, World

INTERVAL = 0.1


@pytest.fixture(autouse=True)
def no_process_is_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a session here will not let go of it while it is waited for."""
    monkeypatch.setattr(sole_mount, "_DYING_SECONDS", 0.1)


def elsewhere(lab: Lab, **more: object) -> Session:
    """The session of another mount of the same instance, on another node, unless told otherwise."""
    said: dict[str, object] = {
        "session": "another",
        "instance_uuid": lab.instance.identity.uuid,
        "instance_name": "lab1",
        "host": "node7",
        "boot": "that of node7",
        "pid": 4711,
        "since": "2026-05-15T10:00:00.000Z",
        "interval": INTERVAL,
        "takeover": 3.0,
    }
    return msgspec.convert({**said, **more}, Session)


async def hold(lab: Lab) -> int:
    fd = await sole_mount.hold(lab.root, lab.instance.identity.uuid)
    assert fd is not None
    return fd


async def beat_for_ever(lab: Lab, session: Session) -> None:
    while True:
        await trio.sleep(session.interval)
        session = msgspec.structs.replace(session, counter=session.counter + 1)
        sessions.write(lab.root, session)


async def test_a_second_process_of_the_node_is_told_who_has_it(lab: Lab) -> None:
    await lab.liveness.take()
    await lab.liveness.beat()
    with pytest.raises(MountedElsewhere, match=f"lab1 is mounted by process {os.getpid()} on .*--instance"):
        await hold(lab)
    await lab.liveness.end()
    os.close(await hold(lab))


async def test_a_crash_on_this_node_keeps_nobody_waiting(lab: Lab) -> None:
    sessions.write(lab.root, elsewhere(lab, boot=sole_mount.boot(), interval=1000.0))
    with trio.fail_after(5):
        os.close(await hold(lab))


async def test_a_mount_on_another_node_that_beats_is_alive(lab: Lab) -> None:
    there = elsewhere(lab)
    sessions.write(lab.root, there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat_for_ever, lab, there)
        with pytest.raises(MountedElsewhere, match="process 4711 on node7"):
            await hold(lab)
        nursery.cancel_scope.cancel()


async def test_one_that_stands_still_is_waited_for_until_it_would_look_itself(lab: Lab) -> None:
    sessions.write(lab.root, elsewhere(lab))
    began = clock.seconds()
    os.close(await hold(lab))
    assert clock.seconds() - began >= SILENT_BEATS * INTERVAL


async def test_one_that_was_unmounted_is_not_waited_for(lab: Lab) -> None:
    sessions.write(lab.root, elsewhere(lab, interval=1000.0, ended=True))
    with trio.fail_after(5):
        os.close(await hold(lab))


async def test_where_files_cannot_be_locked_the_heartbeat_tells(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(sessions, "hold", no_locks)
    there = elsewhere(lab, boot=sole_mount.boot())
    sessions.write(lab.root, there)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat_for_ever, lab, there)
        with pytest.raises(MountedElsewhere):
            await sole_mount.hold(lab.root, lab.instance.identity.uuid)
        nursery.cancel_scope.cancel()
    assert await sole_mount.hold(lab.root, lab.instance.identity.uuid) is None


async def test_what_others_can_open_and_lock_keeps_nobody_from_mounting(lab: Lab) -> None:
    await lab.liveness.beat()
    await lab.liveness.end()
    sessions_at = Path(lab.backing, ".csfs/sessions")
    uuid = lab.instance.identity.uuid
    with (sessions_at / f"{uuid}.json").open("rb") as heartbeat:
        fcntl.flock(heartbeat, fcntl.LOCK_EX)
        os.close(await hold(lab))
    (held,) = sessions_at.glob("*.held")
    assert held.stat().st_mode & 0o777 == 0o600
    held.chmod(0o644)
    with held.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert await sole_mount.hold(lab.root, uuid) is None


async def test_a_session_that_was_removed_is_held_anew(lab: Lab) -> None:
    await lab.liveness.take()
    await lab.liveness.beat()
    for path in Path(lab.backing, ".csfs/sessions").iterdir():
        path.unlink()
    await lab.liveness.beat()
    with pytest.raises(MountedElsewhere):
        await hold(lab)


async def test_a_mount_whose_place_was_taken_owns_nothing(world: World, lab: Lab) -> None:
    world.small()
    world.small("CS-y")
    await lab.liveness.take()
    await lab.liveness.beat()
    project = await lab.attach("CS-x")
    before = world.lock_of("CS-x")
    sessions.write(lab.root, elsewhere(lab))
    await lab.liveness.turn()
    assert "mounted a second time, by process 4711 on node7" in lab.liveness.problem
    assert lab.state_of("CS-x") is State.LOST
    for change in (
        project.refuse_change,
        project.refuse_leaving,
        lambda: lab.instance.refuse_mounted_twice(lab.root),
    ):
        with pytest.raises(Refusal) as caught:
            change()
        assert caught.value.rule is Rule.MOUNTED_TWICE
    for act in (lambda: detach(lab.instance, project), lambda: lab.attach("CS-y")):
        with pytest.raises(Refusal) as caught:
            await act()
        assert caught.value.rule is Rule.MOUNTED_TWICE
    assert world.lock_of("CS-x") == before
    assert not (lab.backing / "CS-y/cs.lock").exists()
    [left] = sessions.read(lab.root)
    assert left == elsewhere(lab), "the heartbeat is that of the other mount"


async def test_who_slept_looks_before_it_acts(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place was taken while it was stopped; its own heart has not had its turn yet."""
    world.small()
    await lab.liveness.beat()
    project = await lab.attach("CS-x")
    before = world.lock_of("CS-x")
    sessions.write(lab.root, elsewhere(lab))
    awake = clock.seconds() + 3 * 10.0
    monkeypatch.setattr(clock, "seconds", lambda: awake)
    with pytest.raises(Refusal) as caught:
        await detach(lab.instance, project)
    assert caught.value.rule is Rule.MOUNTED_TWICE
    assert world.lock_of("CS-x") == before


async def test_nothing_is_recovered_while_the_instance_lives(world: World, lab: Lab, tmp_path: Path) -> None:
    world.small()
    await lab.liveness.take()
    await lab.liveness.beat()
    await lab.attach("CS-x")
    anew = tmp_path / "anew"
    anew.mkdir()
    wanted = Wanted({b"": os.fspath(lab.backing)}, anew, "lab1")
    with pytest.raises(CannotRecover, match="is mounted by process"):
        await recover(wanted)
    assert not list(anew.iterdir())
    await lab.liveness.end()
    report = await recover(wanted)
    assert [project.uid for project in report.projects] == ["P1"]
