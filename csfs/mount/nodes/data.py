"""Data files, symlinks and special files: what they are on the backing filesystem, they are here."""

import errno
import os
import stat
from typing import TYPE_CHECKING

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing.descriptor import Descriptor, open_file
from csfs.domain import names, refusals
from csfs.lifecycle.project import Project
from csfs.mount import attributes, kernel
from csfs.mount.handles import DataHandle, FileHandle
from csfs.mount.nodes.base import SET_ID, BackingNode, apply_to_descriptor, held_path
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_KEPT = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC
"""Flags of open(2) that go through to the backing filesystem. O_DIRECT would want aligned memory."""


def writes(flags: int) -> bool:
    """Whether a file opened with these flags may be changed through it."""
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def open_data(
    mount: "Mount", inode: Inode, fd: int, writable: bool, context: RequestContext, project: Project | None
) -> FileInfo:
    """The answer to an open or create: passthrough if the kernel can, else through the daemon.

    On a strict mount all that is written in a project comes to the daemon. The kernel allows no mixture of
    passthrough and page cache in one file; direct I/O goes with both.
    """
    backing_id = mount.passthrough.open(inode.id, fd, cached=bool(inode.open_fds))
    strict = writable and mount.strict and project is not None
    handle = DataHandle(inode, context, writable, fd, project=project, passthrough=bool(backing_id))
    flush = writable or not mount.passthrough.extends
    number = mount.handles.add_file(handle)
    fh = kernel.handle(number, backing_id=backing_id, flush=flush)
    return FileInfo(fh=fh, keep_cache=False, direct_io=strict)


class DataFile(BackingNode):
    """A file whose bytes csfs does not interpret."""

    __slots__ = ()

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        writable = writes(flags)
        if writable:
            self.refuse_change()
            self._refuse_inert_lock()
        held = self.inode.held_fd
        if held >= 0:
            fd = await self.mount.instance.io(os.open, held_path(held), flags & _KEPT | os.O_CLOEXEC)
        else:
            directory, name = self.place()
            number = self.inode.number
            fd = await self.mount.instance.io(_open, directory, name, flags & _KEPT, number, context.uid)
        return open_data(self.mount, self.inode, fd, writable, context, self.project)

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


def _open(directory: Descriptor, name: bytes, flags: int, number: int, uid: int) -> int:
    """Opens a file for a user if it is the one with this inode number.

    Raises OSError: ESTALE if it was removed or replaced behind our back. The kernel looks the name up again
    then, and makes the file if it was asked to.
    """
    truncates = flags & os.O_TRUNC and flags & os.O_ACCMODE != os.O_RDONLY
    try:
        fd = open_file(directory, name, flags & ~os.O_TRUNC if truncates else flags)
    except FileNotFoundError as error:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from error
    try:
        found = os.fstat(fd)
        if found.st_ino != number:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        if truncates:
            os.ftruncate(fd, 0)
            if uid and found.st_mode & SET_ID:
                os.fchmod(fd, _without_set_id(found.st_mode))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _without_set_id(mode: int) -> int:
    """The mode of a program that another than root has changed: the kernel leaves that to us at an open.

    Setgid goes where the group may execute it, as the kernel has it for what is written.
    """
    ended = stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0)
    return stat.S_IMODE(mode) & ~ended
