"""The mixed load: what people and programs do on a mount, all at the same time."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from csfs.cli.sample.project import build
from soaking import samples
from soaking.mounting import Mounted
from soaking.samples import Sample

_PATIENCE_SECONDS = 120
_MOST_PROBLEMS = 20


class Load:
    """Several actors, each of which repeats what it does until it is told to stop."""

    def __init__(self, mount: Mounted) -> None:
        self.mount = mount
        self.top = mount.mountpoint
        self.problems: list[str] = []
        self.turns: dict[str, int] = {}
        self._stop = threading.Event()

    def run(self, seconds: float, every: float, say: Callable[[str], None]) -> list[Sample]:
        """Works for so many seconds; samples of the daemon, one each `every` seconds."""
        for name in ("CS-read", "CS-cycle", "CS-work"):
            build(self.mount.backing / name)
        for name in ("CS-read", "CS-work"):
            (self.top / name / "cs.lock").touch()
        pid, began = self.mount.status["pid"], time.monotonic()
        actors = [self._list, self._pack, self._mirror, self._create, self._jobs, self._cycle, self._look]
        threads = [threading.Thread(target=self._repeat, args=(actor,)) for actor in actors]
        for thread in threads:
            thread.start()
        taken: list[Sample] = []
        try:
            say(samples.HEADER)
            while time.monotonic() < began + seconds and not self._stop.wait(every):
                taken.append(samples.take(self.mount, pid, began))
                say(taken[-1].line())
        except OSError as error:
            self.problems.append(f"the daemon does not tell of itself: {error}")
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(_PATIENCE_SECONDS)
                if thread.is_alive():
                    self.problems.append("an actor hangs")
        return taken

    def _repeat(self, actor: Callable[[int], None]) -> None:
        name = actor.__name__.lstrip("_")
        turn = 0
        while not self._stop.is_set():
            try:
                actor(turn)
            except (OSError, AssertionError, ValueError, subprocess.SubprocessError) as error:
                self.problems.append(f"{name}, turn {turn}: {type(error).__name__}: {error}")
                if len(self.problems) >= _MOST_PROBLEMS:
                    self._stop.set()
            turn += 1
        self.turns[name] = turn

    def _bash(self, script: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.top,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"$ {script}: {done.stderr.strip()}"

    # -- the actors ---------------------------------------------------------------------------------------

    def _list(self, turn: int) -> None:
        self._bash("ls -lR CS-read CS-work > /dev/null 2>&1 || ls -lR CS-read > /dev/null")

    def _pack(self, turn: int) -> None:
        self._bash("tar -cf - CS-read | tar -tf - | tail -n 1 | grep -qx CS-read/cs.lock")

    def _mirror(self, turn: int) -> None:
        self._bash("rm -rf mirror && rsync -a --exclude cs.lock CS-read/ mirror/")
        self._bash("diff -r --no-dereference -x cs.lock CS-read mirror > /dev/null")

    def _create(self, turn: int) -> None:
        directory = self.top / f"CS-work/made{turn % 3}"
        directory.mkdir()
        for number in range(100):
            (directory / f"f{number}").write_text(str(number))
        for number in range(100):
            assert (directory / f"f{number}").read_text() == str(number)
            (directory / f"f{number}").unlink()
        directory.rmdir()

    def _jobs(self, turn: int) -> None:
        job = self.top / f"CS-work/J{1000 + turn % 50}"
        job.mkdir()
        for status in ("queued", "launched", "running", "completed"):
            os.setxattr(job, "user.csfs.status", status.encode())
        document = json.loads((job / "job.json").read_text())
        assert document["status"] == "completed"
        (job / "new.json").write_text(json.dumps({**document, "title": f"turn {turn}"}))
        (job / "new.json").replace(job / "job.json")
        self._bash(f"rm CS-work/{job.name}/job.json && rm -r CS-work/{job.name}")

    def _cycle(self, turn: int) -> None:
        """Attach, archive, unarchive, move, detach, forget."""
        self._bash(
            """
            touch CS-cycle/cs.lock
            number=$(getfattr --only-values -n user.csfs.uid CS-cycle)
            chmod a-w CS-cycle && ! touch CS-cycle/note 2> /dev/null && chmod u+w CS-cycle
            mv CS-cycle CS-moved && rm -f CS-moved/note && echo x > CS-moved/note && mv CS-moved CS-cycle
            rm CS-cycle/cs.lock && rmdir ".csfs/projects/$number"
            """
        )

    def _look(self, turn: int) -> None:
        assert self.mount.status["state"] == "ready"
        (self.top / ".csfs/refusals").read_bytes()
        for project in (self.top / ".csfs/projects").iterdir():
            with contextlib.suppress(FileNotFoundError):  # one that is just forgotten
                json.loads((project / "record.json").read_text())
        self._bash("! rm -rf CS-read 2> /dev/null")
        self._stop.wait(0.05)


def is_whole(mount: Mounted) -> list[str]:
    """What is missing of the projects after the load."""
    expected = {
        str(path.relative_to(mount.backing / "CS-read")) for path in _files(mount.backing / "CS-read")
    }
    cycled = {
        str(path.relative_to(mount.backing / "CS-cycle")) for path in _files(mount.backing / "CS-cycle")
    }
    missing = expected - cycled - {"cs.lock"}
    return [f"CS-cycle/{name} is missing" for name in sorted(missing)]


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if not path.is_dir()]
