"""Containers: directories outside of any project, in which project directories lie and come to be."""

import os
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import RequestContext

from csfs.domain import refusals
from csfs.lifecycle import clock, move
from csfs.lifecycle.instance import FRESH_SECONDS
from csfs.lifecycle.project import Project
from csfs.lifecycle.rebind import rebind
from csfs.mount.nodes import renaming
from csfs.mount.nodes.base import Node, Plain
from csfs.mount.nodes.directory import MEANINGFUL, Directory
from csfs.mount.nodes.project import ProjectDirectory
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.mount import Mount


class Container(Directory):
    """A directory that belongs to no project. It is looked at again every second: it may become one."""

    __slots__ = ()

    def takes_lock(self) -> bool:
        return True

    def touched(self, name: bytes) -> None:
        if name in MEANINGFUL:
            self.standing.fresh_until = 0

    def subdirectory(self, child: Inode) -> Node:
        raise AssertionError("a directory in a container is looked at for itself")

    async def identify(self, child: Inode) -> Node:
        if not child.is_directory or child.number == 0:
            return await super().identify(child)
        return await identify_directory(self.mount, child)

    async def rmdir(self, name: bytes, context: RequestContext) -> None:
        node = await self.child(name)
        if not isinstance(node, ProjectDirectory):
            await super().rmdir(name, context)
            return
        node.own.refuse_leaving()
        await super().rmdir(name, context)
        instance = self.mount.instance
        instance.projects.pop(instance.backings.identity(node.own.directory), None)

    async def unlink(self, name: bytes, context: RequestContext) -> None:
        if self.special(name) is not None:
            raise refusals.control()
        await super().unlink(name, context)

    async def rename(
        self, old: bytes, to: Directory, new: bytes, flags: int, context: RequestContext
    ) -> None:
        if to.inode.backing is not self.inode.backing:
            to.refuse_name(new)
            renaming.refuse_across(self, to)
        moved = await self._projects_at(old)
        if flags & pyfuse3.RENAME_EXCHANGE and (moved or await self._exchanged(to, new)):
            raise refusals.exchange()
        if not moved:
            await super().rename(old, to, new, flags, context)
            return
        if to.project is not None:
            raise refusals.nested(to.project.uid)
        to.refuse_name(new)
        source, target = self._path_of(old), to.inode.path()
        destination = target + b"/" + new if target else new

        async def rename() -> None:
            await renaming.rename_files(self, old, to, new, flags)

        await move.move(self.mount.instance, moved, source, destination, rename)
        self.mount.tree.epoch += 1

    async def _projects_at(self, name: bytes) -> list[Project]:
        """The project that a directory here is, or those in it if it is a container."""
        node = await self.child(name)
        if isinstance(node, ProjectDirectory):
            return [node.own]
        if isinstance(node, Container):
            return await move.projects_within(self.mount.instance, node.descriptor, self._path_of(name))
        if self.special(name) is not None:
            raise refusals.control()
        return []

    async def _exchanged(self, to: Directory, name: bytes) -> bool:
        return isinstance(to, Container) and bool(await to._projects_at(name))

    def _path_of(self, name: bytes) -> bytes:
        path = self.inode.path()
        return os.path.join(path, name)


async def identify_directory(mount: "Mount", directory: Inode) -> Node:
    """Looks at a directory outside of any project: a project directory, or a container."""
    instance = mount.instance
    await mount.reach(directory)
    at, path = mount.tree.descriptor(directory), directory.path()
    known = instance.projects.get(instance.backings.identity(at))
    io = directory.backing.io
    try:
        if known is None:
            sight = await io(instance.look, at)
        else:
            sight = await io(instance.glance, at, known.sight)
    except PermissionError:
        if not await io(instance.is_closed, at):
            raise
        return Container(mount, directory, Plain(0), None)
    project = instance.settle(at, path, sight)
    node = directory.node
    if project is None:
        fresh_until = clock.seconds() + FRESH_SECONDS
        if isinstance(node, Container):
            node.standing.fresh_until = fresh_until
            return node
        return Container(mount, directory, Plain(fresh_until), None)
    if project.verdict.rebind and not project.transition:
        await rebind(instance, project)
    if isinstance(node, ProjectDirectory) and node.project is project:
        return node
    return ProjectDirectory(mount, directory, project, project)


class RootContainer(Container):
    """The backing directory itself, which may even be a project directory."""

    __slots__ = ()

    def __init__(self, mount: "Mount", inode: Inode) -> None:
        super().__init__(mount, inode, Plain(0), None)

    async def identify_root(self) -> Node:
        return await identify_directory(self.mount, self.inode)
