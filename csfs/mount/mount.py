"""One mount: what its nodes share, and how it is found out what an inode is at the moment."""

import os
from collections import Counter

import msgspec
from pyfuse3 import EntryAttributes, RequestContext

from csfs import __version__
from csfs.backing.backings import Backing
from csfs.domain import names, state
from csfs.domain.printable import shown
from csfs.domain.state import State
from csfs.lifecycle import clock, processes
from csfs.lifecycle.backlog import Backlog
from csfs.lifecycle.daily_backup import DailyBackup
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project
from csfs.mount.handles import Handles
from csfs.mount.kernel import Passthrough
from csfs.mount.nodes.base import Always, Node
from csfs.mount.nodes.container import RootContainer
from csfs.mount.nodes.containers import ContainersDirectory
from csfs.mount.nodes.control import ControlDirectory
from csfs.mount.nodes.directory import Directory
from csfs.mount.nodes.lock import PendingLock
from csfs.mount.refusal_log import RefusalLog
from csfs.mount.requests import Requests
from csfs.mount.restorers import Restorers
from csfs.mount.sweep import SweepGuard
from csfs.mount.tree import Inode, Tree

_WAITING_SHOWN = 20
"""Documents that wait for their export, and are named by `.csfs/status.json`."""


class Mount:
    """The instance, the tree and what is open in it.

    What a node is follows from where it lies, and from the state of the project around it. It is
    worked out from the top down and kept until something that it was derived from changes: then the
    tree's epoch grows, or the look at the backing directory that it rests on is too old.
    """

    def __init__(
        self,
        instance: Instance,
        backing: str,
        *,
        descriptors: int,
        files: int,
        backup: DailyBackup,
        passthrough: bool = True,
        strict: bool = False,
    ) -> None:
        self.instance = instance
        self.backup = backup
        self.backing = backing
        """The path of the backing directory, or of the file that names the containers, for people."""
        self.tree = Tree(instance.backings, descriptors=descriptors)
        self.handles = Handles(files)
        self.passthrough = Passthrough(wanted=passthrough)
        self.strict = strict
        """Whether files in projects are written through the daemon, which asks each time whether it may."""
        self.guard = SweepGuard()
        self.restorers = Restorers()
        self.refusals = RefusalLog()
        self.backlog = Backlog(instance)
        self.requests: dict[str, Requests] = {}
        """By kind."""
        self.pending_locks: dict[int, PendingLock] = {}
        """New cs.lock files that are still being written, by the id of their directory."""
        self.control = ControlDirectory(self)
        self._root = (RootContainer if instance.backings.is_one else ContainersDirectory)(
            self, self.tree.root
        )
        instance.changed = self._project_changed
        instance.writers = self._writers

    def node(self, id: int) -> Node | None:
        """The node of an inode if that is known and still valid; otherwise `recognise` is asked."""
        inode = self.tree.inodes[id]
        node = inode.node
        if (
            node is not None
            and inode.epoch == self.tree.epoch
            and node.standing.fresh_until > clock.seconds()
        ):
            return node
        return None

    async def recognise(self, inode: Inode) -> Node:
        """Works out what an inode is now, and everything above it that is no longer certain.

        Raises OSError if the backing directory cannot be looked at, ESTALE for what is gone.
        """
        now = clock.seconds()
        chain = [inode]
        while (parent := chain[-1].parent) is not None:
            node = parent.node
            if node is not None and parent.epoch == self.tree.epoch and node.standing.fresh_until > now:
                break
            chain.append(parent)
        found: Node | None = None
        for at in reversed(chain):
            above = at.parent
            if above is None:
                found = await self._root.identify_root()
            else:
                assert isinstance(above.node, Directory), "what lies in it makes it a directory"
                found = await above.node.identify(at)
            at.node = found
            at.epoch = self.tree.epoch
        assert found is not None
        return found

    def path_in(self, directory: Inode, name: bytes) -> str:
        """The absolute path of a file, as the users of the mount see it."""
        return os.path.join(self.instance.mountpoint, os.fsdecode(directory.path()), os.fsdecode(name))

    def path_of(self, project: Project) -> str:
        """The absolute path of a project directory, as the users of the mount see it."""
        return os.path.join(self.instance.mountpoint, os.fsdecode(project.path)).rstrip("/")

    async def confirm(self, project: Project) -> None:
        """Passes if an open file of a project may still be written. Raises Refusal EROFS, OSError."""
        if project.fresh_until <= clock.seconds():
            await self._glance(project)
        state.refuse_change(project.state, project.verdict, project.uid)

    async def look_again(self, project: Project) -> bool:
        """Looks at a project's directory whatever is known of it; whether its state has changed.

        Where it lies is not looked at, and so is not believed any longer than before.
        """
        before, fresh_until = project.state, project.fresh_until
        await self._glance(project)
        project.fresh_until = min(project.fresh_until, fresh_until)
        return project.state is not before

    async def _glance(self, project: Project) -> None:
        sight = await self.instance.backings.of(project.directory).io(
            self.instance.glance, project.directory, project.sight
        )
        self.instance.settle(project.directory, project.path, sight)

    async def lookup_again(self, directory: Inode, name: bytes, context: RequestContext) -> EntryAttributes:
        """Looks a name up in a directory that an action has just made into something else."""
        return await (await self.directory(directory.id)).lookup(name, context)

    async def changing(self, id: int) -> Node:
        """The node of an inode that is about to be changed.

        What nobody owned a moment ago, another instance may own by now: that is looked at whatever is
        known of it. Raises OSError.
        """
        inode = self.tree.inodes[id]
        node = self.node(id) or await self.recognise(inode)
        if node.is_free and not isinstance(node.standing, Always):
            node.standing.fresh_until = 0
            node = await self.recognise(inode)
        return node

    async def changing_directory(self, id: int) -> Directory:
        node = await self.changing(id)
        assert isinstance(node, Directory), "the kernel asks this of directories only"
        return node

    async def directory(self, id: int) -> Directory:
        node = self.node(id) or await self.recognise(self.tree.inodes[id])
        assert isinstance(node, Directory), "the kernel asks this of directories only"
        await self.reach(node.inode)
        return node

    async def reach(self, directory: Inode) -> None:
        """Opens a directory again whose descriptor was put away: a handler that needs it must not block.

        Raises OSError, ESTALE for one that is gone.
        """
        if directory.descriptor is None and directory.number and directory.is_directory:
            way = self.tree.way(directory)
            self.tree.opened(way, await directory.backing.io(way.open))

    def projects_by_state(self) -> Counter[str]:
        """How many projects there are in each state that some are in.

        Those of the instance, and foreign ones that were looked at since the mount.
        """
        states = Counter[str](record.state for record in self.instance.claims.by_number.values())
        for project in self.instance.projects.values():
            if project.state is State.FOREIGN:
                states[State.FOREIGN] += 1
            elif project.state is State.LOST:
                states[State.LOST] += 1
                states[project.held.state] -= 1
        return +states

    def status(self) -> bytes:
        """What `.csfs/status.json` shows."""
        instance = self.instance
        waiting = sorted(self.backlog.since.items(), key=lambda each: each[1])[:_WAITING_SHOWN]
        status = {
            "mountpoint": _text(instance.mountpoint),
            "backing": _text(self.backing),
            "instance": instance.identity.name,
            "instance_uuid": instance.identity.uuid,
            "pid": os.getpid(),
            "state": "ready",
            "version": __version__,
            "since": instance.since,
            "projects": self.projects_by_state(),
            "unsettled": [
                f"{intent.action} of {shown(intent.after.path)}" for intent in instance.unsettled.values()
            ],
            "store_bytes": 0 if instance.store.problem else instance.store.size(),
            "state_directory": _text(instance.store.directory),
            "store_problem": instance.store.problem,
            "transitions": {
                shown(project.path): {
                    "action": project.transition,
                    "done": project.progress,
                    "total": project.total,
                }
                for project in instance.projects.values()
                if project.transition
            }
            | {
                shown(self.tree.inodes[directory].path()): {"action": pending.making, "done": 0}
                for directory, pending in self.pending_locks.items()
            },
            "exports_waiting": {
                "documents": len(self.backlog.since),
                "oldest_seconds": round(self.backlog.oldest_seconds, 1),
                "first": [f"{names.project_uid(number)}/{path}" for (number, path), _ in waiting],
                "held_back": self.backlog.held_back,
            },
            "exports_failing": {
                f"{project.uid}/{path}": reason
                for project in instance.projects.values()
                for path, reason in project.export_failures.items()
            },
            "backup": self.backup.status(),
            "strict": self.strict,
            "containers": [self._container_status(each) for each in instance.backings],
            "open_files": len(self.handles.files),
            "known_inodes": len(self.tree.inodes),
            "refusals": len(self.refusals.entries),
        }
        return msgspec.json.format(msgspec.json.encode(status), indent=2) + b"\n"

    def _container_status(self, backing: Backing) -> dict[str, object]:
        about: dict[str, object] = {
            "name": shown(backing.container),
            "backing": _text(backing.path),
            "away": _text(backing.away),
            "io": "threads" if backing.threads else "inline",
            "passthrough": self.passthrough.off_in(backing.container) or "active",
        }
        if backing.away:
            return about
        liveness = self.instance.heart(backing)
        about["heartbeat"] = {
            "takeover_seconds": liveness.takeover,
            "late": liveness.is_late,
            "problem": liveness.problem,
        }
        about["sessions"] = [
            {
                "instance": pulse.session.instance_name,
                "instance_uuid": pulse.session.instance_uuid,
                "host": pulse.session.host,
                "pid": pulse.session.pid,
                "since": pulse.session.since,
                "life": pulse.life(liveness.takeover),
                "silent_seconds": round(pulse.still, 1),
            }
            for pulse in liveness.others
        ]
        return about

    def _project_changed(self, project: Project) -> None:
        self.tree.epoch += 1

    def _writers(self, project: Project) -> list[str]:
        found = []
        root = self.tree.id_at(project.directory)
        for handle in self.handles.writers():
            at: Inode | None = handle.inode
            while at is not None and at.id != root:
                at = at.parent
            if at is not None:
                path = shown(handle.inode.path())
                found.append(f"{path} is open in {processes.describe(handle.context.pid)}")
        return sorted(found)


def _text(path: str) -> str:
    """A path as JSON can have it: bytes that are not UTF-8 are escaped."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
