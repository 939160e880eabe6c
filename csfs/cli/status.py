"""`csfs status`: the mounts of this node."""

import click
import msgspec

from csfs.cli.mounts import all_mounts
from csfs.cli.say import say


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
def command(as_json: bool) -> None:
    """List the csfs mounts of this node.

    \b
    Examples:
      csfs status
      csfs status --json

    \b
    Exit status: 0, whatever state the mounts are in.
    """
    found = all_mounts()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    if not found:
        click.echo("nothing is mounted")
        return
    from csfs.cli.tables import print_table

    print_table(
        ["mountpoint", "backing", "instance", "pid", "last backup", "state"],
        [
            [
                mount.mountpoint,
                mount.backing,
                mount.instance or "?",
                str(mount.pid or "?"),
                "?" if mount.backup is None else mount.backup.last or "none",
                mount.state,
            ]
            for mount in found
        ],
    )
    for mount in found:
        if mount.heartbeat.problem:
            say(f"{mount.mountpoint}: {mount.heartbeat.problem}")
        elif mount.heartbeat.late:
            say(f"{mount.mountpoint}: the heartbeat is late; does the storage answer?")
        if mount.store_problem:
            say(f"{mount.mountpoint}: the store of {mount.instance} fails: {mount.store_problem}")
        for other in mount.sessions:
            silent = f", silent for {other.silent_seconds:.0f} s" if other.life in ("silent", "dead") else ""
            life = f"{other.life} on {other.host}{silent}"
            say(f"{mount.instance} shares its storage with {other.instance}: {life}")
        for document, reason in mount.exports_failing.items():
            say(f"{mount.mountpoint}: {document} cannot be exported ({reason}); it is tried again")
        if mount.backup is not None and mount.backup.failing:
            say(f"{mount.mountpoint}: the backup fails ({mount.backup.failing}); it is tried again")
