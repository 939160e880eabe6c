"""Attach: all of a project directory comes in, or nothing, and no lock stays behind a failure."""

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from csfs.backing import lockfile
from csfs.domain import document, names
from csfs.domain.lock import Lock, Opaque
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle import attach as module
from csfs.lifecycle import documents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from tests.lifecycle.world import JOBS, MOUNTPOINT, Lab, World, add_job, job, tree, without_identity


async def test_every_document_comes_in(world: World, lab: Lab) -> None:
    directory = world.sample()
    before = {
        path: (directory / path).read_bytes()
        for path in ("project.json", "workspaces.json", *(f"{uid}/job.json" for uid in JOBS))
    }
    project = await lab.attach("CS-x")
    assert (project.state, project.uid) == (State.ATTACHED, "P1")
    assert lab.paths(1) == set(before)
    for path, content in before.items():
        assert without_identity(lab.live(1, path)) == without_identity(content)
    assert set(lab.jobs(1)) == project.jobs == set(JOBS)
    lab.check_consistent()


async def test_a_document_changes_in_its_identity_keys_alone(world: World, lab: Lab) -> None:
    """Byte for byte: with the new values the old text is the new one."""
    directory = world.sample()
    before = {
        path: (directory / path).read_bytes() for path in ("workspaces.json", "J1/job.json", "J9/job.json")
    }
    await lab.attach("CS-x")
    for path, content in before.items():
        found = document.parse(content, documents.kind_of(path))
        assert lab.live(1, path) == found.rewritten({"project_uid": "P1", "project_uid_num": 1}).encode()


async def test_the_new_identity(world: World, lab: Lab) -> None:
    world.sample("group/CS-x")
    await lab.create("CS-other")
    await lab.attach("group/CS-x")
    live = lab.live_json(2)
    assert (live["uid"], live["uid_num"], live["archived"], live["detached"]) == ("P2", 2, False, False)
    assert live["project_dir"] == f"{MOUNTPOINT}/group/CS-x"
    for workspace in lab.live_json(2, "workspaces.json"):
        assert workspace["project_uid"] == "P2"
    for uid in JOBS:
        assert lab.live_json(2, f"{uid}/job.json")["project_uid"] == "P2"
    assert lab.record(2).title == live["title"]


async def test_data_is_not_touched(world: World, lab: Lab) -> None:
    directory = world.sample()
    before = tree(directory)
    await lab.attach("CS-x")
    after = tree(directory)
    assert set(after) - set(before) == {"cs.lock"}
    changed = {path for path in before if before[path] != after[path]}
    documents_of_jobs = {path for path in changed if path.endswith("/job.json")}
    assert changed - documents_of_jobs <= {"project.json", "workspaces.json"}
    assert world.temporaries() == []


async def test_documents_that_need_no_change_keep_their_mtime(world: World, lab: Lab) -> None:
    directory = world.small()
    content = json.dumps(job("J2", project_uid="P1", project_uid_num=1))
    (directory / "J2").mkdir()
    (directory / "J2/job.json").write_text(content)
    os.utime(directory / "J2/job.json", ns=(5, 1_600_000_000_123_456_789))
    project = await lab.attach("CS-x")
    found = documents.head(lab.instance, project, "J2/job.json")
    assert found is not None
    assert found.mtime_ns == 1_600_000_000_123_456_789
    assert lab.unexported(1) == set()


async def test_what_a_job_is(world: World, lab: Lab) -> None:
    world.sample()
    await lab.attach("CS-x")
    jobs = lab.jobs(1)
    assert jobs["J13"].status == "killed"
    assert jobs["J14"].status == "failed"
    assert jobs["J13"].parents == ("J12",)
    assert jobs["J12"].type
    assert all(found.attach_status == "complete" for found in jobs.values())
    assert all(found.type for found in jobs.values())


@pytest.mark.parametrize("status", ["queued", "launched", "started", "running", "waiting"])
async def test_a_job_that_was_active_elsewhere_is_killed(world: World, lab: Lab, status: str) -> None:
    file = add_job(world.small(), "J7", status)
    before = file.read_bytes()
    await lab.attach("CS-x")
    assert lab.jobs(1)["J7"].status == "killed"
    expected = {**json.loads(before), "status": "killed", "project_uid": "P1", "project_uid_num": 1}
    assert lab.live_json(1, "J7/job.json") == expected
    assert file.read_bytes() == before


