"""Check: it finds what is wrong and nothing else, writes nothing, and a repair loses nothing."""

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csfs.domain import lock, names
from csfs.lifecycle import documents, intents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.check import repair as repairing
from csfs.lifecycle.check import walk
from csfs.lifecycle.check.check import Check
from csfs.lifecycle.check.findings import Finding, Kind, Severity
from csfs.lifecycle.check.leftovers import DAY_NS
from csfs.lifecycle.check.repair import CannotMend, mend, now_ns
from csfs.lifecycle.detach import detach
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change, Store, View
from tests.lifecycle.world import Lab, World, add_job, tree

MENDED = ".before-repair-"


def checker(lab: Lab, *, mounted: bool = False, later_ns: int = 0) -> Check:
    now = time.time_ns() + later_ns
    return Check(lab.store, lab.instance.backings, mounted=mounted, now_ns=now, patience=0)


def check(lab: Lab, *, mounted: bool = False, later_ns: int = 0) -> list[Finding]:
    return list(checker(lab, mounted=mounted, later_ns=later_ns).everything())


def only(found: list[Finding]) -> Finding:
    (one,) = found
    assert one.meaning
    assert one.advice
    return one


def failures(found: list[Finding]) -> list[tuple[Kind, bytes]]:
    return sorted((each.kind, each.path) for each in found if each.is_failure)


async def repair(lab: Lab) -> list[str]:
    """Checks and mends as `csfs check --repair` does; what was done."""
    found = check(lab)
    return [await mend(lab.store, lab.instance.backings, each) for each in found if each.mendable]


def content(lab: Lab) -> dict[str, object]:
    """All that a store holds, to be compared."""

    def look(view: View) -> dict[str, object]:
        found: dict[str, object] = {"intents": view.intents(), "instance": view.instance()}
        for record in view.projects():
            paths = list(view.paths(record.number))
            found[record.uid] = (
                record,
                {
                    path: (view.document(record.number, path), view.head(record.number, path))
                    for path in paths
                },
                view.unexported(record.number),
                list(view.jobs(record.number)),
                list(view.manifest(record.number)),
            )
        return found

    return lab.store.read(look)


@pytest.fixture
async def project(world: World, lab: Lab) -> Project:
    """Attached as P1, with all documents exported, and two jobs."""
    add_job(world.small(), "J2", parents=["J1"])
    return await lab.attach("CS-x")


class Facts(NamedTuple):
    """What a file is, without opening what is no regular file."""

    inode: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    content: bytes


def facts(top: Path) -> dict[str, Facts]:
    """Of every file below a directory."""
    found = {}
    for place, directories, files in os.walk(top):
        for name in [*directories, *files]:
            path = Path(place, name)
            at = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(at.st_mode) else b""
            found[str(path)] = Facts(at.st_ino, at.st_mode, at.st_mtime_ns, at.st_ctime_ns, content)
    return found


# Nothing is wrong.


async def attached(lab: Lab) -> None:
    await lab.attach("CS-x")


async def archived(lab: Lab) -> None:
    await archive(lab.instance, await lab.attach("CS-x"))


async def detached(lab: Lab) -> None:
    await detach(lab.instance, await lab.attach("CS-x"))


async def created(lab: Lab) -> None:
    await lab.create("group/CS-new")


async def untouched(lab: Lab) -> None:
    return


@pytest.mark.parametrize("way", [attached, archived, detached, created, untouched])
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_sound_project(
    world: World, lab: Lab, way: Callable[[Lab], Awaitable[None]], restarted: bool
) -> None:
    """The raw data of the sample are gone, which is noted; a job of it has a parent elsewhere."""
    world.sample()
    await way(lab)
    if restarted:
        lab.restart()
    before, kept = tree(world.backing), content(lab)
    found = check(lab)
    assert failures(found) == []
    assert {(each.kind, each.path) for each in found} <= {
        (Kind.DANGLING_IMPORT, b"J1"),
        (Kind.DANGLING_IMPORT, b"S1"),
        (Kind.STALE_PARENT, b"J9"),
    }
    assert (tree(world.backing), content(lab)) == (before, kept)


