"""Daemons for tests within milliseconds: forked from a process that has all imported already.

    with Zygote(library) as zygote:
        daemon = zygote.mount("lab1", backing, mountpoint, state)
        daemon.control.kill(3, after=False)
        ...
        daemon.umount()

Each daemon runs `csfs.mount.daemon.serve` as `csfs mount` does, with `interpose.c` preloaded.
"""

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from tests.crash.control import Control

_PATIENCE_SECONDS = 30
_MNT_DETACH = 2
_TOP = Path(__file__).parents[2]
_libc = ctypes.CDLL(None, use_errno=True)


class MountFailed(Exception):
    """The daemon did not come so far as to answer requests; the message says why."""


class Daemon:
    """A process that serves, or served, one mount. Its methods may be called from any thread."""

    def __init__(self, mountpoint: Path, log: Path, control: Control, forget: Callable[[], object]) -> None:
        self.mountpoint = mountpoint
        self.log_path = log
        self.control = control
        """What happens to its calls; see there."""
        self.pid = 0
        self.status: int | None = None
        """Its exit status when it has ended; -9 if it was killed."""
        self._forget = forget
        self._told = threading.Condition()
        self._ready = False
        self._reason = ""

    def _hear(self, event: dict[str, Any]) -> None:
        with self._told:
            self.pid = event.get("pid", self.pid)
            self.status = event.get("status", self.status)
            self._ready = self._ready or event["event"] == "ready"
            self._reason = event.get("reason", self._reason)
            self._told.notify_all()

    @property
    def ended(self) -> bool:
        return self.status is not None

    @property
    def log(self) -> str:
        """Of the instance: of this daemon and those before it."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_ready(self) -> None:
        """Returns once requests are answered. Raises MountFailed if the daemon ends before that."""
        with self._told:
            there = self._told.wait_for(lambda: self._ready or self.ended, _PATIENCE_SECONDS)
        if not there:
            self.kill()
        if not self._ready:
            raise MountFailed(self._reason or f"exit status {self.status}:\n{self.log}")

    def wait_ended(self) -> int:
        """Returns its exit status once it has ended; fails after a deadline."""
        with self._told:
            ended = self._told.wait_for(lambda: self.ended, _PATIENCE_SECONDS)
        assert ended, f"the daemon {self.pid} does not end:\n{self.log}"
        assert self.status is not None
        return self.status

    def kill(self) -> None:
        """kill -9, unless it has ended already. The dead mount stays: see `umount`."""
        with self._told:
            self._told.wait_for(lambda: self.pid or self.ended, _PATIENCE_SECONDS)
            if not self.ended:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
        self.wait_ended()

    def umount(self) -> None:
        """Ends the mount in whatever state it is, and returns when the daemon has ended too."""
        if os.geteuid() == 0:
            # Lazily only where it is in use, or dead: then what is in flight is not waited for.
            for flags in (0, _MNT_DETACH):
                _libc.umount2(os.fsencode(self.mountpoint), flags)
        else:
            subprocess.run(["fusermount3", "-uz", str(self.mountpoint)], capture_output=True, check=False)
        try:
            self.wait_ended()
        except AssertionError:
            self.kill()
            raise
        finally:
            self._forget()


class Zygote:
    """Forks daemons; ends with all of them."""

    def __init__(self, library: Path) -> None:
        self._numbers = itertools.count(1)
        self._daemons: dict[int, Daemon] = {}
        self._controls = tempfile.TemporaryDirectory(prefix="csfs-control-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.mounting"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_TOP,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "LC_ALL": "C.UTF-8",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )
        self._listener = threading.Thread(target=self._listen, name="zygote", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self._daemons[event["id"]]._hear(event)

    def start(
        self,
        instance: str,
        backing: Path,
        mountpoint: Path,
        state: Path,
        *,
        options: Iterable[str] = (),
        control: Control | None = None,
    ) -> Daemon:
        """Starts a daemon and returns at once: it may not answer yet, or never.

        `control` may have been armed before, so that it rules what is done at the mount itself.
        """
        number = next(self._numbers)
        control = control or self.control()
        log = state / instance / "csfs.log"
        daemon = Daemon(mountpoint, log, control, lambda: self._daemons.pop(number, None))
        self._daemons[number] = daemon
        request = {
            "id": number,
            "instance": instance,
            "backing": str(backing),
            "mountpoint": str(mountpoint),
            "state": str(state),
            "fuse": list(options),
            "control": str(control.path),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return daemon

    def mount(self, *place: Any, **more: Any) -> Daemon:
        """Starts a daemon and returns once it answers; the parameters of `start`. Raises MountFailed."""
        daemon = self.start(*place, **more)
        try:
            daemon.wait_ready()
        except MountFailed:
            daemon.umount()
            raise
        return daemon

    def control(self) -> Control:
        """A control for a daemon that is to be started."""
        return Control(Path(self._controls.name) / f"control{next(self._numbers)}")

    def close(self) -> None:
        """Kills and unmounts what is left, and ends the zygote."""
        for daemon in list(self._daemons.values()):
            daemon.kill()
            daemon.umount()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._controls.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
