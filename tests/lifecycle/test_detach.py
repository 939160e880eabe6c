"""Detach: everything is on the backing directory before the lock goes, or nothing has changed."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from csfs.backing.export import Export
from csfs.domain.lock import Lock
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.detach import detach, let_go
from tests.lifecycle.world import JOBS, Lab, World, add_job, tree, without_identity


async def test_detach(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await lab.attach("CS-x")
    await detach(lab.instance, project)
    assert project.state is State.DETACHED
    assert project.record is None
    assert world.lock_of("CS-x") is None
    assert world.temporaries() == []
    written = json.loads((directory / "project.json").read_bytes())
    assert (written["detached"], written["archived"], written["uid"]) == (True, False, "P1")
    assert lab.states() == {"P1": "detached"}
    for path in lab.paths(1):
        assert (directory / path).read_bytes() == lab.live(1, path)
    assert lab.unexported(1) == set()
    lab.check_consistent()
    lab.restart()
    assert lab.state_of("CS-x") is State.DETACHED


async def test_there_and_back_only_identity_keys_change(world: World, lab: Lab) -> None:
    directory = world.sample()
    paths = ["project.json", "workspaces.json", *(f"{uid}/job.json" for uid in JOBS)]
    before = {path: (directory / path).read_bytes() for path in paths}
    others = {path: facts for path, facts in tree(directory).items() if path not in before}
    await detach(lab.instance, await lab.attach("CS-x"))
    for path, content in before.items():
        assert without_identity((directory / path).read_bytes()) == without_identity(content)
    assert {path: facts for path, facts in tree(directory).items() if path not in before} == others


async def test_what_its_status_held_back_is_exported(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await lab.attach("CS-x")
    await documents.export_all(lab.instance, project)
    assert lab.unexported(1) == {"J13/job.json", "J14/job.json"}
    assert json.loads((directory / "J13/job.json").read_bytes())["project_uid"] == "P9"
    await detach(lab.instance, project)
    assert json.loads((directory / "J13/job.json").read_bytes())["project_uid"] == "P1"


@pytest.mark.parametrize("status", ["queued", "launched", "started", "running", "waiting"])
async def test_an_active_job_keeps_it(world: World, lab: Lab, status: str) -> None:
    world.small()
    project = await lab.attach("CS-x")
    await lab.set_status(project, "J1", status)
    with pytest.raises(Refusal) as caught:
        await detach(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.ACTIVE_JOB)
    assert caught.value.detail == f"J1 is {status}"
    lab.check_consistent()
    await lab.set_status(project, "J1", "killed")
    await detach(lab.instance, project)
    assert lab.states() == {"P1": "detached"}


async def test_an_open_writer_keeps_it(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    lab.instance.writers = lambda asked: ["vim (77) J1/notes"] if asked is project else []
    with pytest.raises(Refusal) as caught:
        await detach(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.OPEN_WRITER)
    assert "vim (77)" in caught.value.detail
    assert project.state is State.ATTACHED
    lab.check_consistent()


async def test_another_action_keeps_it(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    project.transition = "move"
    with pytest.raises(Refusal) as caught:
        await detach(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.IN_TRANSITION)
    assert project.transition == "move"


async def test_an_export_that_fails_leaves_it_attached(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    live = lab.live(1, "project.json")
    lock = (directory / "cs.lock").read_bytes()

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", full)
        with pytest.raises(OSError) as caught:
            await detach(lab.instance, project)
    assert caught.value.errno == errno.ENOSPC
    assert (project.state, project.transition) == (State.ATTACHED, "")
    assert (directory / "cs.lock").read_bytes() == lock
    assert lab.live(1, "project.json") == live
    lab.check_consistent()
    await documents.edit(lab.instance, project, "project.json", live.replace(b"small", b"usable"))
    await detach(lab.instance, project)
    assert json.loads((directory / "project.json").read_bytes())["title"] == "usable"


async def test_an_export_that_fails_half_way_is_mended(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project.json that says `detached` may lie there already."""
    directory = world.small()
    for uid in ("J2", "J3"):
        add_job(directory, uid)
    project = await lab.attach("CS-x")
    for uid in ("J2", "J3"):
        await lab.set_status(project, uid, "running")
        await lab.set_status(project, uid, "killed")
    export, written = documents.export, []

    def sometimes(due: list[Export], confirm: Callable[[], None]) -> None:
        if any(each.name == b"job.json" for each in due):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        written.extend(each.content for each in due)
        export(due, confirm)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", sometimes)
        with pytest.raises(OSError, match="quota"):
            await detach(lab.instance, project)
    await documents.export_all(lab.instance, project, held_back=True)
    assert json.loads((directory / "project.json").read_bytes())["detached"] is False
    lab.check_consistent()


async def test_attached_by_a_second_instance(world: World, lab: Lab, other: Lab) -> None:
    directory = world.sample()
    await other.create("CS-another")
    project = await lab.attach("CS-x")
    edited = json.dumps({**lab.live_json(1), "title": "by lab1"}).encode()
    await documents.edit(lab.instance, project, "project.json", edited)
    await lab.set_status(project, "J3", "running")
    await lab.set_status(project, "J3", "killed")
    await detach(lab.instance, project)
    taken = await other.attach("CS-x")
    assert (taken.uid, taken.state) == ("P2", State.ATTACHED)
    assert taken.held.title == "by lab1"
    assert other.jobs(2)["J3"].status == "killed"
    for path in lab.paths(1):
        assert without_identity(other.live(2, path)) == without_identity(lab.live(1, path))
    assert lab.state_of("CS-x") is State.FOREIGN
    assert lab.states() == {"P1": "detached"}
    found = world.lock_of("CS-x")
    assert isinstance(found, Lock)
    assert found.instance_name == "lab2"
    other.check_consistent()
    lab.check_consistent()
    assert (directory / "J1/job.log").exists()


