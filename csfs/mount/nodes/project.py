"""Project directories: where names mean something, and rm, chmod and mkdir are actions."""

import os
import stat

from pyfuse3 import EntryAttributes, RequestContext, SetattrFields

from csfs.domain import names, refusals
from csfs.domain.lock import Lock
from csfs.domain.state import HELD, State
from csfs.lifecycle import checksums, processes
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach, let_go
from csfs.lifecycle.held_lock import unlock
from csfs.lifecycle.new_job import new_job, register
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import refuse_in_transition
from csfs.lifecycle.rescue import rescue
from csfs.lifecycle.unarchive import returning, unarchive
from csfs.mount.handles import FileHandle
from csfs.mount.nodes import served
from csfs.mount.nodes.base import VIRTUAL_ATTRIBUTES, Node, attribute_text, attribute_value
from csfs.mount.nodes.directory import Directory
from csfs.mount.nodes.job import JobDirectory
from csfs.mount.nodes.lock import LockFile
from csfs.mount.tree import Inode
from csfs.store import records

_LOCK = names.LOCK.encode()
_DOCUMENTS = frozenset(name.encode() for name in names.PROJECT_DOCUMENTS)

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_UNARCHIVE = b"user.csfs.unarchive"
_HEARTBEAT = b"user.csfs.heartbeat"
_RESCUE = b"user.csfs.rescue"
_ARCHIVE = b"user.csfs.archive"
_ACCEPT_CHANGES = b"accept-changes"
_CHECKSUM = b"checksum"
_COMPARE = b"compare"
_STOP = b"stop"


