"""The check: every project and container of the backing directories, held against the store."""

import os
import time
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, field

from csfs.backing.backings import Backing, Backings
from csfs.backing.descriptor import Descriptor
from csfs.domain import names
from csfs.domain.state import HELD, State
from csfs.lifecycle.check import claims, documents, jobs, leftovers
from csfs.lifecycle.check.findings import Finding, Kind, Severity, unreadable
from csfs.lifecycle.check.links import Links
from csfs.lifecycle.check.seen import Seen, look
from csfs.lifecycle.check.walk import Entry, Unread, below, entries, joined
from csfs.lifecycle.instance import Instance, is_directory_of
from csfs.store import records
from csfs.store.store import Store, View

PATIENCE_SECONDS = 0.3
"""Between two looks at what seems wrong: most actions of a mount are over by then."""

_FRESH_SECONDS = 1.0

_MARKERS = (names.LOCK.encode(), names.PROJECT_DOCUMENT.encode())
_CONTROL = names.CONTROL.encode()


@dataclass
class Check:
    """One check of all backing directories. It only reads; `store` may be open for reading.

    `mounted` says whether the instance is mounted meanwhile: then an intent is an action under way,
    and nothing of its own is left over. `now_ns` is the time on the backing filesystem. `skipped` are
    devices that are not entered: mounts of csfs below the backing directory. `progress` is called for
    each file.
    """

    store: Store
    backings: Backings
    mounted: bool
    now_ns: int
    skipped: Collection[int] = ()
    patience: float = PATIENCE_SECONDS
    progress: Callable[[], None] = lambda: None
    projects: int = 0
    """How many were looked at."""
    _met: dict[int, bytes] = field(default_factory=dict)
    """Numbers of the attached projects that were met -> where."""
    _told: set[int] = field(default_factory=set)
    """Numbers of the projects whose intent was told of."""
    _visited: set[bytes] = field(default_factory=set)
    """Paths of the projects that were looked at."""
    _attached: list[records.Project] = field(default_factory=list)
    _attached_until: float = 0.0

    def everything(self) -> Iterator[Finding]:
        """All that is found in the backing directories and in the store."""
        for backing in self.backings:
            yield from self._container(backing)
        for record in self.store.read(View.projects):
            if record.state == "attached" and self._met.get(record.number) != record.path:
                yield from self._not_met(record.number)
        for intent in self.store.read(View.intents):
            yield from self._tell(intent)

    def project(self, path: bytes) -> Iterator[Finding]:
        """What is found in one project, the directory of which lies, or should lie, at this path."""
        if (yield from self._pending(path)):
            return
        try:
            directory = self.backings.descend(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            yield unreadable(path, b"", error)
            return
        else:
            yield from self._project(directory, path)
        for record in self.store.read(View.projects):
            if record.state == "attached" and record.path == path and record.number not in self._met:
                yield from self._not_met(record.number)

    def _not_met(self, number: int) -> Iterator[Finding]:
        """An attached project that was not met in its place; a mount may have moved it meanwhile."""
        self._wait()
        record = self.store.read(lambda view: view.project(number))
        if record is None or record.state != "attached" or (yield from self._pending(record.path)):
            return
        try:
            there = self._found_again(record)
        except OSError as error:
            yield unreadable(record.path, b"", error, record.uid)
            return
        if there is not None:
            if record.path not in self._visited:
                yield from self._project(there, record.path)
            return
        yield claims.absent(record, self._met.get(number))

    def _found_again(self, record: records.Project) -> Descriptor | None:
        """The directory of a project in its place: that one, or one in which it was restored."""
        try:
            directory = self.backings.descend(record.path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if is_directory_of(record, directory):
            return directory
        seen = look(self.store, self.backings, directory, record.path)
        return directory if seen.verdict.rebind else None

    # -- containers --------------------------------------------------------------------------------

    def _container(self, backing: Backing) -> Iterator[Finding]:
        """Every directory outside of projects, and the projects in them. Holds few descriptors."""
        top = backing.container
        try:
            pending: list[tuple[Descriptor, bytes, bytes]] = [(backing.descriptor, top, b"")]
        except OSError as error:
            yield unreadable(top, b"", error)
            return
        while pending:
            parent, path, name = pending.pop()
            whole = joined(path, name)
            try:
                here = parent.child(name) if name else parent
                if here.device in self.skipped:
                    continue
                is_project = self._is_project(here, whole)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield unreadable(whole, b"", error)
                continue
            if is_project:
                yield from self._project(here, whole)
                continue
            try:
                for found, kind in entries(here):
                    self.progress()
                    if kind == "directory":
                        if whole != top or found != _CONTROL:
                            pending.append((here, whole, found))
                    elif leftovers.is_temporary(found):
                        yield from self._leftover(here, found, at=whole, path=found)
            except FileNotFoundError:
                continue
            except OSError as error:
                yield unreadable(whole, b"", error)

    def _is_project(self, directory: Descriptor, path: bytes) -> bool:
        """Also where a project was, or is to be, that has neither lock nor documents."""
        if any(directory.exists(name) for name in _MARKERS):
            return True
        for record in self._attached_now():
            if record.path == path and is_directory_of(record, directory):
                return True
        return any(path == intent.after.path for intent in self.store.read(View.intents))

    def _attached_now(self) -> list[records.Project]:
        """The attached projects, as of a second ago at most."""
        now = time.monotonic()
        if now > self._attached_until:
            self._attached = [each for each in self.store.read(View.projects) if each.state == "attached"]
            self._attached_until = now + _FRESH_SECONDS
        return self._attached

    # -- a project ---------------------------------------------------------------------------------

    def _project(self, directory: Descriptor, path: bytes) -> Iterator[Finding]:
        self.projects += 1
        self._visited.add(path)
        if (yield from self._pending(path)):
            return
        try:
            found = self._examined(directory, path)
            if any(each.is_failure for each in found):
                self._wait()
                if (yield from self._pending(path)):
                    return
                again = {each.key for each in self._examined(directory, path)}
                found = [each for each in found if each.key in again]
            seen = look(self.store, self.backings, directory, path)
        except FileNotFoundError:
            return  # it was removed or moved; that is told of where its record is missed
        except OSError as error:
            yield unreadable(path, b"", error)
            return
        yield from found
        if seen.verdict.state in (*HELD, State.LOST) and seen.record is not None:
            self._met[seen.record.number] = path
        yield from self._files(seen)

    def _examined(self, directory: Descriptor, path: bytes) -> list[Finding]:
        """What store and directory do not agree on at this moment. Raises OSError."""
        seen = look(self.store, self.backings, directory, path)
        found = list(claims.examine(seen))
        if seen.verdict.state in HELD and not seen.verdict.rebind and seen.record is not None:
            found.extend(documents.examine(seen, seen.record))
            found.extend(jobs.examine(seen, seen.record))
        return found

    def _pending(self, path: bytes) -> Generator[Finding, None, bool]:
        """Tells of an action on the project at this path that is under way; whether there is one."""
        there = False
        for intent in self.store.read(View.intents):
            if path == intent.after.path or (intent.before is not None and path == intent.before.path):
                there = True
                yield from self._tell(intent)
        return there

    def _tell(self, intent: records.Intent) -> Iterator[Finding]:
        if intent.after.number not in self._told:
            self._told.add(intent.after.number)
            yield claims.pending(intent, mounted=self.mounted)

    def _files(self, seen: Seen) -> Iterator[Finding]:
        """What lies in the directory that should not, and where its symlinks lead."""
        doubtful: dict[bytes, list[Finding]] = {}
        for finding in self._walked(seen):
            if finding.is_failure and finding.kind not in (Kind.TEMPORARY, Kind.ASIDE_LOCK, Kind.UNREADABLE):
                doubtful.setdefault(finding.path.partition(b"/")[0], []).append(finding)
            else:
                yield finding
        if doubtful:
            self._wait()
        for top, found in sorted(doubtful.items()):
            again = {each.key for each in self._walked(seen, top) if each.is_failure}
            yield from (each for each in found if each.key in again)

    def _walked(self, seen: Seen, only: bytes = b"") -> Iterator[Finding]:
        """One walk through the project. In a project of another instance only leftovers are ours."""
        links = Links.of(seen)
        foreign = seen.verdict.state is State.FOREIGN
        nested: bytes | None = None
        for entry in below(seen.directory, only):
            self.progress()
            if isinstance(entry, Unread):
                yield unreadable(seen.path, entry.path, entry.error, seen.uid)
            elif leftovers.is_temporary(entry.name) and entry.type != "directory":
                yield from self._leftover(
                    entry.directory, entry.name, at=seen.path, path=entry.whole, project=seen.uid
                )
            elif foreign:
                continue
            elif entry.type == "symlink":
                links.see(entry)
            elif entry.name in _MARKERS and entry.path and entry.path != nested:
                nested = entry.path
                yield _nested(seen, entry)
        yield from links.findings()

    def _leftover(
        self, directory: Descriptor, name: bytes, *, at: bytes, path: bytes, project: str = ""
    ) -> Iterator[Finding]:
        def examine() -> Finding | None:
            return leftovers.examine(
                Instance(self.store, self.backings, ""),
                directory,
                name,
                at=at,
                path=path,
                now_ns=self.now_ns,
                mounted=self.mounted,
                project=project,
            )

        try:
            found = examine()
            if found is not None and found.kind is Kind.ASIDE_LOCK:
                self._wait()
                found = examine()
        except OSError as error:
            yield unreadable(at, path, error, project)
            return
        if found is not None:
            yield found

    def _wait(self) -> None:
        time.sleep(self.patience)


def _nested(seen: Seen, entry: Entry) -> Finding:
    return Finding(
        kind=Kind.NESTED_PROJECT,
        severity=Severity.WARNING,
        project=seen.uid,
        directory=seen.path,
        path=entry.path,
        meaning=f"a directory in the project is a project itself: it has a {os.fsdecode(entry.name)}",
        advice="move it out of the project, or remove what makes it one",
    )
