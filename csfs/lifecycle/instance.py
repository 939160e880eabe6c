"""The instance on this node: its store, its backing directories, and the projects it knows."""

import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import trio

from csfs.backing import lockfile, temporary
from csfs.backing.backings import Backing, Backings
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import lock, names, refusals, session
from csfs.domain.document import Value
from csfs.domain.state import HELD, Verdict, judge
from csfs.lifecycle import clock
from csfs.lifecycle.liveness import Liveness
from csfs.lifecycle.project import Project, Sight
from csfs.store import records
from csfs.store.store import Store, View

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0
"""How long a look at a directory on the backing filesystem is believed."""
CONFIRM_SECONDS = 3.0
"""How long a lock that was read is believed to say the same, although its file seems not to have changed."""

_DOCUMENT = names.PROJECT_DOCUMENT.encode()


@dataclass
class Claims:
    """The store's project records, findable by what is seen of a directory.

    `filesystem` says on which one a path lies: an inode number tells on one of them only.
    """

    filesystem: Callable[[bytes], bytes] = lambda path: b""
    by_number: dict[int, records.Project] = field(default_factory=dict)
    _by_lock: dict[str, int] = field(default_factory=dict)
    _by_inode: dict[tuple[bytes, int], int] = field(default_factory=dict)

    def put(self, record: records.Project) -> None:
        self.drop(record.number)
        self.by_number[record.number] = record
        self._by_lock[record.lock_id] = record.number
        if record.state == "attached":
            self._by_inode[self._place(record)] = record.number
        elif record.state == "archived":
            self._by_inode.setdefault(self._place(record), record.number)

    def _place(self, record: records.Project) -> tuple[bytes, int]:
        return self.filesystem(record.path), record.inode

    def drop(self, number: int) -> None:
        before = self.by_number.pop(number, None)
        if before is not None:
            self._by_lock.pop(before.lock_id, None)
            if self._by_inode.get(self._place(before)) == number:
                del self._by_inode[self._place(before)]

    def by_lock(self, lock_id: str) -> records.Project | None:
        number = self._by_lock.get(lock_id)
        return None if number is None else self.by_number[number]

    def by_inode(self, inode: int, filesystem: bytes = b"") -> records.Project | None:
        """The project held in the directory with this inode; an attached one if there is one."""
        number = self._by_inode.get((filesystem, inode))
        return None if number is None else self.by_number[number]


