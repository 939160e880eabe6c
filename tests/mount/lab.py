"""Real mounts for tests: started as a user would, driven with real tools, always taken down."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_SECONDS = 60
ORDINARY_USER = 65534


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Returns when the condition holds; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


@dataclass
class Done:
    """A command that has ended."""

    command: str
    code: int
    out: str
    err: str

    def ok(self) -> "Done":
        assert self.code == 0, f"$ {self.command}\n{self.out}{self.err}exit status {self.code}"
        return self

    def refused(self, *words: str) -> "Done":
        """It failed, and said each of these words."""
        assert self.code != 0, f"$ {self.command}\nwas expected to fail\n{self.out}"
        for word in words:
            assert word in self.err + self.out, f"$ {self.command}\n{self.err}{self.out}does not say {word!r}"
        return self


@dataclass
class Lab:
    """One instance, mounted. `run` runs a shell command in the mount."""

    name: str
    backing: Path
    mountpoint: Path
    state: Path
    as_user: int | None = None
    options: tuple[str, ...] = ()
    expected_in_log: list[str] = field(default_factory=list)
    """Words of warnings and errors that the test provokes."""

    def csfs(self, *arguments: str | Path) -> Done:
        return self._run([*self._prefix(), sys.executable, "-m", "csfs", *map(str, arguments)])

    def mount(self) -> "Lab":
        self.try_mount().ok()
        return self

    def try_mount(self) -> Done:
        state = ("--state", self.state, *self.options)
        return self.csfs("mount", self.backing, self.mountpoint, "--instance", self.name, *state)

    def umount(self) -> Done:
        return self.csfs("umount", self.mountpoint)

    def run(self, command: str) -> Done:
        """Runs a bash command with the mount as its working directory."""
        script = f"cd {shlex.quote(str(self.mountpoint))} && {command}"
        return self._run([*self._prefix(), "bash", "-c", script], shown=command)

    def _prefix(self) -> list[str]:
        if self.as_user is None:
            return []
        ids = [f"--reuid={self.as_user}", f"--regid={self.as_user}", "--clear-groups"]
        return ["setpriv", *ids]

    def _run(self, words: list[str], shown: str = "") -> Done:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="surrogateescape",
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"hangs: {shown or words}\n{out}{err}") from None
        return Done(shown or shlex.join(words), process.returncode, out, err)

    def __truediv__(self, path: str) -> Path:
        return self.mountpoint / path

    @property
    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self / ".csfs/status.json").read_text())
        return found

    @property
    def backing_status(self) -> dict[str, object]:
        """What it says of its first backing directory."""
        containers = self.status["containers"]
        assert isinstance(containers, list)
        found: dict[str, object] = containers[0]
        return found

    @property
    def pid(self) -> int:
        holder = json.loads((self.state / self.name / "mounted").read_text())
        pid = holder["pid"]
        assert isinstance(pid, int)
        return pid

    def attribute(self, path: str, name: str) -> str:
        return os.getxattr(self / path, f"user.csfs.{name}").decode()

    def attribute_of(self, path: str, name: str) -> str:
        """The same, asked for by the user of the lab: another may not even look."""
        return self.run(f"getfattr --only-values -n user.csfs.{name} {shlex.quote(path)}").ok().out

    def state_of(self, path: str) -> str:
        """The state of a project directory, `plain` for what is none."""
        try:
            return self.attribute(path, "state")
        except OSError:
            return "plain"

    def refusals(self) -> list[dict[str, object]]:
        lines = (self / ".csfs/refusals").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def why(self, path: str) -> str:
        return self.csfs("why", self / path).ok().out

    @property
    def log(self) -> str:
        path = self.state / self.name / "csfs.log"
        return path.read_text() if path.exists() else ""

    def kill(self) -> None:
        """kill -9 of the daemon; what hangs in a request comes back, the mount is dead."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except (OSError, ValueError):
            return
        wait_for(lambda: not alive(self.pid), "the killed daemon is gone")

    def is_mounted(self) -> bool:
        return any(
            line.split()[4] == str(self.mountpoint)
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
        )

    def take_down(self) -> None:
        """Unmounts, whatever state the mount is in, and looks at what the daemon left behind."""
        if self.is_mounted():
            done = self.umount()
            if done.code != 0:
                self.kill()
                subprocess.run(["umount", "-l", str(self.mountpoint)], check=False)
                raise AssertionError(f"could not be unmounted: {done.err}")

    def check_traces(self) -> None:
        """No error in the log that the test did not ask for, no temporary file in the backing directory."""
        for line in self.log.splitlines():
            suspicious = any(word in line for word in ("ERROR", "WARNING", "Traceback", "Exception"))
            if suspicious and not any(word in line for word in self.expected_in_log):
                raise AssertionError(f"in the log of {self.name}:\n{self.log}")
        # Path.rglob stumbles over symlinks to names that are too long.
        found = (
            os.path.join(place, name)
            for place, below, names in os.walk(self.backing)
            for name in (*below, *names)
        )
        left = [path for path in found if os.path.basename(path).startswith(".csfs-tmp.")]
        assert not left, f"temporary files are left: {left}"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def as_user(act: Callable[[], object], uid: int = ORDINARY_USER) -> int:
    """The errno with which a call of an ordinary user ends, 0 if it succeeds; in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            act()
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
