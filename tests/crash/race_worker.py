"""One process among those that race for projects: does at random what users do, and records it.

Told what to do by one JSON object on standard input; writes its record to a file, one call a line.
"""

import errno
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_CUT_SHORT = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO})
"""What a call gives whose daemon has died: it may have done its work."""
_AWAY = frozenset({errno.ENOENT, errno.ENODATA, errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV})
"""What looking gives while nothing is mounted."""
_LONGEST_PAUSE_SECONDS = 0.02
_DATA_DIRECTORY = "J1"

_CHOICES = {
    "attached": {"write": 12, "edit": 6, "rm": 4, "chmod a-w": 1, "touch": 1},
    "detached": {"touch": 8, "write": 1, "edit": 1},
    "foreign": {"rm": 4, "touch": 3, "write": 2, "edit": 1},
    "archived": {"chmod u+w": 6, "write": 1, "rm": 1},
    "lost": {"rm": 2, "write": 2, "edit": 1},
}


@dataclass(frozen=True)
class Task:
    instance: str
    worker: int
    mountpoint: str
    projects: list[str]
    until: float
    """By the monotonic clock."""
    record: str

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True)
class Entry:
    """One call. `code` is the errno, 0 for success; times by the monotonic clock.

    Of a write to a data file only the opening counts: what is open may be written with passthrough.
    `value` is what was written, `name` the file.
    """

    instance: str
    project: str
    verb: str
    start: float
    end: float
    code: int
    value: str = ""
    name: str = ""
    state: str = ""
    """Of the project, as it was shown before."""

    @property
    def done(self) -> bool:
        return self.code == 0

    @property
    def cut_short(self) -> bool:
        return self.code in _CUT_SHORT


class Worker:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._random = random.Random(f"{task.instance}/{task.worker}")
        self._sequence = 0
        self._record = open(task.record, "w")  # noqa: SIM115 - as long as the worker

    def run(self) -> None:
        while time.monotonic() < self._task.until:
            project = self._random.choice(self._task.projects)
            directory = Path(self._task.mountpoint, project)
            try:
                state = os.getxattr(directory, "user.csfs.state").decode()
            except OSError as error:
                if error.errno not in _AWAY:
                    raise
                self._pause()
                continue
            choices = _CHOICES[state]
            verb = self._random.choices(list(choices), list(choices.values()))[0]
            self._do(verb, project, directory, state)
            self._pause()
        self._record.close()

    def _pause(self) -> None:
        time.sleep(self._random.uniform(0, _LONGEST_PAUSE_SECONDS))

    def _do(self, verb: str, project: str, directory: Path, state: str) -> None:
        lock = directory / "cs.lock"
        match verb:
            case "touch":
                self._timed(verb, project, state, lambda: _touch(lock))
            case "rm":
                self._timed(verb, project, state, lambda: os.unlink(lock))
            case "chmod a-w":
                self._timed(verb, project, state, lambda: os.chmod(directory, 0o555))
            case "chmod u+w":
                self._timed(verb, project, state, lambda: os.chmod(directory, 0o755))
            case "write":
                self._write(project, directory, state)
            case "edit":
                self._edit(project, directory, state)

    def _next_value(self) -> str:
        self._sequence += 1
        return f"{self._task.instance}/{self._task.worker} {self._sequence}"

    def _write(self, project: str, directory: Path, state: str) -> None:
        """A file of its own, as a whole: opened, emptied, written, each a record. It may end after any."""
        value = self._next_value()
        path = directory / _DATA_DIRECTORY / f"{self._task.instance}.{self._task.worker}"
        opened: list[int] = []

        def begin() -> None:
            opened.append(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))

        def empty() -> None:
            os.ftruncate(opened[0], 0)

        def finish() -> None:
            os.write(opened[0], value.encode())

        if not self._timed("open", project, state, begin, name=path.name):
            return
        if self._timed("truncate", project, state, empty, name=path.name):
            self._timed("write", project, state, finish, value=value, name=path.name)
        self._timed("close", project, state, lambda: os.close(opened[0]), name=path.name)

    def _edit(self, project: str, directory: Path, state: str) -> None:
        """The title, as sponge does it: a file that is renamed over the document."""
        value = self._next_value()
        made = directory / f".project.json.{self._task.instance}.{self._task.worker}"
        try:
            content = (directory / "project.json").read_bytes()
            before = json.loads(content)
            made.write_text(json.dumps({**before, "title": value}))
        except OSError:
            return
        except ValueError:
            self._note_misread(project, state, content)
            return
        self._timed("edit", project, state, lambda: os.rename(made, directory / "project.json"), value=value)

    def _note_misread(self, project: str, state: str, content: bytes) -> None:
        """A document was not whole: the bytes of another file, or none."""
        now = time.monotonic()
        shown = content[:100].decode(errors="replace")
        self._keep(Entry(self._task.instance, project, "misread", now, now, 0, shown, state=state))

    def _timed(
        self, verb: str, project: str, state: str, act: Callable[[], None], value: str = "", name: str = ""
    ) -> bool:
        """Whether it was done."""
        start = time.monotonic()
        try:
            act()
            code = 0
        except OSError as error:
            code = error.errno or errno.EIO
        entry = Entry(self._task.instance, project, verb, start, time.monotonic(), code, value, name, state)
        self._keep(entry)
        return entry.done

    def _keep(self, entry: Entry) -> None:
        self._record.write(json.dumps(asdict(entry)) + "\n")


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))


def read(path: Path) -> list[Entry]:
    """The record that a worker has left."""
    return [Entry(**json.loads(line)) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    Worker(Task(**json.loads(sys.stdin.buffer.read()))).run()
