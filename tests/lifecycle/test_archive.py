"""Archive and unarchive: it leaves whole, and comes back whole, wherever that is."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import archive as module
from csfs.lifecycle import documents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.project import Project
from csfs.lifecycle.unarchive import returning, unarchive
from tests.lifecycle.world import MOUNTPOINT, Lab, World, add_job, tree


async def archived(lab: Lab, path: str = "CS-x") -> Project:
    project = await lab.attach(path)
    await archive(lab.instance, project)
    return project


async def come_back(lab: Lab, path: str, **more: bool) -> Project:
    """What `chmod u+w` does: in place, or where a copy lies that may return."""
    project = lab.project(path)
    record = project.held if project.state is State.ARCHIVED else await returning(lab.instance, project)
    assert record is not None, "it cannot return here"
    await unarchive(lab.instance, project, record, **more)
    return project


async def test_archive(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await archived(lab)
    assert (project.state, project.transition) == (State.ARCHIVED, "")
    written = json.loads((directory / "project.json").read_bytes())
    assert (written["archived"], written["detached"]) == (True, False)
    found = world.lock_of("CS-x")
    assert isinstance(found, Lock)
    assert (found.state, found.lock_id) == ("archived", project.held.lock_id)
    assert lab.unexported(1) == set()
    for path in lab.paths(1):
        assert (directory / path).read_bytes() == lab.live(1, path)
    lab.check_consistent()
    with pytest.raises(Refusal) as caught:
        project.refuse_change()
    assert caught.value.rule is Rule.ARCHIVED
    project.refuse_leaving()
    lab.restart()
    lab.check_consistent()
    assert lab.state_of("CS-x") is State.ARCHIVED


async def test_the_manifest_has_every_file(world: World, lab: Lab) -> None:
    directory = world.sample()
    await archived(lab)
    pages = lab.store.read(lambda view: list(view.manifest(1)))
    found = {
        os.fsdecode(os.path.join(page.directory, entry.name)) for page in pages for entry in page.entries
    }
    assert found == set(tree(directory)) - {"cs.lock", "project.json", "workspaces.json"}


async def test_in_place(world: World, lab: Lab) -> None:
    world.sample()
    before = (await archived(lab)).held
    project = await come_back(lab, "CS-x")
    assert (project.state, project.uid) == (State.ATTACHED, "P1")
    assert (project.held.lock_id, project.held.epoch) == (before.lock_id, before.epoch)
    written = json.loads((world.backing / "CS-x/project.json").read_bytes())
    assert written["archived"] is False
    assert lab.store.read(lambda view: list(view.manifest(1))) == []
    lab.check_consistent()
    lab.restart()
    lab.check_consistent()


async def test_twice(world: World, lab: Lab) -> None:
    world.small()
    project = await archived(lab)
    await come_back(lab, "CS-x")
    (world.backing / "CS-x/J1/new.mrc").write_bytes(b"new")
    await archive(lab.instance, project)
    os.unlink(world.backing / "CS-x/J1/new.mrc")
    with pytest.raises(Refusal) as caught:
        await come_back(lab, "CS-x")
    assert "J1/new.mrc is missing" in caught.value.detail


def rename(source: Path, target: Path) -> None:
    os.rename(source, target)


def copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    shutil.rmtree(source)


def tar(source: Path, target: Path) -> None:
    bundle = target.parent / "bundle.tar"
    subprocess.run(["tar", "-C", source, "-cf", bundle, "."], check=True)
    shutil.rmtree(source)
    target.mkdir()
    subprocess.run(["tar", "-C", target, "-xf", bundle], check=True)
    bundle.unlink()


ways = pytest.mark.parametrize("move", [rename, copy, tar])
Move = Callable[[Path, Path], None]


@ways
@pytest.mark.parametrize("restarted", [False, True])
async def test_at_a_new_place(world: World, lab: Lab, move: Move, restarted: bool) -> None:
    world.sample()
    await archived(lab)
    (world.backing / "group").mkdir()
    move(world.backing / "CS-x", world.backing / "group/CS-y")
    if restarted:
        lab.restart()
    assert lab.state_of("group/CS-y") is (State.ARCHIVED if move is rename else State.DETACHED)
    project = await come_back(lab, "group/CS-y")
    assert (project.state, project.uid) == (State.ATTACHED, "P1")
    assert lab.record(1).path == b"group/CS-y"
    assert lab.live_json(1)["project_dir"] == f"{MOUNTPOINT}/group/CS-y"
    written = json.loads((world.backing / "group/CS-y/project.json").read_bytes())
    assert (written["archived"], written["project_dir"]) == (False, f"{MOUNTPOINT}/group/CS-y")
    lab.check_consistent()
    lab.restart()
    lab.check_consistent()


@ways
async def test_away_and_back_in_its_old_place(world: World, lab: Lab, move: Move) -> None:
    world.small()
    await archived(lab)
    move(world.backing / "CS-x", world.directory / "tape")
    lab.restart()
    move(world.directory / "tape", world.backing / "CS-x")
    assert (await come_back(lab, "CS-x")).uid == "P1"
    lab.check_consistent()


async def test_a_copy_next_to_the_original_does_not_return(world: World, lab: Lab) -> None:
    world.small()
    await archived(lab)
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y", symlinks=True)
    project = lab.project("CS-y")
    assert (project.state, project.verdict.inert) == (State.DETACHED, True)
    assert await returning(lab.instance, project) is None
    assert (await come_back(lab, "CS-x")).state is State.ATTACHED
    assert await returning(lab.instance, lab.project("CS-y")) is None
    lab.check_consistent()


async def test_the_copy_returns_where_another_directory_has_taken_the_place(world: World, lab: Lab) -> None:
    world.small()
    await archived(lab)
    copy(world.backing / "CS-x", world.backing / "CS-y")
    world.small("CS-x")
    assert (await come_back(lab, "CS-y")).uid == "P1"
    lab.check_consistent()


async def test_the_copy_returns_where_the_inode_was_used_again(world: World, lab: Lab) -> None:
    """A new directory may get both the name and the inode number of one that was removed."""
    directory = world.small()
    await archived(lab)
    shutil.copytree(directory, world.backing / "CS-y", symlinks=True)
    for name in ("cs.lock", "project.json", "workspaces.json"):
        os.unlink(directory / name)
    shutil.rmtree(directory / "J1")
    assert (await come_back(lab, "CS-y")).uid == "P1"
    lab.check_consistent()


async def test_of_an_original_and_its_returned_copy_one_is_attached(world: World, lab: Lab) -> None:
    world.small()
    await archived(lab)
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y", symlinks=True)
    os.rename(world.backing / "CS-x", world.directory / "tape")
    await come_back(lab, "CS-y")
    os.rename(world.directory / "tape", world.backing / "CS-x")
    for _ in range(2):
        assert lab.state_of("CS-x") is State.DETACHED
        assert lab.state_of("CS-y") is State.ATTACHED
        assert await returning(lab.instance, lab.project("CS-x")) is None
        lab.check_consistent()
        lab.restart()


async def test_it_returns_to_its_own_instance_alone(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    await archived(lab)
    assert other.state_of("CS-x") is State.FOREIGN
    copy(world.backing / "CS-x", world.backing / "CS-y")
    project = other.project("CS-y")
    assert project.verdict.inert
    assert await returning(other.instance, project) is None
    assert await returning(lab.instance, lab.project("CS-y")) == lab.record(1)


async def test_an_older_copy_does_not_return(world: World, lab: Lab) -> None:
    """One made at an earlier archiving holds an earlier lock."""
    world.small()
    project = await archived(lab)
    shutil.copytree(world.backing / "CS-x", world.directory / "tape", symlinks=True)
    await come_back(lab, "CS-x")
    await archive(lab.instance, project)
    shutil.rmtree(world.backing / "CS-x")
    os.rename(world.directory / "tape", world.backing / "CS-y")
    assert await returning(lab.instance, lab.project("CS-y")) is None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda p: os.unlink(p / "J1/data.mrc"), "J1/data.mrc is missing"),
        (lambda p: os.truncate(p / "J1/data.mrc", 1), "J1/data.mrc had 4 bytes, has 1"),
        (lambda p: os.utime(p / "J1/data.mrc", ns=(0, 0)), "J1/data.mrc was modified"),
        (lambda p: shutil.rmtree(p / "J1"), "J1 is missing"),
        (lambda p: (p / "J1/job.json").unlink(), "J1/job.json is missing"),
    ],
)
@ways
async def test_what_is_not_whole_is_refused(
    world: World, lab: Lab, move: Move, damage: Callable[[Path], None], expected: str
) -> None:
    world.small()
    await archived(lab)
    move(world.backing / "CS-x", world.backing / "CS-y")
    damage(world.backing / "CS-y")
    before = lab.record(1)
    lock = (world.backing / "CS-y/cs.lock").read_bytes()
    with pytest.raises(Refusal) as caught:
        await come_back(lab, "CS-y")
    assert (caught.value.errno, caught.value.rule) == (errno.EIO, Rule.INCOMPLETE)
    assert caught.value.detail == expected
    assert lab.record(1) == before
    assert (world.backing / "CS-y/cs.lock").read_bytes() == lock
    assert lab.pending() == []
    project = await come_back(lab, "CS-y", accept_changes=True)
    assert (project.state, project.uid) == (State.ATTACHED, "P1")
    lab.check_consistent()
    await documents.export_all(lab.instance, project)
    for path in lab.paths(1):
        assert (world.backing / "CS-y" / path).read_bytes() == lab.live(1, path)


async def test_restored_it_is_accepted(world: World, lab: Lab) -> None:
    directory = world.small()
    await archived(lab)
    os.rename(directory / "J1", world.directory / "J1")
    with pytest.raises(Refusal, match="J1 is missing"):
        await come_back(lab, "CS-x")
    os.rename(world.directory / "J1", directory / "J1")
    assert (await come_back(lab, "CS-x")).state is State.ATTACHED


@pytest.mark.parametrize("name", ["project.json", "workspaces.json"])
@pytest.mark.parametrize("content", [None, b"not what the store has"])
async def test_documents_come_from_the_store(
    world: World, lab: Lab, name: str, content: bytes | None
) -> None:
    """They are not in the manifest: what the copy lacks of them, or has otherwise, is written anew."""
    directory = world.small()
    await archived(lab)
    os.unlink(directory / name)
    if content is not None:
        (directory / name).write_bytes(content)
    project = await come_back(lab, "CS-x")
    await documents.export_all(lab.instance, project)
    assert (directory / name).read_bytes() == lab.live(1, name)


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
async def test_an_active_job_keeps_it(world: World, lab: Lab, status: str) -> None:
    world.small()
    project = await lab.attach("CS-x")
    await lab.set_status(project, "J1", status)
    with pytest.raises(Refusal) as caught:
        await archive(lab.instance, project)
    assert caught.value.rule is Rule.ACTIVE_JOB
    lab.check_consistent()


async def test_an_open_writer_keeps_it(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    lab.instance.writers = lambda asked: ["vim (77)"]
    with pytest.raises(Refusal) as caught:
        await archive(lab.instance, project)
    assert caught.value.rule is Rule.OPEN_WRITER
    lab.instance.writers = lambda asked: []
    await archive(lab.instance, project)
    lab.instance.writers = lambda asked: ["vim (77)"]
    with pytest.raises(Refusal) as caught:
        await unarchive(lab.instance, project, project.held)
    assert caught.value.rule is Rule.OPEN_WRITER
    lab.check_consistent()


async def test_a_lost_lock_refuses(world: World, lab: Lab) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    os.unlink(directory / "cs.lock")
    with pytest.raises(Refusal) as caught:
        await archive(lab.instance, project)
    assert caught.value.rule is Rule.LOST
    assert project.state is State.LOST
    assert (lab.states(), lab.pending()) == ({"P1": "attached"}, [])
    assert lab.live_json(1)["archived"] is False
    assert not (directory / "cs.lock").exists()


async def test_a_manifest_that_cannot_be_made_leaves_it_attached(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    project = await lab.attach("CS-x")

    def fail(directory: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(module.manifest, "walk", fail)
        with pytest.raises(OSError, match="broken"):
            await archive(lab.instance, project)
    assert (project.state, project.transition) == (State.ATTACHED, "")
    assert lab.live_json(1)["archived"] is False
    lab.check_consistent()
    await archive(lab.instance, project)
    lab.check_consistent()


async def test_an_export_that_fails_after_unarchiving_is_made_up_for(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is attached by then: to report a failure would be wrong."""
    directory = world.small()
    await archived(lab)

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", full)
        project = await come_back(lab, "CS-x")
    assert project.state is State.ATTACHED
    await documents.export_all(lab.instance, project)
    assert json.loads((directory / "project.json").read_bytes())["archived"] is False
    lab.check_consistent()


async def test_a_lock_of_the_users_own_stays_as_it_is(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x", b"my own")
    await archive(lab.instance, project)
    assert (world.backing / "CS-x/cs.lock").read_bytes() == b"my own"
    assert lab.state_of("CS-x") is State.ARCHIVED
    await come_back(lab, "CS-x")
    assert (world.backing / "CS-x/cs.lock").read_bytes() == b"my own"
    lab.check_consistent()


async def test_held_back_documents_are_exported_with_it(world: World, lab: Lab) -> None:
    directory = world.small()
    add_job(directory, "J2", "failed")
    await archived(lab)
    assert json.loads((directory / "J2/job.json").read_bytes())["project_uid"] == "P1"
