"""Where a copy is made until it is whole: a hidden directory beside its place, with a note of the action.

`.CS-a.moving/` holds `note.json`, and `CS-a` until that is put in its place. While the note is there the
action has not ended, and the same command goes on with it.
"""

import os
import stat
from collections.abc import Callable
from typing import Literal

import click
import msgspec

from csfs.cli.progress import shown
from csfs.cli.tree_copy import TreeCopy, bytes_in, opened

_NOTE = "note.json"


class Note(msgspec.Struct, kw_only=True, frozen=True):
    """An action that has begun."""

    action: Literal["move", "clone"]
    source: str
    """Absolute path, on a mount."""
    target: str
    """Absolute path, on a mount."""
    state: str
    """Of the source when it began."""
    uid: str
    lock_id: str
    """Of the source when it began; empty if it was detached."""


class Staging:
    """The staging directory of a target, whether it is there or not."""

    def __init__(self, target: str, word: Literal["moving", "cloning"]) -> None:
        parent, self.name = os.path.split(target)
        self.target = target
        self.directory = os.path.join(parent, f".{self.name}.{word}")
        self.copy = os.path.join(self.directory, self.name)

    def note(self) -> Note | None:
        """What has begun here; None if nothing has. Raises OSError."""
        try:
            with open(os.path.join(self.directory, _NOTE), "rb") as file:
                return msgspec.json.decode(file.read(), type=Note)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise click.ClickException(
                f"{self.directory}/{_NOTE} is no note of csfs: if nothing of yours is in it,"
                f" rm -r {self.directory}, then repeat"
            ) from error

    def begin(self, note: Note) -> None:
        """Durable on return. Raises OSError."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        making = os.path.join(self.directory, _NOTE + ".new")
        with open(making, "wb") as file:
            file.write(msgspec.json.encode(note))
            file.flush()
            os.fsync(file.fileno())
        os.rename(making, os.path.join(self.directory, _NOTE))
        with opened(self.directory) as fd:
            os.fsync(fd)

    def fill(
        self, source: str, skip: Callable[[str], bool], *, what: str, reach: "Reach | None" = None
    ) -> None:
        """Copies a directory here but for the paths that are skipped, or goes on with that.

        `reach` are the same two directories on a filesystem that can share blocks. Raises NotTheSame,
        OSError.
        """
        os.makedirs(self.copy, mode=0o700, exist_ok=True)
        at, to = (source, self.copy) if reach is None else (reach.source, reach.target)
        with shown(what, bytes_in(source)) as told, opened(os.path.dirname(to)) as part_in:
            TreeCopy(part_in, told, reflink=reach is not None).copy(at, to, skip)

    def put(self, source: str) -> None:
        """Gives the copy its place, and the mode and times of the source's directory. Raises OSError."""
        found = os.stat(source, follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(self.copy, found.st_uid, found.st_gid, follow_symlinks=False)
        os.chmod(self.copy, found.st_mode & 0o7777)
        os.utime(self.copy, ns=(found.st_atime_ns, found.st_mtime_ns))
        if os.path.lexists(self.target):
            raise click.ClickException(
                f"{self.target} has come into being meanwhile: move it aside, then repeat"
            )
        os.rename(self.copy, self.target)
        with opened(os.path.dirname(self.target)) as fd:
            os.fsync(fd)

    def end(self) -> None:
        """Removes the note, which ends the action, and the directory. Raises OSError."""
        for name in sorted(os.listdir(self.directory), key=_NOTE.__eq__):
            os.unlink(os.path.join(self.directory, name))
        os.rmdir(self.directory)

    def sweep(self) -> None:
        """Removes the directory if it is empty: the end of an action was cut short. Raises OSError."""
        if is_directory(self.directory) and not os.listdir(self.directory):
            os.rmdir(self.directory)


def is_directory(path: str) -> bool:
    """Whether there is a directory under this name; a symlink is none."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


class Reach(msgspec.Struct, frozen=True):
    """Source and copy on the backing directory, where their filesystem can share blocks between files."""

    source: str
    target: str
