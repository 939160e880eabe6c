"""One instance over a backing directory, and what must hold of it whenever a daemon has just started."""

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from csfs.backing.descriptor import Descriptor
from csfs.domain import lock, names
from csfs.lifecycle.documents import is_held_back
from csfs.store import store
from csfs.store.records import Project
from csfs.store.store import View
from tests.crash.control import Control
from tests.crash.zygote import Daemon, Zygote

DOCUMENTS = (*names.PROJECT_DOCUMENTS, names.JOB_DOCUMENT)
_PATIENCE_SECONDS = 20
_UNMOUNTED_MEANWHILE = "fuse_release(): fuse_reply_* failed"
"""What pyfuse3 says when a mount is ended before it has answered the last close."""


class Site:
    """A directory with `backing`, `state` and the mount point `mnt`, where one daemon after the other runs.

    The first two may lie elsewhere.
    """

    def __init__(
        self, zygote: Zygote, place: Path, *, backing: Path | None = None, state: Path | None = None
    ) -> None:
        self._zygote = zygote
        self.place = place
        self.backing, self.state, self.mnt = (
            backing or place / "backing",
            state or place / "state",
            place / "mnt",
        )
        for directory in (self.backing, self.state, self.mnt):
            directory.mkdir(exist_ok=True)
        self.daemon: Daemon | None = None
        self.left_overs_stay = False
        """Until the next mount, where a call failed that was to remove them."""
        self._highest_number = 0
        self._data: Counter[tuple[str, str]] = Counter()

    # -- daemons -------------------------------------------------------------------------------------

    @property
    def control(self) -> Control:
        assert self.daemon is not None
        return self.daemon.control

    def new_control(self) -> Control:
        return self._zygote.control()

    def start(self, control: Control | None = None) -> Daemon:
        """Starts a daemon; it may not answer yet."""
        assert self.daemon is None, "one at a time"
        self.daemon = self._zygote.start("lab1", self.backing, self.mnt, self.state, control=control)
        return self.daemon

    def mount(self, control: Control | None = None) -> None:
        """Raises MountFailed."""
        self.start(control).wait_ready()

    def crash(self) -> None:
        """kill -9, if the daemon has not ended already; the mount is gone afterwards."""
        if self.daemon is not None:
            self.daemon.kill()
            self.umount()

    def umount(self) -> None:
        if self.daemon is not None:
            daemon, self.daemon = self.daemon, None
            daemon.umount()

    # -- what is there -------------------------------------------------------------------------------

    def __truediv__(self, path: str) -> Path:
        """A path on the mount."""
        return self.mnt / path

    def attribute(self, path: str, name: str) -> str:
        return os.getxattr(self / path, f"user.csfs.{name}").decode()

    def state_of(self, path: str) -> str:
        """As the mount shows it; `missing` if there is no such directory."""
        if not (self / path).is_dir():
            return "missing"
        try:
            return self.attribute(path, "state")
        except OSError:
            return "plain"

    def states(self, *paths: str) -> dict[str, str]:
        return {path: self.state_of(path) for path in paths}

    @contextmanager
    def view(self) -> Iterator[View]:
        """What the store holds, whether a daemon runs or not."""
        directory = os.fspath(self.state / "lab1/store")
        with lmdb.open(directory, readonly=True, max_dbs=len(store.DATABASES)) as environment:
            databases = {name: environment.open_db(name.encode(), create=False) for name in store.DATABASES}
            with environment.begin() as txn:
                yield View(txn, databases)

    def records(self) -> dict[str, Project]:
        with self.view() as view:
            return {record.uid: record for record in view.projects()}

    def small(self, path: str) -> Path:
        """A detached project on the backing directory: a completed job, a failed one, data and a symlink."""
        project = self.backing / path
        (project / "J1/sub").mkdir(parents=True)
        (project / "J2").mkdir()
        head = {"uid": "P9", "uid_num": 9, "title": path, "project_dir": "/old", "archived": False}
        (project / "project.json").write_text(json.dumps({**head, "detached": True}))
        workspace = {"uid": "W1", "uid_num": 1, "project_uid": "P9", "project_uid_num": 9}
        (project / "workspaces.json").write_text(json.dumps([workspace]))
        for uid, status in (("J1", "completed"), ("J2", "failed")):
            (project / uid / "job.json").write_text(json.dumps(job(uid, status)))
        (project / "J1/data.mrc").write_bytes(os.urandom(3000))
        (project / "J1/sub/data.cs").write_bytes(os.urandom(100))
        (project / "J1/link.mrc").symlink_to("data.mrc")
        (project / "note").write_text(path)
        return project

    def attached(self, path: str) -> None:
        self.small(path)
        (self / path / "cs.lock").touch()

    def archived(self, path: str) -> None:
        self.attached(path)
        os.chmod(self / path, 0o555)

    # -- what must hold ------------------------------------------------------------------------------

    def remember(self, *, data: bool = True) -> None:
        """Takes note of what must not be lost from now on: which numbers were given, and file data."""
        self._data = self._found_data() if data else Counter()
        self._note_number()

    def _note_number(self) -> None:
        with self.view() as view:
            following = view.instance().next_project
        assert following >= self._highest_number, "the counter of P-numbers went back"
        self._highest_number = following

    def _found_data(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for path in files(self.backing):
            if path.name not in (names.LOCK, *DOCUMENTS):
                content = os.readlink(path) if path.is_symlink() else _digest(path)
                found[path.name, content] += 1
        return found

    def temporaries(self) -> list[Path]:
        return [path for path in files(self.backing) if path.name.startswith(names.TEMPORARY_PREFIX)]

    def unsettled(self) -> bool:
        """Whether an action has come neither to its end nor been taken back."""
        with self.view() as view:
            return bool(view.intents())

    def outstanding(self) -> list[str]:
        """What the background is still to do: exports, and temporary files to be removed."""
        with self.view() as view:
            exports = [
                f"export of {record.uid}/{path}"
                for record in view.projects()
                if record.state == "attached" and (self.backing / os.fsdecode(record.path)).is_dir()
                for path in view.unexported(record.number)
                if not is_held_back(view, record.number, path)
            ]
            notes = [f"note of {path!r}" for path in view.temporaries().values()]
        if self.left_overs_stay:
            return exports
        return exports + notes + [str(path) for path in self.temporaries()]

    def settle(self) -> bool:
        """Waits until the background has nothing left to do; whether the daemon lived so long."""
        assert self.daemon is not None
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.daemon.ended:
            left = self.outstanding()
            if not left:
                return not self.daemon.ended
            assert time.monotonic() < deadline, f"is still left: {left}\n{self.daemon.log}"
            time.sleep(0.002)
        return False

    def check(self) -> None:
        """All invariants; a daemon runs."""
        assert self.daemon is not None
        for path in directories(self.backing):
            self.state_of(os.fspath(path.relative_to(self.backing)))  # a lock may be bound anew by that
        assert self.settle(), "the daemon has died"
        status = json.loads((self / ".csfs/status.json").read_text())
        assert status["state"] == "ready"
        assert status["transitions"] == {}
        assert status["exports_failing"] == {}
        self._note_number()
        self._check_owners()
        self._check_documents()
        lost = self._data - self._found_data()
        assert not lost, f"file data is lost or changed: {dict(lost)}"
        for line in self.daemon.log.splitlines():
            suspicious = any(word in line for word in ("ERROR", "Traceback", "Exception"))
            assert not suspicious or _UNMOUNTED_MEANWHILE in line, self.daemon.log

    def _check_owners(self) -> None:
        """Locks, records and what the mount shows tell the same."""
        shown = {
            path: self.state_of(os.fspath(path.relative_to(self.backing)))
            for path in directories(self.backing)
        }
        records = self.records()
        with self.view() as view:
            assert view.intents() == []
            own = view.instance().uuid
        by_lock = {record.lock_content: record for record in records.values() if record.state != "detached"}
        assert len({record.inode for record in by_lock.values() if record.state == "attached"}) == len(
            [record for record in by_lock.values() if record.state == "attached"]
        ), "two projects are attached in one directory"
        owned = set()
        for path, state in shown.items():
            relative = os.fspath(path.relative_to(self.backing))
            content = (path / names.LOCK).read_bytes() if (path / names.LOCK).exists() else b""
            found = lock.parse(content)
            directory = Descriptor.root(os.fspath(path))
            inert = isinstance(found, lock.Lock) and not found.binds(directory.inode, directory.born())
            if not content or inert:
                assert state == ("detached" if (path / names.PROJECT_DOCUMENT).exists() else "plain"), (
                    relative
                )
                continue
            if isinstance(found, lock.Lock) and found.instance_uuid != own:
                assert state == "foreign", relative
                continue
            assert content in by_lock, f"a lock without a record in {relative}"
            record = by_lock[content]
            assert record.uid not in owned, f"{record.uid} owns two directories"
            owned.add(record.uid)
            assert state == record.state, relative
            assert self.attribute(relative, "uid") == record.uid
            assert (os.fsdecode(record.path), record.inode) == (relative, directory.inode)
            if isinstance(found, lock.Lock):
                assert (found.state, found.project_uid) == (record.state, record.uid)
        for record in records.values():
            if record.state == "attached":
                assert record.uid in owned, f"{record.uid} has no lock in {record.path!r}"
            expected = record.state == "archived", record.state == "detached", record.number
            shown_document = json.loads((self / f".csfs/projects/{record.uid}/project.json").read_text())
            assert (
                shown_document["archived"],
                shown_document["detached"],
                shown_document["uid_num"],
            ) == expected

    def _check_documents(self) -> None:
        """Each is whole on the backing directory, and there as it is on the mount and in the store."""
        for path in files(self.backing):
            if path.name in DOCUMENTS:
                json.loads(path.read_bytes())
        with self.view() as view:
            for record in view.projects():
                directory = os.fsdecode(record.path)
                if record.state == "detached" or self.state_of(directory) != record.state:
                    continue
                for path in view.paths(record.number):
                    exported = self.backing / directory / path
                    shown = self / directory / path
                    if record.state == "archived" and not exported.exists() and not shown.exists():
                        continue  # it is on its way out
                    content = view.document(record.number, path)
                    assert (self / directory / path).read_bytes() == content, path
                    if view.is_exported(record.number, path) and (
                        record.state == "attached" or exported.exists()
                    ):
                        assert exported.read_bytes() == content, path
                jobs = view.job_uids(record.number)
                documents = {path.partition("/")[0] for path in view.paths(record.number) if "/" in path}
                assert jobs == documents


def job(uid: str, status: str) -> dict[str, Any]:
    """The document of a job."""
    return {
        "uid": uid,
        "uid_num": int(uid[1:]),
        "project_uid": "P9",
        "project_uid_num": 9,
        "type": "homo_refine",
        "title": uid,
        "status": status,
        "parents": [],
        "children": [],
        "workspace_uids": ["W1"],
    }


def files(top: Path) -> Iterator[Path]:
    """All below a directory but directories, and but what csfs itself keeps there."""
    for directory, below, found in os.walk(top):
        if names.CONTROL in below:
            below.remove(names.CONTROL)
        for name in found:
            yield Path(directory, name)
        for name in os.listdir(directory):
            path = Path(directory, name)
            if path.is_symlink() and path.is_dir():
                yield path


def directories(top: Path) -> Iterator[Path]:
    """Those that are, or may become, projects: outside of any project."""
    for path in sorted(top.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in ("lost+found", names.CONTROL):
            yield path
            if not (path / names.PROJECT_DOCUMENT).exists():
                yield from directories(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def temporary_site(zygote: Zygote, place: Path, name: str, **elsewhere: Path) -> Iterator[Site]:
    """A site of its own in `place`, gone afterwards; `elsewhere` as for Site."""
    directory = place / name
    directory.mkdir()
    site = Site(zygote, directory, **elsewhere)
    try:
        yield site
    finally:
        site.crash()
        shutil.rmtree(directory)
