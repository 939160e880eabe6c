"""Recover: a store that is lost comes back from the locks, with a backup also what these cannot tell."""

import json
import os
import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from csfs.backing import contents
from csfs.domain import lock, names
from csfs.domain.state import State
from csfs.lifecycle import intents
from csfs.lifecycle import recover as recover_module
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.move import move
from csfs.lifecycle.recover import RECOVERING, Report, Wanted, recover
from csfs.lifecycle.survey import CannotRecover
from csfs.lifecycle.unarchive import unarchive
from csfs.store import backup
from csfs.store.records import Intent
from csfs.store.store import Damaged, View
from tests.lifecycle.world import Lab, World, add_job, tree

NAME = "lab1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The state directory of the instance."""
    return tmp_path / "state" / NAME


@pytest.fixture
def lab(world: World, home: Path) -> Lab:
    made = Lab(NAME, world.backing, home / "store")
    world.labs.append(made)
    return made


def wanted(lab: Lab, **more: object) -> Wanted:
    return Wanted({b"": os.fspath(lab.backing)}, lab.state.parent, NAME, **more)  # type: ignore[arg-type]


def back_up(lab: Lab) -> Path:
    path = lab.state.parent / f"backup-{uuid.uuid4().hex}.mdb"
    return backup.make(lab.store, path).path


def lose(lab: Lab) -> None:
    lab.close()
    shutil.rmtree(lab.state)


async def recovered(lab: Lab, **more: object) -> Report:
    """Recovers the store of a lab that is closed, and opens it. The backing directory stays as it is."""
    before = tree(lab.backing)
    report = await recover(wanted(lab, **more))
    assert tree(lab.backing) == before
    lab._open()
    await intents.settle(lab.instance)
    return report


def held(lab: Lab, number: int) -> dict[str, object]:
    """What the store has of a project; its lock and its record may differ by a millisecond in `since`."""

    def look(view: View) -> dict[str, object]:
        record = view.project(number)
        return {
            "project": msgspec.structs.replace(record, since="") if record is not None else None,
            "documents": {path: view.document(number, path) for path in view.paths(number)},
            "jobs": {each.uid: each for each in view.jobs(number)},
            "unexported": view.unexported(number),
            "manifest": list(view.manifest(number)),
        }

    return lab.store.read(look)


def everything(lab: Lab) -> dict[int, dict[str, object]]:
    return {record.number: held(lab, record.number) for record in lab.store.read(View.projects)}


async def archived(lab: Lab, path: str) -> None:
    await lab.attach(path)
    await archive(lab.instance, lab.project(path))


async def populate(world: World, lab: Lab) -> None:
    """P1 attached with jobs, P2 archived, P3 detached, P4 archived and away, P5 created."""
    world.sample("CS-a")
    await lab.attach("CS-a")
    for name in ("b", "c", "d"):
        world.small(f"group/CS-{name}")
    await archived(lab, "group/CS-b")
    await lab.attach("group/CS-c")
    await detach(lab.instance, lab.project("group/CS-c"))
    await archived(lab, "group/CS-d")
    shutil.move(world.backing / "group/CS-d", world.directory / "away")
    await lab.create("CS-e")


# From the locks alone.


async def test_attached_and_archived_come_back_as_they_were(world: World, lab: Lab) -> None:
    await populate(world, lab)
    before, identity = everything(lab), lab.store.read(View.instance)
    lose(lab)
    report = await recovered(lab)
    after = everything(lab)
    assert after.keys() == {1, 2, 5}
    for number in after:
        assert after[number] == before[number]
    assert lab.states() == {"P1": "attached", "P2": "archived", "P5": "attached"}
    assert lab.instance.identity.uuid == report.uuid == identity.uuid
    assert lab.instance.identity.next_project == report.next_project == identity.next_project == 6
    lab.check_consistent()
    assert [lab.state_of(path) for path in ("CS-a", "group/CS-b", "group/CS-c")] == [
        "attached",
        "archived",
        "detached",
    ]
    assert (await lab.create("CS-new")).uid == "P6"


