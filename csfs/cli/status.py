"""`csfs status`: the mounts of this node."""

import os

import click
import msgspec

from csfs.cli.mounts import Container, Mounted, all_mounts
from csfs.cli.say import say
from csfs.domain.printable import printable


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
def command(as_json: bool) -> None:
    """List the csfs mounts of this node.

    \b
    Examples:
      csfs status
      csfs status --json
    """
    found = all_mounts()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    if not found:
        click.echo("nothing is mounted")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "mountpoint", "backing", "instance", "pid", "last backup", "state", box=None, pad_edge=False
    )
    for mount in found:
        table.add_row(
            printable(mount.mountpoint),
            printable(mount.backing),
            mount.instance or "?",
            str(mount.pid or "?"),
            "?" if mount.backup is None else mount.backup.last or "none",
            mount.state,
        )
    console = Console()
    if not console.is_terminal:
        unbounded = console.options.update(width=1 << 16)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)
    for mount in found:
        for container in mount.containers:
            _tell(mount, container)
        if mount.store_problem:
            say(f"{mount.mountpoint}: the store of {mount.instance} fails: {mount.store_problem}")
        for document, reason in mount.exports_failing.items():
            say(f"{mount.mountpoint}: {document} cannot be exported ({reason}); it is tried again")
        if mount.backup is not None and mount.backup.failing:
            say(f"{mount.mountpoint}: the backup fails ({mount.backup.failing}); it is tried again")


def _tell(mount: Mounted, container: Container) -> None:
    """What there is to say of one backing directory."""
    place = os.path.join(mount.mountpoint, container.name).rstrip("/")
    if container.away:
        say(f"{place} is away: {container.backing}: {container.away}")
    elif container.name:
        say(f"{place} is {container.backing}")
    if container.heartbeat.problem:
        say(f"{place}: {container.heartbeat.problem}")
    elif container.heartbeat.late:
        say(f"{place}: the heartbeat is late; does the storage answer?")
    where = f"storage {container.name}" if container.name else "storage"
    for other in container.sessions:
        silent = f", silent for {other.silent_seconds:.0f} s" if other.life in ("silent", "dead") else ""
        life = f"{other.life} on {other.host}{silent}"
        say(f"{mount.instance} shares its {where} with {other.instance}: {life}")
