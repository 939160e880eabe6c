"""Data files, symlinks and special files: what they are on the backing filesystem, they are here."""

import os
from typing import TYPE_CHECKING

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing.descriptor import open_file
from csfs.domain import names, refusals
from csfs.mount import attributes, kernel
from csfs.mount.handles import DataHandle, FileHandle
from csfs.mount.nodes.base import BackingNode, apply_to_descriptor
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_KEPT = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC
"""Flags of open(2) that go through to the backing filesystem. O_DIRECT would want aligned memory."""


def writes(flags: int) -> bool:
    """Whether a file opened with these flags may be changed through it."""
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def open_data(mount: "Mount", inode: Inode, fd: int, writable: bool, context: RequestContext) -> FileInfo:
    """The answer to an open or create: passthrough if the kernel can, else through the daemon."""
    backing_id = mount.passthrough.open(inode.id, fd, cached=bool(inode.open_fds))
    handle = DataHandle(inode, context, writable, fd, passthrough=bool(backing_id))
    flush = writable or not mount.passthrough.can_skip_flush
    number = mount.handles.add_file(handle)
    return FileInfo(fh=kernel.handle(number, backing_id=backing_id, flush=flush), keep_cache=False)


class DataFile(BackingNode):
    """A file whose bytes csfs does not interpret."""

    __slots__ = ()

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        writable = writes(flags)
        if writable:
            self.refuse_change()
            self._refuse_inert_lock()
        directory, name = self.place()
        fd = await self.mount.instance.io(open_file, directory, name, flags & _KEPT)
        return open_data(self.mount, self.inode, fd, writable, context)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        if isinstance(handle, DataHandle) and fields.update_size:
            self.refuse_change()
            await self.mount.instance.io(apply_to_descriptor, handle.fd, wanted, fields)
            return attributes.of_file(await self.stat(), self.inode)
        if fields.update_mtime or fields.update_size:
            self._refuse_inert_lock()
        return await super().setattr(wanted, fields, handle, context)

    def _refuse_inert_lock(self) -> None:
        """`touch` on a cs.lock that came with a copy would do nothing; it is refused instead."""
        project, parent = self.project, self.inode.parent
        if self.inode.name != names.LOCK.encode() or project is None or parent is None:
            return
        if parent.number == project.inode and project.is_free:
            raise refusals.inert_lock(project.verdict.owner or "a copy")
