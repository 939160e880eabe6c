"""What every directory on the backing filesystem does; the kinds of directory add what is special."""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, ReaddirToken, RequestContext

from csfs.backing.descriptor import Descriptor, Pin
from csfs.domain import names, refusals
from csfs.domain.refusals import Refusal
from csfs.domain.state import HELD, State
from csfs.lifecycle import clock
from csfs.lifecycle.project import Project
from csfs.mount import attributes, kernel, privileges
from csfs.mount.handles import DirectoryHandle
from csfs.mount.nodes import renaming
from csfs.mount.nodes.base import BackingNode, Node, Standing
from csfs.mount.nodes.data import DataFile, open_data, writes
from csfs.mount.nodes.lock import PendingLock, claim_directory
from csfs.mount.nodes.making import create_file, give_to_caller, is_callers, unmake
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_TEMPORARY = names.TEMPORARY_PREFIX.encode()
_LOCK = names.LOCK.encode()
MEANINGFUL = frozenset({_LOCK, names.PROJECT_DOCUMENT.encode()})
"""Names whose coming and going make a directory a project, or end that: the kernel asks each time."""
_SERVED = frozenset(MEANINGFUL | {names.WORKSPACES_DOCUMENT.encode(), names.JOB_DOCUMENT.encode()})
"""What csfs serves itself while it holds a project: it comes to be, and changes, without a request."""
_TICK_SECONDS = 2.0
"""No filesystem's mtime is coarser."""
_GUARDED = HELD | {State.FOREIGN}
"""States in which the project is looked after, so that nothing of it is swept away."""
_CONTROL = names.CONTROL.encode()
DOTS = (b".", b"..")
_KEPT = os.O_ACCMODE | os.O_APPEND | os.O_TRUNC | os.O_SYNC | os.O_DSYNC | os.O_EXCL