async def test_a_small_one_has_not_even_a_note(lab: Lab, project: Project) -> None:
    assert check(lab) == []
    assert list(checker(lab).project(b"CS-x")) == []


async def test_one_of_another_instance(world: World, lab: Lab, other: Lab, project: Project) -> None:
    (world.backing / "CS-x/J1/gone").symlink_to("nothing")
    assert check(other) == []


async def test_an_archived_one_that_is_away(world: World, lab: Lab, project: Project) -> None:
    await archive(lab.instance, project)
    shutil.rmtree(world.backing / "CS-x")
    assert check(lab) == []


async def test_jobs_whose_documents_are_held_back(world: World, lab: Lab, project: Project) -> None:
    await lab.set_status(project, "J2", "running")
    assert check(lab) == []


# Temporary files.


@pytest.mark.parametrize("place", ["", "group", "CS-x", "CS-x/J1", "CS-x/J1/deep"])
async def test_temporary(world: World, lab: Lab, project: Project, place: str) -> None:
    (world.backing / place).mkdir(parents=True, exist_ok=True)
    before = tree(world.backing)
    left = world.backing / place / ".csfs-tmp.0123"
    left.write_bytes(b"half a document")
    os.utime(left, (0, 0))
    young = only(check(lab))
    assert (young.kind, young.severity, young.mendable) == (Kind.TEMPORARY, Severity.NOTE, False)
    old = only(check(lab, later_ns=DAY_NS))
    assert (old.kind, old.severity, old.mendable) == (Kind.TEMPORARY, Severity.WARNING, True)
    assert os.path.join(old.directory, old.path) == os.fsencode(left.relative_to(world.backing))
    assert await mend(lab.store, lab.instance.backings, old) == "removed"
    assert tree(world.backing) == before
    assert check(lab, later_ns=DAY_NS) == []


async def test_a_temporary_file_of_this_instance(world: World, lab: Lab, project: Project) -> None:
    left = world.backing / f"CS-x/.csfs-tmp.{lab.instance.identity.uuid}.1"
    left.write_bytes(b"half a document")
    assert only(check(lab, mounted=True)).severity is Severity.NOTE
    assert only(check(lab)).mendable
    await repair(lab)
    assert not left.exists()


async def test_a_lock_that_was_set_aside(world: World, lab: Lab, other: Lab, project: Project) -> None:
    directory = world.backing / "CS-x"
    aside = directory / ".csfs-tmp.aside"
    os.rename(directory / "cs.lock", aside)
    found = check(lab, later_ns=2 * DAY_NS)
    assert failures(found) == [(Kind.ASIDE_LOCK, b".csfs-tmp.aside"), (Kind.LOST, b"cs.lock")]
    assert not any(each.mendable for each in found)
    seen_there = only(check(other, later_ns=2 * DAY_NS))
    assert (seen_there.kind, seen_there.mendable) == (Kind.ASIDE_LOCK, False)
    os.rename(aside, directory / "cs.lock")
    assert check(lab) == []


async def test_a_lock_set_aside_that_was_given_up(world: World, lab: Lab, project: Project) -> None:
    aside = world.backing / "CS-x/.csfs-tmp.aside"
    shutil.copy(world.backing / "CS-x/cs.lock", aside)
    await detach(lab.instance, project)
    assert only(check(lab)).kind is Kind.ASIDE_LOCK
    assert await repair(lab) == ["removed"]
    assert check(lab) == []


async def test_a_lock_beside_a_lock_is_a_temporary_file(world: World, lab: Lab, project: Project) -> None:
    shutil.copy(world.backing / "CS-x/cs.lock", world.backing / "CS-x/.csfs-tmp.new")
    assert only(check(lab)).kind is Kind.TEMPORARY


# Locks and records.


async def test_inert_lock(world: World, lab: Lab, project: Project) -> None:
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y")
    found = only(check(lab))
    assert (found.kind, found.severity, found.directory) == (Kind.INERT_LOCK, Severity.WARNING, b"CS-y")
    assert "rm cs.lock" in found.advice
    assert not found.mendable
    os.unlink(world.backing / "CS-y/cs.lock")
    assert check(lab) == []


