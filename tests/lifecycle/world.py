"""A backing directory and the instances over it, without a mount: the requests are made directly."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor
from csfs.cli.sample.project import build
from csfs.domain import document, lock, names
from csfs.domain.document import Kind
from csfs.domain.job import TRANSITIONS, JobStatus
from csfs.domain.state import State
from csfs.lifecycle import documents
from csfs.lifecycle.attach import attach
from csfs.lifecycle.create import create
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.liveness import Liveness
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Store, View

JOBS = ("J1", "J2", "J3", "J5", "J9", "J12", "J13", "J14")
"""Those of the sample project that have a document; J15 has none."""
MOUNTPOINT = "/mnt/csfs"


def way(before: str, after: str) -> list[str]:
    """The statuses through which a job gets from one to another."""
    ways: list[list[str]] = [[before]]
    while ways:
        here = ways.pop(0)
        if here[-1] == after:
            return here[1:]
        following = TRANSITIONS[JobStatus(here[-1])]
        untried = [each.value for each in reversed(JobStatus) if each in following and each not in here]
        ways.extend([*here, each] for each in untried)
    raise AssertionError(f"no way from {before} to {after}")


class Lab:
    """One instance, on one node: its store, and the backing directory as it sees it."""

    def __init__(self, name: str, backing: Path, state: Path) -> None:
        self.name, self.backing, self.state = name, backing, state
        self._open()

    def _open(self) -> None:
        self.store = Store.open(self.state, self.name)
        self.root = Descriptor.root(os.fspath(self.backing))
        self.instance = Instance(self.store, self.backings(), MOUNTPOINT)

    def backings(self) -> Backings:
        return Backings.of_one(self.root)

    @property
    def liveness(self) -> Liveness:
        return self.instance.liveness(self.root)

    def close(self) -> None:
        self.store.close()

    def restart(self) -> None:
        """As after the end of the daemon: only the store and the backing directory are left."""
        self.store.close()
        self._open()

    def directory(self, path: str) -> Descriptor:
        return self.instance.backings.descend(os.fsencode(path))

    def look(self, path: str) -> Project | None:
        """What the directory is now."""
        directory = self.directory(path)
        return self.instance.settle(directory, os.fsencode(path), self.instance.look(directory))

    def project(self, path: str) -> Project:
        found = self.look(path)
        assert found is not None, f"{path} is plain"
        return found

    def state_of(self, path: str) -> State:
        found = self.look(path)
        return found.state if found is not None else State.PLAIN

    async def attach(self, path: str, content: bytes | None = None) -> Project:
        self.look(path)
        return await attach(self.instance, self.directory(path), os.fsencode(path), content)

    async def create(self, path: str, content: bytes | None = None) -> Project:
        (self.backing / path).mkdir(parents=True)
        return await create(self.instance, self.directory(path), os.fsencode(path), content)

    def record(self, number: int) -> records.Project:
        """What the store has, not what is remembered of it."""
        found = self.store.read(lambda view: view.project(number))
        assert found is not None, f"there is no P{number}"
        return found

    def states(self) -> dict[str, str]:
        """The projects of the store and their states."""
        return {record.uid: record.state for record in self.store.read(View.projects)}

    def pending(self) -> list[records.Intent]:
        return self.store.read(View.intents)

    def live(self, number: int, path: str) -> bytes:
        content = self.store.read(lambda view: view.document(number, path))
        assert content is not None, f"P{number} has no {path}"
        return content

    def live_json(self, number: int, path: str = names.PROJECT_DOCUMENT) -> Any:
        return json.loads(self.live(number, path))

    def paths(self, number: int) -> set[str]:
        return set(self.store.read(lambda view: list(view.paths(number))))

    def unexported(self, number: int) -> set[str]:
        return set(self.store.read(lambda view: view.unexported(number)))

    def jobs(self, number: int) -> dict[str, records.Job]:
        return {found.uid: found for found in self.store.read(lambda view: list(view.jobs(number)))}

    async def set_status(self, project: Project, uid: str, status: str) -> None:
        """Takes a job to a status by edits of its document, on the shortest way that there is."""
        path = documents.job_path(uid)
        before = document.parse(documents.read(self.instance, project, path), Kind.JOB)
        for step in way(before.head.text("status"), status):
            content = before.rewritten({"status": step}).encode()
            await documents.edit(self.instance, project, path, content)

    def check_consistent(self) -> None:
        """Store and backing directory agree on each held project, and its documents name it."""
        assert self.pending() == []
        for record in self.store.read(View.projects):
            found = json.loads(self.live(record.number, names.PROJECT_DOCUMENT))
            expected = self.instance.identity_values(record)
            for key, value in expected.items():
                assert found.get(key, False) == value, f"{record.uid}: {key} is {found.get(key)!r}"
            if record.state == "detached":
                continue
            path = os.fsdecode(record.path)
            if not (self.backing / path).exists():
                continue
            assert self.state_of(path) == record.state, self.project(path).verdict
            held = self.project(path).record
            assert held is not None
            assert held == record
            assert (self.backing / path / names.LOCK).read_bytes() == record.lock_content


class World:
    """The backing directory, and every instance over it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.backing = directory / "backing"
        self.backing.mkdir(parents=True)
        self.labs: list[Lab] = []

    def lab(self, name: str = "lab1") -> Lab:
        """An instance with a store of its own."""
        made = Lab(name, self.backing, self.directory / name)
        self.labs.append(made)
        return made

    def close(self) -> None:
        for lab in self.labs:
            lab.close()

    def sample(self, path: str = "CS-x") -> Path:
        """A detached project as CryoSPARC leaves one."""
        build(self.backing / path, movies=1)
        return self.backing / path

    def small(self, path: str = "CS-x", *, title: str = "small") -> Path:
        """A detached project with one completed job."""
        project = self.backing / path
        (project / "J1").mkdir(parents=True)
        content = {"uid": "P9", "uid_num": 9, "title": title, "project_dir": "/old", "archived": False}
        (project / "project.json").write_text(json.dumps({**content, "detached": True}))
        workspace = {"uid": "W1", "uid_num": 1, "project_uid": "P9", "project_uid_num": 9}
        (project / "workspaces.json").write_text(json.dumps([workspace]))
        (project / "J1" / "job.json").write_text(json.dumps(job("J1")))
        (project / "J1" / "data.mrc").write_bytes(b"data")
        return project

    def lock_of(self, path: str) -> lock.Lock | lock.Opaque | None:
        file = self.backing / path / names.LOCK
        return lock.parse(file.read_bytes()) if file.exists() else None

    def temporaries(self) -> list[Path]:
        return sorted(self.backing.rglob(names.TEMPORARY_PREFIX + "*"))