@pytest.mark.parametrize("status", ["building", "completed", "killed", "failed", "a later one", ""])
async def test_other_statuses_stay(world: World, lab: Lab, status: str) -> None:
    add_job(world.small(), "J7", status)
    await lab.attach("CS-x")
    assert lab.jobs(1)["J7"].status == status


def broken_json(path: Path) -> None:
    path.write_bytes(b'{"uid": "J7", ')


def not_utf8(path: Path) -> None:
    path.write_bytes(b'{"uid": "\xff"}')


def an_array(path: Path) -> None:
    path.write_bytes(b"[]")


def too_deep(path: Path) -> None:
    path.write_bytes(b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_symlink(path: Path) -> None:
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def huge(path: Path) -> None:
    os.truncate(path, 1 << 40)


DAMAGES: list[Callable[[Path], None]] = [
    *(broken_json, not_utf8, an_array, too_deep, empty),
    *(a_symlink, a_fifo, a_directory, huge),
]
damages = pytest.mark.parametrize("damage", DAMAGES, ids=lambda made: made.__name__)


@damages
async def test_a_broken_job_is_a_placeholder_and_its_file_stays(
    world: World, lab: Lab, damage: Callable[[Path], None]
) -> None:
    directory = world.small()
    file = add_job(directory, "J7")
    damage(file)
    before = file.lstat()
    project = await lab.attach("CS-x")
    broken = lab.jobs(1)["J7"]
    assert (broken.attach_status, broken.status) == ("failed", "")
    assert lab.jobs(1)["J1"].attach_status == "complete"
    assert "J7/job.json" not in lab.paths(1)
    assert project.jobs == {"J1", "J7"}
    await documents.export_all(lab.instance, project, held_back=True)
    await detach(lab.instance, project)
    after = file.lstat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_size,
    )


@damages
@pytest.mark.parametrize("name", ["project.json", "workspaces.json"])
async def test_a_broken_project_refuses_and_leaves_no_trace(
    world: World, lab: Lab, name: str, damage: Callable[[Path], None]
) -> None:
    directory = world.small()
    if not (damage is an_array and name == "workspaces.json"):
        damage(directory / name)
    else:
        (directory / name).write_bytes(b"{}")
    before = os.lstat(directory / name)
    with pytest.raises(Refusal) as caught:
        await lab.attach("CS-x")
    assert caught.value.errno == errno.EINVAL
    assert caught.value.rule is Rule.BAD_DOCUMENT
    assert caught.value.detail.startswith(f"{name}: ")
    assert world.lock_of("CS-x") is None
    assert world.temporaries() == []
    assert os.lstat(directory / name).st_ino == before.st_ino
    assert (lab.states(), lab.pending(), lab.paths(1)) == ({}, [], set())
    assert lab.state_of("CS-x") is State.DETACHED


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("project.json", b'{\n  "uid": "P9",\n  "title" "x"\n}', "line 3 column 11"),
        ("project.json", b'{"uid": "P9", "uid": "P8"}', "line 1 column 22"),
        ("workspaces.json", b'[\n  {"uid": "W1"},\n  {"uid": W2}\n]', "line 3 column 11"),
    ],
)
async def test_where_a_document_is_broken_is_told(
    world: World, lab: Lab, name: str, content: bytes, where: str
) -> None:
    (world.small() / name).write_bytes(content)
    with pytest.raises(Refusal) as caught:
        await lab.attach("CS-x")
    assert where in caught.value.detail


async def test_after_a_refusal_it_can_be_mended_and_attached(world: World, lab: Lab) -> None:
    directory = world.small()
    good = (directory / "project.json").read_bytes()
    broken_json(directory / "project.json")
    with pytest.raises(Refusal):
        await lab.attach("CS-x")
    (directory / "project.json").write_bytes(good)
    assert (await lab.attach("CS-x")).state is State.ATTACHED
    lab.check_consistent()


async def test_a_project_without_workspaces_gets_one(world: World, lab: Lab) -> None:
    """As before v4."""
    directory = world.small()
    (directory / "workspaces.json").unlink()
    await lab.attach("CS-x")
    (workspace,) = json.loads((directory / "workspaces.json").read_bytes())
    assert (workspace["uid"], workspace["project_uid"]) == ("W1", "P1")