async def test_an_archived_project_that_came_back(world: World, lab: Lab, project: Project) -> None:
    await archive(lab.instance, project)
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y", symlinks=True)
    assert only(check(lab)).severity is Severity.WARNING
    shutil.rmtree(world.backing / "CS-x")
    found = only(check(lab))
    assert (found.kind, found.severity) == (Kind.INERT_LOCK, Severity.NOTE)
    assert "chmod u+w" in found.advice


@pytest.mark.parametrize("bare", [False, True])
async def test_lost(world: World, lab: Lab, project: Project, bare: bool) -> None:
    os.unlink(world.backing / "CS-x/cs.lock")
    if bare:
        os.unlink(world.backing / "CS-x/project.json")
    found = only(check(lab))
    assert (found.kind, found.severity, found.project) == (Kind.LOST, Severity.ERROR, "P1")


async def test_lost_to_another(world: World, lab: Lab, other: Lab, project: Project) -> None:
    os.unlink(world.backing / "CS-x/cs.lock")
    await other.attach("CS-x")
    assert only(check(lab)).kind is Kind.LOST
    assert check(other) == []


async def test_unknown_claim(world: World, lab: Lab, project: Project) -> None:
    await lab.store.write(lambda change: change.forget_project(1))
    found = only(check(lab))
    assert (found.kind, found.severity) == (Kind.UNKNOWN_CLAIM, Severity.ERROR)
    assert "csfs recover" in found.advice


async def test_absent(world: World, lab: Lab, project: Project) -> None:
    os.rename(world.backing / "CS-x", world.directory / "away")
    found = only(check(lab))
    assert (found.kind, found.directory, found.project) == (Kind.ABSENT, b"CS-x", "P1")
    assert only(list(checker(lab).project(b"CS-x"))) == found
    (world.backing / "CS-x").mkdir()
    assert only(check(lab)).kind is Kind.ABSENT
    os.rmdir(world.backing / "CS-x")
    os.rename(world.directory / "away", world.backing / "CS-x")
    assert check(lab) == []


async def test_moved_behind_the_back(world: World, lab: Lab, project: Project) -> None:
    os.rename(world.backing / "CS-x", world.backing / "CS-y")
    found = only(check(lab))
    assert (found.kind, found.directory) == (Kind.ABSENT, b"CS-x")
    assert "CS-y" in found.meaning


async def test_restored_in_place(world: World, lab: Lab, project: Project) -> None:
    shutil.copytree(world.backing / "CS-x", world.backing / "copy")
    shutil.rmtree(world.backing / "CS-x")
    os.rename(world.backing / "copy", world.backing / "CS-x")
    found = only(check(lab))
    assert (found.kind, found.severity) == (Kind.RESTORED, Severity.WARNING)


async def test_lock_differs(world: World, lab: Lab, project: Project) -> None:
    file = world.backing / "CS-x/cs.lock"
    expected = file.read_bytes()
    found = lock.parse(expected)
    assert isinstance(found, lock.Lock)
    os.unlink(file)
    other = msgspec.structs.replace(found, host="elsewhere").encode()
    file.write_bytes(other)
    assert only(check(lab)).kind is Kind.LOCK_DIFFERS
    assert len(await repair(lab)) == 1
    assert file.read_bytes() == expected
    (kept,) = file.parent.glob(f"cs.lock{MENDED}*")
    assert kept.read_bytes() == other
    assert check(lab) == []
    await detach(lab.instance, lab.project("CS-x"))


async def test_pending_intent(world: World, lab: Lab, project: Project) -> None:
    record = project.held
    intent = records.Intent(action="archive", before=record, after=record)
    await lab.store.write(lambda change: change.put_intent(intent))
    (world.backing / "CS-x/project.json").write_bytes(b"half done")
    found = only(check(lab))
    assert (found.kind, found.severity, found.project) == (Kind.PENDING_INTENT, Severity.WARNING, "P1")
    assert "archive" in found.meaning
    assert only(check(lab, mounted=True)).severity is Severity.NOTE
    assert await repair(lab) == []
    assert only(list(checker(lab).project(b"CS-x"))) == found


