"""Waiting for a mount that may take long: with a bar on a terminal; an interrupt ends the waiting."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import click
import msgspec

from csfs.cli.asking import Asked, ask
from csfs.cli.facts import PREFIX, attribute
from csfs.cli.mounts import Mounted, Transition, control_file
from csfs.cli.progress import active, counted

_LOOK_SECONDS = 0.2
_UNDER_WAY = "under way"


def ask_and_wait(
    path: str, words: Sequence[str], mount: Mounted, what: str, jobs: Callable[[], int] | None = None
) -> None:
    """Has a program do something with an absolute path. Raises Refused, KeyboardInterrupt.

    A process in a request that the mount works on cannot be killed; so this one is not in it, and an
    interrupt ends just the waiting. `jobs`: how many there are to be done, if that is what the mount counts.
    """
    asked = Asked(path, words)
    try:
        asked.process.wait(_LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        _show(asked.process, mount, path, what, jobs)
    asked.end()


def _show(
    process: subprocess.Popen[str],
    mount: Mounted,
    path: str,
    what: str,
    jobs: Callable[[], int] | None,
) -> None:
    if jobs is None or not sys.stderr.isatty():
        with active(what):
            process.wait()
        return
    total = jobs()
    with counted(what, "jobs") as told:
        while process.poll() is None:
            told(_transition(mount, path).done, total)
            try:
                process.wait(_LOOK_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        told(total, total)


def read_contents(path: str, mount: Mounted, name: str, value: str, what: str) -> None:
    """Has the mount read all files of a project, as an attribute of its directory asks for, and waits.

    Raises Refused, ClickException if it failed; KeyboardInterrupt, and then it has been stopped.
    """
    ask(path, lambda: os.setxattr(path, PREFIX + name, value.encode()))
    try:
        with counted(what) as told:
            while (how := attribute(path, "reading")) == _UNDER_WAY:
                if sys.stderr.isatty():
                    now = _transition(mount, path)
                    told(now.done, now.total)
                time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        ask(path, lambda: os.setxattr(path, PREFIX + name, b"stop"))
        raise
    if how != "done":
        raise click.ClickException(f"{path}: reading its files ended early: {how or 'the mount has ended'}")


def _transition(mount: Mounted, path: str) -> Transition:
    status = msgspec.json.decode(control_file(mount, "status.json"), type=Mounted)
    inside = path[len(mount.mountpoint) :].strip("/")
    return status.transitions.get(inside, Transition("", 0))