@pytest.mark.parametrize("content", [b"[]", b"[ ]\n"])
async def test_no_workspaces_stay_none(world: World, lab: Lab, content: bytes) -> None:
    directory = world.small()
    (directory / "workspaces.json").write_bytes(content)
    await lab.attach("CS-x")
    assert (directory / "workspaces.json").read_bytes() == content


async def test_the_poorest_project(world: World, lab: Lab) -> None:
    directory = world.backing / "CS-x"
    directory.mkdir()
    (directory / "project.json").write_bytes(b"{}")
    project = await lab.attach("CS-x")
    assert json.loads((directory / "project.json").read_bytes()) == {"uid": "P1"}
    await detach(lab.instance, project)
    assert json.loads((directory / "project.json").read_bytes()) == {"uid": "P1", "detached": True}


@pytest.mark.parametrize("value", ["5", "null", '{"a": 1}', '"a\\ud800b"', "9" * 600, "NaN"])
@pytest.mark.parametrize("key", ["title", "status", "type", "job_type", "spec", "parents", "workspace_uids"])
async def test_values_of_other_types_than_expected_do_no_harm(
    world: World, lab: Lab, key: str, value: str
) -> None:
    directory = world.small()
    text = f'{{"uid": "J7", "{key}": {value}}}'
    (directory / "J7").mkdir()
    (directory / "J7/job.json").write_text(text)
    (directory / "project.json").write_text(f'{{"uid": "P9", "{key}": {value}}}')
    await lab.attach("CS-x")
    assert lab.live(1, "J7/job.json").decode() == text
    assert lab.jobs(1)["J7"].attach_status == "complete"


@pytest.mark.parametrize("kind", ['"type": "T"', '"type": 5', '"type": null', '"type": "a\\udfff"', ""])
async def test_the_type_of_a_v5_job(world: World, lab: Lab, kind: str) -> None:
    directory = world.small()
    (directory / "J7").mkdir()
    (directory / "J7/job.json").write_text(f'{{"uid": "J7", "spec": {{{kind}}}}}')
    await lab.attach("CS-x")
    assert lab.jobs(1)["J7"].type == {'"type": "T"': "T", '"type": "a\\udfff"': "a\\udfff"}.get(kind, "")


async def test_bytes_of_the_users_own_are_the_lock(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    await lab.attach("CS-x", b"\x00 mine \xff")
    assert world.lock_of("CS-x") == Opaque(b"\x00 mine \xff")
    assert lab.state_of("CS-x") is State.ATTACHED
    assert other.state_of("CS-x") is State.FOREIGN


async def test_of_two_instances_one_gets_it(world: World, lab: Lab, other: Lab) -> None:
    world.sample()
    outcomes: dict[str, Refusal | None] = {}

    async def attach(which: Lab) -> None:
        try:
            await which.attach("CS-x")
        except Refusal as refusal:
            outcomes[which.name] = refusal
        else:
            outcomes[which.name] = None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attach, lab)
        nursery.start_soon(attach, other)
    (winner,) = [name for name, refusal in outcomes.items() if refusal is None]
    (refusal,) = [refusal for refusal in outcomes.values() if refusal is not None]
    assert (refusal.errno, refusal.rule) == (errno.EROFS, Rule.FOREIGN)
    found = world.lock_of("CS-x")
    assert isinstance(found, Lock)
    assert found.instance_name == winner
    for which in (lab, other):
        mine = which.name == winner
        assert which.states() == ({"P1": "attached"} if mine else {})
        assert which.state_of("CS-x") is (State.ATTACHED if mine else State.FOREIGN)
        which.check_consistent()


async def test_a_project_inside_is_refused(world: World, lab: Lab) -> None:
    directory = world.small()
    (directory / "imports/inner").mkdir(parents=True)
    (directory / "imports/inner/project.json").write_bytes(b"{}")
    with pytest.raises(Refusal) as caught:
        await lab.attach("CS-x")
    assert (caught.value.errno, caught.value.rule) == (errno.EPERM, Rule.NESTED)
    assert "imports/inner" in caught.value.detail
    assert world.lock_of("CS-x") is None
    assert lab.states() == {}


