"""A file operation on a mount, and why the mount refused it: what errno cannot say."""

import os
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import click
import msgspec

from csfs.cli.advice import next_step
from csfs.cli.mounts import Mounted, control_file, mount_of
from csfs.domain.refusal_entry import RefusalEntry

REFUSED = 1
"""Exit status of a command that was refused, or failed."""
INTERRUPTED = 130
"""Exit status of a command that was interrupted."""


class Refused(click.ClickException):
    """The mount has refused an operation; the message gives the reason and the next step.

    `error` is the errno, 0 if a program of its own was refused.
    """

    exit_code = REFUSED

    def __init__(self, message: str, error: int = 0) -> None:
        super().__init__(message)
        self.error = error


def refusals_of(mount: Mounted) -> list[RefusalEntry]:
    """What was refused on a mount, newest last. Raises ClickException if it does not answer."""
    lines = control_file(mount, "refusals").splitlines()
    return [msgspec.json.decode(line, type=RefusalEntry) for line in lines]


def ask(path: str, operation: Callable[[], None]) -> None:
    """Does something with a path on a mount. Raises Refused with the reason that the mount gives."""
    since = _now()
    try:
        operation()
    except OSError as error:
        said = _said(path, {threading.get_native_id(), os.getpid()}, since)
        raise Refused(f"{path}: {error.strerror}{said}", error.errno or 0) from error


class Asked:
    """The same by a program: one that is told nothing but what it is to do."""

    def __init__(self, path: str, words: Sequence[str]) -> None:
        self._path = path
        self._since = _now()
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )

    def end(self) -> None:
        """Returns when the program has ended. Raises Refused."""
        _, told = self.process.communicate()
        if self.process.returncode != 0:
            reason = told.strip().rpartition(": ")[2]
            raise Refused(f"{self._path}: {reason}{_said(self._path, {self.process.pid}, self._since)}")


def explained(entry: RefusalEntry, mount: Mounted) -> list[str]:
    """The reason for a refusal, and the next step with the paths put in."""
    return [f"  because {entry.reason}", f"  next: {next_step(entry, mount)}"]


def _said(path: str, threads: set[int], since: str) -> str:
    """The reason of the last refusal that these threads met; where to look if there is none.

    A daemon in another pid namespace does not know their numbers: then the time has to do.
    """
    hint = f"\n  see also: csfs why {shlex.quote(path)}"
    try:
        mount = mount_of(path)
        found = refusals_of(mount)
    except click.ClickException:
        return hint
    for entry in reversed(found):
        if entry.at >= since and (entry.pid in threads or entry.pid == 0):
            return "\n" + "\n".join(explained(entry, mount)) + hint
    return hint


def _now() -> str:
    """In the form and to the precision of the mount's own times."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