async def test_a_pending_intent_without_a_directory(world: World, lab: Lab, project: Project) -> None:
    record = msgspec.structs.replace(project.held, number=2, path=b"gone")
    intent = records.Intent(action="create", before=None, after=record)
    await lab.store.write(lambda change: change.put_intent(intent))
    assert only(check(lab)).kind is Kind.PENDING_INTENT
    await intents.settle(lab.instance)
    assert check(lab) == []


# Documents.


def overwrite(path: Path) -> None:
    path.write_bytes(b"edited behind the back")


def remove(path: Path) -> None:
    path.unlink()


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"kept")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("path", ["project.json", "workspaces.json", "J1/job.json"])
@pytest.mark.parametrize("harm", [overwrite, remove, link, directory, fifo])
async def test_document_differs(
    world: World, lab: Lab, project: Project, path: str, harm: Callable[[Path], None]
) -> None:
    file = world.backing / "CS-x" / path
    before = facts(world.backing)
    harm(file)
    harmed = facts(world.backing)
    found = only([each for each in check(lab) if each.is_failure])
    assert (found.kind, found.severity) == (Kind.DOCUMENT_DIFFERS, Severity.ERROR)
    assert found.path == os.fsencode(path)
    assert facts(world.backing) == harmed
    assert len(await repair(lab)) == 1
    after = facts(world.backing)
    kept = {name: facts for name, facts in after.items() if MENDED in name}
    assert {name: each.content for name, each in after.items() if name not in kept} == {
        name: each.content for name, each in before.items()
    }
    if harm is not remove:
        assert harmed[str(file)].inode in {each.inode for each in kept.values()}
    assert failures(check(lab)) == []
    lab.check_consistent()


async def test_a_second_repair_keeps_what_the_first_has_kept(lab: Lab, project: Project) -> None:
    file = lab.backing / "CS-x/project.json"
    for n in range(3):
        file.write_bytes(b"%d" % n)
        await repair(lab)
    kept = {path.read_bytes() for path in lab.backing.glob(f"CS-x/*{MENDED}*")}
    assert kept == {b"0", b"1", b"2"}


