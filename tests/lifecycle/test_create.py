"""Create: an empty directory becomes a project."""

import json
import os
import stat

import pytest

from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.create import create
from tests.lifecycle.world import MOUNTPOINT, Lab, World


async def test_create(world: World, lab: Lab) -> None:
    project = await lab.create("group/CS-x")
    directory = world.backing / "group/CS-x"
    assert sorted(path.name for path in directory.iterdir()) == ["cs.lock", "project.json", "workspaces.json"]
    assert (project.state, project.uid) == (State.ATTACHED, "P1")
    written = json.loads((directory / "project.json").read_bytes())
    assert written["uid"] == "P1"
    assert written["uid_num"] == 1
    assert written["title"] == "CS-x"
    assert written["project_dir"] == f"{MOUNTPOINT}/group/CS-x"
    assert (written["archived"], written["detached"]) == (False, False)
    (workspace,) = json.loads((directory / "workspaces.json").read_bytes())
    assert (workspace["uid"], workspace["project_uid"], workspace["project_uid_num"]) == ("W1", "P1", 1)
    assert lab.unexported(1) == set()
    lab.check_consistent()


async def test_the_lock_says_who_holds_what(world: World, lab: Lab) -> None:
    project = await lab.create("CS-x")
    found = world.lock_of("CS-x")
    assert isinstance(found, Lock)
    assert found.instance_uuid == lab.instance.identity.uuid
    assert found.instance_name == "lab1"
    assert (found.project_uid, found.project_uuid) == ("P1", project.held.uuid)
    assert found.inode == (world.backing / "CS-x").stat().st_ino
    assert (found.path, found.state) == ("CS-x", "attached")
    assert found.epoch > 0
    assert stat.S_IMODE((world.backing / "CS-x/cs.lock").stat().st_mode) == 0o444


async def test_numbers_grow(lab: Lab) -> None:
    assert [(await lab.create(f"CS-{number}")).uid for number in range(3)] == ["P1", "P2", "P3"]
    lab.restart()
    assert (await lab.create("CS-3")).uid == "P4"
    lab.check_consistent()


async def test_bytes_of_the_users_own_are_kept(world: World, lab: Lab) -> None:
    project = await lab.create("CS-x", b"made by hand \xff\n")
    assert (world.backing / "CS-x/cs.lock").read_bytes() == b"made by hand \xff\n"
    assert project.state is State.ATTACHED
    lab.restart()
    assert lab.state_of("CS-x") is State.ATTACHED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
async def test_files_belong_to_the_owner_of_the_directory(world: World, lab: Lab) -> None:
    (world.backing / "CS-x").mkdir()
    os.chown(world.backing / "CS-x", 4711, 4712)
    await create(lab.instance, lab.directory("CS-x"), b"CS-x", None)
    for name in ("cs.lock", "project.json", "workspaces.json"):
        found = (world.backing / "CS-x" / name).stat()
        assert (found.st_uid, found.st_gid) == (4711, 4712)


async def test_a_directory_name_that_is_no_text(world: World, lab: Lab) -> None:
    path = os.fsdecode(b"CS-\xff\xfe")
    await lab.create(path)
    assert lab.record(1).title == "CS-\\udcff\\udcfe"
    assert lab.record(1).path == b"CS-\xff\xfe"
    lab.restart()
    lab.check_consistent()


async def test_another_was_quicker(world: World, lab: Lab, other: Lab) -> None:
    await other.create("CS-x")
    with pytest.raises(Refusal) as caught:
        await create(lab.instance, lab.directory("CS-x"), b"CS-x", None)
    assert caught.value.rule is Rule.FOREIGN
    assert "lab2 (P1)" in caught.value.detail
    assert lab.states() == {}
    assert lab.pending() == []
    assert other.state_of("CS-x") is State.ATTACHED
    assert lab.state_of("CS-x") is State.FOREIGN


async def test_a_store_that_fails_leaves_no_lock(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.backing / "CS-x").mkdir()

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(documents, "store_document", fail)
    with pytest.raises(OSError, match="No space left"):
        await create(lab.instance, lab.directory("CS-x"), b"CS-x", None)
    assert list((world.backing / "CS-x").iterdir()) == []
    assert (lab.states(), lab.pending()) == ({}, [])
    assert lab.state_of("CS-x") is State.PLAIN
