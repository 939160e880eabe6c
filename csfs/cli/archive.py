"""`csfs archive`: `chmod a-w`, with the reason if it is refused."""

import os
import stat

import click

from csfs.cli.asking import ask
from csfs.cli.facts import attribute
from csfs.cli.mounts import absolute, mount_of
from csfs.domain.state import State

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@click.command("archive")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
def command(directory: str) -> None:
    """Archive the project in DIRECTORY: it becomes read-only, and its directory may leave.

    Does what `chmod a-w DIRECTORY` does. Its lock stays, and the instance keeps a list of its files, with
    which it is compared when it comes back (csfs unarchive). One that is archived already stays so.

    \b
    Examples:
      csfs archive /mnt/cs/CS-a

    \b
    Exit status: 0 it is archived, 1 refused.
    """
    path = absolute(directory)
    mount_of(path)
    archive(path)


def archive(path: str) -> None:
    """Archives the project in an absolute path. Raises ClickException."""
    state = attribute(path, "state")
    if state == State.ARCHIVED:
        return
    if state != State.ATTACHED:
        raise click.ClickException(
            f"{path} is {state or 'no project directory'}: only an attached project is archived;"
            f" see: csfs why {path}"
        )
    ask(path, lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~_WRITE))
