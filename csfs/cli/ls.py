"""`csfs ls`: the projects of a mount."""

import os
from collections.abc import Iterator

import click
import msgspec

from csfs.cli.facts import Record, attributes_of, chosen_mount, is_away, records_of
from csfs.cli.mounts import Mounted
from csfs.cli.sizes import readable, size_of
from csfs.domain import names
from csfs.domain.document import Invalid, Kind, parse
from csfs.domain.state import State


class Listed(msgspec.Struct, kw_only=True):
    """One project as it is listed."""

    uid: str = ""
    """`P7`; empty for a project of which this instance holds no record."""
    number: int | None = None
    title: str = ""
    state: str
    path: str
    """Of its directory, absolute; the last known one if `away`."""
    away: bool = False
    """Whether its directory is not there."""
    owner: str = ""
    jobs: int = 0
    bytes: int | None = None
    """What its job directories take on the disk, if that was asked for."""


@click.command("ls")
@click.argument("mountpoint", required=False, type=click.Path(exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Also what belongs to others, or to nobody.")
@click.option("--size", "sizes", is_flag=True, help="Add up what the job directories take on the disk.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
def command(mountpoint: str | None, everything: bool, sizes: bool, as_json: bool) -> None:
    """List the projects of the instance at MOUNTPOINT, or of the mount that the working directory is in.

    With --all also the project directories on this mount that are detached or belong to another instance:
    all of its directories are looked through for them.

    \b
    Examples:
      csfs ls
      csfs ls /mnt/cs --all
      csfs ls --size --json

    \b
    Exit status: 0 listed, 1 if there is no such mount.
    """
    mount = chosen_mount(mountpoint)
    found = [_of_record(mount, record) for record in sorted(records_of(mount), key=lambda each: each.number)]
    if everything:
        known = {each.path for each in found if not each.away}
        found += [each for each in _walk(mount.mountpoint) if each.path not in known]
    if sizes:
        for each in found:
            each.bytes = None if each.away else _job_bytes(each.path)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif not found:
        click.echo(f"{mount.instance} has no projects; make one: csfs create {_free_place(mount)} TITLE")
    else:
        _print(found, mount.mountpoint, sizes=sizes)


def _free_place(mount: Mounted) -> str:
    """A directory in which a project can be made: at the top of containers there can be none."""
    present = [container.name for container in mount.containers if not container.away]
    return os.path.normpath(os.path.join(mount.mountpoint, *present[:1]))


def _of_record(mount: Mounted, record: Record) -> Listed:
    path = os.path.join(mount.mountpoint, record.path).rstrip("/")
    facts = attributes_of(path)
    known = os.path.join(mount.mountpoint, names.CONTROL, "projects", record.uid)
    here = facts.get("uid") == record.uid
    return Listed(
        uid=record.uid,
        number=record.number,
        title=record.title,
        state=facts["state"] if here else record.state,
        path=path,
        away=not here and (record.state != "detached" or not facts),
        owner=facts.get("owner", "") if here else "",
        jobs=sum(1 for name in os.listdir(known) if names.is_job(name)),
    )


def _walk(directory: str) -> Iterator[Listed]:
    """The project directories at and below a directory; does not look for more within one."""
    pending = [directory]
    while pending:
        at = pending.pop()
        facts = attributes_of(at)
        if is_away(facts):
            continue
        if "state" in facts:
            yield Listed(
                uid=facts.get("uid", ""),
                number=names.project_number(facts.get("uid", "")),
                title=facts.get("title") or _title(at),
                state=facts["state"],
                path=at,
                owner=facts.get("owner", ""),
                jobs=sum(1 for name in os.listdir(at) if names.is_job(name)),
            )
            continue
        try:
            with os.scandir(at) as entries:
                below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except PermissionError:
            continue
        pending.extend(sorted(below, reverse=True))


def _title(directory: str) -> str:
    """As its document says; empty if that cannot be read."""
    try:
        with open(os.path.join(directory, names.PROJECT_DOCUMENT), "rb") as file:
            return parse(file.read(), Kind.PROJECT).head.text("title") or ""
    except (OSError, Invalid):
        return ""


def _job_bytes(directory: str) -> int:
    return sum(size_of(os.path.join(directory, name)) for name in os.listdir(directory) if names.is_job(name))


def _print(found: list[Listed], mountpoint: str, *, sizes: bool) -> None:
    from rich.text import Text

    from csfs.cli.tables import print_table

    columns = ["uid", "state", "jobs", *(["size"] if sizes else []), "title", "path"]
    rows = []
    for each in found:
        state = each.state + (", away" if each.away else "")
        colour = _COLOURS.get(each.state, "")
        size = [("-" if each.bytes is None else readable(each.bytes))] if sizes else []
        shown = os.path.relpath(each.path, mountpoint)
        owned = f" ({each.owner})" if each.state == State.FOREIGN else ""
        rows.append(
            [
                Text(each.uid or "-"),
                Text(state + owned, style=colour),
                *map(Text, (str(each.jobs), *size, each.title, shown)),
            ]
        )
    print_table(columns, rows)


_COLOURS: dict[str, str] = {
    State.ATTACHED: "green",
    State.ARCHIVED: "cyan",
    State.FOREIGN: "yellow",
    State.LOST: "red",
}
