"""Backups of a store: one file each, made while the store is written, whole or not there at all."""

import errno
import fcntl
import os
import re
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from csfs.store.store import Store, View, sync_directory

KEEP = 7
"""Backups that stay in the default place unless another number is asked for."""

_TIME = "%Y%m%dT%H%M%S.%f"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6})Z\.mdb\Z")
_PARTIAL = re.compile(r"\..*\.partial\Z")


class Source(Protocol):
    """A store that a backup can be made of: a `Store` is."""

    def copy_to(self, fd: int) -> None: ...


@dataclass(frozen=True)
class Backup:
    """What a backup file holds."""

    path: Path
    made: datetime
    bytes: int
    instance: str
    uuid: str
    projects: int
    next_project: int


def place(instance: Path) -> Path:
    """The default place for the backups of the instance with this state directory."""
    return instance / "backups"


def name(made: datetime) -> str:
    """The file name of a backup of this time; names sort as their times do."""
    return made.astimezone(UTC).strftime(_TIME) + "Z.mdb"


def make(source: Source, target: Path) -> Backup:
    """Writes a copy of the store to the file `target`, which is there only once it is durable and was read.

    Raises FileExistsError if it is there already, OSError (ENOSPC among them), Damaged if the copy
    cannot be read. Nothing is left behind then.
    """
    if target.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target))
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        source.copy_to(fd)
        os.fsync(fd)
        made = describe(partial)
        os.rename(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    sync_directory(target.parent)
    return replace(made, path=target, made=made_at(target))


def describe(path: Path) -> Backup:
    """Reads a backup. Raises Damaged, UnknownFormat, OSError."""
    reader = Store.open_for_reading(path)
    try:
        instance, projects = reader.read(lambda view: (view.instance(), len(View.projects(view))))
    finally:
        reader.close()
    return Backup(
        path=path,
        made=made_at(path),
        bytes=path.stat().st_size,
        instance=instance.name,
        uuid=instance.uuid,
        projects=projects,
        next_project=instance.next_project,
    )


def made_at(path: Path) -> datetime:
    """When a backup was made: its name says so, or else its mtime. Raises OSError."""
    found = _NAME.match(path.name)
    if found:
        return datetime.strptime(found.group(1), _TIME).replace(tzinfo=UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def listed(directory: Path) -> list[Path]:
    """The backups in the default place, the oldest first. Raises OSError."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.match(path.name))


def prune(directory: Path, keep: int) -> list[Path]:
    """Removes all but the newest `keep` in the default place; those that went. Raises OSError."""
    gone = listed(directory)[: -keep or None]
    for path in gone:
        path.unlink()
    return gone


def clear_partial(directory: Path) -> None:
    """Removes what was left of backups whose process has ended in the middle. Raises OSError."""
    for path in list(directory.iterdir()) if directory.is_dir() else []:
        if not _PARTIAL.match(path.name):
            continue
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            pass  # it is being written
        finally:
            os.close(fd)
