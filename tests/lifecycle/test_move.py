"""Move and rename: one step, and store, lock and documents follow."""

import errno
import json
import os
from collections.abc import Sequence

import pytest

from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from csfs.lifecycle.move import move, projects_within
from csfs.lifecycle.project import Project
from csfs.lifecycle.unarchive import unarchive
from tests.lifecycle.world import MOUNTPOINT, Lab, World, tree


async def rename(lab: Lab, projects: Sequence[Project], old: str, new: str) -> None:
    async def act() -> None:
        os.rename(lab.backing / old, lab.backing / new)

    await move(lab.instance, projects, os.fsencode(old), os.fsencode(new), act)


async def test_a_project(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await lab.attach("CS-x")
    await documents.export_all(lab.instance, project)
    before = tree(directory)
    record = project.held
    (world.backing / "group").mkdir()
    await rename(lab, [project], "CS-x", "group/CS-y")
    moved = world.backing / "group/CS-y"
    assert not directory.exists()
    assert (project.state, project.uid, project.path) == (State.ATTACHED, "P1", b"group/CS-y")
    assert (project.held.lock_id, project.held.epoch) == (record.lock_id, record.epoch)
    assert lab.record(1) == project.held
    found = world.lock_of("group/CS-y")
    assert isinstance(found, Lock)
    assert found.path == "group/CS-y"
    written = json.loads((moved / "project.json").read_bytes())
    assert written["project_dir"] == f"{MOUNTPOINT}/group/CS-y"
    after = tree(moved)
    assert set(after) == set(before)
    assert {path for path in before if before[path] != after[path]} <= {"cs.lock", "project.json"}
    lab.check_consistent()
    lab.restart()
    lab.check_consistent()


async def test_a_container_with_two_projects(world: World, lab: Lab) -> None:
    for path in ("old/CS-a", "old/deep/CS-b", "CS-c", "older/CS-d"):
        world.small(path)
        await lab.attach(path)
    (world.backing / "old/plain").mkdir()
    projects = await projects_within(lab.instance, lab.directory("old"), b"old")
    assert {project.uid for project in projects} == {"P1", "P2"}
    await rename(lab, projects, "old", "new")
    assert {lab.record(number).path for number in (1, 2, 3, 4)} == {
        b"new/CS-a",
        b"new/deep/CS-b",
        b"CS-c",
        b"older/CS-d",
    }
    lab.check_consistent()
    lab.restart()
    lab.check_consistent()
    assert (world.backing / "new/plain").is_dir()


async def test_of_a_container_all_move_or_none(world: World, lab: Lab) -> None:
    for path in ("old/CS-a", "old/CS-b"):
        world.small(path)
        await lab.attach(path)
    busy = lab.project("old/CS-b")
    await lab.set_status(busy, "J1", "running")
    projects = await projects_within(lab.instance, lab.directory("old"), b"old")
    with pytest.raises(Refusal) as caught:
        await rename(lab, projects, "old", "new")
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.ACTIVE_JOB)
    assert {project.transition for project in projects} == {""}
    assert (world.backing / "old").exists()
    lab.check_consistent()


async def test_a_container_with_projects_of_all_kinds(world: World, lab: Lab) -> None:
    for path in ("old/CS-a", "old/CS-b", "old/CS-c"):
        world.small(path)
    await lab.attach("old/CS-a")
    await archive(lab.instance, await lab.attach("old/CS-b"))
    projects = await projects_within(lab.instance, lab.directory("old"), b"old")
    assert len(projects) == 3
    await rename(lab, projects, "old", "new")
    assert [lab.state_of(f"new/CS-{name}") for name in "abc"] == [
        State.ATTACHED,
        State.ARCHIVED,
        State.DETACHED,
    ]
    lab.check_consistent()


