"""Where cases are run: a mount for each way to mount, with a project in each state; a plain directory."""

import itertools
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.mount.lab import ORDINARY_USER, Lab
from tests.mount.posix.cases import Case
from tests.mount.posix.observation import Observation, become, in_child, snapshot

T = TypeVar("T")

STATES = ("plain", "detached", "attached")
ARCHIVED = "archived"
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Mode:
    """A way to mount, and who does something there."""

    name: str
    mount: str
    options: tuple[str, ...] = ()
    users_mount: bool = False
    users_caller: bool = False
    in_place: bool = False
    """Mounted over its own backing directory."""
    states: tuple[str, ...] = STATES


MODES = (
    Mode("passthrough", "passthrough"),
    Mode("daemon", "daemon", options=("-o", "nopassthrough"), states=("plain", "attached")),
    Mode("threads", "threads", options=("-o", "io=threads"), states=("attached",)),
    Mode("in-place", "in-place", in_place=True, states=("plain", "attached")),
    Mode("user-in-roots", "passthrough", users_caller=True),
    Mode("users-own", "own", users_mount=True, users_caller=True),
)
"""An ordinary user who runs the tests has only a mount of his own.

How data comes to the backing directory does not depend on the state: not every mode needs all of them.
"""


class Site:
    """Mounts are made when they are first asked for, and taken down together."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="csfs-test-")).resolve()
        self.top.chmod(0o755)
        self.labs: dict[str, Lab] = {}
        self._below: dict[str, int] = {}
        """Descriptors of backing directories: a mount may lie over one."""
        self._numbers = itertools.count()
        self._expected: dict[tuple[str, bool], Observation] = {}

    def lab(self, mode: Mode) -> Lab:
        if mode.mount not in self.labs:
            self.labs[mode.mount] = self._mounted(mode)
        return self.labs[mode.mount]

    def _mounted(self, mode: Mode) -> Lab:
        at = self.top / mode.mount
        user = ORDINARY_USER if mode.users_mount and IS_ROOT else None
        for directory in (at, at / "backing", at / "mount", at / "state"):
            directory.mkdir()
            if user is not None:
                os.chown(directory, user, user)
        self._below[mode.mount] = os.open(at / "backing", os.O_PATH)
        place = at / ("backing" if mode.in_place else "mount")
        lab = Lab(mode.mount, at / "backing", place, at / "state", as_user=user, options=mode.options)
        lab.mount()
        lab.run("mkdir plain detached attached archived").ok()
        lab.run("touch detached/cs.lock attached/cs.lock archived/cs.lock && rm detached/cs.lock").ok()
        lab.run("mkdir plain/work detached/work attached/work archived/work").ok()
        return lab

    def reference(self, case: Case, mode: Mode) -> Observation:
        """What comes of a case in a plain directory, for the same caller."""
        key = (case.name, mode.users_caller)
        if key not in self._expected:
            at = self.top / "reference"
            at.mkdir(exist_ok=True)
            self._expected[key] = self.doing(at, case, mode, root_makes=True)[0]
        return self._expected[key]

    def observe(self, case: Case, mode: Mode, state: str) -> tuple[Observation, Observation, Observation]:
        """What comes of it on the mount, and what lies there then: by the mount, by its backing directory."""
        lab = self.lab(mode)
        work = Path(state) / "work"
        below = Path(f"/proc/self/fd/{self._below[mode.mount]}") if mode.in_place else lab.backing
        return self.doing(lab.mountpoint / work, case, mode, below=below / work)

    def doing(
        self, at: Path, case: Case, mode: Mode, below: Path | None = None, *, root_makes: bool = False
    ) -> tuple[Observation, Observation, Observation]:
        """Runs a case in a fresh directory in `at`, in a process of the caller's own."""
        name = f"{case.name}-{next(self._numbers)}"
        switches = mode.users_caller and IS_ROOT

        def work() -> tuple[Observation, Observation, Observation]:
            if switches and mode.users_mount and not root_makes:
                become(ORDINARY_USER, ORDINARY_USER)
            os.mkdir(at / name)
            os.chmod(at / name, 0o755)
            if switches:
                os.chown(at / name, ORDINARY_USER, ORDINARY_USER)
            if switches and os.geteuid() != ORDINARY_USER:
                become(ORDINARY_USER, ORDINARY_USER)
            os.chdir(at / name)
            os.umask(0o022)
            here = os.open(".", os.O_PATH)
            found = case.run()
            if below is None:
                return found, {}, {}
            there = os.open(below / name, os.O_PATH)
            return found, snapshot(here), snapshot(there)

        return in_child(work)

    def as_owner(self, mode: Mode, call: Callable[[], T]) -> T:
        """What a process returns that belongs to whom the mount belongs."""

        def work() -> T:
            if mode.users_mount and IS_ROOT:
                become(ORDINARY_USER, ORDINARY_USER)
            return call()

        return in_child(work)

    def take_down(self) -> None:
        """Unmounts all, and looks at what the daemons left behind."""
        problems = []
        for lab in self.labs.values():
            try:
                lab.take_down()
                lab.check_traces()
            except AssertionError as problem:
                problems.append(str(problem))
        for fd in self._below.values():
            os.close(fd)
        shutil.rmtree(self.top, onerror=_make_accessible)
        assert not problems, problems


def _make_accessible(remove: Callable[..., object], path: str, problem: object) -> None:
    """Has another try at what a case has closed to its owner."""
    os.chmod(os.path.dirname(path), stat.S_IRWXU)
    if not os.path.islink(path):
        os.chmod(path, stat.S_IRWXU)
    subprocess.run(["rm", "-rf", "--", path], check=True)
