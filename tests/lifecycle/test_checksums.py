"""Checksums of an archived project: what size and time do not tell is noticed when it comes back."""

import os
from pathlib import Path

import msgspec
import pytest
import trio

from csfs.backing import checksums as reading
from csfs.domain.manifest import Entry, Page
from csfs.domain.refusals import Refusal, Rule
from csfs.lifecycle import checksums
from csfs.lifecycle.archive import archive
from csfs.lifecycle.project import Project
from csfs.lifecycle.unarchive import unarchive
from tests.lifecycle.world import Lab, World


async def archived(lab: Lab) -> Project:
    project = await lab.attach("CS-x")
    await archive(lab.instance, project)
    return project


def entries(lab: Lab) -> dict[str, Entry]:
    pages = lab.store.read(lambda view: list(view.manifest(1)))
    return {
        os.fsdecode(os.path.join(page.directory, each.name)): each for page in pages for each in page.entries
    }


def altered(file: Path) -> None:
    """Something else of the same size and time."""
    found = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


async def test_every_file_gets_one(world: World, lab: Lab) -> None:
    world.sample()
    project = await archived(lab)
    assert not any(each.checksum for each in entries(lab).values())
    await checksums.take(lab.instance, project, project.held)
    for path, entry in entries(lab).items():
        assert len(entry.checksum) == (16 if entry.type == "file" else 0), path
    lab.restart()
    project = lab.project("CS-x")
    await checksums.compare(lab.instance, project, project.held)
    assert project.other_contents == []
    await unarchive(lab.instance, project, project.held)
    assert entries(lab) == {}


async def test_other_contents_are_named_and_refused_once(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await archived(lab)
    await checksums.take(lab.instance, project, project.held)
    altered(directory / "J1/job.log")
    await checksums.compare(lab.instance, project, project.held)
    assert project.other_contents == ["J1/job.log holds something else than before"]
    with pytest.raises(Refusal) as caught:
        await unarchive(lab.instance, project, project.held)
    assert caught.value.rule is Rule.INCOMPLETE
    assert "J1/job.log holds something else" in caught.value.detail
    altered(directory / "J1/job.log")
    await checksums.compare(lab.instance, project, project.held)
    await unarchive(lab.instance, project, project.held)


async def test_changes_are_accepted(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await archived(lab)
    await checksums.take(lab.instance, project, project.held)
    altered(directory / "J1/job.log")
    await checksums.compare(lab.instance, project, project.held)
    await unarchive(lab.instance, project, project.held, accept_changes=True)
    await archive(lab.instance, project)
    await unarchive(lab.instance, project, project.held)


async def test_a_manifest_without_any_compares_nothing(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await archived(lab)
    altered(directory / "J1/job.log")
    await checksums.compare(lab.instance, project, project.held)
    assert (project.other_contents, project.progress) == ([], 0)


def test_a_manifest_from_before_there_were_any_is_read() -> None:
    before = [[b"job.log", "file", 7, 8, b""], [b"link", "symlink", 0, 8, b"to"]]
    found = msgspec.msgpack.decode(msgspec.msgpack.encode([b"J1", before]), type=Page)
    assert found.entries == [Entry(b"job.log", "file", 7, 8), Entry(b"link", "symlink", 0, 8, b"to")]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Page) == found


async def test_stopped_it_goes_on_where_it_was(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with files of the directory that was being read; until then nobody may change its state."""
    world.sample()
    project = await archived(lab)
    monkeypatch.setattr(reading, "_FILES", 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(started, lab)
        checksums.begin(lab.instance, project, project.held, "checksum")
        assert project.reading == checksums.UNDER_WAY
        while project.progress == 0:
            await trio.lowlevel.checkpoint()
        with pytest.raises(Refusal) as caught:
            await unarchive(lab.instance, project, project.held)
        assert caught.value.rule is Rule.IN_TRANSITION
        with pytest.raises(Refusal):
            project.refuse_leaving()
        checksums.stop(project)
        while project.reading == checksums.UNDER_WAY:
            await trio.lowlevel.checkpoint()
        assert (project.reading, project.transition, project.progress) == (checksums.STOPPED, "", 0)
        first = {path for path, each in entries(lab).items() if each.checksum}
        files = {path for path, each in entries(lab).items() if each.type == "file"}
        assert 0 < len(first) < len(files)
        checksums.begin(lab.instance, project, project.held, "checksum")
        while project.reading == checksums.UNDER_WAY:
            await trio.lowlevel.checkpoint()
        assert project.reading == checksums.DONE
        assert {path for path, each in entries(lab).items() if each.checksum} == files
        nursery.cancel_scope.cancel()


async def test_a_file_that_is_missing_ends_it(world: World, lab: Lab) -> None:
    directory = world.sample()
    project = await archived(lab)
    (directory / "J1/job.log").unlink()
    async with trio.open_nursery() as nursery:
        await nursery.start(started, lab)
        checksums.begin(lab.instance, project, project.held, "checksum")
        while project.reading == checksums.UNDER_WAY:
            await trio.lowlevel.checkpoint()
        assert "job.log" in project.reading
        assert project.transition == ""
        nursery.cancel_scope.cancel()


async def test_before_the_mount_serves_none_is_begun(world: World, lab: Lab) -> None:
    world.sample()
    project = await archived(lab)
    with pytest.raises(OSError, match="only just beginning"):
        checksums.begin(lab.instance, project, project.held, "checksum")
    assert project.reading == ""
    await unarchive(lab.instance, project, project.held)


async def started(lab: Lab, task_status: trio.TaskStatus[None]) -> None:
    """What the mount has in the background."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checksums.serve, lab.instance)
        before = lab.instance.spawn
        while lab.instance.spawn is before:
            await trio.lowlevel.checkpoint()
        task_status.started()
