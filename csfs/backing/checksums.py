"""Checksums of what files hold, taken a piece at a time: a file may have hundreds of gigabytes."""

import os
from collections.abc import Callable, Iterator

import xxhash

from csfs.backing.descriptor import Descriptor, open_file
from csfs.domain.manifest import Entry, Page

_BLOCK = 4 << 20
_PIECE = 64 << 20
"""Bytes after which whoever waits is told, and may stop."""
_FILES = 64
"""Small files that count as a piece."""


def checksums(
    project: Descriptor, page: Page, wanted: Callable[[Entry], bool], into: dict[bytes, bytes]
) -> Iterator[int]:
    """Reads the wanted files of a page; yields after each piece how many bytes that was.

    `into` gets name -> checksum (XXH3, 128 bits). Follows no symlink. Raises OSError, FileNotFoundError for
    what is missing.
    """
    chosen = [entry for entry in page.entries if entry.type == "file" and wanted(entry)]
    if not chosen:
        return
    directory = project.descend(page.directory)
    done = files = 0
    for entry in chosen:
        fd = open_file(directory, entry.name, os.O_RDONLY)
        try:
            digest = xxhash.xxh3_128()
            while block := os.read(fd, _BLOCK):
                digest.update(block)
                done += len(block)
                if done >= _PIECE:
                    yield done
                    done = files = 0
        finally:
            os.close(fd)
        into[entry.name] = digest.digest()
        files += 1
        if files >= _FILES:
            yield done
            done = files = 0
    yield done
