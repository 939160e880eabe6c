"""Where a request enters: finds its node, asks it, and turns what is refused into an errno."""

import errno
import functools
import itertools
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileInfo,
    FUSEError,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
)

from csfs.backing.io import in_thread
from csfs.domain import names, refusals
from csfs.domain.printable import shown
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle import history
from csfs.mount import capacity, failures, kernel, privileges
from csfs.mount.handles import ContentHandle, DataHandle, FileHandle, PendingLockHandle
from csfs.mount.mount import Mount
from csfs.mount.nodes.base import Node, is_copying, without_virtual
from csfs.mount.nodes.data import writes
from csfs.mount.nodes.document import refuse_size, resize
from csfs.mount.nodes.lock import PendingLock
from csfs.mount.requests import Requests
from csfs.mount.tree import Inode

log = logging.getLogger(__name__)

_kinds: list[str] = []
"""Of the requests that are answered below, by the names of their handlers."""

P = ParamSpec("P")
T = TypeVar("T")

_ACTIONS = frozenset({"create", "mknod", "unlink", "rmdir", "rename", "link", "setattr", "setxattr", "flush"})
"""Requests that may be lifecycle actions."""
_THREADED_BYTES = 256 * 1024
"""Reads and writes of at least this much leave the event loop; below, a thread costs more than it saves."""

_OF_OTHERS = frozenset({Rule.FOREIGN, Rule.FOREIGN_DIRECTORY, Rule.LOST, Rule.INERT_LOCK})

_TRUSTED = b"trusted."
"""Extended attributes that root alone gets to see."""


