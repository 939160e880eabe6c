"""What the kernel knows of the tree: inodes by number, where each lies, and directory descriptors.

A directory is an O_PATH descriptor, a file is (directory, name): a rename changes one entry here, and
there is no descriptor per file (design section 7).
"""

import errno
import gc
import hashlib
import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import pyfuse3

from csfs.backing.backings import ROOT, Backing, Backings
from csfs.backing.descriptor import Descriptor, Pin

if TYPE_CHECKING:
    from csfs.mount.nodes.base import Node

_MANY = 10_000
"""Below so many inodes it is not worth while to give memory back."""
_VIRTUAL = 1 << 63
"""Set in the numbers of inodes that do not lie on the backing filesystem under that number."""


class Inode:
    """One inode that the kernel holds a reference to, and where it was last seen.

    `node` says what it is at the moment; it is derived, and valid while `epoch` is the tree's.
    """

    __slots__ = (
        "id",
        "number",
        "backing",
        "parent",
        "name",
        "links",
        "lookups",
        "generation",
        "is_directory",
        "removed",
        "descriptor",
        "node",
        "epoch",
        "open_fds",
        "pin",
    )

    def __init__(
        self,
        id: int,
        number: int,
        parent: "Inode | None",
        name: bytes,
        is_directory: bool,
        backing: Backing,
    ) -> None:
        self.id = id
        self.number = number
        """On the backing filesystem; 0 for what the store serves."""
        self.backing = backing
        """The backing directory below which it lies; nothing is renamed from one to another."""
        self.parent = parent
        self.name = name
        self.links: dict[tuple[int, bytes], Inode] | None = None
        """Other places of a file with several hard links: (id of the directory, name) -> directory."""
        self.lookups = 0
        self.generation = 0
        self.is_directory = is_directory
        self.removed = False
        """Its last known name was removed or replaced through this mount."""
        self.descriptor: Descriptor | None = None
        self.node: Node | None = None
        self.epoch = -1
        self.open_fds: list[int] | None = None
        """Descriptors of open handles, for what can no longer be reached by name."""
        self.pin: Pin | None = None
        """Of a removed file that the kernel still knows: it stays, and no other gets its number."""

    @property
    def held_fd(self) -> int:
        """A descriptor of a file whose name was removed, opened or kept; -1 if there is none."""
        if not self.removed:
            return -1
        if self.open_fds:
            return self.open_fds[0]
        return -1 if self.pin is None else self.pin.fd

    def path(self) -> bytes:
        """Relative to the mount point; empty for the root."""
        parts = []
        at: Inode | None = self
        while at is not None and at.parent is not None:
            parts.append(at.name)
            at = at.parent
        return b"/".join(reversed(parts))