async def test_a_repair_that_fails_half_way(
    lab: Lab, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that differed is kept already, and the document counts as outstanding."""
    file = lab.backing / "CS-x/project.json"
    file.write_bytes(b"edited behind the back")
    found = only(check(lab))

    def export(due: object, confirm: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(repairing, "export", export)
        await mend(lab.store, lab.instance.backings, found)
    (kept,) = lab.backing.glob(f"CS-x/*{MENDED}*")
    assert kept.read_bytes() == file.read_bytes() == b"edited behind the back"
    assert only(check(lab)).kind is Kind.UNEXPORTED
    await documents.export_all(lab.instance, project)
    assert kept.read_bytes() == b"edited behind the back"
    assert file.read_bytes() == lab.live(1, "project.json")
    assert check(lab) == []


async def test_a_repair_of_what_is_not_ours_any_more(lab: Lab, other: Lab, project: Project) -> None:
    (lab.backing / "CS-x/project.json").write_bytes(b"{}")
    found = only(check(lab))
    os.unlink(lab.backing / "CS-x/cs.lock")
    before = tree(lab.backing)
    with pytest.raises(CannotMend):
        await mend(lab.store, lab.instance.backings, found)
    assert tree(lab.backing) == before


async def test_unexported(lab: Lab, project: Project) -> None:
    await lab.store.write(lambda change: change.mark_unexported(1, "J1/job.json"))
    await lab.store.write(lambda change: change.mark_unexported(1, "project.json"))
    found = only(check(lab))
    assert (found.kind, found.severity) == (Kind.UNEXPORTED, Severity.NOTE)
    assert found.meaning.endswith(": 2")
    await documents.export_all(lab.instance, project)
    assert check(lab) == []


async def test_a_document_that_is_edited_while_it_is_looked_at(
    lab: Lab, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the store the file was there in a version that neither of them has."""
    (lab.backing / "CS-x/project.json").write_bytes(b"{}")
    heads = iter(range(1, 1000))

    def read(self: Store, look: Callable[[View], object]) -> object:
        found = original(self, look)
        if isinstance(found, tuple) and isinstance(found[0], records.DocumentHead):
            return (msgspec.structs.replace(found[0], mtime_ns=next(heads)), *found[1:])
        return found

    assert only(check(lab)).kind is Kind.DOCUMENT_DIFFERS
    original = Store.read
    monkeypatch.setattr(Store, "read", read)
    assert check(lab) == []


# An archived project.


async def test_archive_differs(lab: Lab, project: Project) -> None:
    await archive(lab.instance, project)
    (lab.backing / "CS-x/J1/data.mrc").write_bytes(b"other data")
    before = tree(lab.backing)
    found = only(check(lab))
    assert (found.kind, found.severity) == (Kind.ARCHIVE_DIFFERS, Severity.ERROR)
    assert "J1/data.mrc had 4 bytes, has 10" in found.meaning
    assert await repair(lab) == []
    assert tree(lab.backing) == before


async def test_many_differences_are_counted(lab: Lab, project: Project) -> None:
    for n in range(30):
        (lab.backing / f"CS-x/J1/{n}.mrc").write_bytes(b"")
    await archive(lab.instance, project)
    for n in range(30):
        os.unlink(lab.backing / f"CS-x/J1/{n}.mrc")
    assert only(check(lab)).meaning.endswith("and 20 more")


@pytest.mark.parametrize("path", ["project.json", "J1/job.json"])
async def test_a_document_of_an_archived_project(lab: Lab, project: Project, path: str) -> None:
    await archive(lab.instance, project)
    (lab.backing / "CS-x" / path).write_bytes(b"{}")
    before = tree(lab.backing)
    found = only(check(lab))
    assert (found.kind, found.path, found.mendable) == (Kind.DOCUMENT_DIFFERS, os.fsencode(path), False)
    assert await repair(lab) == []
    assert tree(lab.backing) == before


async def test_a_job_of_an_archived_project_without_its_directory(lab: Lab, project: Project) -> None:
    await archive(lab.instance, project)
    shutil.rmtree(lab.backing / "CS-x/J1")
    found = only(check(lab))
    assert found.kind is Kind.ARCHIVE_DIFFERS
    assert "J1 is missing" in found.meaning


# Jobs.


@pytest.mark.parametrize("status", ["completed", "running"])
async def test_job_without_directory(lab: Lab, project: Project, status: str) -> None:
    if status == "running":
        await lab.set_status(project, "J2", status)
    shutil.rmtree(lab.backing / "CS-x/J2")
    before = tree(lab.backing)
    found = only(check(lab))
    assert (found.kind, found.path) == (Kind.JOB_WITHOUT_DIRECTORY, b"J2")
    await repair(lab)
    after = tree(lab.backing)
    new = {"CS-x/J2", "CS-x/J2/job.json"} if status == "completed" else {"CS-x/J2"}
    assert set(after) - set(before) == new
    assert {name: after[name] for name in before} == before
    assert check(lab) == []


async def test_a_file_in_the_place_of_a_job(lab: Lab, project: Project) -> None:
    shutil.rmtree(lab.backing / "CS-x/J2")
    (lab.backing / "CS-x/J2").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        await repair(lab)
    assert only(check(lab)).kind is Kind.JOB_WITHOUT_DIRECTORY
    assert (lab.backing / "CS-x/J2").read_bytes() == b"x"


async def test_directory_without_job(lab: Lab, project: Project) -> None:
    add_job(lab.backing / "CS-x", "J7")
    (lab.backing / "CS-x/J8").mkdir()
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.DIRECTORY_WITHOUT_JOB, Severity.WARNING, b"J7")


async def test_failed_import(world: World, lab: Lab) -> None:
    world.small()
    (world.backing / "CS-x/J2").mkdir()
    (world.backing / "CS-x/J2/job.json").write_bytes(b"{broken")
    await lab.attach("CS-x")
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.FAILED_IMPORT, Severity.WARNING, b"J2")


async def test_stale_parent(world: World, lab: Lab) -> None:
    add_job(world.small(), "J2", parents=["J1", "J99"])
    await lab.attach("CS-x")
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.STALE_PARENT, Severity.NOTE, b"J2")
    assert "J99" in found.meaning


# What lies in a project.