def job(uid: str, status: str = "completed", **more: object) -> dict[str, object]:
    """The document of a job, as a value."""
    return {
        "uid": uid,
        "project_uid": "P9",
        "project_uid_num": 9,
        "job_type": "homo_refine",
        "title": uid,
        "status": status,
        "parents": [],
        "workspace_uids": ["W1"],
        **more,
    }


def add_job(project: Path, uid: str, status: str = "completed", **more: object) -> Path:
    """Adds a job to a project that is not attached; its document."""
    (project / uid).mkdir()
    path = project / uid / "job.json"
    path.write_text(json.dumps(job(uid, status, **more)))
    return path


IDENTITY = frozenset(document.IDENTITY_KEYS)


def without_identity(content: bytes) -> Any:
    """A document's values but for the identity keys; the numbers as they are written."""
    value = json.loads(content, parse_int=str, parse_float=str, parse_constant=str)
    items = value if isinstance(value, list) else [value]
    return [{key: item for key, item in one.items() if key not in IDENTITY} for one in items]


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Every file: type, mode, size, mtime and content (or target) of each; directories without mtime."""
    return {os.fspath(path.relative_to(top)): _facts(path) for path in _below(top)}


def _below(top: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(top):
        for name in [*directories, *files]:
            yield Path(directory, name)


def _facts(path: Path) -> tuple[object, ...]:
    found = path.lstat()
    kind = stat.S_IFMT(found.st_mode), stat.S_IMODE(found.st_mode)
    if path.is_symlink():
        return (*kind, os.readlink(path))
    if path.is_dir():
        return kind
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (*kind, found.st_size, found.st_mtime_ns, digest)