async def test_of_an_archived_one_the_manifest_is_taken_now(world: World, lab: Lab) -> None:
    world.small()
    await archived(lab, "CS-x")
    lose(lab)
    report = await recovered(lab)
    assert "taken now" in report.projects[0].notes[0]
    project = lab.project("CS-x")
    await unarchive(lab.instance, project, project.held)
    assert lab.state_of("CS-x") is State.ATTACHED
    lab.check_consistent()


async def test_never_exported_jobs_are_listed(world: World, lab: Lab) -> None:
    project = world.small()
    for uid in ("J2", "J3", "J4", "J5"):
        add_job(project, uid, "building")
    (project / "J6").mkdir()
    attached = await lab.attach("CS-x")
    for uid, status in (("J2", "queued"), ("J3", "failed"), ("J5", "completed")):
        await lab.set_status(attached, uid, status)
    lose(lab)
    report = await recovered(lab)
    found = {each.job: each.why for each in report.projects[0].never_exported}
    assert found.keys() == {"J2", "J3", "J4", "J6"}
    assert "was queued in its job.json" in found["J2"]
    assert "job.json" in found["J6"]
    jobs = lab.jobs(1)
    statuses = {uid: each.status for uid, each in jobs.items()}
    assert statuses == {
        "J1": "completed",
        "J2": "killed",
        "J3": "building",
        "J4": "building",
        "J5": "completed",
    }
    assert lab.live_json(1, "J2/job.json")["status"] == "killed"


async def test_a_directory_that_was_moved_meanwhile_is_found(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    (world.backing / "elsewhere").mkdir()
    lose(lab)
    (world.backing / "CS-x").rename(world.backing / "elsewhere" / "CS-y")
    await recovered(lab)
    assert lab.record(1).path == b"elsewhere/CS-y"
    assert lab.state_of("elsewhere/CS-y") is State.ATTACHED


async def test_a_project_that_is_the_backing_directory_itself(world: World, lab: Lab) -> None:
    (world.backing / "project.json").write_text('{"uid": "P9", "title": "top"}')
    await lab.attach("")
    lose(lab)
    report = await recovered(lab)
    assert [each.path for each in report.projects] == ["."]
    assert lab.state_of("") is State.ATTACHED


async def test_symlinks_are_not_followed(world: World, lab: Lab, tmp_path: Path) -> None:
    world.small()
    await lab.attach("CS-x")
    (world.backing / "link").symlink_to(world.backing / "CS-x")
    (tmp_path / "outside").mkdir()
    (world.backing / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "cs.lock").write_bytes((world.backing / "CS-x/cs.lock").read_bytes())
    lose(lab)
    report = await recovered(lab)
    assert [each.path for each in report.projects] == ["CS-x"]
    assert report.passed_over == []


async def test_inert_copies_are_reported_and_their_numbers_stay_taken(world: World, lab: Lab) -> None:
    world.small("CS-x")
    world.small("CS-y")
    await lab.attach("CS-x")
    await lab.attach("CS-y")
    shutil.copytree(world.backing / "CS-y", world.backing / "copy")
    shutil.rmtree(world.backing / "CS-y")
    lose(lab)
    report = await recovered(lab)
    assert [each.uid for each in report.projects] == ["P1"]
    assert [(each.path, each.uid) for each in report.passed_over] == [("copy", "P2")]
    assert lab.state_of("copy") is State.DETACHED
    assert (await lab.create("CS-new")).uid == "P3"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"next_project": 40, "heartbeat": 7}', 40),
        (b'{"next_project": 1}', 2),
        (b'{"next_project": "x"}', 2),
        (b'{"next_project": true}', 2),
        (b'{"next_project": 99999999999999999999999}', 2),
        (b"[1]", 2),
        (b"{ half", 2),
    ],
)
async def test_the_number_noted_by_the_last_mount_counts(
    world: World, lab: Lab, content: bytes, expected: int
) -> None:
    world.small()
    await lab.attach("CS-x")
    sessions = world.backing / ".csfs" / "sessions"
    sessions.mkdir(parents=True)
    (sessions / f"{lab.instance.identity.uuid}.json").write_bytes(content)
    lose(lab)
    report = await recovered(lab)
    assert report.next_project == lab.instance.identity.next_project == expected