async def test_detached_and_attached_again_it_is_a_new_project(world: World, lab: Lab) -> None:
    world.small()
    await detach(lab.instance, await lab.attach("CS-x"))
    project = await lab.attach("CS-x")
    assert project.uid == "P2"
    assert lab.states() == {"P1": "detached", "P2": "attached"}
    assert lab.live_json(1)["uid"] == "P1"
    lab.check_consistent()


async def test_a_job_whose_directory_is_gone_does_not_keep_it(world: World, lab: Lab) -> None:
    """It was removed behind our back before its document was ever exported: that is still not lost."""
    directory = world.small()
    add_job(directory, "J2", "killed")
    project = await lab.attach("CS-x")
    os.unlink(directory / "J2/job.json")
    os.rmdir(directory / "J2")
    await detach(lab.instance, project)
    assert json.loads((directory / "J2/job.json").read_bytes())["uid"] == "J2"
    assert lab.states() == {"P1": "detached"}


# A lock that is not ours any more.


def remove(lock: Path) -> None:
    lock.unlink()


def replace_by_bytes(lock: Path) -> None:
    lock.unlink()
    lock.write_bytes(b"somebody else\n")


def replace_by_directory(lock: Path) -> None:
    lock.unlink()
    lock.mkdir()


def replace_by_symlink(lock: Path) -> None:
    lock.unlink()
    lock.symlink_to("project.json")


def replace_by_fifo(lock: Path) -> None:
    lock.unlink()
    os.mkfifo(lock)


THEFTS = [remove, replace_by_bytes, replace_by_directory, replace_by_symlink, replace_by_fifo]
thefts = pytest.mark.parametrize("steal", THEFTS, ids=lambda made: made.__name__)


@thefts
async def test_a_lock_lost_on_the_way_refuses(world: World, lab: Lab, steal: object) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    steal(directory / "cs.lock")  # type: ignore[operator]
    there = sorted(path.name for path in directory.iterdir())
    with pytest.raises(Refusal) as caught:
        await detach(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EROFS, Rule.LOST)
    assert caught.value.detail
    assert project.state is State.LOST
    assert project.held.uid == "P1"
    assert sorted(path.name for path in directory.iterdir()) == there
    assert lab.states() == {"P1": "attached"}
    assert (lab.pending(), project.transition) == ([], "")
    with pytest.raises(Refusal) as caught:
        project.refuse_change()
    assert caught.value.rule is Rule.LOST


@thefts
async def test_a_lost_project_can_be_let_go(world: World, lab: Lab, steal: object) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    live = lab.live(1, "J1/job.json")
    steal(directory / "cs.lock")  # type: ignore[operator]
    there = sorted(path.name for path in directory.iterdir())
    project = lab.project("CS-x")
    assert project.state is State.LOST
    await let_go(lab.instance, project)
    assert lab.states() == {"P1": "detached"}
    assert lab.live(1, "J1/job.json") == live
    expected = State.DETACHED if steal is remove else State.FOREIGN
    assert project.state is expected
    assert sorted(path.name for path in directory.iterdir()) == there
    lab.restart()
    assert lab.state_of("CS-x") is expected
    lab.check_consistent()


async def test_taken_by_another_instance_it_is_lost(world: World, lab: Lab, other: Lab) -> None:
    directory = world.small()
    await lab.attach("CS-x")
    os.unlink(directory / "cs.lock")
    await other.attach("CS-x")
    project = lab.project("CS-x")
    assert project.state is State.LOST
    assert "lab2" in project.verdict.owner
    lock = (directory / "cs.lock").read_bytes()
    await let_go(lab.instance, project)
    assert lab.state_of("CS-x") is State.FOREIGN
    assert (directory / "cs.lock").read_bytes() == lock
    other.check_consistent()


async def test_the_lock_of_another_project_of_ours_is_not_its_own(world: World, lab: Lab) -> None:
    """As after `rsync -a CS-a/ CS-b/` on the backing directory."""
    for name in ("CS-a", "CS-b"):
        world.small(name)
        await lab.attach(name)
    os.unlink(world.backing / "CS-b/cs.lock")
    (world.backing / "CS-b/cs.lock").write_bytes((world.backing / "CS-a/cs.lock").read_bytes())
    project = lab.project("CS-b")
    assert project.state is State.LOST
    assert project.held.uid == "P2"
    assert "copy" in project.verdict.reason
    assert lab.state_of("CS-a") is State.ATTACHED


async def test_an_older_lock_of_ours_is_not_the_one_we_hold(world: World, lab: Lab) -> None:
    """As after a restore of cs.lock alone."""
    directory = world.small()
    first = await lab.attach("CS-x")
    old = (directory / "cs.lock").read_bytes()
    await detach(lab.instance, first)
    await lab.attach("CS-x")
    os.unlink(directory / "cs.lock")
    (directory / "cs.lock").write_bytes(old)
    project = lab.project("CS-x")
    assert project.state is State.LOST
    assert project.held.uid == "P2"


async def test_a_lock_that_names_us_but_is_unknown(world: World, lab: Lab, other: Lab) -> None:
    """As after the store was lost: nobody may write there until it is recovered."""
    directory = world.small()
    found = await other.attach("CS-x")
    lock = world.lock_of("CS-x")
    assert isinstance(lock, Lock)
    forged = msgspec.structs.replace(lock, instance_uuid=lab.instance.identity.uuid)
    os.unlink(directory / "cs.lock")
    (directory / "cs.lock").write_bytes(forged.encode())
    assert found.uid == "P1"
    project = lab.project("CS-x")
    assert project.state is State.FOREIGN
    assert "does not know" in project.verdict.reason
