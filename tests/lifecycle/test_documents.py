"""Documents of a held project: edited in the store, exported from it, never lost in between."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from csfs.backing.export import Export
from csfs.domain import document
from csfs.domain.document import Kind
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle import documents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach, let_go
from csfs.lifecycle.project import Project
from csfs.store.store import Change
from tests.lifecycle.world import Lab, World, add_job, job


def edited(lab: Lab, path: str = "project.json", **changes: object) -> bytes:
    """The live document of P1 with other values."""
    return json.dumps({**lab.live_json(1, path), **changes}).encode()


@pytest.fixture
async def project(world: World, lab: Lab) -> Project:
    """One with all of its documents exported."""
    add_job(world.small(), "J2", parents=["J1"])
    found = await lab.attach("CS-x")
    await documents.export_all(lab.instance, found)
    assert lab.unexported(1) == set()
    return found


class Full:
    """A backing filesystem on which nothing can be written for a while."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch, self._export = patch, documents.export
        self.tried: list[bytes] = []

    def fill(self, *names: bytes) -> None:
        """From now on these files cannot be written, or none at all."""

        def export(due: list[Export], confirm: Callable[[], None]) -> None:
            self.tried.extend(each.name for each in due)
            if not names or any(each.name in names for each in due):
                raise OSError(errno.ENOSPC, "No space left on device")
            self._export(due, confirm)

        self._patch.setattr(documents, "export", export)

    def free(self) -> None:
        self._patch.setattr(documents, "export", self._export)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[Full]:
    made = Full(monkeypatch)
    yield made
    made.free()


# Edits.


async def test_an_edit(world: World, lab: Lab, project: Project) -> None:
    content = b"\n" + edited(lab, title="new", number=json.loads("1" * 30)) + b"\n\n"
    await documents.edit(lab.instance, project, "project.json", content)
    assert documents.read(lab.instance, project, "project.json") == content
    assert (world.backing / "CS-x/project.json").read_bytes() == content
    assert lab.unexported(1) == set()
    assert lab.record(1).title == project.held.title == "new"
    assert lab.instance.claims.by_number[1].title == "new"
    lab.restart()
    assert lab.live(1, "project.json") == content
    assert lab.record(1).title == "new"


async def test_the_export_has_the_mtime_of_the_document(world: World, lab: Lab, project: Project) -> None:
    await documents.edit(lab.instance, project, "project.json", edited(lab, title="new"))
    head = documents.head(lab.instance, project, "project.json")
    assert head is not None
    found = (world.backing / "CS-x/project.json").stat()
    assert (found.st_mtime_ns, found.st_size) == (head.mtime_ns, head.size)


async def test_an_edit_of_workspaces(world: World, lab: Lab, project: Project) -> None:
    content = b'[{"uid": "W1", "project_uid": "P1"},\n {"uid": "W2", "project_uid": "P1"}]'
    await documents.edit(lab.instance, project, "workspaces.json", content)
    assert (world.backing / "CS-x/workspaces.json").read_bytes() == content
    assert lab.record(1).title == "small"


async def test_an_edit_of_a_job(world: World, lab: Lab, project: Project) -> None:
    content = edited(lab, "J2/job.json", title="mine", status="building", parents=["J1", "J3"])
    await documents.edit(lab.instance, project, "J2/job.json", content)
    found = lab.jobs(1)["J2"]
    assert (found.title, found.status, found.parents) == ("mine", "building", ("J1", "J3"))


