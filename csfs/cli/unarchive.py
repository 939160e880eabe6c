"""`csfs unarchive`: `chmod u+w` with an option to accept what has changed meanwhile."""

import os
import stat

import click

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
    """
    mount_of(absolute(directory))
    try:
        if accept_changes:
            os.setxattr(directory, "user.csfs.unarchive", b"accept-changes")
        else:
            os.chmod(directory, stat.S_IMODE(os.stat(directory).st_mode) | stat.S_IWUSR)
    except OSError as error:
        raise click.ClickException(f"{directory}: {error.strerror}; see: csfs why {directory}") from error