class Instance:
    """One logical owner of projects, on one node.

    `changed` is called, in the event loop, after a project has taken another state: the mount drops
    what it derived from the old one. `writers` tells who has files of a project open for writing.
    """

    def __init__(
        self,
        store: Store,
        backings: Backings,
        mountpoint: str,
        *,
        takeover: float = session.TAKEOVER_SECONDS,
    ) -> None:
        self.store = store
        self.backings = backings
        self.mountpoint = mountpoint
        self.identity = store.read(View.instance)
        self.claims = self._known()
        self.projects: dict[tuple[bytes, int], Project] = {}
        """By `Backings.identity` of their directories."""
        self.changed: Callable[[Project], None] = lambda project: None
        self.writers: Callable[[Project], list[str]] = lambda project: []
        self.spawn: Callable[..., None] = _refuse_to_spawn
        """Starts an async function in the background; see `checksums.serve`."""
        self.since = timestamp()
        self._liveness: dict[bytes, Liveness] = {}
        for each in backings.present:
            each.descriptor.mark = temporary.mark(self.identity.uuid)
            self._liveness[each.container] = Liveness(
                each.descriptor, self.identity, self.since, self._next_project, takeover
            )
        self.unsettled: dict[int, records.Intent] = {}
        """Actions of this mount that failed half way, by project number; see `intents.whole`."""
        self.exports_due = trio.Event()
        """Set when an action has left documents for the background to export."""

    def _known(self) -> Claims:
        claims = Claims(self.backings.filesystem)
        for record in self.store.read(View.projects):
            claims.put(record)
        return claims

    def put_away(self, backing: Backing, reason: str) -> None:
        """Has a backing directory count as not there, before anything was looked at."""
        self.backings.put_away(backing, reason)
        self.claims = self._known()

    def liveness(self, directory: Descriptor) -> Liveness:
        """The heartbeat on the storage on which a directory lies."""
        return self._liveness[directory.container]

    def heart(self, backing: Backing) -> Liveness:
        """The heartbeat on a storage that is there."""
        return self._liveness[backing.container]

    def confirm_sole_mount(self, directory: Descriptor) -> None:
        """Passes if no other mount of this instance has taken its place; looks, if the heartbeat is late.

        Blocking then. Raises Refusal EROFS, OSError.
        """
        self.liveness(directory).confirm()
        self.refuse_mounted_twice(directory)

    def refuse_mounted_twice(self, directory: Descriptor) -> None:
        """The same by what the last heartbeat has found. Raises Refusal EROFS."""
        successor = self.liveness(directory).successor
        if successor is not None:
            raise refusals.mounted_twice(successor.describe())

    def _next_project(self) -> int:
        return self.store.read(View.instance).next_project

    # -- recognising ------------------------------------------------------------------------------

    def look(self, directory: Descriptor) -> Sight:
        """What lies in a directory on the backing filesystem. Blocking. Raises OSError."""
        now = clock.seconds()
        signature = lockfile.signature(directory)
        found = None
        network = self.backings.of(directory).network
        if signature is not None or network:
            found = lockfile.read(directory, network=network)
        return Sight(signature, found, directory.exists(_DOCUMENT), directory.born(), now)

    def is_closed(self, directory: Descriptor) -> bool:
        """Whether this process may not search a directory of which nothing is known.

        Nothing in it can be reached then, so that it is no more than what its own mode and owner say.
        Blocking. Raises OSError.
        """
        filesystem, inode = identity = self.backings.identity(directory)
        if identity in self.projects or self.claims.by_inode(inode, filesystem) is not None:
            return False
        try:
            directory.exists(_DOCUMENT)
        except PermissionError:
            return True
        return False

    def glance(self, directory: Descriptor, before: Sight) -> Sight:
        """The same as `look`, but a lock that seems not to have changed is read again only after a while.

        That confirms it, for a network filesystem may show what a file was (design section 4).
        """
        liveness = self.liveness(directory)
        if liveness.is_late:
            liveness.confirm()
            return self.look(directory)
        if clock.seconds() > before.read_at + CONFIRM_SECONDS:
            return self.look(directory)
        signature = lockfile.signature(directory)
        if signature is None or signature != before.signature:
            return self.look(directory)
        return Sight(signature, before.lock, directory.exists(_DOCUMENT), before.born, before.read_at)

    def judge(self, sight: Sight, inode: int, path: bytes) -> tuple[Verdict, records.Project | None]:
        """What the directory is for this instance, and the record that makes it so."""
        filesystem = self.backings.filesystem(path)
        claim = self.claims.by_inode(inode, filesystem)
        attached_here = claim is not None and claim.state == "attached" and claim.path == path
        if isinstance(sight.lock, lock.Lock) and not attached_here:
            claim = self.claims.by_lock(sight.lock.lock_id) or claim
        verdict = judge(
            lock=sight.lock,
            has_project_document=sight.has_project_document,
            inode=inode,
            born=sight.born,
            path=path,
            instance_uuid=self.identity.uuid,
            claim=claim,
            elsewhere=claim is not None and self.backings.filesystem(claim.path) != filesystem,
        )
        successor = self._liveness[self.backings.container(path)].successor
        return verdict if successor is None else verdict.left_to(successor.describe()), claim

    def settle(self, directory: Descriptor, path: bytes, sight: Sight) -> Project | None:
        """Takes note of what was seen of a directory: its project, or None if it is plain."""
        identity = self.backings.identity(directory)
        project = self.projects.get(identity)
        verdict, claim = self.judge(sight, directory.inode, path)
        if project is None:
            if sight.lock is None and not sight.has_project_document and claim is None:
                return None
            project = Project(directory, path, sight, verdict)
            self._adopt(project, verdict, claim)
            self.projects[identity] = project
            self.changed(project)
        else:
            project.path = path
            project.sight = sight
            if verdict != project.verdict or (project.record is not None and project.record is not claim):
                self._adopt(project, verdict, claim)
        self._seen(project)
        if sight.lock is None and not sight.has_project_document and project.record is None:
            del self.projects[identity]
            return None
        return project

    def _adopt(self, project: Project, verdict: Verdict, claim: records.Project | None) -> None:
        changed = project.verdict.state is not verdict.state
        owned = verdict.state in HELD or verdict.state == "lost"
        record = claim if owned else None
        if record is not None and not project.jobs:
            number = record.number
            project.jobs = self.store.read(lambda view: view.job_uids(number))
        project.verdict, project.record = verdict, record
        if record is None:
            project.jobs = set()
            project.new_jobs.clear()
            project.export_failures.clear()
        if changed:
            project.reading = ""
            self.changed(project)

    def enter(self, project: Project, record: records.Project | None, sight: Sight) -> None:
        """Puts a project into the state that follows from an action that has just been committed."""
        if record is not None:
            self.claims.put(record)
        project.sight = sight
        verdict, claim = self.judge(sight, project.inode, project.path)
        project.jobs = set()
        self._adopt(project, verdict, claim)
        self._seen(project)

    async def arrive(self, project: Project, record: records.Project | None) -> None:
        """Puts a project into the state of a record that has just been committed; None: it has none.

        Its directory is looked at. Where that fails the action is done all the same, and the next request
        has to look again.
        """
        if record is not None:
            self.claims.put(record)
        project.fresh_until = 0
        try:
            self.enter(project, record, await in_thread(self.look, project.directory))
        except OSError as error:
            log.warning("%s cannot be looked at: %s", os.fsdecode(project.path), error)
            self.changed(project)

    def _seen(self, project: Project) -> None:
        """Believes what was seen for a while, and not when this instance may be taken for dead."""
        late_from = self.liveness(project.directory).late_from
        project.fresh_until = min(clock.seconds() + FRESH_SECONDS, late_from)

    async def visit(self, record: records.Project) -> Project | None:
        """The project of a record, where the record says it is; None if it is not there.

        Raises OSError.
        """

        def find() -> tuple[Descriptor, Sight]:
            directory = self.backings.descend(record.path)
            return directory, self.look(directory)

        try:
            directory, sight = await in_thread(find)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self.settle(directory, record.path, sight)

    # -- what an action writes --------------------------------------------------------------------

    def new_lock(
        self,
        directory: Descriptor,
        path: bytes,
        *,
        lock_id: str,
        project_uuid: str,
        number: int,
        epoch: int,
        archived: bool = False,
    ) -> bytes:
        """The bytes of a lock by which this instance holds `directory`."""
        return lock.Lock(
            lock_id=lock_id,
            instance_uuid=self.identity.uuid,
            instance_name=self.identity.name,
            project_uuid=project_uuid,
            project_uid=names.project_uid(number),
            state="archived" if archived else "attached",
            epoch=epoch,
            inode=directory.inode,
            born=directory.born(),
            path=path.decode(errors="backslashreplace"),
            host=socket.gethostname(),
            since=timestamp(),
        ).encode()

    def relocked(
        self, record: records.Project, directory: Descriptor, path: bytes, *, archived: bool
    ) -> records.Project:
        """The record with its lock written anew for this state and place; opaque bytes stay."""
        content = record.lock_content
        if isinstance(lock.parse(content), lock.Lock):
            content = self.new_lock(
                directory,
                path,
                lock_id=record.lock_id,
                project_uuid=record.uuid,
                number=record.number,
                epoch=record.epoch,
                archived=archived,
            )
        return msgspec.structs.replace(
            record,
            state="archived" if archived else "attached",
            path=path,
            inode=directory.inode,
            born=directory.born(),
            lock_content=content,
            since=timestamp(),
        )

    def identity_values(self, record: records.Project) -> dict[str, Value]:
        """The identity keys of the project's project.json."""
        return {
            "uid": record.uid,
            "uid_num": record.number,
            "project_dir": os.path.join(self.mountpoint, os.fsdecode(record.path))
            .encode(errors="backslashreplace")
            .decode(),
            "archived": record.state == "archived",
            "detached": record.state == "detached",
        }


def is_directory_of(record: records.Project, directory: Descriptor) -> bool:
    """Whether this is the directory in which the project of a record lies, or lay."""
    return lock.is_same_directory(record.inode, record.born, directory.inode, directory.born())


def owner_of(directory: Descriptor) -> tuple[int, int]:
    """Uid and gid for files that csfs makes in a directory: those of the directory."""
    found = os.fstat(directory.fd)
    return found.st_uid, found.st_gid


def timestamp() -> str:
    """Now, ISO 8601 in UTC, as MongoDB's extended JSON has it: `2026-05-15T10:00:00.000Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refuse_to_spawn(function: Callable[..., object], *arguments: object) -> None:
    raise OSError(errno.EAGAIN, "the mount is only just beginning, or ending")