async def test_a_number_in_a_document_counts(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    copy = world.backing / "copy"
    shutil.copytree(world.backing / "CS-x", copy)
    content = json.loads((copy / "project.json").read_text())
    (copy / "project.json").write_text(json.dumps({**content, "uid": "P30", "uid_num": 30}))
    lose(lab)
    assert (await recovered(lab)).next_project == 31


async def test_what_another_instance_holds_is_left_to_it(world: World, lab: Lab) -> None:
    other = world.lab("lab2")
    world.small("CS-x")
    world.small("CS-y")
    await lab.attach("CS-x")
    await other.attach("CS-y")
    lose(lab)
    report = await recovered(lab)
    assert [each.path for each in report.projects] == ["CS-x"]
    assert lab.state_of("CS-y") is State.FOREIGN
    assert other.state_of("CS-y") is State.ATTACHED


def forge(path: Path, **changes: object) -> None:
    found = lock.parse((path / names.LOCK).read_bytes())
    assert isinstance(found, lock.Lock)
    (path / names.LOCK).unlink()
    (path / names.LOCK).write_bytes(msgspec.structs.replace(found, **changes).encode())


async def test_of_two_with_one_number_the_later_wins(world: World, lab: Lab) -> None:
    world.small("CS-x")
    world.small("CS-y")
    await lab.attach("CS-x")
    later = await lab.attach("CS-y")
    forge(world.backing / "CS-y", project_uid="P1", epoch=later.held.epoch + 1000)
    lose(lab)
    report = await recovered(lab)
    assert [each.path for each in report.projects] == ["CS-y"]
    assert [each.path for each in report.passed_over] == ["CS-x"]
    assert lab.state_of("CS-y") is State.ATTACHED
    assert lab.state_of("CS-x") is State.FOREIGN
    assert (await lab.create("CS-new")).uid == "P3", "the number in its document counts, too"


async def test_a_lock_without_a_number_is_reported(world: World, lab: Lab) -> None:
    world.small("CS-x")
    await lab.attach("CS-x")
    forge(world.backing / "CS-x", project_uid="7")
    lose(lab)
    report = await recovered(lab)
    assert report.projects == []
    assert "no P-number" in report.passed_over[0].why


# Documents that are missing or broken.


@pytest.mark.parametrize("name", names.PROJECT_DOCUMENTS)
@pytest.mark.parametrize("content", [b"{ broken", b"\xff", b"17"])
async def test_a_broken_document_leaves_one_project_out(
    world: World, lab: Lab, name: str, content: bytes
) -> None:
    world.small("CS-x")
    world.small("CS-y")
    await lab.attach("CS-x")
    await lab.attach("CS-y")
    lose(lab)
    path = world.backing / "CS-x" / name
    good = path.read_bytes()
    path.write_bytes(content)
    report = await recovered(lab)
    assert [each.path for each in report.projects] == ["CS-y"]
    assert name in report.passed_over[0].why
    assert lab.state_of("CS-x") is State.FOREIGN
    assert held(lab, 1) == {"project": None, "documents": {}, "jobs": {}, "unexported": [], "manifest": []}
    assert lab.instance.identity.next_project == 3
    path.write_bytes(good)
    lab.close()
    report = await recovered(lab, replace=True)
    assert [each.path for each in report.projects] == ["CS-x", "CS-y"]
    lab.check_consistent()


async def test_a_missing_document_is_made(world: World, lab: Lab) -> None:
    world.small("group/CS-x")
    await lab.attach("group/CS-x")
    lose(lab)
    for name in names.PROJECT_DOCUMENTS:
        (world.backing / "group/CS-x" / name).unlink()
    report = await recovered(lab)
    assert "project.json is missing" in report.projects[0].notes[0]
    assert lab.record(1).title == "CS-x"
    assert lab.live_json(1)["uid"] == "P1"
    assert lab.live_json(1, names.WORKSPACES_DOCUMENT)[0]["project_uid"] == "P1"
    assert lab.unexported(1) == set(names.PROJECT_DOCUMENTS)


async def test_a_job_that_cannot_be_read_is_listed_as_failed(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    lose(lab)
    (world.backing / "CS-x/J1/job.json").write_bytes(b"{ broken")
    report = await recovered(lab)
    assert "J1/job.json cannot be read" in report.projects[0].notes[0]
    assert lab.jobs(1)["J1"].attach_status == "failed"


async def test_a_broken_document_comes_from_the_backup_and_the_file_stays(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    saved, before = back_up(lab), everything(lab)
    lose(lab)
    for name in ("project.json", "J1/job.json"):
        (world.backing / "CS-x" / name).write_bytes(b"{ broken")
    report = await recovered(lab, backup=saved)
    assert everything(lab) == before
    assert len(report.projects[0].notes) == 2


# With a backup.


async def test_a_backup_brings_back_what_the_locks_cannot_tell(world: World, lab: Lab) -> None:
    await populate(world, lab)
    saved, before, identity = back_up(lab), everything(lab), lab.store.read(View.instance)
    lose(lab)
    report = await recovered(lab, backup=saved)
    assert everything(lab) == before
    assert lab.instance.identity == identity
    assert [each.uid for each in report.projects] == ["P1", "P2", "P5"]
    assert {each.uid: each.why for each in report.kept} == {"P3": "detached", "P4": "archived"}
    lab.check_consistent()
    shutil.copytree(world.directory / "away", world.backing / "CS-d", symlinks=True)
    project = lab.project("CS-d")
    await unarchive(lab.instance, project, lab.record(4))
    assert lab.project("CS-d").uid == "P4"


async def test_jobs_that_are_not_exported_come_from_the_backup(world: World, lab: Lab) -> None:
    project = world.small()
    for uid in ("J2", "J3", "J4", "J5"):
        add_job(project, uid, "building")
    attached = await lab.attach("CS-x")
    for uid, status in (("J2", "failed"), ("J3", "killed"), ("J4", "running"), ("J5", "completed")):
        await lab.set_status(attached, uid, status)
    os.unlink(project / "J3/job.json")
    saved, failed = back_up(lab), lab.live(1, "J2/job.json")
    lose(lab)
    report = await recovered(lab, backup=saved)
    assert {uid: each.status for uid, each in lab.jobs(1).items()} == {
        "J1": "completed",
        "J2": "failed",
        "J3": "killed",
        "J4": "killed",
        "J5": "completed",
    }
    assert lab.live(1, "J2/job.json") == failed
    told = report.projects[0]
    assert sorted(told.from_backup) == ["J2/job.json", "J3/job.json", "J4/job.json"]
    assert [each.job for each in told.never_exported] == ["J4"]
    assert "running in the backup" in told.never_exported[0].why


async def test_of_two_versions_the_newer_wins(world: World, lab: Lab) -> None:
    project = world.small()
    add_job(project, "J2", "building")
    add_job(project, "J3", "building")
    attached = await lab.attach("CS-x")
    await lab.set_status(attached, "J3", "failed")
    saved = back_up(lab)
    await lab.set_status(attached, "J2", "completed")
    await lab.set_status(attached, "J3", "completed")
    completed = lab.live(1, "J3/job.json")
    lose(lab)
    await recovered(lab, backup=saved)
    assert {uid: each.status for uid, each in lab.jobs(1).items()} == dict.fromkeys(
        ("J1", "J2", "J3"), "completed"
    )
    assert lab.live(1, "J3/job.json") == completed
    assert lab.unexported(1) == set()


async def test_what_happened_since_the_backup_is_told_by_the_locks(world: World, lab: Lab) -> None:
    for name in ("a", "b", "c", "d", "e"):
        world.small(f"CS-{name}")
    await lab.attach("CS-a")
    await lab.attach("CS-b")
    await archived(lab, "CS-c")
    await lab.attach("CS-d")
    saved = back_up(lab)
    await archive(lab.instance, lab.project("CS-a"))
    await detach(lab.instance, lab.project("CS-b"))
    await lab.attach("CS-b")
    project = lab.project("CS-c")
    await unarchive(lab.instance, project, project.held)
    await detach(lab.instance, lab.project("CS-d"))
    await lab.attach("CS-e")
    before = everything(lab)
    lose(lab)
    report = await recovered(lab, backup=saved)
    after = everything(lab)
    assert lab.states() == {
        "P1": "archived",
        "P2": "detached",
        "P3": "attached",
        "P4": "attached",
        "P5": "attached",
        "P6": "attached",
    }
    for number in (1, 3, 5, 6):
        assert after[number] == before[number]
    assert lab.live_json(2)["detached"] is True
    assert lab.state_of("CS-d") is State.LOST, "nothing tells that it was detached"
    assert "P5 now" in {each.uid: each.why for each in report.kept}["P2"]
    assert report.next_project == 7


async def test_jobs_that_are_gone_since_the_backup_are_left_out(world: World, lab: Lab) -> None:
    project = world.small()
    add_job(project, "J2")
    await lab.attach("CS-x")
    saved = back_up(lab)
    lose(lab)
    shutil.rmtree(project / "J2")
    report = await recovered(lab, backup=saved)
    assert lab.jobs(1).keys() == {"J1"}
    assert "J2/job.json" not in lab.paths(1)
    assert any("J2" in note for note in report.projects[0].notes)


async def test_the_manifest_of_the_backup_is_kept(world: World, lab: Lab) -> None:
    project = world.small()
    await archived(lab, "CS-x")
    saved, before = back_up(lab), everything(lab)
    lose(lab)
    (project / "J1" / "data.mrc").write_bytes(b"changed")
    report = await recovered(lab, backup=saved)
    assert everything(lab) == before
    assert report.projects[0].notes == []


async def test_the_manifest_of_an_earlier_archiving_is_not(world: World, lab: Lab) -> None:
    project = world.small()
    await archived(lab, "CS-x")
    saved = back_up(lab)
    found = lab.project("CS-x")
    await unarchive(lab.instance, found, found.held)
    (project / "J1" / "new").write_bytes(b"new")
    await archive(lab.instance, lab.project("CS-x"))
    before = everything(lab)
    lose(lab)
    await recovered(lab, backup=saved)
    assert everything(lab) == before


async def test_a_lock_of_the_users_own_is_known_by_the_backup_alone(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x", b"mine, and opaque\n")
    saved, before = back_up(lab), everything(lab)
    lab.close()
    report = await recovered(lab, backup=saved)
    assert everything(lab) == before
    assert lab.state_of("CS-x") is State.ATTACHED
    lose(lab)
    with pytest.raises(CannotRecover, match="no project is held"):
        await recover(wanted(lab))
    world.small("CS-y")
    lab._open()
    await lab.attach("CS-y")
    lose(lab)
    report = await recovered(lab)
    assert "not written by csfs" in report.passed_over[0].why


async def test_a_directory_that_was_restored_in_place_is_bound_anew(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    saved = back_up(lab)
    lose(lab)
    (world.backing / "CS-x").rename(world.directory / "before")
    shutil.copytree(world.directory / "before", world.backing / "CS-x")
    report = await recovered(lab, backup=saved)
    assert "restored in place" in report.kept[0].why
    assert report.passed_over == []
    assert lab.project("CS-x").verdict.rebind


# What was under way when the backup was made.


async def under_way(lab: Lab, intent: Intent) -> Path:
    await intents.declare(lab.instance, intent)
    saved = back_up(lab)
    await intents.withdraw(lab.instance, intent.after.number)
    return saved


async def test_an_attach_that_the_backup_saw_half_done_is_not_taken_back(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    record, before = lab.record(1), everything(lab)
    await lab.store.write(lambda change: change._txn.delete(b"\0\0\0\1", db=change._db["projects"]))
    saved = await under_way(lab, Intent(action="attach", before=None, after=record))
    lose(lab)
    await recovered(lab, backup=saved)
    assert everything(lab) == before
    assert lab.state_of("CS-x") is State.ATTACHED


async def test_an_attach_that_was_taken_back_is_forgotten(world: World, lab: Lab) -> None:
    world.small("CS-x")
    await lab.attach("CS-x")
    record = msgspec.structs.replace(lab.record(1), number=2, lock_id="other")
    saved = await under_way(lab, Intent(action="attach", before=None, after=record))
    lose(lab)
    await recovered(lab, backup=saved)
    assert lab.states() == {"P1": "attached"}
    assert lab.pending() == []


@pytest.mark.parametrize("action", ["archive", "detach", "move"])
@pytest.mark.parametrize("done", [False, True])
async def test_an_action_of_the_backup_ended_as_the_lock_says(
    world: World, lab: Lab, action: str, done: bool
) -> None:
    world.small()
    await lab.attach("CS-x")
    record = lab.record(1)
    after = {
        "archive": msgspec.structs.replace(record, state="archived", lock_content=b"not this one"),
        "detach": intents.as_detached(record, timestamp()),
        "move": msgspec.structs.replace(record, path=b"CS-y", lock_content=b"not this one"),
    }[action]
    saved = await under_way(lab, Intent(action=action, before=record, after=after))  # type: ignore[arg-type]
    if done:
        project = lab.project("CS-x")
        if action == "archive":
            await archive(lab.instance, project)
        elif action == "detach":
            await detach(lab.instance, project)
        else:
            await _moved(lab, "CS-x", "CS-y")
    before = everything(lab)
    lose(lab)
    await recovered(lab, backup=saved)
    assert lab.pending() == []
    expected = {"archive": "archived", "detach": "detached", "move": "attached"}[action]
    assert lab.states() == {"P1": expected if done else "attached"}
    if action != "detach":
        assert held(lab, 1)["project"] == before[1]["project"]
    assert lab.state_of("CS-y" if done and action == "move" else "CS-x") == lab.states()["P1"]


async def _moved(lab: Lab, old: str, new: str) -> None:
    within = [lab.project(old)]

    async def rename() -> None:
        (lab.backing / old).rename(lab.backing / new)

    await move(lab.instance, within, os.fsencode(old), os.fsencode(new), rename)


# Which instance.


async def test_of_several_instances_of_one_name_one_is_asked_for(world: World, lab: Lab) -> None:
    other = Lab(NAME, world.backing, world.directory / "other")
    world.labs.append(other)
    world.small("CS-x")
    world.small("CS-y")
    await lab.attach("CS-x")
    await other.attach("CS-y")
    lose(lab)
    with pytest.raises(CannotRecover, match="--uuid") as caught:
        await recover(wanted(lab))
    for word in ("CS-x", "CS-y", lab.instance.identity.uuid, other.instance.identity.uuid):
        assert word in str(caught.value)
    with pytest.raises(CannotRecover, match="no lock names"):
        await recover(wanted(lab, uuid="none"))
    report = await recovered(lab, uuid=lab.instance.identity.uuid)
    assert [each.path for each in report.projects] == ["CS-x"]


async def test_nothing_to_recover(world: World, lab: Lab) -> None:
    world.small()
    lose(lab)
    with pytest.raises(CannotRecover, match="no project is held"):
        await recover(wanted(lab))
    assert list(lab.state.parent.iterdir()) == []
    lab._open()


async def test_a_backup_of_another_instance_is_refused(world: World, lab: Lab) -> None:
    other = world.lab("lab2")
    saved = back_up(other)
    lose(lab)
    with pytest.raises(CannotRecover, match="lab2"):
        await recover(wanted(lab, backup=saved))
    saved.write_bytes(b"no backup")
    with pytest.raises(CannotRecover, match="cannot be used"):
        await recover(wanted(lab, backup=saved))
    lab._open()


# The store that is there.


def overwrite(data: Path) -> None:
    data.write_bytes(random.Random(1).randbytes(data.stat().st_size))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda data: os.truncate(data, data.stat().st_size // 2),
    "overwritten": overwrite,
    "empty": lambda data: os.truncate(data, 0),
    "gone": lambda data: data.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_store_is_kept_beside_the_new_one(world: World, lab: Lab, damage: str) -> None:
    world.small()
    await lab.attach("CS-x")
    before = everything(lab)
    lab.close()
    DAMAGE[damage](lab.state / "data.mdb")
    damaged = tree(lab.state).get("data.mdb")
    with pytest.raises(Damaged):
        lab._open()
    report = await recovered(lab)
    assert everything(lab) == before
    assert report.set_aside is not None
    assert Path(report.set_aside).name.startswith("store.damaged-")
    assert tree(Path(report.set_aside)).get("data.mdb") == damaged


async def test_a_store_that_can_be_read_is_not_replaced_unasked(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    await lab.create("CS-y")
    shutil.rmtree(world.backing / "CS-y")
    before = everything(lab)
    saved = back_up(lab)
    lab.close()
    with pytest.raises(CannotRecover, match="--replace"):
        await recover(wanted(lab))
    lab._open()
    assert everything(lab) == before
    for more in ({"replace": True}, {"backup": saved}):
        lab.close()
        report = await recovered(lab, **more)
        assert report.set_aside is not None
        assert Path(report.set_aside).name.startswith("store.replaced-")
        assert held(lab, 1) == before[1]
        assert report.next_project == 3, "the store that is replaced knows of P2"


async def test_a_dry_run_changes_nothing(world: World, lab: Lab) -> None:
    await populate(world, lab)
    lab.close()
    before = tree(world.directory)
    with pytest.raises(CannotRecover):
        await recover(wanted(lab, dry_run=True))
    report = await recover(wanted(lab, dry_run=True, replace=True))
    assert [each.uid for each in report.projects] == ["P1", "P2", "P5"]
    now = {path: facts for path, facts in tree(world.directory).items() if not path.endswith("lock.mdb")}
    assert now == {path: facts for path, facts in before.items() if not path.endswith("lock.mdb")}
    lab._open()


class Cut(BaseException):
    """The process ends here."""


async def test_cut_short_anywhere_it_can_be_repeated(world: World, lab: Lab) -> None:
    """Nothing of what clears up is run, as after kill -9; the damaged store is never lost."""
    await populate(world, lab)
    before = everything(lab)
    lab.close()
    overwrite(lab.state / "data.mdb")
    damaged = (lab.state / "data.mdb").read_bytes()
    steps = 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recover_module, "_remove", _unless_cut(patch))
            left = steps

            def step(function: Callable[..., object]) -> Callable[..., object]:
                def call(*arguments: object, **more: object) -> object:
                    nonlocal left
                    left -= 1
                    if left < 0:
                        _cut.append(True)
                        raise Cut
                    return function(*arguments, **more)

                return call

            patch.setattr(os, "rename", step(os.rename))
            patch.setattr(recover_module, "sync_directory", step(recover_module.sync_directory))
            patch.setattr(contents, "jobs", step(contents.jobs))
            _cut.clear()
            try:
                await recover(wanted(lab))
            except Cut:
                steps += 1
            else:
                break
        there = [path.read_bytes() for path in lab.state.parent.glob("store*/data.mdb")]
        assert damaged in there
        assert lab.state.exists() or (lab.state.parent / RECOVERING).exists()
        if (lab.state.parent / RECOVERING).exists() or (lab.state / "data.mdb").read_bytes() == damaged:
            continue
        # The new store is in place already: begin again with the damaged one.
        shutil.rmtree(lab.state)
        next(lab.state.parent.glob("store.damaged-*")).rename(lab.state)
    assert steps > 5
    lab._open()
    after = everything(lab)
    assert after.keys() == {1, 2, 5}
    assert all(after[number] == before[number] for number in after)


_cut: list[bool] = []


def _unless_cut(patch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    remove = recover_module._remove

    def call(target: Path) -> None:
        if not _cut:
            remove(target)

    return call


async def test_a_store_that_cannot_be_put_in_place_leaves_the_old_one(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    await lab.attach("CS-x")
    lab.close()
    overwrite(lab.state / "data.mdb")
    damaged = (lab.state / "data.mdb").read_bytes()
    rename = os.rename

    def fail(source: os.PathLike[str], target: os.PathLike[str]) -> None:
        if Path(source).name == RECOVERING:
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="Input/output"):
        await recover(wanted(lab))
    assert (lab.state / "data.mdb").read_bytes() == damaged
    assert [path.name for path in lab.state.parent.iterdir()] == ["store"]
    monkeypatch.undo()
    await recovered(lab)
