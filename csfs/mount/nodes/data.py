"""Data files, symlinks and special files: what they are on the backing filesystem, they are here."""

import errno
import os
from typing import TYPE_CHECKING

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing.descriptor import Descriptor, held_path, open_known
from csfs.domain import names, refusals
from csfs.lifecycle import processes
from csfs.lifecycle.project import Project
from csfs.mount import attributes, kernel, privileges
from csfs.mount.handles import DataHandle, FileHandle
from csfs.mount.nodes import setting
from csfs.mount.nodes.base import BackingNode
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_KEPT = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC
"""Flags of open(2) that go through to the backing filesystem. O_DIRECT would want aligned memory."""


def writes(flags: int) -> bool:
    """Whether a file opened with these flags may be changed through it."""
    return flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)


def open_data(
    mount: "Mount",
    inode: Inode,
    fd: int,
    writable: bool,
    context: RequestContext,
    project: Project | None,
    *,
    privileged: bool,
) -> FileInfo:
    """The answer to an open or create: passthrough if the kernel can, else through the daemon.

    On a strict mount all that is written in a project comes to the daemon, and so does everywhere what is
    written to a file with privileges. The kernel allows no mixture of passthrough and page cache in one file;
    direct I/O goes with both.
    """
    backing_id = mount.passthrough.open(
        inode.id, fd, container=inode.backing.container, cached=bool(inode.open_fds)
    )
    strict = writable and (privileged or (mount.strict and project is not None))
    handle = DataHandle(
        inode, context, writable, fd, project=project, passthrough=bool(backing_id), privileged=privileged
    )
    # What a network filesystem says only at close(2), is asked for; a local one says it at once.
    flush = (writable and inode.backing.network) or not mount.passthrough.extends
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
        self.mount.handles.refuse_more()
        io, held, uid = self.io, self.inode.held_fd, context.uid
        if held >= 0:
            fd, privileged = await io(_open_held, held, flags & _KEPT, uid)
        else:
            directory, name = self.place()
            fd, privileged = await io(_open, directory, name, flags & _KEPT, self.inode.number, uid)
        return open_data(self.mount, self.inode, fd, writable, context, self.project, privileged=privileged)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        if isinstance(handle, DataHandle) and fields.update_size:
            self.refuse_change()
            await self.io(setting.apply, handle.fd, wanted, fields, context.uid, handle.writable)
            return attributes.of_file(await self.stat(), self.inode)
        if fields.update_mtime or fields.update_size:
            self._refuse_inert_lock()
        if fields.update_mode and privileges.given(wanted.st_mode):
            await self._about_to_give_privileges()
        return await super().setattr(wanted, fields, handle, context)

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        if name == privileges.CAPABILITY:
            await self._about_to_give_privileges()
        await super().setxattr(name, value, context)

    async def _about_to_give_privileges(self) -> None:
        """Passes if whoever has the file open for writing cannot keep what it is to be given.

        Its owner may, who could give it again. Raises Refusal ETXTBSY.
        """
        writers = [each for each in self.mount.handles.writers() if each.inode is self.inode]
        if not writers:
            return
        owner = (await self.stat()).st_uid
        for writer in writers:
            assert isinstance(writer, DataHandle), "what is open of a data file is data"
            if not writer.passthrough:
                writer.privileged = True
            elif writer.context.uid not in (0, owner):
                raise refusals.written_by_others(processes.describe(writer.context.pid))

    def _refuse_inert_lock(self) -> None:
        """`touch` on a cs.lock that came with a copy would do nothing; it is refused instead."""
        project, parent = self.project, self.inode.parent
        if self.inode.name != names.LOCK.encode() or project is None or parent is None:
            return
        if parent.number == project.inode and project.is_free:
            raise refusals.inert_lock(project.verdict.owner or "a copy")


def _open(directory: Descriptor, name: bytes, flags: int, number: int, uid: int) -> tuple[int, bool]:
    """Opens a file for a user if it is the one with this inode number; also whether it is privileged.

    Raises OSError: ESTALE if it was removed or replaced behind our back. The kernel looks the name up again
    then, and makes the file if it was asked to.
    """
    try:
        fd, found = open_known(directory, name, flags & ~os.O_TRUNC)
    except FileNotFoundError as error:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from error
    if found.st_ino != number:
        os.close(fd)
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    return _begun(fd, found.st_mode, flags, uid)


def _open_held(held: int, flags: int, uid: int) -> tuple[int, bool]:
    """The same of a file that has no name any more."""
    fd = os.open(held_path(held), flags & ~os.O_TRUNC | os.O_CLOEXEC)
    return _begun(fd, os.fstat(fd).st_mode, flags, uid)


def _begun(fd: int, mode: int, flags: int, uid: int) -> tuple[int, bool]:
    """Truncates what was just opened, if it is to be; also whether this user's writing ends privileges."""
    try:
        if not writes(flags):
            return fd, False
        privileged = privileges.ends_by_writing(fd, mode, uid)
        if not flags & os.O_TRUNC:
            return fd, privileged
        if privileged:
            privileges.end(fd, uid)
        # Where it is opened for reading alone, the descriptor does not truncate.
        os.truncate(held_path(fd), 0)
        return fd, False
    except BaseException:
        os.close(fd)
        raise
