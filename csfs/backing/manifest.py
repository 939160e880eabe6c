"""The manifest of an archived project, taken from its directory and held against it later."""

import os
import stat
from collections.abc import Iterable, Iterator
from typing import Literal

from csfs.backing.descriptor import Descriptor
from csfs.domain import names
from csfs.domain.manifest import Entry, Page, difference, shown

_BACKED = frozenset(name.encode() for name in (names.LOCK, *names.PROJECT_DOCUMENTS))
"""At the top of a project these are the store's, not the manifest's."""

Type = Literal["file", "directory", "symlink", "other"]


def walk(project: Descriptor) -> Iterator[Page]:
    """Every file of the project but those that the store backs, directory by directory.

    Follows no symlink and no limit of depth. Raises OSError.
    """
    pending: list[tuple[Descriptor, bytes, bytes]] = [(project, b"", b"")]
    while pending:
        parent, name, path = pending.pop()
        directory = parent.child(name) if name else parent
        entries = []
        for found in sorted(directory.names()):
            if _is_backed(path, found):
                continue
            entry = _entry(directory, found)
            entries.append(entry)
            if entry.type == "directory":
                pending.append((directory, found, path + b"/" + found if path else found))
        yield Page(path, entries)


def differences(project: Descriptor, pages: Iterable[Page]) -> Iterator[str]:
    """What of the manifest is missing or changed in `project`, a line each. Raises OSError."""
    missing: set[bytes] = set()
    directory, at = project, b""
    for page in pages:
        if page.directory in missing:
            missing.update(_subdirectories(page))
            continue
        above, _, name = page.directory.rpartition(b"/")
        directory = directory.child(name) if name and above == at else project.descend(page.directory)
        at = page.directory
        for before in page.entries:
            path = page.directory + b"/" + before.name if page.directory else before.name
            try:
                now = _entry(directory, before.name)
            except FileNotFoundError:
                yield f"{shown(page, before)} is missing"
                if before.type == "directory":
                    missing.add(path)
                continue
            if change := difference(before, now):
                yield f"{shown(page, before)} {change}"
                if before.type == "directory":
                    missing.add(path)


def _subdirectories(page: Page) -> Iterator[bytes]:
    for entry in page.entries:
        if entry.type == "directory":
            yield page.directory + b"/" + entry.name


def _is_backed(directory: bytes, name: bytes) -> bool:
    return name.startswith(names.TEMPORARY_PREFIX.encode()) or (not directory and name in _BACKED)


def _entry(directory: Descriptor, name: bytes) -> Entry:
    found = directory.stat(name)
    kind: Type = "other"
    size, target = 0, b""
    if stat.S_ISREG(found.st_mode):
        kind, size = "file", found.st_size
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(found.st_mode):
        kind, target = "symlink", os.readlink(name, dir_fd=directory.fd)
    return Entry(name, kind, size, found.st_mtime_ns, target)