@pytest.mark.parametrize(
    ("path", "content", "rule", "words"),
    [
        ("project.json", b'{"uid": "P1",\n "title": }', Rule.BAD_DOCUMENT, "project.json: line 2 column 11"),
        ("project.json", b"", Rule.BAD_DOCUMENT, "project.json: line 1 column 1"),
        ("project.json", b"[]", Rule.BAD_DOCUMENT, "project.json: line 1 column 1"),
        ("project.json", b'{"uid": "P2"}', Rule.IDENTITY_KEY, "project.json: uid"),
        ("project.json", b"{}", Rule.IDENTITY_KEY, "project.json: uid"),
        ("workspaces.json", b"{}", Rule.BAD_DOCUMENT, "workspaces.json: line 1 column 1"),
        ("workspaces.json", b'[{"project_uid": "P2"}]', Rule.IDENTITY_KEY, "workspaces.json: project_uid"),
        ("J2/job.json", b"{", Rule.BAD_DOCUMENT, "J2/job.json: line 1 column 2"),
        ("J2/job.json", b'{"uid": "J2", "project_uid": "P9"}', Rule.IDENTITY_KEY, "J2/job.json: project_uid"),
        ("J2/job.json", b'{"a": ' + b"[" * 10_000, Rule.BAD_DOCUMENT, "J2/job.json: it is nested too deeply"),
    ],
)
async def test_an_edit_that_is_refused_changes_nothing(
    world: World, lab: Lab, project: Project, path: str, content: bytes, rule: Rule, words: str
) -> None:
    before = lab.live(1, path)
    file = world.backing / "CS-x" / path
    facts = file.stat()
    with pytest.raises(Refusal) as caught:
        await documents.edit(lab.instance, project, path, content)
    assert (caught.value.errno, caught.value.rule) == (errno.EINVAL, rule)
    assert caught.value.detail.startswith(words)
    assert lab.live(1, path) == before == file.read_bytes()
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (facts.st_ino, facts.st_mtime_ns)
    assert lab.unexported(1) == set()


async def test_a_document_that_is_not_there(lab: Lab, project: Project) -> None:
    assert documents.head(lab.instance, project, "J99/job.json") is None
    with pytest.raises(FileNotFoundError):
        documents.read(lab.instance, project, "J99/job.json")
    with pytest.raises(FileNotFoundError):
        await documents.edit(lab.instance, project, "J99/job.json", b"{}")
    with pytest.raises(FileNotFoundError):
        await documents.set_mtime(lab.instance, project, "J99/job.json", 7)


async def test_a_store_that_is_full_keeps_the_old_document(
    world: World, lab: Lab, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lab.live(1, "project.json")

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Change, "put_document", fail)
        with pytest.raises(OSError) as caught:
            await documents.edit(lab.instance, project, "project.json", edited(lab, title="new"))
    assert caught.value.errno == errno.ENOSPC
    assert lab.live(1, "project.json") == before == (world.backing / "CS-x/project.json").read_bytes()
    assert project.held.title == "small"


async def test_the_last_of_many_edits_is_exported(world: World, lab: Lab, project: Project) -> None:
    """An old version does not come to lie over a newer one."""
    async with trio.open_nursery() as nursery:
        for number in range(30):
            content = edited(lab, title=f"title {number}")
            nursery.start_soon(documents.edit, lab.instance, project, "project.json", content)
    live = lab.live(1, "project.json")
    assert (world.backing / "CS-x/project.json").read_bytes() == live
    assert json.loads(live)["title"] == lab.record(1).title == project.held.title
    assert lab.unexported(1) == set()


# Modification times.


async def test_another_mtime(world: World, lab: Lab, project: Project) -> None:
    content = lab.live(1, "J2/job.json")
    await documents.set_mtime(lab.instance, project, "J2/job.json", 1_600_000_000_123_456_789)
    head = documents.head(lab.instance, project, "J2/job.json")
    assert head is not None
    assert head.mtime_ns == 1_600_000_000_123_456_789
    file = world.backing / "CS-x/J2/job.json"
    assert (file.stat().st_mtime_ns, file.read_bytes()) == (1_600_000_000_123_456_789, content)


