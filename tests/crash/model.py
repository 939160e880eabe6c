"""What csfs promises, as a model: directories, who holds them, and what each instance knows of them."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from csfs.domain.job import ACTIVE, EXPORTED, JobStatus

PROJECT, WORKSPACES = "project.json", "workspaces.json"


class Content(NamedTuple):
    """What is looked at in a document."""

    title: str
    status: str = ""

    @property
    def held_back(self) -> bool:
        return bool(self.status) and self.status not in EXPORTED


@dataclass
class Record:
    """A project as an instance's store knows it."""

    state: Literal["attached", "archived", "detached"]
    directory: int
    path: str
    documents: dict[str, Content]
    lock: int
    """Which lock; a new one with each attach, archive and unarchive."""


@dataclass
class Directory:
    """A directory on the backing directory."""

    id: int
    owner: tuple[str, int] | None = None
    """Whose lock is bound to it: the instance, and the project's number there."""
    opaque: bool = False
    """Whether that lock holds bytes of a user's own."""
    broken: frozenset[str] = frozenset()
    """Whose locks with bytes of a user's own were broken in it."""
    inert: int = 0
    """Of which lock a copy lies in it; 0: none."""
    documents: dict[str, Content] = field(default_factory=dict)
    """As they lie on the backing directory."""
    data: dict[str, bytes] = field(default_factory=dict)


@dataclass
class World:
    directories: dict[str, Directory] = field(default_factory=dict)
    records: dict[str, dict[int, Record]] = field(default_factory=dict)
    """By instance and number."""
    highest: dict[str, int] = field(default_factory=dict)
    """The highest number that each instance has given."""
    made: int = 0
    """Counts directories and locks."""

    # -- what is to be seen --------------------------------------------------------------------------

    def held(self, path: str) -> Record | None:
        owner = self.directories[path].owner
        return None if owner is None else self.records[owner[0]][owner[1]]

    def lost(self, instance: str, path: str) -> Record | None:
        """The record of a project in this place that the instance believes to hold, and does not."""
        directory = self.directories[path]
        for number, record in self.records[instance].items():
            here = record.state == "attached" and (record.directory, record.path) == (directory.id, path)
            if here and directory.owner != (instance, number):
                return record
        return None

    def state(self, instance: str, path: str) -> str:
        directory = self.directories.get(path)
        if directory is None:
            return "missing"
        if self.lost(instance, path) is not None:
            return "lost"
        if directory.owner is None:
            return "detached" if PROJECT in directory.documents else "plain"
        record = self.held(path)
        assert record is not None
        return record.state if directory.owner[0] == instance else "foreign"

    def is_free(self, instance: str, path: str) -> bool:
        return self.state(instance, path) in ("plain", "detached")

    def documents(self, instance: str, path: str) -> dict[str, Content]:
        """As the mount of an instance shows them."""
        state = self.state(instance, path)
        if state == "lost":
            lost = self.lost(instance, path)
            assert lost is not None
            return lost.documents
        held = self.held(path)
        if held is not None and state in ("attached", "archived"):
            return held.documents
        return self.directories[path].documents

    def active(self, path: str) -> bool:
        held = self.held(path)
        return held is not None and any(each.status in ACTIVE for each in held.documents.values())

    def returning(self, instance: str, path: str) -> int:
        """The number of the archived project that may come back in this directory; 0: none."""
        inert = self.directories[path].inert
        for number, record in self.records[instance].items():
            original = self.directories.get(record.path)
            in_place = original is not None and original.owner == (instance, number)
            if inert and record.state == "archived" and record.lock == inert and not in_place:
                return number
        return 0

    # -- what happens to it --------------------------------------------------------------------------

    def new(self) -> int:
        self.made += 1
        return self.made

    def attach(self, instance: str, path: str, number: int, *, opaque: bool = False) -> None:
        """Also what creates a project."""
        directory = self.directories[path]
        if PROJECT not in directory.documents:
            directory.documents = {
                PROJECT: Content(path.rpartition("/")[2]),
                WORKSPACES: Content("New Workspace"),
            }
        for record in self.records[instance].values():
            if record.state == "attached" and record.directory == directory.id:
                record.state = "detached"
        imported = {
            name: each._replace(status=JobStatus.KILLED.value) if each.status in ACTIVE else each
            for name, each in directory.documents.items()
        }
        self.records[instance][number] = Record("attached", directory.id, path, imported, self.new())
        self.highest[instance] = max(self.highest[instance], number)
        directory.owner, directory.opaque = (instance, number), opaque
        self.export(path)

    def export(self, path: str, *, everything: bool = False) -> None:
        directory, held = self.directories[path], self.held(path)
        assert held is not None
        for name, content in held.documents.items():
            if everything or not content.held_back:
                directory.documents[name] = content

    def detach(self, path: str) -> None:
        self.export(path, everything=True)
        held = self.held(path)
        assert held is not None
        held.state = "detached"
        self.directories[path].owner = None

    def let_go(self, instance: str, path: str) -> None:
        lost = self.lost(instance, path)
        assert lost is not None
        lost.state = "detached"

    def archive(self, path: str) -> None:
        self.export(path, everything=True)
        held = self.held(path)
        assert held is not None
        held.state, held.lock = "archived", self.new()

    def unarchive(self, instance: str, path: str, number: int) -> None:
        directory, record = self.directories[path], self.records[instance][number]
        record.state, record.directory, record.path = "attached", directory.id, path
        record.lock = self.new()
        directory.owner, directory.inert = (instance, number), 0
        self.export(path)

    def unlock(self, path: str) -> None:
        """Its lock is gone, whoever took it away."""
        self.directories[path].owner = None

    def rescue(self, path: str) -> None:
        directory = self.directories[path]
        if directory.owner is not None and directory.opaque:
            directory.broken |= {directory.owner[0]}
        self.unlock(path)

    def move(self, old: str, new: str) -> None:
        """A directory, or a container with all that lies in it."""
        for path in [each for each in self.directories if each == old or each.startswith(old + "/")]:
            target = new + path[len(old) :]
            held = self.held(path)
            self.directories[target] = self.directories.pop(path)
            if held is not None:
                held.path = target

    def clone(self, instance: str, path: str, copy: str) -> None:
        source = self.directories[path]
        held = self.held(path)
        self.directories[copy] = Directory(
            self.new(),
            broken=source.broken,
            inert=held.lock if held is not None else source.inert,
            documents=dict(self.documents(instance, path)),
            data=dict(source.data),
        )

    def edit(self, path: str, name: str, content: Content) -> None:
        held = self.held(path)
        if held is None:
            self.directories[path].documents[name] = content
            return
        held.documents[name] = content
        self.export(path)

    def drop(self, path: str, name: str) -> None:
        held = self.held(path)
        assert held is not None
        del held.documents[name]
        self.directories[path].documents.pop(name, None)

    def set_status(self, path: str, name: str, status: str) -> None:
        held = self.held(path)
        assert held is not None
        held.documents[name] = held.documents[name]._replace(status=status)
        self.export(path)
