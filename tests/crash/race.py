"""Instances on one backing directory, daemons that are killed and stopped, and what was seen of it."""

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from csfs.domain import lock, names, session
from tests.crash.race_checker import (
    Call,
    Kind,
    Sighting,
    Silence,
    Violation,
    Written,
    check_epochs,
    check_holdings,
    check_last,
)
from tests.crash.race_worker import Entry, Task, read
from tests.crash.site import DOCUMENTS, files, job
from tests.crash.zygote import Daemon, MountFailed, Zygote
from tests.mount.lab import wait_for

TAKEOVER_SECONDS = 1.0
_LOOK_SECONDS = 0.005
_TOP = Path(__file__).parents[2]
_PATIENCE_SECONDS = 60
_SHOWN = 40
_INITIAL = "at first"
_CHANGES = ("truncate", "write")
"""What changes a data file: a worker empties it, then writes it, and may come no further than the first."""
_KINDS: dict[str, Kind] = {"touch": "take", "rm": "let", "open": "use", "edit": "use"}
_AT_ONCE = 2
"""How many daemons are dead or stopped at the same time."""


@dataclass(eq=False)
class Contestant:
    """One instance, whose daemons come and go."""

    name: str
    mountpoint: Path
    daemon: Daemon
    absences: list[tuple[float, float]] = field(default_factory=list)
    """When its daemon was dead or stopped, until it answered again."""


class Watch:
    """Looks at the storage all the time: whose heart beats, and which locks lie there."""

    def __init__(self, backing: Path, projects: list[str]) -> None:
        self._sessions = backing / names.CONTROL / "sessions"
        self._locks = {project: backing / project / names.LOCK for project in projects}
        self.locks: dict[str, list[Sighting]] = {project: [] for project in projects}
        self.beats: dict[str, list[tuple[float, float]]] = {}
        """By instance, each beat: after which moment it was written, and before which."""
        self._counters: dict[str, session.Session] = {}
        self._looked = time.monotonic()
        self._end = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="watch")

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem

    def _watch(self) -> None:
        try:
            while not self._end.wait(_LOOK_SECONDS):
                self.look()
        except BaseException as error:
            self._problem = error

    def look(self) -> None:
        before, self._looked = self._looked, time.monotonic()
        for path in self._sessions.glob("*.json"):
            beat = session.parse(path.read_bytes())
            if beat is not None and self._counters.get(beat.instance_uuid) != beat:
                self._counters[beat.instance_uuid] = beat
                self.beats.setdefault(beat.instance_name, []).append((before, time.monotonic()))
        for project, path in self._locks.items():
            try:
                found = lock.parse(path.read_bytes())
            except FileNotFoundError:
                continue
            assert isinstance(found, lock.Lock), found
            seen = Sighting(found.lock_id, found.epoch, found.instance_name)
            if not self.locks[project] or self.locks[project][-1] != seen:
                self.locks[project].append(seen)

    def silences(self) -> list[Silence]:
        """Between one beat and the next, those that may have been long enough for a takeover."""
        now = time.monotonic()
        return [
            Silence(name, earliest, until)
            for name, beats in self.beats.items()
            for (earliest, _), (_, until) in zip(beats, [*beats[1:], (now, now)], strict=True)
            if until - earliest >= TAKEOVER_SECONDS
        ]


