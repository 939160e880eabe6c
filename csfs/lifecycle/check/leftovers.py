"""Temporary files of csfs that nobody has put in place or removed, and locks among them."""

from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import lock, names
from csfs.lifecycle.check.claims import is_ours_and_given_up
from csfs.lifecycle.check.findings import Finding, Kind, Severity
from csfs.lifecycle.instance import Instance

DAY_NS = 86_400 * 1_000_000_000
"""A temporary file of this age is used by nobody any more."""

_PREFIX = names.TEMPORARY_PREFIX.encode()
_LOCK = names.LOCK.encode()


def is_temporary(name: bytes) -> bool:
    return name.startswith(_PREFIX)


def examine(
    instance: Instance,
    directory: Descriptor,
    name: bytes,
    *,
    at: bytes,
    path: bytes,
    now_ns: int,
    mounted: bool,
    project: str,
) -> Finding | None:
    """What a temporary file is; None if it is gone already.

    Its age is that of its inode, for its mtime may be a document's. Raises OSError.
    """
    try:
        found = directory.stat(name)
    except FileNotFoundError:
        return None
    held = _lock_in(directory, name)
    if held is not None and not directory.exists(_LOCK):
        given_up = is_ours_and_given_up(instance, held)
        return Finding(
            kind=Kind.ASIDE_LOCK,
            severity=Severity.WARNING,
            project=project,
            directory=at,
            path=path,
            meaning=f"a lock that was being taken or released; the directory has none: {held.owner}",
            advice="--repair removes it, for the record says that this instance does not hold it"
            if given_up
            else "mount the instance that it names, which settles what was cut short;"
            " if that instance still holds the project, rename it to cs.lock",
            mendable=given_up,
        )
    ours = name.startswith(_PREFIX + instance.identity.uuid.encode() + b".") and not mounted
    old = now_ns - found.st_ctime_ns > DAY_NS
    whose = "of this instance" if ours else "older than a day" if old else "of today, and may be in use"
    return Finding(
        kind=Kind.TEMPORARY,
        severity=Severity.WARNING if ours or old else Severity.NOTE,
        project=project,
        directory=at,
        path=path,
        meaning=f"a temporary file of csfs, {whose}",
        advice="--repair removes it" if ours or old else "it can be removed when it is older than a day",
        mendable=ours or old,
    )


def _lock_in(directory: Descriptor, name: bytes) -> lock.Lock | None:
    try:
        found = lock.parse(read_file(directory, name, lock.MAX_BYTES))
    except OSError:
        return None  # too large for a lock, not a file, or unreadable: a temporary file like any other
    return found if isinstance(found, lock.Lock) else None
