"""`csfs attach`: `touch cs.lock`, with a bar and the reason if it is refused."""

import os
import sys
from pathlib import Path

import click

from csfs.cli.asking import INTERRUPTED, ask
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.waiting import ask_and_wait
from csfs.domain import names


@click.command("attach")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
def command(directory: str) -> None:
    """Attach the project in DIRECTORY to the instance of its mount.

    Does what `touch DIRECTORY/cs.lock` does, and shows how far it is.

    \b
    Examples:
      csfs attach /mnt/cs/CS-a

    \b
    Exit status: 0 it is attached, 1 refused, 130 interrupted.
    """
    path = absolute(directory)
    mount = mount_of(path)
    words = ["touch", os.path.join(path, names.LOCK)]
    try:
        ask_and_wait(path, words, mount, "attaching", lambda: _jobs_in(path))
    except KeyboardInterrupt:
        click.echo(
            f"\ninterrupted; the mount may go on with it. To see how it ended: csfs why {path};"
            f" if it is not attached then: csfs attach {path}",
            err=True,
        )
        sys.exit(INTERRUPTED)


def attach(path: str) -> None:
    """`touch cs.lock` in an absolute path. Raises Refused."""
    ask(path, Path(path, names.LOCK).touch)


def _jobs_in(path: str) -> int:
    return sum(1 for name in os.listdir(path) if names.is_job(name))
