"""The documents that a project directory holds, read for an attach."""

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from csfs.backing.descriptor import Descriptor, read_dated_file
from csfs.domain import document, names


class Found(NamedTuple):
    """A document's bytes, and the mtime of its file in nanoseconds."""

    content: bytes
    mtime_ns: int


def read(project: Descriptor, name: str) -> Found | None:
    """A document at the top of the project; None if it is not there.

    Raises OSError; ELOOP, EINVAL or EFBIG for what is no readable regular file.
    """
    try:
        return Found(*read_dated_file(project, name.encode(), document.MAX_BYTES))
    except FileNotFoundError:
        return None


def jobs(project: Descriptor) -> Iterator[tuple[str, Found | OSError | None]]:
    """Each job directory with its job.json.

    None: there is no job.json. OSError: it is no readable regular file (a symlink, a FIFO, too
    large), which is for the caller to judge. Raises OSError if the directories cannot be read.
    """
    found = [name for name in map(os.fsdecode, project.subdirectories()) if names.is_job(name)]
    for name in sorted(found, key=lambda job: int(job[1:])):
        directory = project.child(name.encode())
        try:
            document_name = names.JOB_DOCUMENT.encode()
            yield name, Found(*read_dated_file(directory, document_name, document.MAX_BYTES))
        except FileNotFoundError:
            yield name, None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO, errno.EACCES):
                raise
            yield name, error


def is_empty(directory: Descriptor) -> bool:
    """Whether nothing but what csfs put there for a moment lies in the directory."""
    prefix = names.TEMPORARY_PREFIX.encode()
    return all(name.startswith(prefix) for name in directory.names())


def projects_below(directory: Descriptor) -> Iterator[tuple[bytes, Descriptor]]:
    """Every project directory below a container, with its path relative to it.

    Looks into containers, not into projects. Raises OSError.
    """
    lock, marker = names.LOCK.encode(), names.PROJECT_DOCUMENT.encode()
    pending: list[tuple[Descriptor, bytes, bytes]] = [(directory, b"", b"")]
    while pending:
        parent, name, path = pending.pop()
        try:
            here = parent.child(name) if name else parent
        except FileNotFoundError:
            continue
        if name and (here.exists(lock) or here.exists(marker)):
            yield path, here
            continue
        for found in here.subdirectories():
            pending.append((here, found, path + b"/" + found if path else found))