async def test_in_an_archived_project_nothing_is_written(world: World, lab: Lab) -> None:
    """Its directory may not even let its owner write."""
    directory = world.small()
    project = await lab.attach("CS-x")
    await archive(lab.instance, project)
    before = tree(directory)
    await rename(lab, [project], "CS-x", "CS-y")
    assert tree(world.backing / "CS-y") == before
    assert (project.state, lab.record(1).path) == (State.ARCHIVED, b"CS-y")
    lab.check_consistent()
    lab.restart()
    project = lab.project("CS-y")
    await unarchive(lab.instance, project, project.held)
    written = json.loads((world.backing / "CS-y/project.json").read_bytes())
    assert (written["project_dir"], written["archived"]) == (f"{MOUNTPOINT}/CS-y", False)


@pytest.mark.parametrize("status", ["queued", "launched", "started", "running", "waiting"])
async def test_an_active_job_keeps_it(world: World, lab: Lab, status: str) -> None:
    world.small()
    project = await lab.attach("CS-x")
    await lab.set_status(project, "J1", status)
    with pytest.raises(Refusal) as caught:
        await rename(lab, [project], "CS-x", "CS-y")
    assert caught.value.rule is Rule.ACTIVE_JOB
    assert (world.backing / "CS-x").exists()
    lab.check_consistent()


async def test_an_open_writer_keeps_it(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    lab.instance.writers = lambda asked: ["vim (77)"]
    with pytest.raises(Refusal) as caught:
        await rename(lab, [project], "CS-x", "CS-y")
    assert caught.value.rule is Rule.OPEN_WRITER
    lab.check_consistent()


async def test_one_of_another_instance_stays(world: World, lab: Lab, other: Lab) -> None:
    world.small("old/CS-a")
    world.small("old/CS-b")
    await lab.attach("old/CS-a")
    await other.attach("old/CS-b")
    projects = await projects_within(lab.instance, lab.directory("old"), b"old")
    with pytest.raises(Refusal) as caught:
        await rename(lab, projects, "old", "new")
    assert (caught.value.errno, caught.value.rule) == (errno.EPERM, Rule.FOREIGN_DIRECTORY)
    assert lab.pending() == []
    lab.check_consistent()
    other.check_consistent()


async def test_a_lost_one_stays(world: World, lab: Lab) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    os.unlink(directory / "cs.lock")
    with pytest.raises(Refusal) as caught:
        await rename(lab, [lab.project("CS-x")], "CS-x", "CS-y")
    assert (caught.value.errno, caught.value.rule) == (errno.EPERM, Rule.LOST)


async def test_a_rename_that_fails_changes_nothing(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    before, lock = project.held, (world.backing / "CS-x/cs.lock").read_bytes()
    (world.backing / "CS-y/full").mkdir(parents=True)
    with pytest.raises(OSError) as caught:
        await rename(lab, [project], "CS-x", "CS-y")
    assert caught.value.errno == errno.ENOTEMPTY
    assert (project.transition, project.path, project.held) == ("", b"CS-x", before)
    assert lab.record(1) == before
    assert (world.backing / "CS-x/cs.lock").read_bytes() == lock
    lab.check_consistent()


async def test_an_export_that_fails_does_not_make_it_a_failure(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has moved by then: to report a failure would be wrong."""
    world.small()
    project = await lab.attach("CS-x")

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", full)
        await rename(lab, [project], "CS-x", "CS-y")
    lab.check_consistent()
    await documents.export_all(lab.instance, project)
    written = json.loads((world.backing / "CS-y/project.json").read_bytes())
    assert written["project_dir"] == f"{MOUNTPOINT}/CS-y"


async def test_a_lock_of_the_users_own_moves_along(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x", b"my own")
    await rename(lab, [project], "CS-x", "CS-y")
    assert (world.backing / "CS-y/cs.lock").read_bytes() == b"my own"
    lab.check_consistent()


async def test_a_detached_one_moves_freely(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    await detach(lab.instance, project)
    before = tree(world.backing / "CS-x")
    await rename(lab, [project], "CS-x", "CS-y")
    assert tree(world.backing / "CS-y") == before
    assert project.path == b"CS-y"
    assert lab.state_of("CS-y") is State.DETACHED


async def test_there_and_back(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    await rename(lab, [project], "CS-x", "CS-y")
    await rename(lab, [project], "CS-y", "CS-x")
    assert lab.record(1).path == b"CS-x"
    lab.check_consistent()