async def test_another_mtime_does_not_undo_an_edit(lab: Lab, project: Project) -> None:
    """Of an edit and a `touch` that arrive together, both are kept."""
    content = edited(lab, "J2/job.json", title="edited")
    found = document.parse(content, Kind.JOB)
    token = trio.lowlevel.current_trio_token()
    held, go = trio.Event(), threading.Event()

    def hold_up(change: Change) -> None:
        trio.from_thread.run_sync(held.set, trio_token=token)
        go.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lab.store.write, hold_up)
        await held.wait()
        nursery.start_soon(documents.put, lab.instance, project, "J2/job.json", lambda _: found)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(documents.set_mtime, lab.instance, project, "J2/job.json", 7)
        await trio.testing.wait_all_tasks_blocked()
        go.set()
    head = documents.head(lab.instance, project, "J2/job.json")
    assert head is not None
    assert (lab.live(1, "J2/job.json"), head.mtime_ns) == (content, 7)


# What is held back.


@pytest.mark.parametrize("status", ["launched", "started", "running", "waiting", "killed", "failed"])
async def test_some_statuses_are_exported_when_the_job_is_completed(
    world: World, lab: Lab, project: Project, status: str
) -> None:
    file = world.backing / "CS-x/J2/job.json"
    await lab.set_status(project, "J2", "queued")
    before = file.read_bytes()
    assert json.loads(before)["status"] == "queued"
    await lab.set_status(project, "J2", status)
    await documents.export_all(lab.instance, project)
    assert file.read_bytes() == before
    assert lab.unexported(1) == {"J2/job.json"}
    assert lab.live_json(1, "J2/job.json")["status"] == status
    await lab.set_status(project, "J2", "completed")
    assert json.loads(file.read_bytes())["status"] == "completed"
    assert lab.unexported(1) == set()


@pytest.mark.parametrize("status", ["building", "queued", "completed"])
async def test_the_others_are_exported_at_once(world: World, lab: Lab, project: Project, status: str) -> None:
    await lab.set_status(project, "J2", status)
    assert json.loads((world.backing / "CS-x/J2/job.json").read_bytes())["status"] == status


async def test_held_back_documents_survive_a_restart(world: World, lab: Lab, project: Project) -> None:
    await lab.set_status(project, "J2", "running")
    lab.restart()
    assert lab.live_json(1, "J2/job.json")["status"] == "running"
    assert lab.unexported(1) == {"J2/job.json"}
    again = lab.project("CS-x")
    await documents.export_all(lab.instance, again, held_back=True)
    assert json.loads((world.backing / "CS-x/J2/job.json").read_bytes())["status"] == "running"


# Exports that fail.


async def test_an_export_that_fails_keeps_the_live_document(
    world: World, lab: Lab, project: Project, full: Full, caplog: pytest.LogCaptureFixture
) -> None:
    before = (world.backing / "CS-x/project.json").read_bytes()
    content = edited(lab, title="new")
    full.fill()
    await documents.edit(lab.instance, project, "project.json", content)
    assert lab.live(1, "project.json") == content
    assert (world.backing / "CS-x/project.json").read_bytes() == before
    assert lab.unexported(1) == {"project.json"}
    assert "export of project.json of P1 failed" in caplog.text
    assert "No space left" in caplog.text
    with pytest.raises(OSError, match="No space left"):
        await documents.export_all(lab.instance, project)
    full.free()
    await documents.export_all(lab.instance, project)
    assert (world.backing / "CS-x/project.json").read_bytes() == content
    assert lab.unexported(1) == set()


async def test_one_that_cannot_be_exported_keeps_no_other_from_it(
    world: World, lab: Lab, project: Project, full: Full
) -> None:
    full.fill()
    contents = {
        path: edited(lab, path, title="new") for path in ("J1/job.json", "J2/job.json", "project.json")
    }
    for path, content in contents.items():
        await documents.edit(lab.instance, project, path, content)
    full.fill(b"job.json")
    with pytest.raises(OSError, match="No space left"):
        await documents.export_all(lab.instance, project)
    assert (world.backing / "CS-x/project.json").read_bytes() == contents["project.json"]
    assert lab.unexported(1) == {"J1/job.json", "J2/job.json"}


