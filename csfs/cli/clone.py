"""`csfs clone`: a whole copy of a project that belongs to nobody."""

import os
import shlex
import stat
import sys
from collections.abc import Callable

import click

from csfs.cli.asking import INTERRUPTED
from csfs.cli.attach import attach
from csfs.cli.facts import attribute, attributes_of
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.move import place_for, refuse_within_project, through_mount
from csfs.cli.reflinks import reach
from csfs.cli.staging import Note, Staging, is_directory
from csfs.cli.tree_copy import opened
from csfs.domain import names

_ATTEMPTS = 20


@click.command("clone")
@click.argument("project", type=click.Path(exists=True, file_okay=False))
@click.argument("destination", type=click.Path())
@click.option("--attach", "attached", is_flag=True, help="Attach the copy, under a number of its own.")
def command(project: str, destination: str, attached: bool) -> None:
    """Copy PROJECT to DESTINATION, or into it if that is a directory without a project.

    Its documents are those of one moment, at the beginning. Its lock is not copied: the copy belongs to
    nobody, until it is attached. Where the backing filesystem can, the copy shares its blocks with the
    original (reflink), and takes no room until one of them is changed; otherwise each file is read back
    after it was copied. PROJECT may be in use: a file that is written meanwhile stops the copying, which
    goes on when the command is repeated. PROJECT and DESTINATION may also be
    named by their paths in the backing directory of a mount, or of one of its containers.

    \b
    Examples:
      csfs clone /mnt/cs/CS-a /mnt/cs/CS-b
      csfs clone --attach /mnt/cs/CS-a /mnt/cs/trials

    \b
    Exit status: 0 copied, 1 refused or failed, 130 interrupted.
    """
    source = through_mount(absolute(project))
    mount = mount_of(source)
    target = place_for(source, through_mount(absolute(destination), mount.mountpoint))
    other = mount_of(target)
    refuse_within_project(target, other)
    facts = attributes_of(source)
    if "state" not in facts:
        raise click.ClickException(f"{source} is no project directory; csfs ls --all lists them")
    staging = Staging(target, "cloning")
    repeat = shlex.join(["csfs", "clone", *(["--attach"] if attached else []), project, destination])
    try:
        note = staging.note()
        if note is not None and note.source != source:
            raise click.ClickException(f"{target} is to be a clone of {note.source}: name another place")
        if os.path.lexists(target):
            if note is None or not is_directory(target):
                raise click.ClickException(f"{target} is there already; name another place")
        else:
            if note is None:
                _begin(source, target, facts, staging)
            documents = snapshot(source)
            os.makedirs(staging.copy, mode=0o700, exist_ok=True)
            skip = frozenset({names.LOCK, *documents}).__contains__
            staging.fill(
                source, skip, what=f"cloning {staging.name}", reach=reach(mount, other, source, staging)
            )
            _write(staging.copy, documents)
            staging.put(source)
        staging.end()
        if attached:
            attach(target)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; {source} is as it was\nto go on: {repeat}", err=True)
        if not os.path.lexists(target):
            click.echo(f"to give it up: rm -r {staging.directory}", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or target}: {error.strerror}; {source} is as it was. To go on: {repeat}"
        ) from error
    if not attached:
        click.echo(f"{target} belongs to nobody; to attach it: csfs attach {target}")
    else:
        click.echo(f"{target} is attached as {attribute(target, 'uid')}")


def _begin(source: str, target: str, facts: dict[str, str], staging: Staging) -> None:
    staging.begin(
        Note(
            action="clone",
            source=source,
            target=target,
            state=facts["state"],
            uid=facts.get("uid", ""),
            lock_id=facts.get("lock_id", ""),
        )
    )


def snapshot(project: str, listed: Callable[[str], list[str]] = os.listdir) -> dict[str, bytes]:
    """All documents of a project, as they were together at one moment: path in it -> content.

    They are looked at before and after they are read: if none has changed, they all were so in between.
    Raises ClickException if they change all the time, OSError.
    """
    for _ in range(_ATTEMPTS):
        before = _stamps(project, listed)
        found = {}
        for path in before:
            try:
                with open(os.path.join(project, path), "rb") as file:
                    found[path] = file.read()
            except FileNotFoundError:
                break
        if before == _stamps(project, listed):
            return found
    raise click.ClickException(
        f"the documents of {project} change all the time: repeat when less goes on in it, or archive it first"
    )


def _stamps(project: str, listed: Callable[[str], list[str]]) -> dict[str, tuple[int, int]]:
    paths = list(names.PROJECT_DOCUMENTS)
    paths += [f"{name}/{names.JOB_DOCUMENT}" for name in sorted(listed(project)) if names.is_job(name)]
    found = {}
    for path in paths:
        try:
            status = os.stat(os.path.join(project, path), follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(status.st_mode):
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


def _write(copy: str, documents: dict[str, bytes]) -> None:
    """Writes the documents, project.json last: with that it is a project. Durable on return."""
    for path in sorted(documents, key=lambda each: (each == names.PROJECT_DOCUMENT, each)):
        place = os.path.join(copy, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(documents[path])
            file.flush()
            os.fsync(file.fileno())
    with opened(copy) as fd:
        os.fsync(fd)
