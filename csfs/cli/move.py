"""`csfs move`: one rename where that reaches; otherwise copied, read back, and removed at the old place."""

import os
import shlex
import sys

import click

from csfs.cli.asking import INTERRUPTED
from csfs.cli.deeds import deeds_of
from csfs.cli.facts import attribute, attributes_of, project_of
from csfs.cli.handing_over import hand_over, renamed
from csfs.cli.mounts import (
    Mounted,
    absolute,
    all_mounts,
    is_below,
    mount_of,
    on_backing,
    on_mount,
    places,
)
from csfs.cli.relocation import Relocation
from csfs.cli.staging import Note, Staging, is_directory
from csfs.domain.state import HELD, State

_MOVABLE = (State.ATTACHED, State.ARCHIVED, State.DETACHED)


@click.command("move")
@click.argument("project", type=click.Path())
@click.argument("destination", type=click.Path())
def command(project: str, destination: str) -> None:
    """Move the directory of PROJECT to DESTINATION, or into it if that is a directory without a project.

    Within one filesystem of one mount this is one rename, as with `mv`. To another filesystem of the same
    mount the project is archived, copied, read back, and unarchived at the new place, under its number. To
    the mount of another instance it is handed over: detached here, attached there, under a new number.
    PROJECT and DESTINATION may also be named by their paths in the backing directory of a mount, or of one
    of its containers.

    A move that was interrupted goes on when the same command is repeated. At each moment one whole copy is
    the project, and its source is removed only when the copy was read back and found to be the same.

    \b
    Examples:
      csfs move /mnt/cs/CS-a /mnt/cs/done
      csfs move /mnt/cs/CS-a /mnt/cs/slow/CS-a
      csfs move /mnt/lab1/CS-a /mnt/lab2/

    \b
    Exit status: 0 moved, 1 refused or failed, 130 interrupted.
    """
    source = through_mount(absolute(project))
    mount = mount_of(source)
    target = place_for(source, through_mount(absolute(destination), mount.mountpoint))
    other = _mount_of_target(source, target)
    refuse_within_project(target, other)
    there = _seen_by(other, mount, source)
    staging = Staging(target, "moving")
    repeat = shlex.join(["csfs", "move", project, destination])
    try:
        note = staging.note()
        if note is not None and note.source != source:
            raise click.ClickException(
                f"another move to {target} has begun: csfs move {note.source} {target}"
            )
        if note is None:
            staging.sweep()
            if not os.path.lexists(source) and _has_moved(source, target, mount):
                click.echo(
                    f"{source} has been moved already: {target} is {attribute(target, 'state')}", err=True
                )
                return
            _refuse(source, target, there)
            if mount.mountpoint == other.mountpoint and renamed(source, target):
                return
            note = _begin(source, target, staging)
        if there is not None:
            hand_over(note, there, staging)
        else:
            _run(Relocation(note, staging, mount, other), repeat)
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted; no file was copied or removed\nto go on: {repeat}", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or target}: {error.strerror}; the source is as it was or the copy is whole."
            f" To go on: {repeat}"
        ) from error


def _run(relocation: Relocation, repeat: str) -> None:
    try:
        relocation.run()
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted\n{relocation.situation()}\nto go on: {repeat}", err=True)
        if os.path.lexists(relocation.note.source) and not os.path.lexists(relocation.note.target):
            click.echo(
                f"to give it up: rm -r {relocation.staging.directory} (an archived project comes back with"
                f" csfs unarchive {relocation.note.source})",
                err=True,
            )
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}\n  to go on afterwards: {repeat}") from error


def through_mount(path: str, preferred: str = "") -> str:
    """The path on a mount of what lies on its backing directory; any other path as it is.

    Of several mounts that show it the one at `preferred` is meant, then one whose instance has it.
    """
    if any(is_below(path, mountpoint) for mountpoint, _ in places()):
        return path
    shown = {mount.mountpoint: on_mount(mount, path) for mount in all_mounts()}
    found = [(mountpoint, there) for mountpoint, there in shown.items() if there is not None]
    if not found:
        return path
    return max(found, key=lambda each: (each[0] == preferred, attribute(each[1], "state") in HELD))[1]


def place_for(source: str, destination: str) -> str:
    """Where the source is to lie: the destination, or in it if it is a directory without a project."""
    if is_directory(destination) and not attribute(destination, "state"):
        return os.path.join(destination, os.path.basename(source))
    return destination


def refuse_within_project(target: str, mount: Mounted) -> None:
    """Passes unless a place lies in a project, the source perhaps. Raises ClickException."""
    around, _ = project_of(os.path.dirname(target), mount.mountpoint)
    if around is not None:
        raise click.ClickException(f"{target} lies in the project {around}: choose a place outside of any")


def _mount_of_target(source: str, target: str) -> Mounted:
    try:
        return mount_of(target)
    except click.ClickException as error:
        raise click.ClickException(
            f"{target} lies in no csfs mount, so no instance would know the project there. To take its"
            f" directory away: csfs archive {source}, then copy it (cp -a, rsync -a, tar);"
            " csfs unarchive brings it back"
        ) from error


def _refuse(source: str, target: str, there: str | None) -> None:
    """Passes if a move can begin. Raises ClickException."""
    if not is_directory(source):
        raise click.ClickException(f"{source} is no directory; csfs ls lists the projects")
    state = attribute(source, "state")
    if state not in _MOVABLE:
        raise click.ClickException(
            f"{source} is {state or 'no project directory'}, which cannot be moved; see: csfs why {source}"
        )
    if os.path.lexists(target) and target != there:
        raise click.ClickException(f"{target} is there already; name another place, or move it aside")
    if not is_directory(os.path.dirname(target)):
        raise click.ClickException(f"{os.path.dirname(target)} is no directory; make it first")
    if there is not None and state == State.ARCHIVED:
        raise click.ClickException(f"{source} is archived; unarchive it first: csfs unarchive {source}")


def _seen_by(other: Mounted, mount: Mounted, source: str) -> str | None:
    """Where another instance sees the very directory of the source; None if it does not."""
    lies = on_backing(mount, source) if mount.mountpoint != other.mountpoint else None
    return None if lies is None else on_mount(other, lies)


def _has_moved(source: str, target: str, mount: Mounted) -> bool:
    """Whether a project lies at the target, and one of this instance lay where the source is not any more."""
    place = os.path.relpath(source, mount.mountpoint)
    return attribute(target, "state") in _MOVABLE and any(
        place in (deed.path, deed.came_from) for deed in deeds_of(mount)
    )


def _begin(source: str, target: str, staging: Staging) -> Note:
    facts = attributes_of(source)
    note = Note(
        action="move",
        source=source,
        target=target,
        state=facts["state"],
        uid=facts.get("uid", ""),
        lock_id=facts.get("lock_id", ""),
    )
    staging.begin(note)
    return note