async def test_what_is_exported_is_not_exported_again(lab: Lab, project: Project, full: Full) -> None:
    full.fill(b"none of them")
    await documents.export_all(lab.instance, project)
    await documents.export_one(lab.instance, project, 1, "project.json")
    assert full.tried == []


async def test_a_version_that_changed_during_its_export_is_exported_again(
    world: World, lab: Lab, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = edited(lab, title="first"), edited(lab, title="second")
    export = documents.export
    between = [second]

    def slow(due: list[Export], confirm: Callable[[], None]) -> None:
        if between:
            found = document.parse(between.pop(), Kind.PROJECT)
            trio.from_thread.run(documents.put, lab.instance, project, "project.json", lambda _: found)
        export(due, confirm)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "export", slow)
        await documents.edit(lab.instance, project, "project.json", first)
    assert (world.backing / "CS-x/project.json").read_bytes() == first
    assert lab.unexported(1) == {"project.json"}
    await documents.export_all(lab.instance, project)
    assert (world.backing / "CS-x/project.json").read_bytes() == second


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
async def test_the_directory_of_a_job_is_made_again(world: World, lab: Lab, project: Project) -> None:
    directory = world.backing / "CS-x"
    directory.chmod(0o2770)
    os.chown(directory, 4711, 4712)
    directory.chmod(0o2770)
    os.unlink(directory / "J2/job.json")
    os.rmdir(directory / "J2")
    content = edited(lab, "J2/job.json", title="still here")
    await documents.edit(lab.instance, project, "J2/job.json", content)
    assert (directory / "J2/job.json").read_bytes() == content
    for path in (directory / "J2", directory / "J2/job.json"):
        assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


# Working off what is outstanding.


class Rounds:
    """Runs `work_off` in the background; `one` returns when it has been round once more."""

    def __init__(self, lab: Lab, patch: pytest.MonkeyPatch) -> None:
        self._lab = lab
        self._rests, self._rested = trio.open_memory_channel[None](100)
        patch.setattr(documents, "trio", SimpleNamespace(move_on_after=self._rest, Event=trio.Event))

    def _rest(self, seconds: float) -> trio.CancelScope:
        assert seconds == documents.RETRY_SECONDS
        self._rests.send_nowait(None)
        return trio.CancelScope()

    async def one(self) -> None:
        """The first rest may end a round that had begun before; the second ends a whole one."""
        while self._rested.statistics().current_buffer_used:
            self._rested.receive_nowait()
        for _ in range(2):
            self._lab.instance.exports_due.set()
            await self._rested.receive()


