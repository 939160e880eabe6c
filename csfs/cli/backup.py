"""`csfs backup`: copies the store of an instance, and lists the copies."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from csfs.cli.instance_options import default_state
from csfs.store import backup
from csfs.store.backup import KEEP
from csfs.store.store import Damaged, Store, UnknownFormat


class Listed(msgspec.Struct):
    """A backup, for programs."""

    path: str
    made: str
    """ISO 8601, UTC."""
    age_seconds: int
    bytes: int
    projects: int | None
    """None: it cannot be read."""
    fault: str = ""


@click.command("backup")
@click.argument("dest", required=False, type=click.Path(resolve_path=True, path_type=Path))
@click.option("--instance", required=True, metavar="NAME", help="Whose store.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="State directory.")
@click.option("--list", "as_list", is_flag=True, help="List the backups in the default place.")
@click.option("--json", "as_json", is_flag=True, help="With --list: a JSON array, for programs.")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=KEEP,
    show_default=True,
    metavar="N",
    help="How many stay in the default place.",
)
def command(
    dest: Path | None, instance: str, state: Path | None, as_list: bool, as_json: bool, keep: int
) -> None:
    """Back up the store of an instance, mounted or not, to the file or directory DEST.

    Without DEST the backup joins those that a mount makes by itself each day, and the oldest of these
    go. `csfs recover --from` brings it back.

    \b
    Examples:
      csfs backup --instance lab1
      csfs backup /safe/lab1.mdb --instance lab1
      csfs backup --list --instance lab1

    \b
    Exit status: 0 backed up or listed, 1 it could not be.
    """
    directory = (state or default_state()).absolute() / instance
    if not directory.is_dir():
        raise click.ClickException(f"there is no instance {instance} in {directory.parent}; see --state")
    place = backup.place(directory)
    if as_list:
        if dest is not None:
            raise click.UsageError("--list shows the default place, and takes no DEST")
        _show(place, as_json)
        return
    if as_json:
        raise click.UsageError("--json goes with --list")
    try:
        made = _make(directory, place, dest)
        if dest is None:
            backup.prune(place, keep)
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} is there already; choose another name") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"no backup was made in {dest.parent if dest else place}: {reason};"
            " mend that, or name another place"
        ) from error
    except (Damaged, UnknownFormat) as error:
        raise click.ClickException(f"no backup was made: {directory}/store: {error}") from error
    click.echo(f"{made.path}: {made.bytes} bytes, {made.projects} projects")


def _make(directory: Path, place: Path, dest: Path | None) -> backup.Backup:
    name = backup.name(datetime.now(UTC))
    if dest is None:
        place.mkdir(mode=0o700, exist_ok=True)
        backup.clear_partial(place)
        target = place / name
    else:
        target = dest / f"{directory.name}-{name}" if dest.is_dir() else dest
    reader = Store.open_for_reading(directory / "store")
    try:
        return backup.make(reader, target)
    finally:
        reader.close()


def _show(place: Path, as_json: bool) -> None:
    found = [_listed(path) for path in backup.listed(place)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    if not found:
        click.echo(f"there is no backup in {place}")
    for each in found:
        held = f"cannot be read: {each.fault}" if each.projects is None else f"{each.projects} projects"
        click.echo(f"{each.path}  {_age(each.age_seconds)} old  {each.bytes} bytes  {held}")


def _listed(path: Path) -> Listed:
    made = backup.made_at(path)
    age = int((datetime.now(UTC) - made).total_seconds())
    listed = Listed(str(path), made.isoformat(timespec="seconds"), age, path.stat().st_size, None)
    try:
        listed.projects = backup.describe(path).projects
    except (Damaged, UnknownFormat) as error:
        listed.fault = str(error)
    return listed


def _age(seconds: int) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} seconds"
