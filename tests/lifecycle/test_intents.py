"""Intents: whatever is cut short, wherever, is finished or taken back at the next start."""

import json
import os
import shutil
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from csfs.backing import lockfile
from csfs.domain import names
from csfs.domain.state import State
from csfs.lifecycle import documents, intents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.create import create
from csfs.lifecycle.delete_job import delete_job
from csfs.lifecycle.detach import detach
from csfs.lifecycle.forget import forget
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.move import move, projects_within
from csfs.lifecycle.rebind import rebind
from csfs.lifecycle.unarchive import returning, unarchive
from csfs.store.records import Intent
from tests.lifecycle.power import cut_after
from tests.lifecycle.world import Lab, World, add_job, job

Action = Callable[[], Awaitable[object]]


async def check(world: World, lab: Lab) -> None:
    """Nothing is half done, nothing is lost, and what is outstanding can be exported."""
    lab.check_consistent()
    for record in list(lab.instance.claims.by_number.values()):
        assert lab.record(record.number) == record
        where = os.fsdecode(record.path)
        directory = world.backing / where
        if not directory.exists() or lab.state_of(where) != record.state:
            continue
        if record.state == "attached":
            await documents.export_all(lab.instance, lab.project(where), held_back=True)
        elif record.state == "archived":
            assert lab.store.read(lambda view, n=record.number: list(view.manifest(n)))
        for path in lab.paths(record.number) - lab.unexported(record.number):
            assert (directory / path).read_bytes() == lab.live(record.number, path), path
    for lock in world.backing.rglob(names.LOCK):
        path = os.fspath(lock.parent.relative_to(world.backing))
        project = lab.project(path)
        assert project.record is not None or project.verdict.inert, project.verdict
    lab.check_consistent()


# Actions to be cut short: each prepares a world, and says what is to be done in it, and how to do
# it again afterwards.


async def creating(world: World, lab: Lab) -> Action:
    (world.backing / "CS-x").mkdir()

    async def act() -> None:
        if lab.state_of("CS-x") is State.PLAIN:
            await create(lab.instance, lab.directory("CS-x"), b"CS-x", None)

    return act


async def attaching(world: World, lab: Lab) -> Action:
    add_job(world.small(), "J2", "running")

    async def act() -> None:
        if lab.state_of("CS-x") is State.DETACHED:
            await lab.attach("CS-x")

    return act


async def attaching_where_one_was_lost(world: World, lab: Lab) -> Action:
    world.small("CS-old")
    await lab.attach("CS-old")
    os.unlink(world.backing / "CS-old/cs.lock")
    os.rename(world.backing / "CS-old", world.backing / "CS-x")

    async def act() -> None:
        if lab.state_of("CS-x") is State.DETACHED:
            await lab.attach("CS-x")

    return act


async def detaching(world: World, lab: Lab) -> Action:
    add_job(world.small(), "J2", "failed")
    await lab.attach("CS-x")

    async def act() -> None:
        if lab.state_of("CS-x") is State.ATTACHED:
            await detach(lab.instance, lab.project("CS-x"))

    return act


async def archiving(world: World, lab: Lab) -> Action:
    add_job(world.small(), "J2", "failed")
    await lab.attach("CS-x")

    async def act() -> None:
        if lab.state_of("CS-x") is State.ATTACHED:
            await archive(lab.instance, lab.project("CS-x"))

    return act


async def archiving_with_a_lock_of_the_users_own(world: World, lab: Lab) -> Action:
    """Its bytes do not tell how far it came."""
    world.small()
    await lab.attach("CS-x", b"my own")

    async def act() -> None:
        if lab.state_of("CS-x") is State.ATTACHED:
            await archive(lab.instance, lab.project("CS-x"))

    return act


async def unarchiving_with_a_lock_of_the_users_own(world: World, lab: Lab) -> Action:
    world.small()
    await archive(lab.instance, await lab.attach("CS-x", b"my own"))

    async def act() -> None:
        project = lab.project("CS-x")
        if project.state is State.ARCHIVED:
            await unarchive(lab.instance, project, project.held)

    return act


