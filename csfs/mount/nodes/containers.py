"""The top of a mount of several backing directories: each is a directory in it."""

import errno
import stat
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import EntryAttributes, ReaddirToken, RequestContext

from csfs.domain import names, refusals
from csfs.domain.refusals import Refusal
from csfs.mount import attributes
from csfs.mount.handles import DirectoryHandle
from csfs.mount.nodes.base import Always, Node, attribute_value
from csfs.mount.nodes.container import identify_directory
from csfs.mount.nodes.control import VirtualDirectory, attributes_of
from csfs.mount.nodes.directory import DOTS
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_CONTROL = names.CONTROL.encode()


class ContainersDirectory(VirtualDirectory):
    """The root of such a mount. Nothing can be made or removed in it."""

    __slots__ = ()

    def __init__(self, mount: "Mount", inode: Inode) -> None:
        super().__init__(mount, inode, Always(), None)

    async def identify_root(self) -> Node:
        return self

    async def getattr(self) -> EntryAttributes:
        entry = await super().getattr()
        entry.attr_timeout = attributes.SECONDS
        return entry

    def refusal(self) -> Refusal:
        return refusals.containers()

    def special(self, name: bytes) -> Node | None:
        return self.mount.control if name == _CONTROL else None

    async def identify(self, child: Inode) -> Node:
        if child is self.mount.control.inode:
            return self.mount.control
        if child.backing.away:
            return AwayContainer(self.mount, child, Always(), None)
        return await identify_directory(self.mount, child)

    async def child(self, name: bytes) -> Node:
        inode = self.mount.tree.containers.get(name)
        if inode is None:
            return await super().child(name)
        return self.mount.node(inode.id) or await self.mount.recognise(inode)

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        if name not in self.mount.tree.containers:
            return await super().lookup(name, context)
        found = await self.child(name)
        found.inode.lookups += 1
        return await found.getattr()

    async def names(self) -> list[bytes]:
        return list(self.mount.tree.containers)

    async def readdir(self, handle: DirectoryHandle, start: int, token: ReaddirToken) -> None:
        containers = self.mount.tree.containers
        for index, name in enumerate([*DOTS, *containers]):
            if index < start:
                continue
            if name in DOTS:
                if not pyfuse3.readdir_reply(token, name, self.dot(name), index + 1):
                    return
                continue
            try:
                entry = await (await self.child(name)).getattr()
            except OSError:  # the others are listed all the same
                entry = attributes_of(containers[name], stat.S_IFDIR, nlink=2)
            if not pyfuse3.readdir_reply(token, name, entry, index + 1):
                return
            containers[name].lookups += 1


class AwayContainer(VirtualDirectory):
    """A container whose backing directory was not there when it was mounted: it is empty, and says why."""

    __slots__ = ()

    def refusal(self) -> Refusal:
        backing = self.inode.backing
        return refusals.away(f"{backing.path}: {backing.away}")

    async def getattr(self) -> EntryAttributes:
        return attributes_of(self.inode, stat.S_IFDIR, nlink=2)

    async def lookup(self, name: bytes, context: RequestContext) -> EntryAttributes:
        raise self.refusal()

    async def child(self, name: bytes) -> Node:
        raise self.refusal()

    async def opendir(self, context: RequestContext) -> int:
        raise self.refusal()

    def _shown(self) -> dict[bytes, str]:
        backing = self.inode.backing
        reason = f"{backing.path}: {backing.away}"
        return {b"user.csfs.state": "away", b"user.csfs.reason": reason}

    async def listxattr(self) -> list[bytes]:
        return list(self._shown())

    async def getxattr(self, name: bytes) -> bytes:
        value = self._shown().get(name)
        if value is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return attribute_value(value)
