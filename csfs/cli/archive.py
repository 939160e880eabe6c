"""`csfs archive`: `chmod a-w`, with the reason if it is refused."""

import os
import shlex
import stat
import sys

import click

from csfs.cli.asking import INTERRUPTED, ask
from csfs.cli.facts import attribute
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.waiting import ask_and_wait, read_contents
from csfs.domain.state import State

_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@click.command("archive")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--checksum", is_flag=True, help="Also read every file, and note a checksum of what it holds.")
def command(directory: str, checksum: bool) -> None:
    """Archive the project in DIRECTORY: it becomes read-only, and its directory may leave.

    Does what `chmod a-w DIRECTORY` does. Its lock stays, and the instance keeps a list of its files, with
    which it is compared when it comes back (csfs unarchive). One that is archived already stays so.

    With --checksum that list also has what the files hold (XXH3, 128 bits), so that csfs unarchive notices a
    file of the same size and time that holds something else. The project can be read meanwhile; it cannot
    leave. Interrupted, it stays archived, and goes on where it was when the command is repeated.

    \b
    Examples:
      csfs archive /mnt/cs/CS-a
      csfs archive --checksum /mnt/cs/CS-a

    \b
    Exit status: 0 it is archived, 1 refused or failed, 130 interrupted.
    """
    path = absolute(directory)
    mount = mount_of(path)
    repeat = shlex.join(["csfs", "archive", *(["--checksum"] if checksum else []), directory])
    try:
        if not _is_archived(path):
            ask_and_wait(path, ["chmod", "a-w", "--", path], mount, "archiving")
        if checksum:
            read_contents(path, mount, "archive", "checksum", "taking checksums")
    except KeyboardInterrupt:
        state = attribute(path, "state") or "not to be seen at the moment"
        rest = ", with checksums of a part of its files" if checksum and state == State.ARCHIVED else ""
        click.echo(f"\ninterrupted; {path} is {state}{rest}\nto go on: {repeat}", err=True)
        sys.exit(INTERRUPTED)


def archive(path: str) -> None:
    """Archives the project in an absolute path. Raises ClickException."""
    if not _is_archived(path):
        ask(path, lambda: os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~_WRITE))


def _is_archived(path: str) -> bool:
    """Whether it is archived already; otherwise it can be. Raises ClickException if it is neither."""
    state = attribute(path, "state")
    if state == State.ARCHIVED:
        return True
    if state != State.ATTACHED:
        raise click.ClickException(
            f"{path} is {state or 'no project directory'}: only an attached project is archived;"
            f" see: csfs why {path}"
        )
    return False