async def test_a_disk_that_cannot_be_read_leaves_no_lock(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()

    def fail(directory: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(module.contents, "jobs", fail)
        with pytest.raises(OSError, match="broken"):
            await lab.attach("CS-x")
    assert world.lock_of("CS-x") is None
    assert (lab.states(), lab.pending(), lab.paths(1)) == ({}, [], set())
    assert (await lab.attach("CS-x")).uid == "P2"


async def test_an_export_that_fails_is_made_up_for(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = world.small()
    before = (directory / "project.json").read_bytes()

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", full)
        project = await lab.attach("CS-x")
    assert project.state is State.ATTACHED
    assert (directory / "project.json").read_bytes() == before
    assert lab.unexported(1) == {"project.json", "workspaces.json", "J1/job.json"}
    await documents.export_all(lab.instance, project)
    assert json.loads((directory / "project.json").read_bytes())["uid"] == "P1"
    assert lab.unexported(1) == set()


async def test_each_attach_is_a_new_claim_with_a_greater_epoch(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    epochs, ids = [], set()
    for which in (lab, other, lab):
        project = await which.attach("CS-x")
        epochs.append(project.held.epoch)
        ids.add(project.held.lock_id)
        await detach(which.instance, project)
    assert epochs[0] < epochs[2]
    assert epochs == sorted(epochs)
    assert len(ids) == 3


async def test_the_epoch_grows_although_the_clock_was_set_back(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    first = await lab.attach("CS-x")
    before = first.held.epoch
    await detach(lab.instance, first)
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert (await lab.attach("CS-x")).held.epoch == before + 1


async def test_a_project_whose_lock_was_removed_elsewhere_is_attached_as_new(world: World, lab: Lab) -> None:
    """It was moved behind our back, too, so it is no longer the lost one."""
    world.small("CS-x")
    await lab.attach("CS-x")
    os.unlink(world.backing / "CS-x/cs.lock")
    os.rename(world.backing / "CS-x", world.backing / "CS-y")
    project = await lab.attach("CS-y")
    assert project.uid == "P2"
    assert lab.states() == {"P1": "detached", "P2": "attached"}
    assert lab.instance.claims.by_number[1] == lab.record(1)
    lab.check_consistent()
    lab.restart()
    assert lab.project("CS-y").uid == "P2"
    lab.check_consistent()


async def test_an_archived_project_stays_so_when_its_inode_is_used_again(world: World, lab: Lab) -> None:
    """It is away; the filesystem gave the number of its directory to another one."""
    directory = world.small("CS-x")
    await archive(lab.instance, await lab.attach("CS-x"))
    os.rename(directory / "J1", world.directory / "J1")
    for name in ("cs.lock", *names.PROJECT_DOCUMENTS):
        os.rename(directory / name, world.directory / name)
    (directory / "project.json").write_bytes(b'{"uid": "P77", "title": "another"}')
    project = await lab.attach("CS-x")
    assert project.uid == "P2"
    assert lab.states() == {"P1": "archived", "P2": "attached"}
    lab.restart()
    assert lab.project("CS-x").uid == "P2"


async def test_directories_without_a_document_do_not_end_the_import(world: World, lab: Lab) -> None:
    """More of them in a row than are read in one go."""
    directory = world.small()
    for number in range(2, 300):
        (directory / f"J{number}").mkdir()
    add_job(directory, "J300")
    await lab.attach("CS-x")
    assert set(lab.jobs(1)) == {"J1", "J300"}


@pytest.mark.parametrize("empty", [False, True], ids=["attach", "create"])
async def test_another_has_had_it_since_the_attach_began(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch, empty: bool
) -> None:
    """The daemon was stopped before it took the lock: its epoch is too small, its directory not empty."""
    directory = world.backing / "CS-x"
    take = lockfile.take

    def late(*arguments: Any, **more: Any) -> None:
        (directory / "new").write_text('{"uid": "P9", "uid_num": 9, "title": "theirs"}')
        (directory / "new").rename(directory / "project.json")
        take(*arguments, **more)

    monkeypatch.setattr(lockfile, "take", late)
    if not empty:
        world.small()
    with pytest.raises(Refusal) as caught:
        await (lab.create("CS-x") if empty else lab.attach("CS-x"))
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.IN_TRANSITION)
    assert not (directory / "cs.lock").exists()
    assert json.loads((directory / "project.json").read_text())["title"] == "theirs"
    assert (lab.states(), lab.pending()) == ({}, [])
    monkeypatch.undo()
    assert (await lab.attach("CS-x")).held.title == "theirs"
