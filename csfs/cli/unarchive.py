"""`csfs unarchive`: `chmod u+w` with an option to accept what has changed meanwhile."""

import os
import stat

import click

from csfs.cli.asking import ask
from csfs.cli.facts import PREFIX
from csfs.cli.mounts import absolute, mount_of


@click.command("unarchive")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--accept-changes", is_flag=True, help="Also if files are missing or were changed.")
def command(directory: str, accept_changes: bool) -> None:
    """Make an archived project writable again, at its old place or at a new one.

    Does what `chmod u+w DIRECTORY` does.

    \b
    Examples:
      csfs unarchive /mnt/cs/restored/CS-a
      csfs unarchive --accept-changes /mnt/cs/CS-a

    \b
    Exit status: 0 done, 1 refused.
    """
    path = absolute(directory)
    mount_of(path)
    if accept_changes:
        ask(path, lambda: os.setxattr(path, PREFIX + "unarchive", b"accept-changes"))
    else:
        unarchive(path)


def unarchive(path: str) -> None:
    """`chmod u+w` of an absolute path. Raises Refused."""
    ask(path, lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) | stat.S_IWUSR))