class Race:
    """Sets the stage in a directory, runs the race, and judges it."""

    def __init__(self, zygote: Zygote, place: Path, *, instances: int, workers: int, projects: int) -> None:
        self._zygote = zygote
        self._place = place
        self._workers = workers
        self.backing, self.state = place / "backing", place / "state"
        self.projects = [f"CS-{number}" for number in range(1, projects + 1)]
        for directory in (self.backing, self.state, place / "records"):
            directory.mkdir()
        for project in self.projects:
            self._make(project)
        self.contestants: list[Contestant] = []
        for number in range(1, instances + 1):
            mountpoint = place / f"mnt{number}"
            mountpoint.mkdir()
            name = f"lab{number}"
            self.contestants.append(Contestant(name, mountpoint, self._mount(name, mountpoint)))
        self.counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self.entries: list[Entry] = []
        self.watch = Watch(self.backing, self.projects)

    def _make(self, project: str) -> None:
        directory = self.backing / project
        (directory / "J1").mkdir(parents=True)
        head = {"uid": "P9", "uid_num": 9, "title": _INITIAL, "project_dir": "/old", "archived": False}
        (directory / "project.json").write_text(json.dumps({**head, "detached": True}))
        workspace = {"uid": "W1", "uid_num": 1, "project_uid": "P9", "project_uid_num": 9}
        (directory / "workspaces.json").write_text(json.dumps([workspace]))
        (directory / "J1/job.json").write_text(json.dumps(job("J1", "completed")))

    def _mount(self, name: str, mountpoint: Path) -> Daemon:
        options = (f"takeover={TAKEOVER_SECONDS}",)
        return self._zygote.mount(name, self.backing, mountpoint, self.state, options=options)

    # -- the race ------------------------------------------------------------------------------------

    def run(self, seconds: float, seed: int) -> None:
        """Returns when all workers have ended, and all daemons run again."""
        until = time.monotonic() + seconds
        tasks = [
            Task(
                each.name,
                worker,
                str(each.mountpoint),
                self.projects,
                until,
                str(self._place / "records" / f"{each.name}.{worker}"),
            )
            for each in self.contestants
            for worker in range(self._workers)
        ]
        places = threading.Semaphore(_AT_ONCE)
        problems: list[BaseException] = []

        def trouble(each: Contestant, chance: random.Random) -> None:
            try:
                while time.monotonic() < until:
                    time.sleep(chance.uniform(0.2, 1.5))
                    with places:
                        self._trouble(each, chance)
            except BaseException as error:
                problems.append(error)

        troubles = [
            threading.Thread(target=trouble, args=(each, random.Random(f"{seed}/{each.name}")))
            for each in self.contestants
        ]
        with self.watch, _processes(tasks) as processes:
            for thread in troubles:
                thread.start()
            for thread in troubles:
                thread.join()
            for process in processes:
                assert process.wait(_PATIENCE_SECONDS) == 0, "a worker has failed"
        if problems:
            raise problems[0]
        for task in tasks:
            self.entries += read(Path(task.record))

    def _trouble(self, each: Contestant, chance: random.Random) -> None:
        """Ends or stops a daemon for a while that may be long enough to count as dead."""
        assert not each.daemon.ended, f"{each.name} has ended by itself:\n{each.daemon.log}"
        how = chance.choice(["kill", "stop"])
        began = time.monotonic()
        if how == "kill":
            each.daemon.kill()
            time.sleep(chance.uniform(0, 2.5 * TAKEOVER_SECONDS))
            each.daemon.umount()
            each.daemon = self._mount_again(each)
        else:
            os.kill(each.daemon.pid, signal.SIGSTOP)
            try:
                time.sleep(chance.uniform(0.2, 2.5 * TAKEOVER_SECONDS))
            finally:
                os.kill(each.daemon.pid, signal.SIGCONT)
        each.absences.append((began, time.monotonic()))
        with self._counting:
            self.counts[how] += 1

    def _mount_again(self, each: Contestant) -> Daemon:
        """A daemon that dies at once, since a worker of its own is in its mount point, is mounted anew."""
        try:
            return self._mount(each.name, each.mountpoint)
        except MountFailed as error:
            raise AssertionError(f"{each.name} cannot be mounted again: {error}") from error

    # -- the judgement -------------------------------------------------------------------------------

    def check_history(self) -> None:
        """Raises Violation, naming the project; AssertionError for a document that was not whole."""
        misread = [entry for entry in self.entries if entry.verb == "misread"]
        assert not misread, misread
        silences = self.watch.silences()
        for project in self.projects:
            try:
                check_epochs(self.watch.locks[project])
                check_holdings(self._calls(project), silences, TAKEOVER_SECONDS)
            except Violation as error:
                error.add_note(f"in {project}")
                if error.at is not None:
                    error.add_note(self._before(project, error.at))
                raise

    def _before(self, project: str, call: Call) -> str:
        """What was recorded of a project before a call that cannot have succeeded."""
        found = [each for each in self.entries if each.project == project and each.start <= call.end]
        found.sort(key=lambda each: each.end)
        lines = [
            f"{each.start:.4f} - {each.end:.4f} {each.instance} {each.verb}, {each.state} before:"
            f" {errno.errorcode.get(each.code, 'done')}"
            for each in found[-_SHOWN:]
        ]
        absences = (
            f"{each.name} was away {start:.4f} - {end:.4f}"
            for each in self.contestants
            for start, end in each.absences
            if start <= call.end and end >= call.start - 5 * TAKEOVER_SECONDS
        )
        return "\n".join([*absences, *lines])

    def _calls(self, project: str) -> list[Call]:
        """A touch that failed may have taken the lock all the same, and lost it or given it back."""
        calls = []
        for each in self.entries:
            kind = _KINDS.get(each.verb)
            if each.project != project or kind is None:
                continue
            if each.done:
                calls.append(Call(each.instance, kind, each.start, each.end))
            elif kind == "take":
                back = self._back(each) if each.cut_short else each.end
                calls.append(Call(each.instance, "take", each.start, each.end, certain=False))
                calls.append(Call(each.instance, "take back", each.start, back, certain=False))
            elif kind == "let" and each.cut_short:
                calls.append(Call(each.instance, kind, each.start, each.end, certain=False))
        return calls

    def _back(self, entry: Entry) -> float:
        """When the instance had a daemon again after a call was cut short."""
        [contestant] = [each for each in self.contestants if each.name == entry.instance]
        return min((end for _, end in contestant.absences if end >= entry.end), default=entry.end)

    def check_outcome(self) -> None:
        """All are mounted anew; storage, stores and what was acknowledged agree."""
        for each in self.contestants:
            each.daemon.umount()
        for each in self.contestants:
            each.daemon = self._mount(each.name, each.mountpoint)
        for project in self.projects:
            try:
                self._check_owner(project)
                self._check_written(project)
            except AssertionError as error:
                error.add_note(f"in {project}")
                raise
        wait_for(lambda: not self._temporaries(), f"no temporary files are left: {self._temporaries()}")
        for each in self.contestants:
            for line in each.daemon.log.splitlines():
                suspicious = any(word in line for word in ("ERROR", "Traceback", "Exception"))
                assert not suspicious or "fuse_release(): fuse_reply_* failed" in line, each.daemon.log

    def _temporaries(self) -> list[Path]:
        return [path for path in files(self.backing) if path.name.startswith(names.TEMPORARY_PREFIX)]

    def _check_owner(self, project: str) -> None:
        directory = self.backing / project
        held = {
            each: os.getxattr(each.mountpoint / project, "user.csfs.state").decode()
            for each in self.contestants
        }
        owners = [each for each, state in held.items() if state in ("attached", "archived")]
        shown = {each.name: state for each, state in held.items()}
        if not (directory / names.LOCK).exists():
            assert not owners, shown
            return
        found = lock.parse((directory / names.LOCK).read_bytes())
        assert isinstance(found, lock.Lock), found
        assert [each.name for each in owners] == [found.instance_name], shown
        assert all(state in ("foreign", "lost") for each, state in held.items() if each not in owners), shown
        [owner] = owners
        for path in files(directory):
            if path.name in DOCUMENTS:
                on_mount = owner.mountpoint / path.relative_to(self.backing)
                wait_for(
                    lambda path=path, on_mount=on_mount: path.read_bytes() == on_mount.read_bytes(),  # type: ignore[misc]
                    f"{path} is what {owner.name} shows",
                )

    def _check_written(self, project: str) -> None:
        directory = self.backing / project
        for path in files(directory):
            if path.name in DOCUMENTS:
                json.loads(path.read_bytes())
        written = self._written(project, lambda entry: entry.verb == "edit")
        title = json.loads((directory / "project.json").read_bytes())["title"]
        check_last(written, title, initial=_INITIAL)
        for path in (directory / "J1").iterdir():
            if path.name == names.JOB_DOCUMENT:
                continue
            of_file = self._written(
                project,
                lambda entry, name=path.name: entry.verb in _CHANGES and entry.name == name,  # type: ignore[misc]
            )
            check_last(of_file, path.read_text())

    def _written(self, project: str, which: Callable[[Entry], bool]) -> list[Written]:
        return [
            Written(entry.value, entry.start, entry.end, certain=entry.done)
            for entry in self.entries
            if entry.project == project and which(entry) and (entry.done or entry.cut_short)
        ]

    # -- what happened -------------------------------------------------------------------------------

    def tally(self) -> Counter[str]:
        """How often what happened."""
        found = Counter(self.counts)
        found["calls"] = len(self.entries)
        for entry in self.entries:
            if entry.done:
                found[entry.verb] += 1
            elif entry.cut_short:
                found["cut short"] += 1
        found["holdings"] = sum(len(seen) for seen in self.watch.locks.values())
        found["changes of owner"] = sum(
            one.instance != other.instance
            for seen in self.watch.locks.values()
            for one, other in itertools.pairwise(seen)
        )
        found["rescues"] = sum(
            len(list((self.backing / project).glob(f"{names.RESCUED_PREFIX}*"))) for project in self.projects
        )
        return found

    def close(self) -> None:
        for each in self.contestants:
            each.daemon.kill()
            each.daemon.umount()


@contextmanager
def _processes(tasks: list[Task]) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = []
    try:
        for task in tasks:
            words = [sys.executable, "-m", "tests.crash.race_worker"]
            process = subprocess.Popen(words, stdin=subprocess.PIPE, cwd=_TOP)
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(task.encode())
            process.stdin.close()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
