"""`csfs create`: a new project in a directory named after its title."""

import errno
import json
import os
from pathlib import Path

import click

from csfs.cli.asking import Refused, ask
from csfs.cli.mounts import absolute, mount_of
from csfs.domain import names


@click.command("create")
@click.argument("container", type=click.Path(exists=True, file_okay=False))
@click.argument("title")
def command(container: str, title: str) -> None:
    """Create a project with this TITLE in the CONTAINER directory, and print its directory.

    Does what `mkdir` and `touch cs.lock` do, with the directory named after the title, and then puts
    the title into project.json.

    \b
    Examples:
      csfs create /mnt/cs "My Protein, Data Collection (October 1 2022)"

    \b
    Exit status: 0 created, 1 refused.
    """
    mount_of(absolute(container))
    directory = _make_directory(Path(container), names.slug(title))
    lock = directory / names.LOCK
    try:
        ask(absolute(str(directory)), lambda: lock.touch(exist_ok=False))
    except Refused:
        os.rmdir(directory)
        raise
    document = directory / names.PROJECT_DOCUMENT
    content = json.loads(document.read_text())
    content["title"] = title
    document.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n")
    click.echo(str(directory))


def _make_directory(container: Path, name: str) -> Path:
    """The first of `name`, `name-2`, ... that is free. mkdir decides, so two at once get two."""
    while True:
        directory = container / names.unique(name, lambda each: os.path.lexists(container / each))
        try:
            ask(absolute(str(directory)), directory.mkdir)
        except Refused as refused:
            if refused.error == errno.EEXIST:
                continue
            raise
        return directory
