"""Job directories: `J7` at the top of a project."""

import errno
import os

from pyfuse3 import EntryAttributes, FileInfo, RequestContext

from csfs.domain import names
from csfs.domain.state import HELD, State
from csfs.lifecycle import documents, processes
from csfs.lifecycle.delete_job import delete_job
from csfs.lifecycle.new_job import new_job
from csfs.mount.nodes import served
from csfs.mount.nodes.base import VIRTUAL_ATTRIBUTES, Node, attribute_text, attribute_value
from csfs.mount.nodes.directory import Directory
from csfs.mount.nodes.document import Document, NewDocument

_DOCUMENT = names.JOB_DOCUMENT.encode()
_STATUS = b"user.csfs.status"
_COPIERS = frozenset({"cp", "mv"})


class JobDirectory(Directory):
    """The directory of a job; of an ordinary kind as long as no instance holds its project."""

    __slots__ = ()

    @property
    def uid(self) -> str:
        return os.fsdecode(self.inode.name)

    def special(self, name: bytes) -> Node | None:
        project = self.project
        if name != _DOCUMENT or project is None or project.record is None:
            return None
        path = documents.job_path(self.uid)
        if path in project.removed:
            return None
        kind = NewDocument if self.uid in project.new_jobs else Document
        return served.document(self, name, path, kind)

    async def names(self) -> list[bytes]:
        listed = await super().names()
        if _DOCUMENT not in listed and self.special(_DOCUMENT) is not None:
            listed.append(_DOCUMENT)
        return listed

    # -- a job that was just made, and may be a copy on its way ---------------------------------------

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        if name == _DOCUMENT and self._is_being_copied_by(context):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return await super().lookup(name, context)

    def _is_being_copied_by(self, context: RequestContext) -> bool:
        """Whether the caller has just made this directory for a copy, and insists on making its files too.

        cp and mv open each with O_EXCL. Others (rsync, tar, shutil) replace what is there.
        """
        maker = self.project.new_jobs.get(self.uid) if self.project is not None else None
        if maker is None or maker != processes.process_of(context.pid):
            return False
        try:
            return processes.command(maker) in _COPIERS
        except OSError:
            return False

    async def create(
        self, name: bytes, mode: int, flags: int, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        project = self.project
        if name != _DOCUMENT or project is None or project.state is not State.ATTACHED:
            return await super().create(name, mode, flags, context)
        self.refuse_change()
        if self.uid not in project.jobs:
            await new_job(self.mount.instance, project, self.uid)
            project.new_jobs[self.uid] = processes.process_of(context.pid)
        document = self.special(name)
        if not isinstance(document, NewDocument):
            return await super().create(name, mode, flags, context)
        document.inode.lookups += 1
        return await document.open_empty(context), await document.getattr()

    # -- removing, and attributes ----------------------------------------------------------------------

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        project = self.project
        registered = project is not None and project.state in HELD and self.uid in project.jobs
        if project is None or name != _DOCUMENT or not registered:
            await super().unlink(name, context)
            return
        making = self.mount.guard.is_making(self.inode.id, context.pid)
        if self.uid in project.new_jobs and making:
            self.refuse_change()  # nobody has written it yet: a restore puts its own in its place
        else:
            self.refuse_removal(name, context)
        if project.state is State.ARCHIVED:
            await served.take_off(self, name, documents.job_path(self.uid))
        else:
            await delete_job(self.mount.instance, project, self.uid)

    def _attributes(self) -> dict[bytes, str]:
        project = self.project
        if project is None or project.record is None:
            return {}
        number = project.record.number
        found = self.mount.instance.store.read(lambda view: view.job(number, self.uid))
        if found is None:
            return {}
        return {
            b"user.csfs.uid": found.uid,
            _STATUS: found.status,
            b"user.csfs.type": found.type,
            b"user.csfs.title": found.title,
            b"user.csfs.attach_status": found.attach_status,
        }

    async def getxattr(self, name: bytes) -> bytes:
        value = self._attributes().get(name) if name.startswith(VIRTUAL_ATTRIBUTES) else None
        return await super().getxattr(name) if value is None else attribute_value(value)

    async def listxattr(self) -> list[bytes]:
        return [*await super().listxattr(), *self._attributes()]

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        project = self.project
        if name != _STATUS or project is None or self.uid not in project.jobs:
            await super().setxattr(name, value, context)
            return
        self.refuse_change()
        status = attribute_text(value)
        await documents.set_status(self.mount.instance, project, self.uid, status)
        project.new_jobs.pop(self.uid, None)