class Tree:
    """All inodes the kernel knows, and the descriptors of the directories among them.

    A backing directory is the root, or a directory in the root, which is csfs's own then.
    """

    def __init__(self, backings: Backings, *, descriptors: int) -> None:
        self._device = -1
        """Of the backing filesystem under whose numbers the kernel knows inodes, if there is just one."""
        self._filesystems: dict[int, bytes] = {}
        """Device number -> which of several backing filesystems it is."""
        self._fixed: set[Inode] = set()
        """Root and containers: they stay where they are, whatever is seen."""
        self.inodes: dict[int, Inode] = {}
        self.containers: dict[bytes, Inode] = {}
        own = Backing(ROOT, "", None)
        self.root = Inode(pyfuse3.ROOT_INODE, 0, None, b"", is_directory=True, backing=own)
        self._fix(self.root)
        for each in backings:
            self._add(each)
        self.epoch = 0
        """Grows whenever what nodes were derived from has changed; see `Inode.node`."""
        self._limit = descriptors
        self._recent: OrderedDict[Inode, None] = OrderedDict()
        self._most = 1
        """Inodes that were known at the same time, since memory was given back."""

    @property
    def descriptors_kept(self) -> int:
        """How many directories are open at the moment, root and containers aside."""
        return len(self._recent)

    def _fix(self, inode: Inode) -> None:
        inode.lookups = 1
        self._fixed.add(inode)
        self.inodes[inode.id] = inode

    def _add(self, backing: Backing) -> None:
        descriptor = None if backing.away else backing.descriptor
        if backing.container == ROOT:
            inode = self.root
            inode.backing = backing
            self._device = -1 if descriptor is None else descriptor.device
        else:
            name = backing.container
            if descriptor is not None:
                self._filesystems[descriptor.device] = backing.filesystem
                id = self._id(descriptor.device, descriptor.inode)
            else:
                id = virtual_id(b"container:" + name)
            inode = Inode(id, 0, self.root, name, is_directory=True, backing=backing)
            self.containers[name] = inode
            self._fix(inode)
        if descriptor is not None:
            inode.number, inode.descriptor = descriptor.inode, descriptor

    def id_of(self, found: os.stat_result) -> int:
        """The number under which the kernel knows a file: its own, unless another has that."""
        return self._id(found.st_dev, found.st_ino)

    def id_at(self, directory: Descriptor) -> int:
        """The number under which the kernel knows a directory."""
        return self._id(directory.device, directory.inode)

    def _id(self, device: int, number: int) -> int:
        if device == self._device:
            if number == self.root.number:
                return pyfuse3.ROOT_INODE
            if 1 < number < _VIRTUAL:
                return number
        filesystem = self._filesystems.get(device)
        if filesystem is not None:
            return virtual_id(b"filesystem:%d:" % number + filesystem)
        return virtual_id(b"device:%d:%d" % (device, number))

    def see(self, parent: Inode, name: bytes, found: os.stat_result) -> Inode:
        """The inode of a file that was seen at this place. The caller counts the lookup."""
        id = self.id_of(found)
        inode = self.inodes.get(id)
        if inode is None:
            is_directory = stat.S_ISDIR(found.st_mode)
            inode = Inode(id, found.st_ino, parent, name, is_directory, parent.backing)
            self.inodes[id] = inode
            return inode
        if inode.parent is not parent or inode.name != name or inode.removed:
            self._seen_elsewhere(inode, parent, name, found)
        return inode

    def _seen_elsewhere(self, inode: Inode, parent: Inode, name: bytes, found: os.stat_result) -> None:
        if inode in self._fixed:
            return
        is_directory = stat.S_ISDIR(found.st_mode)
        # Its only name is another one now: it was renamed behind our back, or it has gone, and its number
        # is that of another file.
        elsewhere = not is_directory and found.st_nlink == 1
        if (inode.removed or elsewhere) and not inode.open_fds and inode.pin is None:
            inode.generation += 1
            inode.descriptor = inode.node = None
            self._recent.pop(inode, None)
        if not is_directory and found.st_nlink > 1 and inode.parent is not None and not inode.removed:
            if inode.links is None:
                inode.links = {}
            inode.links[inode.parent.id, inode.name] = inode.parent
        inode.removed = False
        inode.is_directory = is_directory
        inode.backing = parent.backing
        self.place(inode, parent, name)

    def place(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Notes where an inode lies now."""
        inode.parent, inode.name = parent, name
        inode.epoch = -1
        if inode.links is not None:
            inode.links.pop((parent.id, name), None)

    def moved(self, inode: Inode, source: Inode, old: bytes, target: Inode, new: bytes) -> None:
        """Notes that one name of an inode was changed through this mount; its others stay what they are."""
        if inode.links is None or (inode.parent is source and inode.name == old):
            self.place(inode, target, new)
            return
        inode.links.pop((source.id, old), None)
        if inode.parent is not target or inode.name != new:
            inode.links[target.id, new] = target

    def virtual(self, parent: Inode, name: bytes, key: bytes, *, is_directory: bool = False) -> Inode:
        """The inode of something that csfs itself serves; the same number for the same key always."""
        id = virtual_id(key)
        inode = self.inodes.get(id)
        if inode is None:
            inode = self.inodes[id] = Inode(id, 0, parent, name, is_directory, parent.backing)
        elif inode.parent is not parent or inode.name != name:
            self.place(inode, parent, name)
        return inode

    def unlinked(self, parent: Inode, name: bytes, inode: Inode | None, pin: Pin | None) -> None:
        """Notes that a name was removed or replaced through this mount.

        The pin of a file is kept as long as the kernel knows that, but not that of a directory.
        """
        if inode is None:
            return
        if inode.parent is parent and inode.name == name:
            if inode.links:
                (_, other), directory = inode.links.popitem()
                self.place(inode, directory, other)
                return
            inode.removed = True
            if not inode.is_directory and inode.pin is None:
                inode.pin = pin
        elif inode.links is not None:
            inode.links.pop((parent.id, name), None)

    def known(self, found: os.stat_result) -> Inode | None:
        """The inode of a file that was seen, if the kernel knows it."""
        return self.inodes.get(self.id_of(found))

    def forget(self, id: int, lookups: int) -> None:
        inode = self.inodes.get(id)
        if inode is None or inode in self._fixed:
            return
        if len(self.inodes) > self._most:
            self._most = len(self.inodes)
        inode.lookups -= lookups
        if inode.lookups <= 0:
            self.discard(inode)
            if len(self.inodes) < self._most >> 3 and self._most > _MANY:
                self._shrink()

    def _shrink(self) -> None:
        """Gives memory back when the kernel has forgotten most inodes: a dict never shrinks by itself."""
        self.inodes = dict(self.inodes)
        self._most = len(self.inodes)
        gc.collect()

    def discard(self, inode: Inode) -> None:
        """Drops an inode to which the kernel holds no reference."""
        if inode.lookups <= 0 and self.inodes.get(inode.id) is inode and inode not in self._fixed:
            del self.inodes[inode.id]
            self._recent.pop(inode, None)
            # Node and inode refer to each other: the descriptor must not wait for the collector.
            inode.descriptor = inode.node = inode.pin = None

    def descriptor(self, inode: Inode) -> Descriptor:
        """The descriptor of a directory, opened again if it was put away.

        Raises OSError: ESTALE if another directory lies at its place by now.
        """
        if inode.descriptor is not None:
            if inode not in self._fixed:
                self._recent.move_to_end(inode)
            return inode.descriptor
        way = self.way(inode)
        return self.opened(way, way.open())

    def way(self, inode: Inode) -> "Way":
        """How to get to a directory whose descriptor was put away. Raises OSError ESTALE for what is gone."""
        chain = [inode]
        while (above := chain[-1].parent) is not None and above.descriptor is None:
            chain.append(above)
        if above is None or above.descriptor is None:
            raise OSError(errno.ESTALE, "a directory that is gone")
        chain.reverse()
        return Way(above.descriptor, chain, [(each.name, each.number) for each in chain])

    def opened(self, way: "Way", found: list[Descriptor]) -> Descriptor:
        """Keeps the descriptors of the directories on a way; that of the last."""
        for inode, descriptor in zip(way.inodes, found, strict=True):
            if inode.descriptor is None and self.inodes.get(inode.id) is inode:
                inode.descriptor = descriptor
                self._recent[inode] = None
        self._put_away(way.inodes[-1])
        return found[-1]

    def _put_away(self, keep: Inode) -> None:
        """Closes the descriptors used longest ago, but those of removed directories: no name leads back."""
        for _ in range(len(self._recent)):
            if len(self._recent) <= self._limit:
                return
            oldest, _ = self._recent.popitem(last=False)
            if oldest is keep or oldest.removed:
                self._recent[oldest] = None
            else:
                oldest.descriptor = None


class Way(NamedTuple):
    """From a directory that is open down to one that is not; opening them may block."""

    start: Descriptor
    inodes: list[Inode]
    steps: list[tuple[bytes, int]]
    """The name and the inode number of each."""

    def open(self) -> list[Descriptor]:
        """Each directory on the way. Raises OSError: ESTALE if another lies at the place of one by now."""
        found, at = [], self.start
        for name, number in self.steps:
            at = at.child(name)
            if at.inode != number:
                raise OSError(errno.ESTALE, "another directory lies at this place")
            found.append(at)
        return found


def virtual_id(key: bytes) -> int:
    """A number no file of the backing filesystem has, the same for the same key in every mount."""
    return _VIRTUAL | int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") >> 1