@pytest.fixture
async def rounds(lab: Lab, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> Rounds:
    made = Rounds(lab, monkeypatch)
    nursery.start_soon(documents.work_off, lab.instance)
    await made.one()
    return made


async def test_a_failed_export_is_worked_off(
    world: World, lab: Lab, project: Project, full: Full, rounds: Rounds, caplog: pytest.LogCaptureFixture
) -> None:
    content = edited(lab, title="new")
    full.fill()
    await documents.edit(lab.instance, project, "project.json", content)
    await rounds.one()
    assert lab.unexported(1) == {"project.json"}
    assert "exports of P1 failed, will be tried again" in caplog.text
    full.free()
    await rounds.one()
    assert (world.backing / "CS-x/project.json").read_bytes() == content
    assert lab.unexported(1) == set()


async def test_the_documents_of_an_attach_are_worked_off(world: World, lab: Lab, rounds: Rounds) -> None:
    world.sample()
    await lab.attach("CS-x")
    await rounds.one()
    assert lab.unexported(1) == {"J13/job.json", "J14/job.json"}
    for path in lab.paths(1) - lab.unexported(1):
        assert (world.backing / "CS-x" / path).read_bytes() == lab.live(1, path)


async def test_it_leaves_projects_alone_that_are_not_attached(
    world: World, lab: Lab, project: Project, full: Full, rounds: Rounds
) -> None:
    await archive(lab.instance, project)
    await lab.store.write(lambda change: change.mark_unexported(1, "project.json"))
    full.fill()
    await rounds.one()
    assert full.tried == []


@pytest.mark.parametrize("gone", ["directory", "lock", "path"])
async def test_it_waits_for_a_project_that_is_not_there(
    world: World, lab: Lab, project: Project, rounds: Rounds, gone: str
) -> None:
    directory = world.backing / "CS-x"
    await lab.store.write(lambda change: change.mark_unexported(1, "project.json"))
    if gone == "lock":
        os.rename(directory / "cs.lock", world.directory / "lock")
        (directory / "project.json").unlink()
    else:
        os.rename(directory, world.directory / "away")
    if gone == "path":
        directory.write_bytes(b"a file")
    await rounds.one()
    assert lab.unexported(1) == {"project.json"}
    if gone == "lock":
        assert not (directory / "project.json").exists()
        os.rename(world.directory / "lock", directory / "cs.lock")
    else:
        if gone == "path":
            directory.unlink()
        os.rename(world.directory / "away", directory)
    await rounds.one()
    assert (directory / "project.json").read_bytes() == lab.live(1, "project.json")
    assert lab.unexported(1) == set()


async def test_one_project_that_fails_keeps_no_other_from_it(
    world: World, lab: Lab, project: Project, full: Full, rounds: Rounds
) -> None:
    world.small("CS-y")
    full.fill()
    second = await lab.attach("CS-y")
    await documents.edit(lab.instance, project, "J2/job.json", edited(lab, "J2/job.json", title="new"))
    full.fill(b"job.json")
    await rounds.one()
    assert lab.unexported(1) == {"J2/job.json"}
    assert lab.unexported(2) == {"J1/job.json"}
    full.free()
    await detach(lab.instance, second)
    assert lab.unexported(2) == set()


# Small things.


@pytest.mark.parametrize(
    ("path", "kind"),
    [("project.json", Kind.PROJECT), ("workspaces.json", Kind.WORKSPACES), ("J7/job.json", Kind.JOB)],
)
def test_kinds(path: str, kind: Kind) -> None:
    assert documents.kind_of(path) is kind


def test_paths_of_jobs() -> None:
    assert documents.job_path("J7") == "J7/job.json"


def test_a_summary() -> None:
    content = json.dumps(job("J7", "failed", parents=["J1"], type="other")).encode()
    found = documents.summary("J7", document.parse(content, Kind.JOB))
    assert (found.uid, found.type, found.title, found.status) == ("J7", "homo_refine", "J7", "failed")
    assert (found.parents, found.workspaces, found.attach_status) == (("J1",), ("W1",), "complete")


async def test_an_export_that_waited_until_the_project_was_let_go(
    world: World, lab: Lab, project: Project, full: Full
) -> None:
    """It is refused. What waits may be the background, which would end the daemon with anything else."""
    full.fill()
    await documents.edit(lab.instance, project, "project.json", edited(lab, title="new"))
    full.free()
    refused: list[Refusal] = []

    async def export() -> None:
        try:
            await documents.export_all(lab.instance, project)
        except Refusal as refusal:
            refused.append(refusal)

    async with trio.open_nursery() as nursery, project.exporting:
        nursery.start_soon(export)
        await trio.testing.wait_all_tasks_blocked()
        os.unlink(world.backing / "CS-x/cs.lock")
        assert lab.project("CS-x").state == "lost"
        await let_go(lab.instance, project)
    assert [each.rule for each in refused] == [Rule.LOST]
    assert lab.live_json(1, "project.json")["title"] == "new"
