"""`csfs move` killed at random moments, and repeated: there is always one whole project, with one owner."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from soaking import project_model
from soaking.mounting import complaints
from soaking.project_model import Model
from soaking.sites import Kind, Site, attribute, site

_HELD = frozenset({"attached", "archived"})
_TARGETS = ("command", "command", "daemon", "both")
"""What is killed: the daemon in half of all cases."""
_PATIENCE_SECONDS = 600
_LOOK_SECONDS = 0.002
_MOST_REPEATS = 6
"""Of one move: a last one is let finish, so that moves of all that is left are seen too."""
_EXPECTED = ("was cut short and is now", "left by a daemon that was killed")
"""In the log of a daemon that was killed before."""


class Moving:
    """A project that is moved to and fro between two places of a mount."""

    def __init__(self, mount: Site, model: Model, chosen: random.Random, say: Callable[[str], None]) -> None:
        self.site = mount
        self.model = model
        self.random = chosen
        self.say = say
        self.source, self.target = (place / "CS-moved" for place in mount.places)
        self.wrong: list[str] = []
        self.kills: Counter[str] = Counter()
        self.found: Counter[str] = Counter()
        """How the project lay after the kills."""
        self.repeats = 0
        """Of the move that is under way."""
        self.whole_seconds = 0.0
        self.late_seconds = 0.0
        """Of that from when the copy has its place: removing the source, unarchiving."""

    def run(self, kills: int) -> None:
        """Moves until it was killed so often; then lets it finish."""
        began, placed = time.monotonic(), 0.0
        with self._started() as process:
            while process.poll() is None:
                if not placed and self.site.on_backing(self.target).exists():
                    placed = time.monotonic()
                time.sleep(_LOOK_SECONDS)
            if process.returncode != 0:
                self.wrong.append(f"the first move was refused: {_told(process)}")
                return
        ended = time.monotonic()
        self.whole_seconds, self.late_seconds = ended - began, ended - (placed or ended)
        self._check_finished()
        self._turn_round()
        while self.kills.total() < kills and not self.wrong:
            if self.repeats == _MOST_REPEATS:
                self._finish()
            elif self._killed_once():
                self.repeats += 1
                self._check_whole()
                continue
            self.repeats = 0
            self._check_finished()
            self._turn_round()
        if not self.wrong and (self.repeats or not self.source.exists()):
            self._finish()
            self._check_finished()

    def _killed_once(self) -> bool:
        """Whether the command was killed before it had finished."""
        late = self.random.random() < 0.5
        what = self.random.choice(_TARGETS)
        share = self.random.random()
        reached = False
        with self._started() as process:
            if late:
                _wait(lambda: process.poll() is not None or self.site.on_backing(self.target).exists())
            began = time.monotonic()
            try:
                process.wait(share * (self.late_seconds if late else self.whole_seconds))
            except subprocess.TimeoutExpired:
                reached = True
                if what != "daemon":
                    process.kill()
                if what != "command":
                    self.site.kill()
            process.wait(_PATIENCE_SECONDS)
            if not reached:
                self._took(time.monotonic() - began, late=late)
            if process.returncode > 0 and (what == "command" or not reached):
                self.wrong.append(f"the move was refused: {_told(process)}")
        if reached and what != "command":
            self.site.unmount()
            self.site.mount()
        if process.returncode == 0:
            return False
        self.kills[f"{what}, {'late' if late else 'anywhere'}"] += 1
        return True

    def _took(self, seconds: float, *, late: bool) -> None:
        """The first move may have been slower than those after it: a moment after the end is none."""
        if late:
            self.late_seconds = min(self.late_seconds, seconds)
        elif not self.repeats:
            self.whole_seconds = min(self.whole_seconds, seconds)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "csfs", "move", str(self.source), str(self.target)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _finish(self) -> None:
        with self._started() as process:
            process.wait(_PATIENCE_SECONDS)
            if process.returncode != 0:
                self.wrong.append(f"repeated, the move was refused: {_told(process)}")

    def _turn_round(self) -> None:
        self.source, self.target = self.target, self.source

    # -- what has to be so -------------------------------------------------------------------------------

    def _check_whole(self) -> None:
        """One whole project, of which the instance knows, and no second owner."""
        states = {each: attribute(each, "state") for each in (self.source, self.target)}
        lacks = {each: project_model.differences(each, self.model) for each in states if each.exists()}
        held = [each for each in states if states[each] in _HELD]
        records = self.site.records()
        told = ", ".join(
            f"{'source' if each is self.source else 'target'} {states[each] or '-'}"
            f"{'' if each not in lacks else ' whole' if not lacks[each] else ' in part'}"
            for each in states
        )
        self.found[told] += 1
        self.say(f"  killed {self.kills.total()}: {told}")
        whole = [each for each in lacks if not lacks[each]]
        if not whole:
            self.wrong.append(f"no whole project is left ({told}): {_some(lacks)}")
        if len(records) != 1 or records[0]["number"] != 1 or records[0]["state"] not in _HELD:
            self.wrong.append(f"the instance knows of {records} ({told})")
        elif len(held) > 1:
            self.wrong.append(f"two owners: {told}")
        elif held and held[0] not in whole and (held[0] != self.source or records[0]["state"] != "archived"):
            self.wrong.append(f"what is owned is not whole ({told}): {_some(lacks)}")
        elif not any(self._is_owned(each, records[0]["lock_id"]) for each in whole):
            self.wrong.append(f"what is whole has not the lock of the project: {told}")
        strange = [each for each in states.values() if each not in (*_HELD, "detached", "plain", "")]
        if strange:
            self.wrong.append(f"a project is {strange[0]}: {told}")

    def _is_owned(self, project: Path, lock_id: str) -> bool:
        """Whether the lock in a directory is the one of which the instance knows."""
        try:
            found = json.loads((project / "cs.lock").read_bytes())
        except FileNotFoundError:
            return False
        return bool(found["lock_id"] == lock_id)

    def _check_finished(self) -> None:
        if self.wrong:
            return
        lacks = project_model.differences(self.target, self.model)
        if lacks:
            self.wrong.append(f"moved, it is not the same: {_some({self.target: lacks})}")
        if self.source.exists() or self.source.is_symlink():
            self.wrong.append(f"moved, {self.source} is still there")
        found = attribute(self.target, "state"), attribute(self.target, "uid")
        if found != ("attached", "P1"):
            self.wrong.append(f"moved, it is {found}")
        for place in self.site.places:
            left = [each.name for each in place.iterdir() if each != self.target]
            if left:
                self.wrong.append(f"moved, {place} has {left}")
        self.say(f"  moved whole to {self.target.parent.name}, attached")


def soak(kind: Kind, top: Path, size: int, kills: int, seed: int, say: Callable[[str], None]) -> list[str]:
    """Moves a project of `size` bytes with so many kills: what was wrong.

    `kind` is where to: `nested`, to another filesystem of one backing directory, or `containers`.
    """
    with site(kind, top, size) as mount:
        project = mount.on_backing(mount.places[0] / "CS-moved")
        files = project_model.make(project, size, seed)
        (mount.places[0] / "CS-moved/cs.lock").touch()
        model = project_model.model_of(mount.places[0] / "CS-moved")
        say(f"{kind}: a project of {size >> 20} MiB in {files} files")
        moving = Moving(mount, model, random.Random(seed), say)
        moving.run(kills)
        say(
            f"{kind}: undisturbed {moving.whole_seconds:.1f} s, {moving.late_seconds:.2f} s of that after the"
            f" copy; killed {moving.kills.total()} times"
            f" ({', '.join(f'{what} {count}' for what, count in sorted(moving.kills.items()))})"
        )
        for state, count in moving.found.most_common():
            say(f"{kind}: {count} times {state}")
    wrong = moving.wrong
    wrong += [each for each in complaints(mount.log) if not any(word in each for word in _EXPECTED)]
    shutil.rmtree(top)
    return wrong


def _some(lacks: dict[Path, list[str]]) -> str:
    return "; ".join(f"{place}: {', '.join(found[:4])}" for place, found in lacks.items() if found)


def _told(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None, "it is a pipe"
    return process.stderr.read().strip()


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition() and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)
