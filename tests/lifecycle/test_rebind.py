"""Rebind: the directory of an attached project was restored in place, so its lock is bound anew."""

import errno
import json
import os
import shutil

import pytest

from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.rebind import rebind
from tests.lifecycle.world import Lab, World


def restore(world: World, *, keep: bool = False) -> None:
    """The directory is another one, with what a backup had of the old."""
    directory = world.backing / "CS-x"
    os.rename(directory, world.backing / "CS-x.broken")
    shutil.copytree(world.backing / "CS-x.broken", directory, symlinks=True)
    if not keep:
        shutil.rmtree(world.backing / "CS-x.broken")


async def test_rebind(world: World, lab: Lab) -> None:
    world.small()
    before = (await lab.attach("CS-x")).held
    restore(world)
    project = lab.project("CS-x")
    assert (project.state, project.verdict.rebind) == (State.ATTACHED, True)
    await rebind(lab.instance, project)
    assert (project.state, project.verdict.rebind) == (State.ATTACHED, False)
    record = lab.record(1)
    assert record.inode == (world.backing / "CS-x").stat().st_ino != before.inode
    assert (record.lock_id, record.epoch) == (before.lock_id, before.epoch)
    found = world.lock_of("CS-x")
    assert isinstance(found, Lock)
    assert found.inode == record.inode
    lab.check_consistent()
    lab.restart()
    lab.check_consistent()


async def test_the_live_documents_are_written_over_the_restored_ones(world: World, lab: Lab) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    shutil.copytree(directory, world.directory / "backup", symlinks=True)
    content = json.dumps({**lab.live_json(1), "title": "since the backup"}).encode()
    await documents.edit(lab.instance, project, "project.json", content)
    shutil.rmtree(directory)
    shutil.copytree(world.directory / "backup", directory, symlinks=True)
    project = lab.project("CS-x")
    await rebind(lab.instance, project)
    await documents.export_all(lab.instance, project)
    assert (directory / "project.json").read_bytes() == content
    for path in lab.paths(1):
        assert (directory / path).read_bytes() == lab.live(1, path)


async def test_the_broken_one_put_aside_owns_nothing_any_more(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    restore(world, keep=True)
    await rebind(lab.instance, lab.project("CS-x"))
    for _ in range(2):
        aside = lab.project("CS-x.broken")
        assert (aside.state, aside.verdict.inert, aside.record) == (State.DETACHED, True, None)
        assert lab.state_of("CS-x") is State.ATTACHED
        lab.check_consistent()
        lab.restart()


async def test_cut_short_it_is_done_again(world: World, lab: Lab) -> None:
    """The lock is bound anew, but the store was not told."""
    world.small()
    project = await lab.attach("CS-x")
    restore(world)
    project = lab.project("CS-x")
    after = lab.instance.relocked(project.held, project.directory, b"CS-x", archived=False)
    os.unlink(world.backing / "CS-x/cs.lock")
    (world.backing / "CS-x/cs.lock").write_bytes(after.lock_content)
    lab.restart()
    project = lab.project("CS-x")
    assert (project.state, project.verdict.rebind) == (State.ATTACHED, True)
    await rebind(lab.instance, project)
    assert project.verdict.rebind is False
    lab.check_consistent()


async def test_a_copy_elsewhere_is_not_bound(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y", symlinks=True)
    copy = lab.project("CS-y")
    assert (copy.state, copy.verdict.rebind, copy.verdict.inert) == (State.DETACHED, False, True)
    lab.check_consistent()


async def test_one_that_was_replaced_meanwhile_is_left_alone(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    restore(world)
    project = lab.project("CS-x")
    os.unlink(world.backing / "CS-x/cs.lock")
    (world.backing / "CS-x/cs.lock").write_bytes(b"theirs")
    with pytest.raises(Refusal) as caught:
        await rebind(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EROFS, Rule.LOST)
    assert (world.backing / "CS-x/cs.lock").read_bytes() == b"theirs"


async def test_an_attached_project_that_was_moved_on_the_backing_directory(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    (world.backing / "elsewhere").mkdir()
    os.rename(world.backing / "CS-x", world.backing / "elsewhere/CS-y")
    project = lab.project("elsewhere/CS-y")
    assert (project.state, project.verdict.rebind) == (State.ATTACHED, True)
    await rebind(lab.instance, project)
    assert lab.record(1).path == b"elsewhere/CS-y"
    await documents.export_all(lab.instance, project)
    lab.check_consistent()
    document = json.loads((world.backing / "elsewhere/CS-y/project.json").read_bytes())
    assert document["project_dir"].endswith("/elsewhere/CS-y")
    assert not project.verdict.rebind
