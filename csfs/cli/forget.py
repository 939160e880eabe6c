"""`csfs forget`: `rmdir .csfs/projects/P12`."""

import os

import click

from csfs.cli.asking import ask
from csfs.cli.facts import chosen_mount
from csfs.domain import names


@click.command("forget")
@click.argument("project", metavar="P<n>")
@click.option("--mount", "mountpoint", metavar="DIR", help="The mount of the instance, if there are several.")
def command(project: str, mountpoint: str | None) -> None:
    """Drop what the instance keeps of a detached project. Its directory is not touched.

    Does what `rmdir .csfs/projects/P<n>` does at the top of the mount. The number is not given again.

    \b
    Examples:
      csfs forget P12
      csfs forget --mount /mnt/cs P12

    \b
    Exit status: 0 done, 1 refused.
    """
    if names.project_number(project) is None:
        raise click.UsageError(f"{project!r} is no number of a project, such as P12; csfs ls lists them")
    mount = chosen_mount(mountpoint)
    record = os.path.join(mount.mountpoint, names.CONTROL, "projects", project)
    if not os.path.isdir(record):
        raise click.ClickException(
            f"the instance {mount.instance} has no {project}; csfs ls lists what it has"
        )
    ask(record, lambda: os.rmdir(record))
