"""`csfs unarchive`: `chmod u+w` with an option to accept what has changed meanwhile."""

import os
import stat
import sys

import click

from csfs.cli.asking import INTERRUPTED, ask
from csfs.cli.facts import PREFIX, attribute
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.waiting import ask_and_wait, read_contents
from csfs.domain.state import State


@click.command("unarchive")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--accept-changes", is_flag=True, help="Also if files are missing or were changed.")
def command(directory: str, accept_changes: bool) -> None:
    """Make an archived project writable again, at its old place or at a new one.

    Does what `chmod u+w DIRECTORY` does. Of files with a checksum (csfs archive --checksum) it first compares
    what they hold; `chmod` compares names, sizes and times alone. Interrupted, it stays archived, and is
    compared from the beginning when the command is repeated.

    \b
    Examples:
      csfs unarchive /mnt/cs/restored/CS-a
      csfs unarchive --accept-changes /mnt/cs/CS-a

    \b
    Exit status: 0 done, 1 refused or failed, 130 interrupted.
    """
    path = absolute(directory)
    mount = mount_of(path)
    try:
        if accept_changes:
            ask(path, lambda: os.setxattr(path, PREFIX + "unarchive", b"accept-changes"))
            return
        if _returns(path):
            read_contents(path, mount, "unarchive", "compare", "comparing checksums")
        ask_and_wait(path, ["chmod", "u+w", "--", path], mount, "unarchiving")
    except KeyboardInterrupt:
        click.echo(
            f"\ninterrupted; {path} is {attribute(path, 'state') or 'not to be seen at the moment'}"
            f"\nto go on: csfs unarchive {directory}",
            err=True,
        )
        sys.exit(INTERRUPTED)


def _returns(path: str) -> bool:
    """Whether it may be an archived project: anything else the mount refuses, or has nothing to do with."""
    return attribute(path, "state") in (State.ARCHIVED, State.DETACHED)


def unarchive(path: str) -> None:
    """`chmod u+w` of an absolute path. Raises Refused."""
    ask(path, lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | stat.S_IWUSR))