def answering(
    handler: Callable[Concatenate["Operations", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Operations", P], Coroutine[Any, Any, T]]:
    """Turns what a handler raises into an errno; the mount lives on, whatever it is.

    A Refusal is recorded for `csfs why`, and so is an OSError of a storage or store that fails; any OSError
    is its errno, anything else is a logged EIO. A refusal for what another instance holds, or for a lock
    that seems to be a copy's, rests on a look that may be a second old: it is looked at again first, so that
    what was released a moment ago can be had at once, and what was taken a moment ago is named as such.
    """
    name = handler.__name__
    acts = name in _ACTIONS
    _kinds.append(name)

    @functools.wraps(handler)
    async def answer(self: "Operations", /, *args: P.args, **kwargs: P.kwargs) -> T:
        requests = self.requests[name]
        requests.begun += 1
        began = perf_counter()
        if acts:
            self.remember(args)
        try:
            try:
                return await handler(self, *args, **kwargs)
            except Refusal as refusal:
                if refusal.rule not in _OF_OTHERS or not await self.look_again(args):
                    raise
                return await handler(self, *args, **kwargs)
        except FUSEError as error:
            requests.failed(error.errno)
            raise
        except Refusal as refusal:
            self.note(refusal, name, args)
            raise requests.failed(refusal.errno) from refusal
        except OSError as error:
            failed = failures.reason(error)
            if failed is not None:
                self.note(failed, name, args)
                _doubt(name, args)
            raise requests.failed(error.errno or errno.EIO) from error
        except Exception as error:
            log.exception("%s%r failed", name, args, extra={"request": self.described(name, args)})
            _doubt(name, args)
            raise requests.failed(errno.EIO) from error
        finally:
            requests.took(perf_counter() - began)

    return answer


class Operations(pyfuse3.Operations):
    """The requests of the kernel, each a few lines: which node, and what to ask it."""

    enable_writeback_cache = False
    enable_acl = True

    def __init__(self, mount: Mount, ready: Callable[[], None]) -> None:
        super().__init__()
        self._mount = mount
        self._ready = ready
        self.requests = mount.requests = Requests.of(_kinds)

    def init(self) -> None:
        self._ready()

    def note(self, refusal: Refusal, operation: str, args: Sequence[Any]) -> None:
        """Records a refusal with the path that the request was about, and who made it."""
        subject = self._subject(args)
        if subject is None:
            about = {"kind": operation, "rule": refusal.rule.name}
            log.warning("%s: %s", operation, refusal, extra={"request": about})
            return
        inode, context = subject
        path = _path(inode, operation, args)
        project = inode.node.project if inode.node is not None else None
        target = self._target(operation, args)
        self._mount.refusals.record(refusal, operation, path, project, context, target)

    def _target(self, operation: str, args: Sequence[Any]) -> bytes:
        """Where a rename or link was to lead, relative to the mount point; else nothing."""
        if operation not in ("rename", "link"):
            return b""
        directory, name = args[2:4] if operation == "rename" else args[1:3]
        inode = self._mount.tree.inodes.get(directory)
        return name if inode is None else os.path.join(inode.path(), name)

    def described(self, operation: str, args: Sequence[Any]) -> dict[str, object]:
        """What the log says of a request that failed as none should."""
        about: dict[str, object] = {"kind": operation, "errno": "EIO"}
        subject = self._subject(args)
        if subject is not None:
            inode, context = subject
            project = inode.node.project if inode.node is not None else None
            about |= {"path": shown(_path(inode, operation, args)), "pid": context.pid, "uid": context.uid}
            about["project"] = None if project is None or project.record is None else project.record.uid
        return about

    def remember(self, args: Sequence[Any]) -> None:
        """Has the history name the caller, should the request be a lifecycle action."""
        subject = self._subject(args)
        if subject is not None:
            history.actor.set(history.Actor(subject[1].uid, subject[1].pid))

    async def look_again(self, args: Sequence[Any]) -> bool:
        """Looks anew at the project that a request is about; whether its state is another one now."""
        subject = self._subject(args)
        node = None if subject is None else subject[0].node
        if node is None or node.project is None:
            return False
        return await self._mount.look_again(node.project)

    def _subject(self, args: Sequence[Any]) -> tuple[Inode, RequestContext] | None:
        """The inode that a request is about, and the caller; of the open, where it has only a handle.

        None for a handle that is closed already.
        """
        for argument in args:
            if isinstance(argument, RequestContext):
                return self._mount.tree.inodes.get(args[0], self._mount.tree.root), argument
        handles = self._mount.handles
        handle = handles.files.get(args[0]) or handles.directories.get(args[0])
        return None if handle is None else (handle.inode, handle.context)

    async def _node(self, inode: int) -> Node:
        node = self._mount.node(inode) or await self._mount.recognise(self._mount.tree.inodes[inode])
        at = node.inode if node.inode.is_directory else node.inode.parent
        if at is not None and at.descriptor is None and not node.inode.removed:
            await self._mount.reach(at)
        return node

    # -- finding -------------------------------------------------------------------------------------

    @answering
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return await (await self._mount.directory(parent_inode)).lookup(name, ctx)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        forget = self._mount.tree.forget
        for inode, lookups in inode_list:
            forget(inode, lookups)

    @answering
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return await (await self._node(inode)).getattr()

    @answering
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        handle = None if fh is None else self._mount.handles.files.get(fh)
        return await (await self._mount.changing(inode)).setattr(attr, fields, handle, ctx)

    @answering
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return await (await self._node(inode)).readlink()

    @answering
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        inode = self._mount.tree.inodes.get(kernel.asked_about(), self._mount.tree.root)
        return await capacity.of(self._mount.instance.backings, inode.backing)

    # -- directories ---------------------------------------------------------------------------------

    @answering
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return await (await self._mount.directory(inode)).opendir(ctx)

    @answering
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        handle = self._mount.handles.directories[fh]
        await (await self._mount.directory(handle.inode.id)).readdir(handle, start_id, token)

    async def releasedir(self, fh: int) -> None:
        self._mount.guard.closed(self._mount.handles.directories.pop(fh).swept)

    @answering
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        handle = self._mount.handles.directories[fh]
        if handle.inode.number:
            await in_thread(self._mount.tree.descriptor(handle.inode).sync)

    @answering
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        return await (await self._mount.changing_directory(parent_inode)).mkdir(name, mode, ctx)

    @answering
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        return await (await self._mount.changing_directory(parent_inode)).mknod(name, mode, rdev, ctx)

    @answering
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return await (await self._mount.changing_directory(parent_inode)).symlink(name, target, ctx)

    @answering
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        source = await self._node(inode)
        return await (await self._mount.changing_directory(new_parent_inode)).link(source, new_name)

    @answering
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await (await self._mount.changing_directory(parent_inode)).unlink(name, ctx)

    @answering
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        await (await self._mount.changing_directory(parent_inode)).rmdir(name, ctx)

    @answering
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        target = source = await self._mount.changing_directory(parent_inode_new)
        if parent_inode_old != parent_inode_new:
            source = await self._mount.changing_directory(parent_inode_old)
        await source.rename(name_old, target, name_new, flags, ctx)

    # -- files ---------------------------------------------------------------------------------------

    @answering
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        return await (await self._mount.changing_directory(parent_inode)).create(name, mode, flags, ctx)

    @answering
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        node = await (self._mount.changing(inode) if writes(flags) else self._node(inode))
        return await node.open(flags, ctx)

    @answering
    async def read(self, fh: int, off: int, size: int) -> bytes:
        handle = self._mount.handles.files[fh]
        if isinstance(handle, ContentHandle):
            return bytes(handle.content[off : off + size])
        run = in_thread if size >= _THREADED_BYTES else handle.inode.backing.io
        return await run(os.pread, _data(handle).fd, size, off)

    @answering
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        handle = self._mount.handles.files[fh]
        if isinstance(handle, ContentHandle):
            return _write_content(handle, off, buf)
        data = _data(handle)
        if data.project is not None:
            await self._mount.confirm(data.project)
        if data.privileged:
            await self._end_privileges(data)
        run = in_thread if len(buf) >= _THREADED_BYTES else handle.inode.backing.io
        return await run(os.pwrite, data.fd, buf, off)

    async def _end_privileges(self, data: DataHandle) -> None:
        await data.inode.backing.io(privileges.end, data.fd, data.context.uid)
        data.privileged = False
        # The kernel runs a file with the mode that it knows. To forget attributes alone waits for nothing.
        pyfuse3.invalidate_inode(data.inode.id, attr_only=True)

    @answering
    async def flush(self, fh: int) -> None:
        handle = self._mount.handles.files[fh]
        if isinstance(handle, PendingLockHandle):
            await handle.pending.decide()
        elif isinstance(handle, ContentHandle):
            await _save(handle)
        elif handle.writable:
            await handle.inode.backing.io(_flush, _data(handle).fd)

    @answering
    async def fsync(self, fh: int, datasync: bool) -> None:
        handle = self._mount.handles.files[fh]
        if isinstance(handle, ContentHandle):
            await _save(handle)
            return
        await in_thread(os.fdatasync if datasync else os.fsync, _data(handle).fd)

    @answering
    async def release(self, fh: int) -> None:
        handle = self._mount.handles.remove_file(fh)
        if isinstance(handle, DataHandle):
            if handle.passthrough:
                self._mount.passthrough.release(handle.inode.id)
            await handle.inode.backing.io(os.close, handle.fd)

    # -- extended attributes -------------------------------------------------------------------------

    @answering
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return await (await self._node(inode)).getxattr(name)

    @answering
    async def listxattr(self, inode: int, ctx: RequestContext) -> Sequence[bytes]:
        found = await (await self._node(inode)).listxattr()
        if ctx.uid:
            found = [name for name in found if not name.startswith(_TRUSTED)]
        return without_virtual(found) if is_copying(ctx) else found

    @answering
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        await (await self._mount.changing(inode)).setxattr(name, value, ctx)

    @answering
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        await (await self._mount.changing(inode)).removexattr(name)


_ABOUT_NAMES = frozenset({"create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename"})
"""Operations on names in directories, each name right after its directory."""
_ABOUT_ITSELF = frozenset({"getxattr", "setxattr", "removexattr", "write"})
"""Operations whose bytes argument is no name of a file in the inode's directory."""


def _path(inode: Inode, operation: str, args: Sequence[Any]) -> bytes:
    """What a request is about, relative to the mount point; `inode` is the first that it names."""
    if len(args) > 1 and isinstance(args[1], bytes) and operation not in _ABOUT_ITSELF:
        return os.path.join(inode.path(), args[1])
    if isinstance(inode.node, PendingLock) and inode.parent is not None:
        # It lies under a temporary name until it is decided on: nobody has heard of that.
        return os.path.join(inode.parent.path(), names.LOCK.encode())
    return inode.path()


def _doubt(operation: str, args: Sequence[Any]) -> None:
    """Has the kernel ask again for the names of a request that failed: it may have been done in part."""
    if operation in _ABOUT_NAMES:
        for directory, name in itertools.pairwise(args):
            if isinstance(directory, int) and isinstance(name, bytes):
                pyfuse3.invalidate_entry_async(directory, name, ignore_enoent=True)


def _data(handle: FileHandle) -> DataHandle:
    assert isinstance(handle, DataHandle), "what is not content is data"
    return handle


def _write_content(handle: ContentHandle, off: int, buf: bytes) -> int:
    if handle.document is None:
        raise refusals.lock_stays()
    if handle.append:
        off = len(handle.content)
    refuse_size(off + len(buf))
    if off > len(handle.content):
        resize(handle.content, off)
    handle.content[off : off + len(buf)] = buf
    handle.dirty = True
    return len(buf)


async def _save(handle: ContentHandle) -> None:
    if handle.dirty and handle.document is not None:
        await handle.document.edit(bytes(handle.content))
        handle.dirty = False


def _flush(fd: int) -> None:
    """Tells the writer what a network filesystem says only at close(2): EDQUOT, EIO."""
    os.close(os.dup(fd))