async def test_dangling_imports(world: World, lab: Lab, project: Project) -> None:
    imported = world.backing / "CS-x/J1/imported"
    imported.mkdir()
    for n in range(20):
        (imported / f"{n}.tif").symlink_to(f"/nowhere/raw/{n}.tif")
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.DANGLING_IMPORT, Severity.NOTE, b"J1")
    assert found.meaning.startswith("20 symlinks")
    assert "/nowhere/raw/" in found.meaning


@pytest.mark.parametrize(
    "target", ["../J9/gone.mrc", "/mnt/csfs/CS-x/J9/gone.mrc", "gone", "loop", "BACKING"]
)
async def test_a_dangling_link_within_the_project(
    world: World, lab: Lab, project: Project, target: str
) -> None:
    target = target.replace("BACKING", f"{world.backing}/CS-x/gone")
    (world.backing / "CS-x/J1/loop").symlink_to(target)
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.DANGLING_IMPORT, Severity.WARNING, b"J1")


@pytest.mark.parametrize("target", ["data.mrc", "../J2", "/mnt/csfs/CS-x/J2/job.json", ".", ".."])
async def test_links_within_the_project(lab: Lab, project: Project, target: str) -> None:
    (lab.backing / "CS-x/J1/link").symlink_to(target)
    assert check(lab) == []


@pytest.mark.parametrize("target", ["/", "../..", "../../CS-x2", "/etc/hostname"])
async def test_leaves_project(lab: Lab, project: Project, target: str) -> None:
    (lab.backing / "CS-x2").mkdir()
    (lab.backing / "CS-x/J1/link").symlink_to(target)
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (Kind.LEAVES_PROJECT, Severity.NOTE, b"J1")


async def test_links_are_not_followed(world: World, lab: Lab, project: Project) -> None:
    outside = world.directory / "outside"
    outside.mkdir()
    (outside / ".csfs-tmp.1").write_bytes(b"")
    (outside / "project.json").write_bytes(b"{}")
    (world.backing / "CS-link").symlink_to(outside)
    (world.backing / "CS-x/link").symlink_to(outside)
    assert only(check(lab, later_ns=2 * DAY_NS)).kind is Kind.LEAVES_PROJECT


@pytest.mark.parametrize("name", ["project.json", "cs.lock"])
@pytest.mark.parametrize("place", ["imports/CS-y", "J1", "a/b/c/d"])
async def test_nested_project(lab: Lab, project: Project, name: str, place: str) -> None:
    (lab.backing / "CS-x" / place).mkdir(parents=True, exist_ok=True)
    (lab.backing / "CS-x" / place / name).write_bytes(b"{}")
    found = only(check(lab))
    assert (found.kind, found.severity, found.path) == (
        Kind.NESTED_PROJECT,
        Severity.WARNING,
        os.fsencode(place),
    )


async def test_names_that_are_not_utf8(world: World, lab: Lab) -> None:
    place = os.fsencode(world.backing) + b"/CS-\xff"
    os.rename(world.small(), place)
    await lab.attach(os.fsdecode(b"CS-\xff"))
    os.symlink(b"/\xfe", place + b"/\xfd")
    os.unlink(place + b"/project.json")
    os.mkdir(place + b"/\xfc")
    Path(os.fsdecode(place + b"/\xfc/cs.lock")).write_bytes(b"")
    found = check(lab)
    assert failures(found) == [(Kind.DOCUMENT_DIFFERS, b"project.json"), (Kind.NESTED_PROJECT, b"\xfc")]
    assert (Kind.DANGLING_IMPORT, b"\xfd") in {(each.kind, each.path) for each in found}
    assert all(each.meaning.isprintable() for each in found)


