"""`csfs detach`: `rm cs.lock`, with the reason if it is refused."""

import os

import click

from csfs.cli.asking import Asked
from csfs.cli.facts import attribute
from csfs.cli.mounts import absolute, mount_of
from csfs.domain import names
from csfs.domain.state import State


@click.command("detach")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
def command(directory: str) -> None:
    """Detach the project in DIRECTORY: everything is exported, and its lock is released.

    Does what `rm DIRECTORY/cs.lock` does. Of a project that this instance has lost, it lets go. One that is
    detached already stays so.

    \b
    Examples:
      csfs detach /mnt/cs/CS-a

    \b
    Exit status: 0 it is detached, 1 refused.
    """
    path = absolute(directory)
    mount_of(path)
    detach(path)


def detach(path: str) -> None:
    """Detaches the project in an absolute path. Raises ClickException."""
    state = attribute(path, "state")
    if state == State.DETACHED:
        return
    if state == State.ARCHIVED:
        raise click.ClickException(f"{path} is archived; unarchive it first: csfs unarchive {path}")
    if not state:
        raise click.ClickException(f"{path} is no project directory; csfs ls lists them")
    if state == State.FOREIGN:
        raise click.ClickException(
            f"{path} is attached to another instance, {attribute(path, 'owner')}; detach it there;"
            f" if that instance is gone: csfs rescue {path}"
        )
    # A process that is told of other things in the project may not remove its lock.
    Asked(path, ["unlink", os.path.join(path, names.LOCK)]).end()
