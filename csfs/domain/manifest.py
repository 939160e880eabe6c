"""What an archived project consisted of, and when a file counts as changed."""

import os
from typing import Literal

import msgspec

MTIME_TOLERANCE_NS = 1_000_000_000
"""tar keeps whole seconds, and so do some filesystems: less than this is no difference."""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One file of an archived project."""

    name: bytes
    type: Literal["file", "directory", "symlink", "other"]
    size: int
    """Bytes; 0 for what is not a regular file."""
    mtime_ns: int
    target: bytes = b""
    """Of a symlink."""
    checksum: bytes = b""
    """Of what a regular file holds: XXH3, 128 bits; empty where none was taken."""


class Page(msgspec.Struct, frozen=True, array_like=True):
    """The entries of one directory of an archived project."""

    directory: bytes
    """Relative to the project directory; empty for itself."""
    entries: list[Entry]


def shown(page: Page, entry: Entry) -> str:
    """The path of a file in the project, for people."""
    path = page.directory + b"/" + entry.name if page.directory else entry.name
    return os.fsdecode(path).encode(errors="backslashreplace").decode()


def difference(before: Entry, now: Entry) -> str:
    """How a file differs from what was archived, in words; empty if it does not."""
    if before.type != now.type:
        return f"was a {before.type}, is a {now.type}"
    if before.type == "symlink" and before.target != now.target:
        return "points elsewhere"
    if before.type == "file":
        if before.size != now.size:
            return f"had {before.size} bytes, has {now.size}"
        if abs(before.mtime_ns - now.mtime_ns) >= MTIME_TOLERANCE_NS:
            return "was modified"
    return ""
