"""`csfs job`: the status of a job, shown and changed."""

import errno
import os

import click

from csfs.cli.asking import Refused, ask
from csfs.cli.facts import PREFIX, attribute
from csfs.cli.mounts import absolute, mount_of


@click.group("job")
def command() -> None:
    """Look at and change jobs."""


@command.command("status")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.argument("status", required=False)
def status_command(directory: str, status: str | None) -> None:
    """Show the status of the job in DIRECTORY, or take it to STATUS.

    Does what `getfattr` and `setfattr -n user.csfs.status` do. Marking a killed or failed job as
    completed writes its document to the backing directory.

    \b
    Examples:
      csfs job status /mnt/cs/CS-a/J7
      csfs job status /mnt/cs/CS-a/J7 completed

    \b
    Exit status: 0 shown or changed, 1 refused.
    """
    path = absolute(directory)
    mount_of(path)
    if status is None:
        shown = attribute(path, "status")
        if not shown:
            raise _no_job(directory)
        click.echo(shown)
        return
    content = status.encode()
    try:
        ask(path, lambda: os.setxattr(path, PREFIX + "status", content))
    except Refused as refused:
        if refused.error in (errno.ENODATA, errno.EOPNOTSUPP):
            raise _no_job(directory) from refused
        raise


def _no_job(directory: str) -> click.ClickException:
    return click.ClickException(f"{directory} is no job of an attached project; see: csfs why {directory}")