async def unarchiving(world: World, lab: Lab) -> Action:
    world.small()
    await archive(lab.instance, await lab.attach("CS-x"))

    async def act() -> None:
        project = lab.project("CS-x")
        if project.state is State.ARCHIVED:
            await unarchive(lab.instance, project, project.held)

    return act


async def unarchiving_a_copy(world: World, lab: Lab) -> Action:
    directory = world.small()
    await archive(lab.instance, await lab.attach("CS-x"))
    shutil.copytree(directory, world.backing / "CS-y", symlinks=True)
    shutil.rmtree(directory)

    async def act() -> None:
        project = lab.project("CS-y")
        if project.state is State.DETACHED:
            record = await returning(lab.instance, project)
            assert record is not None
            await unarchive(lab.instance, project, record)

    return act


async def moving(world: World, lab: Lab) -> Action:
    world.small()
    await lab.attach("CS-x")

    async def act() -> None:
        await move_all(lab, "CS-x", "CS-y")

    return act


async def moving_a_container(world: World, lab: Lab) -> Action:
    for name in ("CS-a", "CS-b", "CS-c"):
        world.small(f"old/{name}")
        await lab.attach(f"old/{name}")
    await archive(lab.instance, lab.project("old/CS-b"))

    async def act() -> None:
        await move_all(lab, "old", "new")

    return act


async def move_all(lab: Lab, old: str, new: str) -> None:
    """As the mount does it: finds the projects, and renames once."""
    if not (lab.backing / old).exists():
        return
    directory = lab.directory(old)
    itself = lab.look(old)
    projects = (
        [itself] if itself is not None else await projects_within(lab.instance, directory, os.fsencode(old))
    )

    async def rename() -> None:
        os.rename(lab.backing / old, lab.backing / new)

    await move(lab.instance, projects, os.fsencode(old), os.fsencode(new), rename)


async def rebinding(world: World, lab: Lab) -> Action:
    directory = world.small()
    await lab.attach("CS-x")
    shutil.copytree(directory, world.directory / "backup", symlinks=True)
    shutil.rmtree(directory)
    shutil.copytree(world.directory / "backup", directory, symlinks=True)

    async def act() -> None:
        project = lab.project("CS-x")
        if project.verdict.rebind:
            await rebind(lab.instance, project)

    assert lab.project("CS-x").verdict.rebind
    return act


async def deleting_a_job(world: World, lab: Lab) -> Action:
    add_job(world.small(), "J2")
    await lab.attach("CS-x")

    async def act() -> None:
        await delete_job(lab.instance, lab.project("CS-x"), "J2")

    return act


async def editing(world: World, lab: Lab) -> Action:
    world.small()
    await lab.attach("CS-x")

    async def act() -> None:
        content = json.dumps({**lab.live_json(1), "title": "edited"}).encode()
        await documents.edit(lab.instance, lab.project("CS-x"), "project.json", content)

    return act


async def forgetting(world: World, lab: Lab) -> Action:
    world.small()
    await detach(lab.instance, await lab.attach("CS-x"))

    async def act() -> None:
        record = lab.instance.claims.by_number.get(1)
        if record is not None:
            await forget(lab.instance, record)

    return act


OUTCOMES: dict[Callable[[World, Lab], Awaitable[Action]], dict[str, str]] = {
    creating: {"CS-x": "attached"},
    attaching: {"CS-x": "attached"},
    attaching_where_one_was_lost: {"CS-x": "attached"},
    detaching: {"CS-x": "detached"},
    archiving: {"CS-x": "archived"},
    archiving_with_a_lock_of_the_users_own: {"CS-x": "archived"},
    unarchiving_with_a_lock_of_the_users_own: {"CS-x": "attached"},
    unarchiving: {"CS-x": "attached"},
    unarchiving_a_copy: {"CS-y": "attached"},
    moving: {"CS-y": "attached"},
    moving_a_container: {"new/CS-a": "attached", "new/CS-b": "archived", "new/CS-c": "attached"},
    rebinding: {"CS-x": "attached"},
    deleting_a_job: {"CS-x": "attached"},
    editing: {"CS-x": "attached"},
    forgetting: {"CS-x": "detached"},
}
"""The states after each action."""


