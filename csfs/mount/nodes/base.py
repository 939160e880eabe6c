"""What all nodes have in common, and what those on the backing filesystem do with their attributes."""

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing.descriptor import Descriptor, held_path
from csfs.backing.io import Io
from csfs.domain import refusals
from csfs.lifecycle import processes
from csfs.lifecycle.project import Project
from csfs.mount import attributes
from csfs.mount.nodes import setting
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.handles import FileHandle
    from csfs.mount.mount import Mount

VIRTUAL_ATTRIBUTES = b"user.csfs."
"""The extended attributes that csfs answers itself."""
_SHOWN_ATTRIBUTES = frozenset(
    VIRTUAL_ATTRIBUTES + name
    for name in (
        b"state",
        b"uid",
        b"title",
        b"lock_id",
        b"jobs",
        b"owner",
        b"instance",
        b"reason",
        b"exported",
        b"status",
        b"type",
        b"attach_status",
        b"export_failed",
        b"heartbeat",
        b"unexported",
    )
)
"""Those that a program which copies may find on a project, and try to give to its copy."""
_COPIERS = frozenset({"cp", "mv", "install", "rsync", "tar", "bsdtar", "star"})


_ATTRIBUTE_BYTES = 4096


def attribute_value(text: str) -> bytes:
    """The value of an attribute that csfs shows; one that is longer than any tool prints is cut."""
    return text.encode()[:_ATTRIBUTE_BYTES].decode(errors="ignore").encode()


def without_virtual(names: list[bytes]) -> list[bytes]:
    """The extended attributes among these that are not csfs's own."""
    return [name for name in names if not name.startswith(VIRTUAL_ATTRIBUTES)]


def is_copying(context: RequestContext) -> bool:
    """Whether the caller lists attributes to give them to a copy, to which csfs's own do not belong."""
    try:
        return processes.command(context.pid) in _COPIERS
    except OSError:
        return False


def attribute_text(value: bytes) -> str:
    """What a user gives an attribute of csfs's; more than any of them takes is cut."""
    return value[:_ATTRIBUTE_BYTES].decode(errors="backslashreplace")


class Standing(Protocol):
    """What a node was derived from: valid until that is to be looked at again."""

    fresh_until: float


@dataclass
class Plain:
    """The standing of what belongs to no project: that is looked at again after a while."""

    fresh_until: float


class Always:
    """The standing of what csfs makes itself."""

    fresh_until = float("inf")


class Node:
    """A file of some kind. What a kind does not do is refused as the kernel expects it."""

    __slots__ = ("mount", "inode", "standing", "project")

    def __init__(self, mount: "Mount", inode: Inode, standing: Standing, project: Project | None) -> None:
        self.mount = mount
        self.inode = inode
        self.standing = standing
        self.project = project
        """The project it lies in, whatever its state; None in a container."""

    @property
    def io(self) -> Io:
        """How calls to the filesystem on which it lies are made."""
        return self.inode.backing.io

    @property
    def is_free(self) -> bool:
        """Whether it belongs to no instance."""
        return self.project is None or self.project.is_free

    def refuse_change(self) -> None:
        """Passes if the file may be changed, as far as its project is concerned."""
        if self.project is not None:
            self.project.refuse_change()

    async def getattr(self) -> EntryAttributes:
        raise NotImplementedError

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: "FileHandle | None",
        context: RequestContext,
    ) -> EntryAttributes:
        raise NotImplementedError

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        raise OSError(errno.ENOSYS, "cannot be opened")

    async def readlink(self) -> bytes:
        raise OSError(errno.EINVAL, "not a symlink")

    async def getxattr(self, name: bytes) -> bytes:
        raise OSError(errno.ENODATA, "no such attribute")

    async def listxattr(self) -> list[bytes]:
        return []

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        raise OSError(errno.EOPNOTSUPP, "no attributes to set")

    async def removexattr(self, name: bytes) -> None:
        raise OSError(errno.ENODATA, "no such attribute")


class BackingNode(Node):
    """A file on the backing filesystem: found by (directory, name), or by a handle once unlinked."""

    __slots__ = ()

    def place(self) -> tuple[Descriptor, bytes]:
        """Where the file lies. Raises OSError ENOENT for what was removed."""
        parent = self.inode.parent
        if parent is None or self.inode.removed:
            raise OSError(errno.ENOENT, "it was removed")
        return self.mount.tree.descriptor(parent), self.inode.name

    async def stat(self) -> os.stat_result:
        inode = self.inode
        fd = inode.open_fds[0] if inode.open_fds else self.held_fd()
        if fd >= 0:
            return await self.io(os.fstat, fd)
        directory, name = self.place()
        return await self.io(directory.stat, name)

    async def getattr(self) -> EntryAttributes:
        return attributes.of_file(await self.stat(), self.inode)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: "FileHandle | None",
        context: RequestContext,
    ) -> EntryAttributes:
        self.refuse_change()
        await self.io(self._apply, wanted, fields, context.uid)
        return await self.getattr()

    def held_fd(self) -> int:
        """A descriptor by which it is reached better than by its place; -1 if there is none."""
        return self.inode.held_fd

    def _apply(self, wanted: EntryAttributes, fields: SetattrFields, uid: int) -> None:
        """Sets what this user asks for, on the open file if there is one, else by its place."""
        held = self.held_fd()
        if held >= 0:
            setting.apply(held, wanted, fields, uid)
            return
        directory, name = self.place()
        setting.apply_by_name(directory, name, wanted, fields, uid, self.inode.number)

    async def readlink(self) -> bytes:
        held = self.held_fd()
        if held >= 0:
            return await self.io(lambda: os.readlink(b"", dir_fd=held))
        directory, name = self.place()
        return await self.io(_readlink, directory, name)

    def xattr_path(self) -> bytes:
        """A path for the calls on extended attributes, which take no directory descriptor."""
        held = self.held_fd()
        if held >= 0:
            return held_path(held)
        directory, name = self.place()
        return directory.path(name)

    def _follow(self) -> bool:
        return self.held_fd() >= 0

    async def getxattr(self, name: bytes) -> bytes:
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise OSError(errno.ENODATA, "no such attribute")
        path, follow = self.xattr_path(), self._follow()
        return await self.io(lambda: os.getxattr(path, name, follow_symlinks=follow))

    async def listxattr(self) -> list[bytes]:
        path, follow = self.xattr_path(), self._follow()
        found = await self.io(lambda: os.listxattr(path, follow_symlinks=follow))
        return without_virtual(list(map(os.fsencode, found)))

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        if name in _SHOWN_ATTRIBUTES:
            raise OSError(errno.EOPNOTSUPP, "csfs says what it is")
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise refusals.unknown_attribute(os.fsdecode(name))
        self.refuse_change()
        path, follow = self.xattr_path(), self._follow()
        await self.io(lambda: os.setxattr(path, name, value, follow_symlinks=follow))

    async def removexattr(self, name: bytes) -> None:
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise refusals.unknown_attribute(os.fsdecode(name))
        self.refuse_change()
        path, follow = self.xattr_path(), self._follow()
        await self.io(lambda: os.removexattr(path, name, follow_symlinks=follow))


def _readlink(directory: Descriptor, name: bytes) -> bytes:
    return os.readlink(name, dir_fd=directory.fd)