async def test_a_directory_that_cannot_be_read(
    lab: Lab, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is checked all the same."""
    (lab.backing / "CS-x/J1/closed").mkdir()
    (lab.backing / "CS-x/J2/dangling").symlink_to("gone")
    closed = (lab.backing / "CS-x/J1/closed").stat().st_ino
    original = walk.entries

    def entries(directory: walk.Descriptor) -> object:
        if directory.inode == closed:
            raise PermissionError(13, "Permission denied")
        return original(directory)

    monkeypatch.setattr(walk, "entries", entries)
    found = check(lab)
    assert failures(found) == [(Kind.DANGLING_IMPORT, b"J2"), (Kind.UNREADABLE, b"J1/closed")]


async def test_the_clock_of_the_backing_directory(lab: Lab, project: Project) -> None:
    before = tree(lab.backing)
    assert abs(now_ns(lab.root) - time.time_ns()) < 10**10
    assert tree(lab.backing) == before


# Anything.


places = st.sampled_from(
    [
        "CS-x",
        "CS-x/cs.lock",
        "CS-x/project.json",
        "CS-x/workspaces.json",
        "CS-x/J1",
        "CS-x/J1/job.json",
        "CS-x/J1/data.mrc",
        "CS-x/J2",
        "CS-x/J2/job.json",
        "CS-x/J7",
        "CS-x/.csfs-tmp.1",
        "CS-y",
        "CS-y/cs.lock",
        "CS-x/notes",
    ]
)
harms = st.lists(
    st.tuples(
        st.sampled_from(
            ["remove", "write", "link", "mkdir", "fifo", "copy", "move", "unmark", "drop", "close"]
        ),
        places,
        places,
        st.binary(max_size=8),
    ),
    max_size=8,
)


def harm(backing: Path, how: str, path: str, other: str, content: bytes) -> None:
    """Breaks something, if that is possible here."""
    at, to = backing / path, backing / other
    try:
        if how == "remove":
            shutil.rmtree(at) if at.is_dir() and not at.is_symlink() else at.unlink()
        elif how == "write" and not at.is_fifo():
            at.write_bytes(content)
        elif how == "link":
            at.symlink_to(os.fsdecode(content.replace(b"\0", b"/")) or other)
        elif how == "mkdir":
            at.mkdir()
        elif how == "fifo":
            os.mkfifo(at)
        elif how == "copy":
            shutil.copytree(at, to, symlinks=True) if at.is_dir() else shutil.copyfile(at, to)
        elif how == "move":
            os.rename(at, to)
        elif how == "close":
            os.chmod(at, 0, follow_symlinks=True)
    except (OSError, shutil.Error, ValueError):
        pass  # not possible here: another harm is done


async def break_store(lab: Lab, how: str, path: str) -> None:
    inner = path.partition("/")[2]

    def work(change: Change) -> None:
        if how == "unmark" and change.head(1, inner) is not None:
            change.mark_unexported(1, inner)
        elif how == "drop" and names.is_job(inner):
            change.drop_job(1, inner)
        elif how == "drop":
            change.drop_document(1, inner)

    await lab.store.write(work)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(harms=harms, archive_it=st.booleans(), mend_it=st.booleans())
async def test_it_never_fails_and_never_writes(
    harms: list[tuple[str, str, str, bytes]], archive_it: bool, mend_it: bool
) -> None:
    with tempfile.TemporaryDirectory() as place:
        world = World(Path(place))
        add_job(world.small(), "J2", parents=["J1"])
        lab = world.lab()
        project = await lab.attach("CS-x")
        if archive_it:
            await archive(lab.instance, project)
        for how, path, other, bytes_ in harms:
            harm(world.backing, how, path, other, bytes_)
            if how in ("unmark", "drop"):
                await break_store(lab, how, path)
        before, kept = facts(world.backing), content(lab)
        found = check(lab, later_ns=2 * DAY_NS)
        assert list(checker(lab).project(b"CS-x")) is not None
        assert (facts(world.backing), content(lab)) == (before, kept)
        assert len({(each.key, each.meaning) for each in found}) == len(found), "told twice"
        if mend_it:
            await mend_all(lab, before)
        world.close()


async def mend_all(lab: Lab, before: dict[str, Facts]) -> None:
    """Mends all that can be: no bytes are gone afterwards but those of temporary files."""
    for each in check(lab, later_ns=2 * DAY_NS):
        if each.mendable:
            try:
                await mend(lab.store, lab.instance.backings, each)
            except (CannotMend, OSError):
                continue
    after = {each.content for each in facts(lab.backing).values()}
    for path, was in before.items():
        if names.TEMPORARY_PREFIX not in path and not path.endswith("cs.lock"):
            assert was.content in after, f"the bytes of {path} are gone"