class Directory(BackingNode):
    """A directory; `project` is the one it lies in or is the root of."""

    __slots__ = ("_listed", "_acl_looked_at", "_has_default_acl")

    def __init__(self, mount: "Mount", inode: Inode, standing: Standing, project: Project | None) -> None:
        super().__init__(mount, inode, standing, project)
        self._listed = 0.0
        """When its last complete listing was begun, by `clock.seconds`."""
        self._acl_looked_at = 0.0
        self._has_default_acl = False

    # -- what the kinds of directory say of their own ---------------------------------------------

    @property
    def is_top(self) -> bool:
        """Whether it is the backing directory itself, at the top of which csfs keeps its own things."""
        return self.inode.parent is None or self.inode.parent.number == 0

    def special(self, name: bytes) -> Node | None:
        """What csfs itself serves under a name in this directory; None for what lies there."""
        if name == _CONTROL and self.inode.parent is None:
            return self.mount.control
        return None

    async def identify(self, child: Inode) -> Node:
        """The node of an inode in this directory."""
        special = self.special(child.name)
        if special is not None:
            if special.inode is not child:
                self.mount.tree.discard(special.inode)
                special.inode = child
            return special
        if isinstance(child.node, PendingLock):
            return child.node
        if child.is_directory:
            return self.subdirectory(child)
        if isinstance(child.node, DataFile) and child.node.project is self.project:
            return child.node
        return DataFile(self.mount, child, self.standing, self.project)

    def subdirectory(self, child: Inode) -> Node:
        """The node of a directory in this one, where that is not looked at for itself."""
        if type(child.node) is Interior and child.node.project is self.project:
            return child.node
        return Interior(self.mount, child, self.standing, self.project)

    def takes_lock(self) -> bool:
        """Whether a new cs.lock in this directory is a claim on it."""
        return False

    async def received(self, name: bytes) -> None:
        """Told of what a rename has brought here under a name."""

    def touched(self, name: bytes) -> None:
        """Told of every name that was made or removed here: some change what the directory is."""

    def sweep_roots(self) -> list[int]:
        """The directories that are guarded against sweeps and contain this one, or are this one."""
        project = self.project
        if project is None or project.state not in _GUARDED:
            return []
        root = self.mount.tree.id_at(project.directory)
        top, at = None, self.inode
        while at.id != root and at.parent is not None:
            top, at = at, at.parent
        if top is not None and os.fsdecode(top.name) in project.jobs:
            return [root, top.id]
        return [root]

    def refuse_name(self, name: bytes) -> None:
        """Passes if a file of this name may be made here by ordinary means."""
        if name.startswith(_TEMPORARY) or (name == _CONTROL and self.is_top):
            raise refusals.reserved_name(os.fsdecode(name))

    def refuse_removal(self, name: bytes, context: RequestContext) -> None:
        """Passes if a file or directory may be removed here; the guards of its project decide."""
        project = self.project
        if project is None:
            return
        root = self.mount.tree.id_at(project.directory)
        self.mount.guard.refuse_after_unlocking(root, context.pid)
        if project.is_free:
            return
        if project.state is State.ARCHIVED and not project.transition:
            if not self.mount.guard.is_sweeping(root, context.pid):
                raise refusals.archive_leaves_whole(project.uid)
            return
        told = self.mount.guard.removing(root, context.pid, lambda: self.mount.path_of(project))
        if told:
            self.mount.guard.refuse_what_was_named(told, self.mount.path_in(self.inode, name))
        project.refuse_change()
        if project.state is State.ATTACHED:
            for guarded in self.sweep_roots():
                if self.mount.guard.is_sweeping(guarded, context.pid):
                    made = self.mount.guard.was_made_by(
                        guarded, context.pid, self.descriptor.stat(name).st_ino
                    )
                    if not made:
                        raise self._swept(guarded, root, os.fsdecode(name))

    def _swept(self, guarded: int, project: int, name: str) -> Refusal:
        if guarded == project:
            return refusals.sweep(name)
        return refusals.job_sweep(os.fsdecode(self.mount.tree.inodes[guarded].name), name)

    # -- finding -------------------------------------------------------------------------------------

    @property
    def descriptor(self) -> Descriptor:
        return self.mount.tree.descriptor(self.inode)

    async def stat(self) -> os.stat_result:
        return await self.io(os.fstat, self.descriptor.fd)

    def held_fd(self) -> int:
        return self.descriptor.fd

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        special = self.special(name)
        if special is not None:
            entry = await special.getattr()
            special.inode.lookups += 1
            return entry
        pending = self.mount.pending_locks.get(self.inode.id)
        if pending is not None and name == _LOCK:
            entry = await pending.getattr()
            pending.inode.lookups += 1
            return entry
        if name.startswith(_TEMPORARY) or (name == _CONTROL and self.is_top):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        try:
            found = await self.io(self.descriptor.stat, name)
        except FileNotFoundError:
            if name in _SERVED:
                raise
            return attributes.ABSENT
        return self._entered(name, found)

    def _entered(self, name: bytes, found: os.stat_result) -> EntryAttributes:
        """The answer that gives the kernel a reference to the inode of a file here."""
        inode = self.mount.tree.see(self.inode, name, found)
        inode.lookups += 1
        return _described(name, found, inode)

    async def child(self, name: bytes) -> Node:
        """The node under a name, for an action on it. Raises OSError."""
        special = self.special(name)
        if special is not None:
            return special
        found = await self.io(self.descriptor.stat, name)
        inode = self.mount.tree.see(self.inode, name, found)
        try:
            return await self.mount.recognise(inode)
        finally:
            self.mount.tree.discard(inode)

    # -- listing -------------------------------------------------------------------------------------

    async def opendir(self, context: RequestContext) -> int:
        handle = DirectoryHandle(self.inode, context)
        handle.swept = self.mount.guard.opened(self.inode.id, self.sweep_roots(), context.pid)
        number = self.mount.handles.add_directory(handle)
        if not self.mount.passthrough.extends:
            return number
        return kernel.directory_handle(number, listing_is_good=self._listing_is_good())

    def _listing_is_good(self) -> bool:
        """Whether the listing that the kernel keeps may be used as long as the directory's mtime stays.

        While the entries in it are known as well, that is: otherwise a new listing, which brings them, is
        cheaper. A directory that has just changed may change again within one tick of its mtime.
        """
        if self._listed + attributes.SECONDS < clock.seconds() or self.inode.backing.network:
            return False
        return abs(time.time() - os.fstat(self.descriptor.fd).st_mtime) > _TICK_SECONDS

    async def names(self) -> list[bytes]:
        """What is listed: csfs's own moments left out, cs.lock last."""
        found = await self.io(self.descriptor.names)
        listed = [name for name in found if not name.startswith(_TEMPORARY)]
        if self.is_top and _CONTROL in listed:
            listed.remove(_CONTROL)
        if _LOCK in listed:
            listed.remove(_LOCK)
            listed.append(_LOCK)
        return listed

    async def readdir(self, handle: DirectoryHandle, start: int, token: ReaddirToken) -> None:
        if handle.names is None or start == 0:
            handle.read_at = clock.seconds()
            handle.names = [*DOTS, *await self.names()]
        descriptor = self.descriptor
        io, see = self.io, self.mount.tree.see
        for index in range(start, len(handle.names)):
            name = handle.names[index]
            if name in DOTS:
                if not pyfuse3.readdir_reply(token, name, self.dot(name), index + 1):
                    return
                continue
            special = self.special(name)
            if special is not None:
                inode, entry = special.inode, await special.getattr()
            else:
                try:
                    found = await io(descriptor.stat, name)
                except FileNotFoundError:
                    continue
                inode = see(self.inode, name, found)
                entry = _described(name, found, inode)
            if not pyfuse3.readdir_reply(token, name, entry, index + 1):
                self.mount.tree.discard(inode)
                return
            inode.lookups += 1
        self._listed = handle.read_at

    def dot(self, name: bytes) -> EntryAttributes:
        """What a listing says of the directory itself and of the one that it lies in: no lookup of them."""
        entry = EntryAttributes()
        inode = self.inode if name == b"." else self.inode.parent or self.inode
        entry.st_ino = inode.id
        entry.st_mode = stat.S_IFDIR
        return entry

    # -- making --------------------------------------------------------------------------------------

    async def _masked(self, mode: int, context: RequestContext) -> int:
        """The mode of a new file: an access control list that it inherits takes the place of the umask."""
        if not mode & context.umask:
            return mode
        if self._acl_looked_at + attributes.SECONDS < (now := clock.seconds()):
            self._has_default_acl = await self.io(self.descriptor.has_default_acl)
            self._acl_looked_at = now
        return mode if self._has_default_acl else mode & ~context.umask

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        await super().setxattr(name, value, context)
        self._acl_looked_at = 0.0

    async def removexattr(self, name: bytes) -> None:
        await super().removexattr(name)
        self._acl_looked_at = 0.0

    async def create(
        self, name: bytes, mode: int, flags: int, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        self.refuse_change()
        self.refuse_name(name)
        directory = self.descriptor
        mode = await self._masked(mode, context)
        if name == _LOCK and self.takes_lock():
            return await PendingLock.begin(self, mode, context)
        self.mount.handles.refuse_more()
        io = self.io
        fd, found = await io(create_file, directory, name, mode, flags & _KEPT, context)
        self.mount.guard.made(self.sweep_roots(), context.pid, found.st_ino)
        entry = self._entered(name, found)
        inode = self.mount.tree.inodes[entry.st_ino]
        self.touched(name)
        writable = writes(flags)
        privileged = writable and bool(privileges.bits(found.st_mode, context.uid))
        info = open_data(self.mount, inode, fd, writable, context, self.project, privileged=privileged)
        return info, entry

    async def mkdir(self, name: bytes, mode: int, context: RequestContext) -> EntryAttributes:
        return await self._make(
            name, context, mode, lambda at, mode: os.mkdir(name, stat.S_IMODE(mode), dir_fd=at)
        )

    async def mknod(self, name: bytes, mode: int, rdev: int, context: RequestContext) -> EntryAttributes:
        if name == _LOCK and self.takes_lock():
            self.refuse_change()
            await claim_directory(self, b"")
            return await self.mount.lookup_again(self.inode, name, context)
        return await self._make(name, context, mode, lambda at, mode: os.mknod(name, mode, rdev, dir_fd=at))

    async def symlink(self, name: bytes, target: bytes, context: RequestContext) -> EntryAttributes:
        return await self._make(name, context, 0, lambda at, _: os.symlink(target, name, dir_fd=at))

    async def _make(
        self, name: bytes, context: RequestContext, mode: int, make: Callable[[int, int], None]
    ) -> EntryAttributes:
        """`make` is given the descriptor of the directory, and the mode that is left of the one asked for."""
        self.refuse_change()
        self.refuse_name(name)
        mode = await self._masked(mode, context)

        def work(directory: Descriptor) -> os.stat_result:
            make(directory.fd, mode)
            try:
                found = directory.stat(name)
                if is_callers(found, context):
                    return found
                fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
                try:
                    return give_to_caller(directory, fd, mode, context)
                finally:
                    os.close(fd)
            except BaseException:
                unmake(directory, name)
                raise

        found = await self.io(work, self.descriptor)
        self.mount.guard.made(self.sweep_roots(), context.pid, found.st_ino)
        self.touched(name)
        return self._entered(name, found)

    async def link(self, source: Node, name: bytes) -> EntryAttributes:
        """Makes another name for a data file. Raises Refusal EXDEV across a project's boundary."""
        self.refuse_change()
        self.refuse_name(name)
        if not isinstance(source, DataFile):
            raise refusals.lock_stays() if source.inode.name == _LOCK else refusals.boundary()
        source.refuse_change()
        renaming.refuse_across(source, self)
        renaming.refuse_boundary(source.project, self.project)
        if name == _LOCK and self.takes_lock():
            raise refusals.lock_stays()
        at, old = source.place()

        def work(directory: Descriptor) -> os.stat_result:
            os.link(old, name, src_dir_fd=at.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
            return directory.stat(name)

        return self._entered(name, await self.io(work, self.descriptor))

    # -- removing ------------------------------------------------------------------------------------

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        self.refuse_removal(name, context)
        await self.remove(name, os.unlink)

    async def rmdir(self, name: bytes, context: RequestContext) -> None:
        self.refuse_removal(name, context)
        await self.remove(name, _rmdir)

    async def remove(self, name: bytes, remove: Callable[..., None]) -> None:
        def work(directory: Descriptor) -> tuple[os.stat_result, Pin | None]:
            leaving = self.leaving(directory, name)
            remove(name, dir_fd=directory.fd)
            return leaving

        found, pin = await self.io(work, self.descriptor)
        self.mount.tree.unlinked(self.inode, name, self.mount.tree.known(found), pin)
        self.touched(name)

    def leaving(self, directory: Descriptor, name: bytes) -> tuple[os.stat_result, Pin | None]:
        """What lies under a name that is about to be removed or replaced, pinned.

        On a network filesystem it is not: NFS would leave a `.nfs` file in its place. Raises OSError.
        """
        if self.inode.backing.network:
            return directory.stat(name), None
        pin = Pin(directory, name)
        return os.fstat(pin.fd), pin

    # -- renaming ------------------------------------------------------------------------------------

    async def rename(
        self, old: bytes, to: "Directory", new: bytes, flags: int, context: RequestContext
    ) -> None:
        """Renames what lies under `old` here to `new` in `to`."""
        await renaming.rename(self, old, to, new, flags, context)

    def refuse_departure(self, name: bytes, context: RequestContext) -> None:
        """Passes if what lies under a name here may be renamed to another."""


class Interior(Directory):
    """A directory somewhere in a project, with nothing special in it."""

    __slots__ = ()


def _described(name: bytes, found: os.stat_result, inode: Inode) -> EntryAttributes:
    """What the kernel is told of a file under a name."""
    entry = attributes.of_file(found, inode)
    if name in _SERVED:
        # Attach serves another inode under the name, and its exports give the number of this one away.
        entry.entry_timeout = entry.attr_timeout = 0
    return entry


def _rmdir(name: bytes, *, dir_fd: int) -> None:
    """rmdir(2) of a directory in which nothing lies that anybody can see."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY or not _remove_left_overs(name, dir_fd):
            raise
        os.rmdir(name, dir_fd=dir_fd)


def _remove_left_overs(name: bytes, dir_fd: int) -> bool:
    """Removes what csfs left in a directory when it was cut short, if there is nothing else in it."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        found = [os.fsencode(each) for each in os.listdir(fd)]
        if not all(each.startswith(_TEMPORARY) for each in found):
            return False
        for each in found:
            os.unlink(each, dir_fd=fd)
    finally:
        os.close(fd)
    return True