class ProjectDirectory(Directory):
    """The root of a project, in whatever state."""

    __slots__ = ()

    @property
    def own(self) -> Project:
        assert self.project is not None, "a project directory has its project"
        return self.project

    @property
    def _served(self) -> bool:
        """Whether lock and documents come from the store."""
        return self.own.state in HELD or self.own.state is State.LOST

    def special(self, name: bytes) -> Node | None:
        if not self._served or os.fsdecode(name) in self.own.removed:
            return super().special(name)
        if name == _LOCK:
            return LockFile(self, served.inode_of(self, name), self.own)
        if name in _DOCUMENTS:
            return served.document(self, name, name.decode())
        return super().special(name)

    def subdirectory(self, child: Inode) -> Node:
        if not names.is_job(os.fsdecode(child.name)):
            return super().subdirectory(child)
        if type(child.node) is JobDirectory and child.node.project is self.project:
            return child.node
        return JobDirectory(self.mount, child, self.standing, self.project)

    def takes_lock(self) -> bool:
        return self.own.is_free

    async def names(self) -> list[bytes]:
        listed = await super().names()
        if not self._served:
            return listed
        served = [name for name in (*sorted(_DOCUMENTS), _LOCK) if self.special(name) is not None]
        return [name for name in listed if name not in served] + served

    def touched(self, name: bytes) -> None:
        if name == _LOCK or name in _DOCUMENTS:
            self.own.fresh_until = 0

    # -- attach, detach, archive, unarchive ----------------------------------------------------------

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        if name == _LOCK and not self.own.is_free:
            await self._unlock(context)
        elif name in _DOCUMENTS and self.special(name) is not None:
            self.refuse_removal(name, context)
            if self.own.state is not State.ARCHIVED:
                raise refusals.document_stays(name.decode())
            await served.take_off(self, name, name.decode())
        else:
            await super().unlink(name, context)

    async def _unlock(self, context: RequestContext) -> None:
        """`rm cs.lock`: detaches an attached project, lets go of a lost one."""
        project, instance = self.own, self.mount.instance
        refuse_in_transition(project)
        if project.state is State.FOREIGN and await self.mount.look_again(project):
            await self.unlink(_LOCK, context)
            return
        if project.state is State.ARCHIVED:
            await self._last_to_leave(context)
            return
        self.mount.guard.unlocking(self.inode.id, context.pid, self.mount.path_of(project))
        if project.state is State.FOREIGN:
            await self._break()
        elif project.state is State.LOST:
            await let_go(instance, project)
        else:
            await detach(instance, project)

    async def _break(self) -> None:
        """Rescues from a dead owner, and from this instance where its own store knows of no claim.

        Such a lock was put back by hand, or the store was lost.
        """
        found, instance = self.own.sight.lock, self.mount.instance
        ours = isinstance(found, Lock) and found.instance_uuid == instance.identity.uuid
        await rescue(instance, self.own, found.lock_id if ours and found is not None else "")

    async def _last_to_leave(self, context: RequestContext) -> None:
        """The lock of an archived project goes when all else in its directory is gone."""
        project = self.own
        self.refuse_removal(_LOCK, context)
        left = set(await super().names()) - {_LOCK}
        if left:
            raise refusals.archive_leaves_whole(project.uid)
        project.fresh_until = 0
        await unlock(self.mount.instance, project, project.held)
        project.removed.add(names.LOCK)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        """chmod(2) archives and unarchives.

        The write bits of an archived project stay: as on a filesystem that is mounted read-only, it is
        not they that forbid writing, and its owner may still move or remove the directory.
        """
        project, instance = self.own, self.mount.instance
        if not fields.update_mode:
            return await super().setattr(wanted, fields, handle, context)
        writable = bool(wanted.st_mode & _WRITE)
        if project.state in HELD and not writable:
            if project.state is State.ATTACHED:
                await archive(instance, project)
            return await self.getattr()
        if project.state is State.ARCHIVED and writable:
            await self._unarchive(project.held, stat.S_IMODE(wanted.st_mode))
        elif self.mount.restorers.is_closing(self.inode.id, context.pid):
            self.refuse_change()
        elif writable and project.is_free:
            record = await returning(instance, project)
            if record is not None:
                await self._unarchive(record, stat.S_IMODE(wanted.st_mode))
        else:
            self.refuse_change()
        await self.io(self._apply, wanted, fields, context.uid)
        return await self.getattr()

    async def _unarchive(self, record: records.Project, mode: int, *, accept_changes: bool = False) -> None:
        """Unarchives with the directory already writable, for the lock is written in it."""
        before = stat.S_IMODE(os.fstat(self.descriptor.fd).st_mode)
        path = self.descriptor.path()
        os.chmod(path, mode)
        try:
            await unarchive(self.mount.instance, self.own, record, accept_changes=accept_changes)
        except BaseException:
            if self.own.state is not State.ATTACHED and not self.own.unsettled:
                os.chmod(path, before)
            raise
        self.own.removed.clear()

    # -- what stays in its place -----------------------------------------------------------------------

    def refuse_departure(self, name: bytes, context: RequestContext) -> None:
        if not self._served:
            return
        if name == _LOCK:
            raise refusals.lock_stays()
        if os.fsdecode(name) in self.own.jobs:
            raise refusals.job_stays(os.fsdecode(name))

    def refuse_name(self, name: bytes) -> None:
        super().refuse_name(name)
        if name == _LOCK and self._served:
            raise refusals.lock_stays()

    # -- new jobs --------------------------------------------------------------------------------------

    async def mkdir(self, name: bytes, mode: int, context: RequestContext) -> EntryAttributes:
        entry = await super().mkdir(name, mode, context)
        uid, project = os.fsdecode(name), self.own
        if project.state is State.ATTACHED and names.is_job(uid):
            known = uid in project.jobs
            try:
                await new_job(self.mount.instance, project, uid)
            except OSError:
                await self.remove(name, os.rmdir)
                self.mount.tree.forget(entry.st_ino, 1)
                raise
            if not known:
                project.new_jobs[uid] = processes.process_of(context.pid)
        return entry

    async def received(self, name: bytes) -> None:
        uid, project = os.fsdecode(name), self.own
        if project.state is not State.ATTACHED or not names.is_job(uid) or uid in project.jobs:
            return
        node = await self.child(name)
        if isinstance(node, JobDirectory):
            await register(self.mount.instance, project, node.descriptor, uid)

    # -- extended attributes ---------------------------------------------------------------------------

    def _attributes(self) -> dict[bytes, str]:
        project = self.own
        found = {b"user.csfs.state": project.state.value}
        if project.record is not None:
            number = project.record.number
            jobs = self.mount.instance.store.read(lambda view: len(view.job_uids(number)))
            found[b"user.csfs.uid"] = project.record.uid
            found[b"user.csfs.title"] = project.record.title
            found[b"user.csfs.lock_id"] = project.record.lock_id
            found[b"user.csfs.jobs"] = str(jobs)
        if isinstance(project.sight.lock, Lock) and not project.verdict.inert:
            found[b"user.csfs.instance"] = project.sight.lock.instance_name
        elif project.state in HELD:
            found[b"user.csfs.instance"] = self.mount.instance.identity.name
        if project.state is State.FOREIGN and project.sight.lock is not None:
            found[b"user.csfs.lock_id"] = project.sight.lock.lock_id
            if isinstance(project.sight.lock, Lock):
                liveness = self.mount.instance.liveness(project.directory)
                found[_HEARTBEAT] = liveness.describe(project.sight.lock.instance_uuid)
        if project.state is State.LOST and project.record is not None:
            number = project.record.number
            kept = self.mount.instance.store.read(lambda view: view.unexported(number))
            if kept:
                found[b"user.csfs.unexported"] = " ".join(kept)
        if project.state in HELD:
            found[b"user.csfs.owner"] = self.mount.instance.identity.name
        elif project.verdict.owner:
            found[b"user.csfs.owner"] = project.verdict.owner
        if project.export_failures:
            failed = (f"{path}: {why}" for path, why in sorted(project.export_failures.items()))
            found[b"user.csfs.export_failed"] = "; ".join(failed)
        if project.reading:
            found[b"user.csfs.reading"] = project.reading
        if project.verdict.reason:
            found[b"user.csfs.reason"] = project.verdict.reason
        return found

    async def getxattr(self, name: bytes) -> bytes:
        if name.startswith(VIRTUAL_ATTRIBUTES):
            if name == _HEARTBEAT:
                await self.mount.instance.liveness(self.own.directory).look()
            value = self._attributes().get(name)
            if value is not None:
                return attribute_value(value)
        return await super().getxattr(name)

    async def listxattr(self) -> list[bytes]:
        return [*await super().listxattr(), *self._attributes()]

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        if name == _RESCUE:
            await rescue(self.mount.instance, self.own, attribute_text(value))
            return
        if name in (_ARCHIVE, _UNARCHIVE) and value == _STOP:
            checksums.stop(self.own)
            return
        if name == _ARCHIVE and value == _CHECKSUM and self.own.state is State.ARCHIVED:
            checksums.begin(self.mount.instance, self.own, self.own.held, "checksum")
            return
        if name == _UNARCHIVE and value in (_ACCEPT_CHANGES, _COMPARE):
            project = self.own
            record = project.record if project.state is State.ARCHIVED else None
            record = record or await returning(self.mount.instance, project)
            if value == _COMPARE:
                if record is None:
                    project.reading = checksums.DONE
                else:
                    checksums.begin(self.mount.instance, project, record, "compare")
                return
            if record is not None:
                mode = stat.S_IMODE(os.fstat(self.descriptor.fd).st_mode) | stat.S_IWUSR
                await self._unarchive(record, mode, accept_changes=True)
                return
        await super().setxattr(name, value, context)
