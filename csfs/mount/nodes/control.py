""".csfs at the root of the mount: what the instance knows, as files. Not listed, but always there.

.csfs/status.json             this mount
.csfs/metrics                 the same in numbers, for Prometheus
.csfs/history                 the lifecycle actions that were done, one JSON object a line
.csfs/refusals                the requests that were refused, likewise
.csfs/projects/P7/            a project of the instance, wherever its directory is
    record.json, directory    its record; a symlink to its directory
    project.json, J1/job.json its documents
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, ReaddirToken, RequestContext, SetattrFields

from csfs.domain import names, refusals
from csfs.domain.refusals import Refusal
from csfs.lifecycle.forget import forget
from csfs.mount import attributes, metrics
from csfs.mount.handles import ContentHandle, DirectoryHandle, FileHandle
from csfs.mount.nodes.base import Always, Node
from csfs.mount.nodes.content import ContentFile
from csfs.mount.nodes.data import writes
from csfs.mount.nodes.directory import Directory
from csfs.mount.refusal_log import Refused
from csfs.mount.tree import Inode
from csfs.mount.visibility import Caller, may_look
from csfs.store import records
from csfs.store.store import View

if TYPE_CHECKING:
    from csfs.mount.mount import Mount


_OF_THE_RECORD = (b"record.json", b"directory")


class VirtualDirectory(Directory):
    """A directory that exists only on the mount."""

    __slots__ = ()

    def refusal(self) -> Refusal:
        """Why nothing can be changed here."""
        return refusals.control()

    def names_here(self) -> list[str]:
        raise NotImplementedError

    def node_here(self, name: str) -> Node | None:
        raise NotImplementedError

    def inode_here(self, name: str, *, is_directory: bool = False) -> Inode:
        """The inode of what is called so in this directory; the same number each time."""
        key = b".csfs:%d/" % self.inode.id + name.encode()
        return self.mount.tree.virtual(self.inode, name.encode(), key, is_directory=is_directory)

    def special(self, name: bytes) -> Node | None:
        return self.node_here(os.fsdecode(name))

    async def identify(self, child: Inode) -> Node:
        found = self.node_here(os.fsdecode(child.name))
        if found is None:
            raise OSError(errno.ESTALE, "it is gone")
        return found

    async def getattr(self) -> EntryAttributes:
        return attributes_of(self.inode, stat.S_IFDIR | 0o755, nlink=2)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        raise self.refusal()

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        found = self.special(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        found.inode.lookups += 1
        found.inode.node = found
        return await found.getattr()

    async def child(self, name: bytes) -> Node:
        found = self.special(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    async def opendir(self, context: RequestContext) -> int:
        return self.mount.handles.add_directory(DirectoryHandle(self.inode, context))

    async def names(self) -> list[bytes]:
        return [name.encode() for name in self.names_here()]

    async def readdir(self, handle: DirectoryHandle, start: int, token: ReaddirToken) -> None:
        if handle.names is None or start == 0:
            handle.names = await self.names()
        for index in range(start, len(handle.names)):
            name = handle.names[index]
            found = self.special(name)
            if found is None:
                continue
            if not pyfuse3.readdir_reply(token, name, await found.getattr(), index + 1):
                self.mount.tree.discard(found.inode)
                return
            found.inode.lookups += 1

    def refuse_name(self, name: bytes) -> None:
        raise self.refusal()

    async def create(
        self, name: bytes, mode: int, flags: int, context: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        raise self.refusal()

    async def _make(
        self, name: bytes, context: RequestContext, mode: int, make: Callable[[int, int], None]
    ) -> EntryAttributes:
        raise self.refusal()

    async def link(self, source: Node, name: bytes) -> EntryAttributes:
        raise self.refusal()

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        raise self.refusal()

    async def rmdir(self, name: bytes, context: RequestContext) -> None:
        raise self.refusal()

    async def rename(
        self, old: bytes, to: Directory, new: bytes, flags: int, context: RequestContext
    ) -> None:
        raise self.refusal()

    async def listxattr(self) -> list[bytes]:
        return []

    async def getxattr(self, name: bytes) -> bytes:
        raise OSError(errno.ENODATA, "no such attribute")

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        raise self.refusal()

    async def removexattr(self, name: bytes) -> None:
        raise self.refusal()


class ControlDirectory(VirtualDirectory):
    """.csfs itself."""

    __slots__ = ()

    def __init__(self, mount: "Mount") -> None:
        name = names.CONTROL.encode()
        inode = mount.tree.virtual(mount.tree.root, name, name, is_directory=True)
        inode.lookups = 1
        super().__init__(mount, inode, Always(), None)

    def names_here(self) -> list[str]:
        return ["history", "metrics", "projects", "refusals", "status.json"]

    def node_here(self, name: str) -> Node | None:
        if name == "history":
            return Report(self, name, self._history)
        if name == "metrics":
            return Metrics(self, name)
        if name == "projects":
            return ProjectRecords(self.mount, self.inode_here(name, is_directory=True), Always(), None)
        if name == "refusals":
            return Refusals(self, name, self.mount.refusals.lines)
        if name == "status.json":
            return Report(self, name, self.mount.status)
        return None

    def _history(self) -> bytes:
        deeds = self.mount.instance.store.read(View.deeds)
        return b"".join(msgspec.json.encode(deed) + b"\n" for deed in deeds)


class ProjectRecords(VirtualDirectory):
    """.csfs/projects: every project of the instance, by its P-number."""

    __slots__ = ()

    def names_here(self) -> list[str]:
        return [names.project_uid(number) for number in sorted(self.mount.instance.claims.by_number)]

    def _record(self, name: str) -> records.Project | None:
        number = names.project_number(name)
        return None if number is None else self.mount.instance.claims.by_number.get(number)

    def node_here(self, name: str) -> Node | None:
        record = self._record(name)
        if record is None:
            return None
        return ProjectRecord(self, self.inode_here(name, is_directory=True), record.number)

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        record = self._record(os.fsdecode(name))
        if record is not None:
            await _refuse_to_show(self.mount, record, b"", context)
        return await super().lookup(name, context)

    async def rmdir(self, name: bytes, context: RequestContext) -> None:
        record = self._record(os.fsdecode(name))
        if record is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        await forget(self.mount.instance, record)
        self.mount.tree.epoch += 1


class ProjectRecord(VirtualDirectory):
    """.csfs/projects/P7: what the store holds of one project, and the job directories in it."""

    __slots__ = ("number", "below")

    def __init__(self, parent: VirtualDirectory, inode: Inode, number: int, below: str = "") -> None:
        super().__init__(parent.mount, inode, Always(), None)
        self.number = number
        self.below = below
        """The directory in the project that this one stands for, with a slash; empty for its root."""

    def _paths(self) -> list[str]:
        found = self.mount.instance.store.read(lambda view: list(view.paths(self.number)))
        return [path[len(self.below) :] for path in found if path.startswith(self.below)]

    def names_here(self) -> list[str]:
        own = [] if self.below else [os.fsdecode(name) for name in _OF_THE_RECORD]
        return own + sorted({path.partition("/")[0] for path in self._paths()})

    def node_here(self, name: str) -> Node | None:
        record = self.mount.instance.claims.by_number.get(self.number)
        if record is None:
            return None
        if not self.below and name == "record.json":
            return Report(self, name, lambda: _readable(record))
        if not self.below and name == "directory":
            return DirectoryLink(self, name, record)
        path = self.below + name
        if not path.isprintable():
            return None
        content = self.mount.instance.store.read(lambda view: view.document(self.number, path))
        if content is not None:
            return Report(self, name, lambda: content)
        if not self.below and name in self.names_here():
            inode = self.inode_here(name, is_directory=True)
            return ProjectRecord(self, inode, self.number, name + "/")
        return None

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        record = self.mount.instance.claims.by_number.get(self.number)
        inside = self.below.encode() + name
        if record is not None and (self.below or name not in _OF_THE_RECORD):
            await _refuse_to_show(self.mount, record, inside, context)
        return await super().lookup(name, context)

    async def _forgettable(self) -> None:
        record = self.mount.instance.claims.by_number.get(self.number)
        if record is not None and record.state != "detached":
            raise refusals.not_detached(record.uid, record.state, record.path)

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        """A step of `rm -r` on a detached project: nothing goes before the whole does."""
        await self._forgettable()

    async def rmdir(self, name: bytes, context: RequestContext) -> None:
        await self._forgettable()


class Report(ContentFile):
    """A file that is made when it is read."""

    __slots__ = ("_make",)

    def __init__(self, parent: VirtualDirectory, name: str, make: Callable[[], bytes]) -> None:
        super().__init__(parent.mount, parent.inode_here(name), Always(), None)
        self._make = make

    def read(self) -> bytes:
        return self._make()

    async def getattr(self) -> EntryAttributes:
        entry = attributes_of(self.inode, stat.S_IFREG | 0o444, nlink=1)
        entry.st_size = len(self.read())
        return entry


class Refusals(Report):
    """The refusals: each user's own, and those on what the user could read."""

    __slots__ = ()

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        if writes(flags):
            raise refusals.control()
        caller, backings = Caller.of(context), self.mount.instance.backings

        def is_for_caller(refused: Refused) -> bool:
            return refused.entry.uid == caller.uid or may_look(caller, backings, refused.path)

        content = await backings.io(self.mount.refusals.lines, is_for_caller)
        handle = ContentHandle(self.inode, context, False, bytearray(content))
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)