@pytest.mark.parametrize("prepare", OUTCOMES, ids=lambda made: made.__name__)
async def test_cut_short_at_every_step(
    tmp_path: Path, prepare: Callable[[World, Lab], Awaitable[Action]]
) -> None:
    steps, was_cut = 0, True
    while was_cut:
        world = World(tmp_path / str(steps))
        try:
            lab = world.lab()
            act = await prepare(world, lab)
            was_cut = await cut_after(steps, lab, act)
            lab.restart()
            await settle_with_cuts(lab)
            if prepare is rebinding and lab.project("CS-x").verdict.rebind:
                await rebind(lab.instance, lab.project("CS-x"))
            await check(world, lab)
            await act()
            await check(world, lab)
            lab.restart()
            await check(world, lab)
            for path, state in OUTCOMES[prepare].items():
                assert lab.state_of(path) == state
        finally:
            world.close()
        steps += 1
    assert steps > 1


async def settle_with_cuts(lab: Lab) -> None:
    """Starts again and again, and each time but the last the power goes while it settles."""
    steps, was_cut = 0, True
    while was_cut:
        was_cut = await cut_after(steps // 2, lab, partial(intents.settle, lab.instance))
        lab.restart()
        steps += 1
    assert lab.pending() == []


# By hand: what else may have happened between the end and the next start.


async def declared(world: World, lab: Lab, action: str, **more: object) -> Intent:
    """An attached project of which a change of state was begun."""
    world.small()
    project = await lab.attach("CS-x")
    before = project.held
    if action == "detach":
        after = intents.as_detached(before, timestamp())
    else:
        after = lab.instance.relocked(before, project.directory, b"CS-x", archived=action == "archive")
    after = msgspec.structs.replace(after, **more)
    intent = Intent(action=action, before=before, after=after)  # type: ignore[arg-type]
    await intents.declare(lab.instance, intent)
    lab.restart()
    return intent


@pytest.mark.parametrize("action", ["detach", "archive"])
async def test_declared_and_no_more_is_taken_back(world: World, lab: Lab, action: str) -> None:
    intent = await declared(world, lab, action)
    await intents.settle(lab.instance)
    assert lab.record(1) == intent.before
    assert lab.state_of("CS-x") is State.ATTACHED
    await check(world, lab)


async def test_the_last_document_says_detached_but_the_lock_is_there(world: World, lab: Lab) -> None:
    intent = await declared(world, lab, "detach")
    await lab.store.write(lambda change: documents.identify(lab.instance, change, intent.after))
    assert lab.live_json(1)["detached"] is True
    await intents.settle(lab.instance)
    assert lab.live_json(1)["detached"] is False
    await check(world, lab)
    assert json.loads((world.backing / "CS-x/project.json").read_bytes())["detached"] is False


async def test_a_detach_whose_lock_is_gone_is_finished(world: World, lab: Lab) -> None:
    intent = await declared(world, lab, "detach")
    lockfile.release(lab.directory("CS-x"), intent.after.lock_content)
    await intents.settle(lab.instance)
    assert lab.states() == {"P1": "detached"}
    assert lab.live_json(1)["detached"] is True


async def test_a_detach_whose_lock_was_put_aside_is_finished(world: World, lab: Lab) -> None:
    """The release of the lock was itself cut short."""
    await declared(world, lab, "detach")
    os.rename(world.backing / "CS-x/cs.lock", world.backing / "CS-x/.csfs-tmp.0123")
    await intents.settle(lab.instance)
    assert lab.states() == {"P1": "detached"}
    assert lab.state_of("CS-x") is State.DETACHED


@pytest.mark.parametrize("action", ["detach", "archive"])
async def test_a_directory_that_is_gone(world: World, lab: Lab, action: str) -> None:
    await declared(world, lab, action)
    os.rename(world.backing / "CS-x", world.directory / "away")
    await intents.settle(lab.instance)
    assert lab.pending() == []
    assert lab.states() == {"P1": "detached" if action == "detach" else "attached"}


@pytest.mark.parametrize("action", ["detach", "archive"])
@pytest.mark.parametrize("kind", ["directory", "symlink", "fifo", "huge", "bytes"])
async def test_something_else_in_the_place_of_the_lock(
    world: World, lab: Lab, action: str, kind: str
) -> None:
    """It is not ours, and it does not keep the instance from starting."""
    await declared(world, lab, action)
    lock = world.backing / "CS-x/cs.lock"
    lock.unlink()
    if kind == "directory":
        lock.mkdir()
    elif kind == "symlink":
        lock.symlink_to("project.json")
    elif kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.write_bytes(b"theirs")
        os.truncate(lock, 1 << 40 if kind == "huge" else 6)
    inode = lock.lstat().st_ino
    await intents.settle(lab.instance)
    assert lab.pending() == []
    assert lock.lstat().st_ino == inode
    assert lab.state_of("CS-x") is (State.FOREIGN if action == "detach" else State.LOST)


async def test_a_lock_that_another_instance_took_stays(world: World, lab: Lab, other: Lab) -> None:
    intent = await declared(world, lab, "detach")
    lockfile.release(lab.directory("CS-x"), intent.after.lock_content)
    await other.attach("CS-x")
    lock = (world.backing / "CS-x/cs.lock").read_bytes()
    await intents.settle(lab.instance)
    assert (world.backing / "CS-x/cs.lock").read_bytes() == lock
    assert lab.states() == {"P1": "detached"}
    assert other.state_of("CS-x") is State.ATTACHED
    other.check_consistent()


async def test_an_attach_that_lost_the_race_takes_nothing_back_from_the_winner(
    world: World, lab: Lab, other: Lab
) -> None:
    world.small()
    won = await other.attach("CS-x")
    record = msgspec.structs.replace(won.held, lock_id="mine", lock_content=b"mine")
    await intents.declare(lab.instance, Intent(action="attach", before=None, after=record))
    lab.restart()
    await intents.settle(lab.instance)
    assert (lab.states(), lab.pending()) == ({}, [])
    other.check_consistent()
    assert other.state_of("CS-x") is State.ATTACHED


async def test_a_move_that_did_not_happen_is_taken_back(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    before = project.held
    after = lab.instance.relocked(before, project.directory, b"CS-y", archived=False)
    await intents.declare(lab.instance, Intent(action="move", before=before, after=after))
    lab.restart()
    world.small("CS-y")
    await intents.settle(lab.instance)
    assert lab.record(1) == before
    await check(world, lab)


async def test_a_backing_directory_that_cannot_be_read_decides_nothing(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    intent = await declared(world, lab, "archive")

    def fail(*arguments: object) -> bytes:
        raise OSError(5, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(lockfile, "read_file", fail)
        with pytest.raises(OSError, match="broken"):
            await intents.settle(lab.instance)
    assert lab.pending() == [intent]
    await intents.settle(lab.instance)
    await check(world, lab)


async def test_settling_is_told_in_the_log(world: World, lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await declared(world, lab, "archive")
    await intents.settle(lab.instance)
    assert "archive of P1 was cut short and is now taken back" in caplog.text


async def test_nothing_to_settle(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.create("CS-x")
    await intents.settle(lab.instance)
    lab.check_consistent()
    assert caplog.text == ""


async def test_documents_that_were_cut_short_are_exported_after_all(world: World, lab: Lab) -> None:
    add_job(world.small(), "J2")
    await lab.attach("CS-x")
    content = json.dumps({**job("J2"), "project_uid": "P1", "project_uid_num": 1, "title": "new"}).encode()
    await lab.store.write(
        lambda change: change.put_document(1, "J2/job.json", content, mtime_ns=7, exported=False)
    )
    lab.restart()
    await intents.settle(lab.instance)
    project = lab.project("CS-x")
    await documents.export_all(lab.instance, project)
    assert (world.backing / "CS-x/J2/job.json").read_bytes() == content
