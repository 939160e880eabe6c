"""cs.lock: served from the store where this instance holds it, and the making of a new one."""

import os
from typing import TYPE_CHECKING

import trio
from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing import contents, temporary
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import lock, names, refusals
from csfs.domain.refusals import Refusal
from csfs.lifecycle import leftovers, processes
from csfs.lifecycle.attach import attach
from csfs.lifecycle.create import create
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import transition
from csfs.mount import attributes
from csfs.mount.handles import ContentHandle, FileHandle, PendingLockHandle
from csfs.mount.nodes.base import Always
from csfs.mount.nodes.content import ContentFile
from csfs.mount.nodes.data import DataFile, writes
from csfs.mount.nodes.making import create_file
from csfs.mount.nodes.setting import apply_by_name
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.nodes.directory import Directory

_NAME = names.LOCK.encode()
_MODE = 0o444


class LockFile(ContentFile):
    """The cs.lock of a project that this instance holds. Touching it changes nothing."""

    __slots__ = ("directory",)

    def __init__(self, directory: "Directory", inode: Inode, project: Project) -> None:
        super().__init__(directory.mount, inode, directory.standing, project)
        self.directory = directory.inode

    def read(self) -> bytes:
        assert self.project is not None
        return self.project.held.lock_content

    async def getattr(self) -> EntryAttributes:
        found = os.fstat(self.mount.tree.descriptor(self.directory).fd)
        content = self.read()
        return attributes.of_content(
            self.inode,
            size=len(content),
            mtime_ns=found.st_ctime_ns,
            mode=_MODE,
            uid=found.st_uid,
            gid=found.st_gid,
        )

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        """Nothing is to be set: `chmod -R u+w` and `touch` pass over it."""
        self.refuse_change()
        return await self.getattr()

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        if writes(flags):
            self.refuse_change()
        handle = ContentHandle(self.inode, context, False, bytearray(self.read()))
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)


class PendingLock(DataFile):
    """A new cs.lock while it is being written, under a temporary name on the backing directory.

    What it is to be shows when it is closed: empty (`touch`) or with bytes of the user's own it is a
    claim on its directory; with the bytes of a csfs lock it came with a copy (`cp`, `tar`) and is kept
    as the inert file it is.
    """

    __slots__ = ("_context", "_note", "_deciding", "_decided", "_refused")

    def __init__(self, directory: "Directory", inode: Inode, context: RequestContext, note: str) -> None:
        super().__init__(directory.mount, inode, Always(), None)
        self._context = context
        self._note = note
        self._deciding = trio.Lock()
        self._decided = False
        self._refused: Refusal | OSError | None = None

    @classmethod
    async def begin(
        cls, directory: "Directory", mode: int, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        """Creates one in `directory`. Raises OSError."""
        mount, at = directory.mount, directory.descriptor
        note = await leftovers.note(mount.instance, directory.inode.path())
        name = temporary.name(at)
        try:
            if directory.inode.id in mount.pending_locks:
                raise refusals.in_transition(mount.pending_locks[directory.inode.id].making)
            fd, found = await directory.io(create_file, at, name, mode, os.O_RDWR | os.O_EXCL, context)
        except BaseException:
            await leftovers.drop(mount.instance, note, at)
            raise
        inode = mount.tree.see(directory.inode, name, found)
        pending = cls(directory, inode, context, note)
        inode.node = pending
        inode.lookups += 1
        mount.pending_locks[directory.inode.id] = pending
        number = mount.handles.add_file(PendingLockHandle(inode, context, True, fd, pending))
        return FileInfo(fh=number, direct_io=True), await pending.getattr()

    @property
    def making(self) -> str:
        """What is under way, for people."""
        return f"{processes.describe(self._context.pid)} is making its cs.lock"

    async def getattr(self) -> EntryAttributes:
        entry = attributes.of_file(await self.stat(), self.inode)
        entry.entry_timeout = entry.attr_timeout = 0
        return entry

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        """Applies to the temporary file; once that was decided on there is nothing to change."""
        if self._refused is not None:
            raise self._refused
        if not self._decided:
            directory, name = self.place()
            apply_by_name(directory, name, wanted, fields, context.uid)
        return await self.getattr()

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        directory, name = self.place()
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        number = self.mount.handles.add_file(PendingLockHandle(self.inode, context, True, fd, self))
        return FileInfo(fh=number, direct_io=True)

    async def decide(self) -> None:
        """Called when it is closed. Raises Refusal or OSError if the claim fails; it is gone then.

        A program may close one of several descriptors first and not look at the result: the same
        answer is given again to each.
        """
        async with self._deciding:
            if self._refused is not None:
                raise self._refused
            if self._decided:
                return
            try:
                await self._decide()
            except (Refusal, OSError) as error:
                self._refused = error
                raise
            finally:
                self._decided = True

    async def _decide(self) -> None:
        parent = self.inode.parent
        assert parent is not None, "a pending lock lies in a directory"
        at, name = self.place()
        io = self.io
        try:
            directory = await self.mount.directory(parent.id)
            content = await io(read_file, at, name, lock.MAX_BYTES)
            if is_copy(directory, content):
                await io(_publish, at, name)
                self.mount.tree.place(self.inode, parent, _NAME)
                self.inode.node = None
                directory.touched(_NAME)
                self.mount.restorers.restored(parent.id, self._context.pid)
            else:
                await io(temporary.remove, at, name)
                await claim_directory(directory, content)
        finally:
            del self.mount.pending_locks[parent.id]
            await io(temporary.remove, at, name)
            if self.inode.name == name:
                self.inode.removed = True
            await leftovers.drop(self.mount.instance, self._note, at)


def is_copy(directory: "Directory", content: bytes) -> bool:
    """Whether these bytes, as a cs.lock in `directory`, are the copy of a lock from elsewhere.

    Raises Refusal EPERM for a csfs lock that would bind this very directory.
    """
    found = lock.parse(content)
    if isinstance(found, lock.Opaque):
        return False
    if found.binds(directory.descriptor.inode, directory.descriptor.born()):
        raise refusals.forged_lock()
    return True


async def claim_directory(directory: "Directory", content: bytes) -> None:
    """Creates or attaches the project of a directory; `content` for its cs.lock, or empty.

    Raises Refusal EINVAL if it is no project directory, EEXIST if a lock lies in it already.
    """
    instance, at = directory.mount.instance, directory.descriptor
    path = directory.inode.path()
    sight = await directory.io(instance.look, at)
    project = instance.settle(at, path, sight)
    if project is not None and not project.is_free:
        project.refuse_change()
        return
    if sight.lock is not None:
        raise refusals.inert_lock("a copy")
    if not sight.has_project_document:
        if not await directory.io(contents.is_empty, at):
            raise refusals.not_a_project("it has files but no project.json")
        await create(instance, at, path, content or None)
    elif project is not None:

        def progress(done: int) -> None:
            project.progress = done

        with transition(instance, project, "attach"):
            await attach(instance, at, path, content or None, progress)


def _publish(directory: Descriptor, name: bytes) -> None:
    """Gives a whole file the name cs.lock, unless there is one. Raises FileExistsError."""
    os.link(name, _NAME, src_dir_fd=directory.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
