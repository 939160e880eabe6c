"""The backing directories of an instance, and which of them a path on its mount leads to.

With one that appears as the root of the mount, paths begin in it. Otherwise each appears as a top-level
directory of the mount, its container, and the first name of a path is that of its container.
"""

import errno
import os
from collections.abc import Iterator, Mapping

from csfs.backing.descriptor import Descriptor
from csfs.backing.io import Io, in_thread, inline
from csfs.backing.syscalls import network_filesystem

ROOT = b""
"""The name of the container that is the root of the mount itself."""


class Overlap(Exception):
    """Two containers have directories in common; the message says which, and what to do."""


class Backing:
    """One backing directory, and what holds for all that lies below it.

    `threads`: whether calls to it run in threads; by the type of its filesystem if it is None.
    """

    def __init__(
        self, container: bytes, path: str, found: Descriptor | None, *, threads: bool | None = None
    ) -> None:
        self.container = container
        self.path = path
        """For people."""
        self.away = ""
        """Why it is not there; empty if it is."""
        self.network = found is not None and network_filesystem(found.fd) is not None
        self.threads = self.network if threads is None else threads
        self.io: Io = in_thread if self.threads else inline
        self.filesystem = container
        """The same for those on one filesystem: on it an inode number names one file."""
        self._descriptor = found
        if found is not None:
            found.container = container

    @classmethod
    def open(cls, container: bytes, path: str, *, threads: bool | None = None) -> "Backing":
        """The one at `path`; away if there is no directory."""
        try:
            return cls(container, path, Descriptor.root(path), threads=threads)
        except OSError as error:
            missing = cls(container, path, None, threads=threads)
            missing.away = error.strerror or str(error)
            return missing

    @property
    def name(self) -> str:
        """Of its container, for people."""
        return os.fsdecode(self.container)

    @property
    def descriptor(self) -> Descriptor:
        """Raises OSError ENODEV if it is away."""
        if self._descriptor is None or self.away:
            raise OSError(errno.ENODEV, f"{self.path} is not there: {self.away}")
        return self._descriptor


class Backings:
    """All of an instance that a mount was told of, by container. Raises Overlap."""

    def __init__(self, given: list[Backing]) -> None:
        self._by_container = {each.container: each for each in given}
        _refuse_overlap(self.present)
        self._tell_apart()
        self.io: Io = in_thread if any(each.threads for each in given) else inline
        """For calls that may go to each of them."""

    def _tell_apart(self) -> None:
        devices: dict[int, bytes] = {}
        for each in self:
            each.filesystem = each.container
            if not each.away:
                each.filesystem = devices.setdefault(each.descriptor.device, each.container)

    def put_away(self, backing: Backing, reason: str) -> None:
        """Has one count as not there: what lies at its path is something else."""
        backing.away = reason
        self._tell_apart()

    @classmethod
    def open(cls, places: Mapping[bytes, str], *, threads: bool | None = None) -> "Backings":
        """Those at these paths, by container. Raises Overlap."""
        return cls([Backing.open(name, path, threads=threads) for name, path in places.items()])

    @classmethod
    def of_one(cls, descriptor: Descriptor, path: str = "") -> "Backings":
        """A single one, at the root of the mount."""
        return cls([Backing(ROOT, path, descriptor)])

    def __iter__(self) -> Iterator[Backing]:
        return iter(self._by_container.values())

    @property
    def present(self) -> list[Backing]:
        """Those that are there."""
        return [each for each in self if not each.away]

    @property
    def is_one(self) -> bool:
        """Whether there is no container but the root of the mount."""
        return ROOT in self._by_container

    def container(self, path: bytes) -> bytes:
        """The container that a path on the mount begins with, also of one that this mount does not know."""
        return ROOT if self.is_one else path.partition(b"/")[0]

    def at(self, path: bytes) -> Backing:
        """The one in which a path lies. Raises OSError ENODEV for a container that is not known here."""
        container = self.container(path)
        found = self._by_container.get(container)
        if found is None:
            raise OSError(errno.ENODEV, f"the mount has no container {os.fsdecode(container)}")
        return found

    def of(self, directory: Descriptor) -> Backing:
        """The one in which a directory lies."""
        return self._by_container[directory.container]

    def knows(self, path: bytes) -> bool:
        """Whether the mount was told of the container of a path, be it there or not."""
        return self.container(path) in self._by_container

    def has(self, path: bytes) -> bool:
        """Whether what a path leads to can be looked for: its container is known, and there."""
        found = self._by_container.get(self.container(path))
        return found is not None and not found.away

    def below(self, path: bytes) -> bytes:
        """A path on the mount, relative to its backing directory."""
        return path[len(self.container(path)) :].lstrip(b"/")

    def descend(self, path: bytes) -> Descriptor:
        """The directory at this path on the mount, following no symlink.

        Raises OSError, ENODEV if its container is away.
        """
        return self.at(path).descriptor.descend(self.below(path))

    def filesystem(self, path: bytes) -> bytes:
        """What tells the filesystem of a path from those of other containers."""
        found = self._by_container.get(self.container(path))
        return self.container(path) if found is None else found.filesystem

    def identity(self, directory: Descriptor) -> tuple[bytes, int]:
        """What tells a directory from all others: its filesystem, and its inode number there."""
        return self.of(directory).filesystem, directory.inode


def _refuse_overlap(backings: list[Backing]) -> None:
    places = {(each.descriptor.device, each.descriptor.inode): each for each in reversed(backings)}
    for each in backings:
        own, *above = _upwards(each.descriptor)
        if places[own] is not each:
            raise Overlap(
                f"the containers {places[own].name} and {each.name} are the same directory"
                f" ({each.path}): name it once"
            )
        for place in above:
            if place in places:
                outer = places[place]
                raise Overlap(
                    f"the container {each.name} ({each.path}) lies inside the container {outer.name}"
                    f" ({outer.path}): leave one of them out, or choose directories beside each other"
                )


def _upwards(directory: Descriptor) -> Iterator[tuple[int, int]]:
    """Device and inode number of a directory, and of all above it."""
    here = (directory.device, directory.inode)
    yield here
    while True:
        directory = directory.child(b"..")
        above = (directory.device, directory.inode)
        if above == here:
            return
        here = above
        yield here
