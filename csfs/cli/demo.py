"""`csfs demo`: plays the story of csfs.cli.transcript on a temporary directory, with a real shell."""

import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import click

import csfs
from csfs.cli.mounts import mount_at
from csfs.cli.sample import project
from csfs.cli.transcript import ENDING, MOUNTPOINTS, SAMPLE, STATE, STORY, Chapter, Step

_PATIENCE_SECONDS = 60
"""For one command of the story."""
_LAST_WORD_SECONDS = 10
"""For what is still under way at the end."""
_SHOWN_LINES = 6
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DISTURBING = ("BASH_ENV", "FORCE_COLOR", "POSIXLY_CORRECT", "QUOTING_STYLE", "TAR_OPTIONS")
"""Variables that change what the commands of the story do or print."""


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the directory and the mounts for looking around.")
def command(keep: bool) -> None:
    """Show what csfs does: two instances over one temporary directory, and real commands on them.

    Prints each command with its outcome, and fails at the first outcome that is not the expected one.
    In the end everything is unmounted and removed.

    \b
    Examples:
      csfs demo
      csfs demo --keep

    \b
    Exit status: 0 every outcome was the expected one, 1 otherwise.
    """
    with _signals_do(_interrupt), _directory(keep) as directory:
        project.build(directory / SAMPLE)
        with Shell(directory) as shell:
            for chapter in STORY if keep else (*STORY, ENDING):
                _play(chapter, shell)
        click.secho("\nEvery outcome was the expected one.", bold=True)


def _play(chapter: Chapter, shell: "Shell") -> None:
    """Shows a chapter while it is run. Raises ClickException at the first step that goes wrong."""
    click.secho(f"\n{chapter.title}", bold=True)
    for step in chapter.steps:
        click.secho(f"# {step.says}", dim=True)
        click.echo(f"$ {step.command}")
        outcome = shell.run(step.command)
        if not step.is_met_by(outcome.output, outcome.status):
            click.echo(outcome.output, nl=False)
            raise click.ClickException(_unexpected(step, outcome))
        _show(outcome)


class Outcome(NamedTuple):
    """What a command printed, standard error included, and its exit status."""

    output: str
    status: int


def _show(outcome: Outcome) -> None:
    lines = outcome.output.splitlines()
    for line in lines[:_SHOWN_LINES]:
        click.echo(line)
    if len(lines) > _SHOWN_LINES:
        click.echo(f"[{len(lines) - _SHOWN_LINES} more lines]")
    failed = f": fails as it should, exit status {outcome.status}" if outcome.status else ""
    click.echo(click.style("ok", fg="green") + failed)


def _unexpected(step: Step, outcome: Outcome) -> str:
    status = "an exit status other than 0" if step.fails else "exit status 0"
    printed = f"this output:\n{step.output}" if step.output else "no output"
    return f"not the expected outcome: exit status {outcome.status}\nexpected: {status}, and {printed}"


class Shell:
    """One bash for all commands, so that what one of them opens stays open for the next."""

    def __init__(self, directory: Path) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._commands, self._answers = self._bash.stdin, self._bash.stdout
        self._say(f'csfs() {{ {shlex.join(_csfs())} "$@"; }}')

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        """Lets a command that is under way end: the mount that it brings about is then there to see."""
        with _signals_do(signal.SIG_IGN):
            self._commands.close()
            try:
                self._bash.wait(_LAST_WORD_SECONDS)
            except subprocess.TimeoutExpired:
                self._kill()
            self._answers.close()

    def run(self, command: str) -> Outcome:
        """Raises ClickException if the command does not end in time, or ends the shell."""
        self._say(f"eval {shlex.quote(command)} </dev/null; printf '\\0%d\\0' $?")
        answer = b""
        until = time.monotonic() + _PATIENCE_SECONDS
        while answer.count(b"\0") < 2:
            answer += self._hear(until)
        output, status, _ = answer.split(b"\0")
        return Outcome(output.decode(errors="replace"), int(status))

    def _say(self, line: str) -> None:
        self._commands.write(line.encode() + b"\n")

    def _hear(self, until: float) -> bytes:
        readable, _, _ = select.select([self._answers], [], [], max(0, until - time.monotonic()))
        if not readable:
            self._kill()
            raise click.ClickException(f"the command has not ended in {_PATIENCE_SECONDS} s")
        heard = os.read(self._answers.fileno(), 1 << 16)
        if not heard:
            raise click.ClickException("the shell has ended")
        return heard

    def _kill(self) -> None:
        if self._bash.poll() is None:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()


def _csfs(*words: str) -> list[str]:
    """The command line of this very csfs, installed or not."""
    path = [str(Path(csfs.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return ["env", "PYTHONPATH=" + ":".join(path), sys.executable, "-m", "csfs", *words]


def _environment() -> Mapping[str, str]:
    """Messages in English, and lines long enough for every path."""
    kept = {name: value for name, value in os.environ.items() if name not in _DISTURBING}
    return {**kept, "LC_ALL": "C", "COLUMNS": "1000"}


# Leaving nothing behind.


@contextmanager
def _directory(keep: bool) -> Iterator[Path]:
    """A temporary directory with what the story begins with; what is mounted in it ends with it."""
    directory = Path(tempfile.mkdtemp(prefix="csfs-demo-")).resolve()
    try:
        for name in MOUNTPOINTS:
            (directory / name).mkdir()
        yield directory
    finally:
        with _signals_do(signal.SIG_IGN):
            if keep:
                _say_how_to_end(directory)
            else:
                _end(directory)


def _say_how_to_end(directory: Path) -> None:
    mounted = [shlex.quote(str(directory / name)) for name in MOUNTPOINTS]
    steps = [f"csfs umount {path}" for path in mounted] + [f"rm -rf {shlex.quote(str(directory))}"]
    click.echo(f"\nAll is kept in {directory}. To end it:\n\n  " + " &&\n  ".join(steps))


def _end(directory: Path) -> None:
    """Unmounts, ends the daemons, removes the directory. Raises ClickException for what it cannot do."""
    mounted = [mountpoint for name in MOUNTPOINTS if not _unmount(mountpoint := str(directory / name))]
    for name in MOUNTPOINTS:
        _end_daemon(directory / STATE / name / "mounted")
    if mounted:
        raise click.ClickException(f"still mounted, please unmount: {shlex.join(mounted)}")
    for path, directories, _ in os.walk(directory):
        for name in directories:
            if not os.path.islink(os.path.join(path, name)):
                os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(directory)


def _unmount(mountpoint: str) -> bool:
    """Whether nothing is mounted there any more."""
    if mount_at(mountpoint) is None:
        return True
    lazily = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    for tool in (_csfs("umount", "--wait", str(_LAST_WORD_SECONDS)), lazily):
        try:
            subprocess.run([*tool, mountpoint], capture_output=True, timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        if mount_at(mountpoint) is None:
            return True
    return False


def _end_daemon(holder: Path) -> None:
    """Ends a daemon that outlives its mount. It is the one that keeps `holder` locked."""
    if not holder.exists():
        return
    with holder.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pid = json.load(file)["pid"]
    try:
        daemon = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(daemon, number)
            if select.select([daemon], [], [], _LAST_WORD_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(daemon)


@contextmanager
def _signals_do(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has Ctrl-C, termination and a closed terminal do this, unless they were ignored before."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    heeded = {number: was for number, was in before.items() if was is not signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, was in heeded.items():
            signal.signal(number, was)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Breaks off, once: what follows is the cleaning up, and that runs to its end."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
