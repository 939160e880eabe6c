"""Documents of a held project: read from the store, edited as a whole, exported from there."""

import os
import stat

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.domain import document, refusals
from csfs.lifecycle import documents
from csfs.lifecycle.new_job import write_first
from csfs.lifecycle.project import Project
from csfs.mount import attributes
from csfs.mount.handles import ContentHandle, FileHandle
from csfs.mount.nodes.base import Node
from csfs.mount.nodes.content import ContentFile
from csfs.mount.nodes.data import writes
from csfs.mount.nodes.setting import apply_by_name
from csfs.mount.tree import Inode

_MODE = 0o644


class Document(ContentFile):
    """project.json, workspaces.json or a job.json. Owner, mode and times are those of its export."""

    __slots__ = ("path", "directory")

    def __init__(self, directory: Node, inode: Inode, project: Project, path: str) -> None:
        super().__init__(directory.mount, inode, directory.standing, project)
        self.directory = directory.inode
        """In which it lies."""
        self.path = path
        """In the project."""

    @property
    def held(self) -> Project:
        assert self.project is not None, "documents lie in projects"
        return self.project

    def read(self) -> bytes:
        return documents.read(self.mount.instance, self.held, self.path)

    async def getattr(self) -> EntryAttributes:
        head = documents.head(self.mount.instance, self.held, self.path)
        if head is None:
            raise FileNotFoundError(2, self.path)
        directory = self.mount.tree.descriptor(self.directory)
        try:
            exported = await self.io(directory.stat, self.name)
        except FileNotFoundError:
            around = os.fstat(directory.fd)
            mode, uid, gid = _MODE, around.st_uid, around.st_gid
        else:
            mode, uid, gid = stat.S_IMODE(exported.st_mode), exported.st_uid, exported.st_gid
        return attributes.of_content(
            self.inode, size=head.size, mtime_ns=head.mtime_ns, mode=mode, uid=uid, gid=gid
        )

    @property
    def name(self) -> bytes:
        return self.path.rpartition("/")[2].encode()

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        self.refuse_change()
        if fields.update_size:
            await self._resize(wanted.st_size, handle)
        else:
            await self._set_others(wanted, fields, context.uid)
        entry = await self.getattr()
        if fields.update_size:
            entry.st_size = wanted.st_size
        return entry

    async def _resize(self, size: int, handle: FileHandle | None) -> None:
        if isinstance(handle, ContentHandle):
            resize(handle.content, size)
            handle.dirty = True
            return
        content = bytearray(self.read())
        resize(content, size)
        await self.edit(bytes(content))

    async def _set_others(self, wanted: EntryAttributes, fields: SetattrFields, uid: int) -> None:
        """Owner and mode are those of the exported file, the mtime is the document's."""
        if fields.update_mtime:
            await documents.set_mtime(self.mount.instance, self.held, self.path, wanted.st_mtime_ns)
        if fields.update_mode or fields.update_uid or fields.update_gid:
            directory = self.mount.tree.descriptor(self.directory)
            await self.io(apply_by_name, directory, self.name, wanted, fields, uid)

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        writable = writes(flags)
        if writable:
            self.refuse_change()
        truncated = bool(flags & os.O_TRUNC)
        content = bytearray() if truncated else bytearray(self.read())
        handle = ContentHandle(
            self.inode,
            context,
            writable,
            content,
            append=bool(flags & os.O_APPEND),
            dirty=truncated,
            document=self,
        )
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)

    async def edit(self, content: bytes) -> None:
        """Puts a new version in place. Raises Refusal EINVAL if it is not valid; the old one stays."""
        self.refuse_change()
        await documents.edit(self.mount.instance, self.held, self.path, content)

    async def getxattr(self, name: bytes) -> bytes:
        if name == b"user.csfs.exported":
            number = self.held.held.number
            exported = self.mount.instance.store.read(lambda view: view.is_exported(number, self.path))
            return b"yes" if exported else b"no"
        return await super().getxattr(name)

    async def listxattr(self) -> list[bytes]:
        return [b"user.csfs.exported"]


class NewDocument(Document):
    """The job.json of a job whose directory was just made: what is written may be that of a copy."""

    __slots__ = ()

    async def open_empty(self, context: RequestContext) -> FileInfo:
        """A handle to write the document through, as if it was not there yet."""
        handle = ContentHandle(self.inode, context, True, bytearray(), document=self)
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)

    async def edit(self, content: bytes) -> None:
        self.refuse_change()
        uid = self.path.partition("/")[0]
        await write_first(self.mount.instance, self.held, uid, content)
        self.held.new_jobs.pop(uid, None)


def refuse_size(size: int) -> None:
    """Passes if a document may have so many bytes. Raises Refusal EFBIG: they are kept in memory."""
    if size > document.MAX_BYTES:
        raise refusals.document_size(f"{size} bytes, at most {document.MAX_BYTES}")


def resize(content: bytearray, size: int) -> None:
    """ftruncate(2) for bytes in memory. Raises Refusal EFBIG."""
    refuse_size(size)
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))