class Metrics(ContentFile):
    """The mount in numbers. Its size is not known before it is read, as that of files in /proc."""

    __slots__ = ()

    def __init__(self, parent: VirtualDirectory, name: str) -> None:
        super().__init__(parent.mount, parent.inode_here(name), Always(), None)

    async def getattr(self) -> EntryAttributes:
        return attributes_of(self.inode, stat.S_IFREG | 0o444, nlink=1)

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        if writes(flags):
            raise refusals.control()
        handle = ContentHandle(self.inode, context, False, bytearray(await metrics.page(self.mount)))
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)


class DirectoryLink(Node):
    """Where the directory of a project is, or was last."""

    __slots__ = ("_record",)

    def __init__(self, parent: VirtualDirectory, name: str, record: records.Project) -> None:
        super().__init__(parent.mount, parent.inode_here(name), Always(), None)
        self._record = record

    async def readlink(self) -> bytes:
        return b"../../../" + self._record.path

    async def getattr(self) -> EntryAttributes:
        return attributes_of(self.inode, stat.S_IFLNK | 0o777, nlink=1)


async def _refuse_to_show(
    mount: "Mount", record: records.Project, inside: bytes, context: RequestContext
) -> None:
    """Passes if the caller could read this in the project's own directory.

    What cannot be looked at there, since the directory is away, is for root and the user of the mount alone.
    Raises OSError EACCES.
    """
    caller, backings = Caller.of(context), mount.instance.backings

    def may() -> bool:
        return may_look(caller, backings, record.path, inode=record.inode) and may_look(
            caller, backings, os.path.join(record.path, inside)
        )

    if not (caller.sees_all or await backings.io(may)):
        raise OSError(errno.EACCES, "the mode of its directory does not let the caller read it")


def _readable(record: records.Project) -> bytes:
    shown = msgspec.structs.asdict(record)
    shown["path"] = record.path.decode(errors="backslashreplace")
    shown["lock_content"] = record.lock_content.decode(errors="backslashreplace")
    return msgspec.json.format(msgspec.json.encode(shown), indent=2) + b"\n"


def attributes_of(inode: Inode, mode: int, *, nlink: int) -> EntryAttributes:
    """Those of what exists only on the mount."""
    entry = attributes.of_content(
        inode, size=0, mtime_ns=time.time_ns(), mode=0, uid=os.geteuid(), gid=os.getegid()
    )
    entry.st_mode = mode
    entry.st_nlink = nlink
    return entry
