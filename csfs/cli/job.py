"""`csfs job`: the status of a job, shown and changed."""

import errno
import os

import click

from csfs.cli.mounts import absolute, mount_of
from csfs.domain.job import JobStatus

_STATUS = "user.csfs.status"


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
    """
    mount_of(absolute(directory))
    try:
        if status is None:
            click.echo(os.getxattr(directory, _STATUS).decode())
        else:
            os.setxattr(directory, _STATUS, status.encode())
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            raise click.ClickException(f"{directory} is no job of an attached project") from error
        known = ", ".join(JobStatus)
        hint = f"; the statuses are {known}" if error.errno == errno.EINVAL else ""
        raise click.ClickException(
            f"{directory}: {error.strerror}; see: csfs why {directory}{hint}"
        ) from error
