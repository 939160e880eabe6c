"""Every file below a directory, by descriptors and one entry at a time: memory does not grow with it."""

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from csfs.backing.descriptor import Descriptor

Type = Literal["directory", "symlink", "other"]


class Entry(NamedTuple):
    """A file in a directory; `path` is that of the directory, relative to where the walk began."""

    directory: Descriptor
    path: bytes
    name: bytes
    type: Type

    @property
    def whole(self) -> bytes:
        return joined(self.path, self.name)


class Unread(NamedTuple):
    """A directory that could not be read."""

    path: bytes
    error: OSError


def joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path and name else path or name


def entries(directory: Descriptor) -> Iterator[tuple[bytes, Type]]:
    """What lies in a directory. Raises OSError."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        with os.scandir(fd) as found:
            for entry in found:
                name = os.fsencode(entry.name)
                if entry.is_symlink():
                    yield name, "symlink"
                else:
                    yield name, "directory" if entry.is_dir(follow_symlinks=False) else "other"
    finally:
        os.close(fd)


def below(top: Descriptor, only: bytes = b"") -> Iterator[Entry | Unread]:
    """Every file below `top`, or only what lies at and below the name `only` in it.

    Follows no symlink. A directory that cannot be read is told of, and the walk goes on; one that is
    removed meanwhile is passed over.
    """
    pending: list[tuple[Descriptor, bytes, bytes]] = [(top, b"", b"")]
    while pending:
        parent, path, name = pending.pop()
        whole = joined(path, name)
        try:
            here = parent.child(name) if name else parent
            for found, kind in entries(here):
                if only and not whole and found != only:
                    continue
                yield Entry(here, whole, found, kind)
                if kind == "directory":
                    pending.append((here, whole, found))
        except FileNotFoundError:
            continue
        except OSError as error:
            yield Unread(whole, error)
