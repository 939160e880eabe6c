"""`csfs why`: what a path is to csfs, and why requests on it were refused."""

import os

import click
import msgspec

from csfs.cli.advice import next_step
from csfs.cli.asking import explained, refusals_of
from csfs.cli.facts import away_container, is_away, project_of
from csfs.cli.mounts import Mounted, absolute, is_below, mount_of
from csfs.cli.say import say
from csfs.cli.untouched import UntouchedPath
from csfs.domain import names
from csfs.domain.printable import printable
from csfs.domain.refusal_entry import RefusalEntry
from csfs.domain.state import State

_SHOWN = 5


@click.command("why")
@click.argument("path", type=UntouchedPath())
@click.option("--json", "as_json", is_flag=True, help="State and refusals as JSON.")
def command(path: str, as_json: bool) -> None:
    """Say what state PATH is in, who holds it, and why requests on it were refused.

    The last refusals that concern PATH, what lies below it, or the project it lies in; each with what
    to do next.

    \b
    Examples:
      csfs why CS-my-protein
      csfs why CS-my-protein/J3/particles.cs

    \b
    Exit status: 0 said, 1 if PATH lies in no mount.
    """
    target = absolute(path)
    mount = mount_of(target)
    project, facts = project_of(target, mount.mountpoint)
    if project is None:
        project, facts = away_container(target, mount.mountpoint)
    around, top = printable(project or target), printable(mount.mountpoint)
    refused = []
    for entry in refusals_of(mount):
        where = os.path.join(top, entry.path)
        if is_below(where, around) or is_below(around, where):
            refused.append(entry)
    if as_json:
        report = {
            "path": printable(target),
            "project": None if project is None else printable(project),
            "state": State.PLAIN,
            **facts,
            "refusals": [_absolute(entry, mount) for entry in refused],
        }
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    _print_state(target, mount.mountpoint, project, facts)
    if not refused:
        say("nothing was refused here since the mount")
    for entry in refused[-_SHOWN:]:
        times = f", {entry.count} times" if entry.count > 1 else ""
        say(
            f"{entry.at} {entry.operation} {os.path.join(top, entry.path)} by {entry.command} ({entry.pid}),"
            f" uid {entry.uid}: {entry.errno}{times}"
        )
        for line in explained(entry, mount):
            say(line)


def _absolute(entry: RefusalEntry, mount: Mounted) -> RefusalEntry:
    """A refusal as one who does not look at the mount needs it: with whole paths, also in its advice."""
    top = printable(mount.mountpoint)
    return msgspec.structs.replace(
        entry,
        path=os.path.join(top, entry.path),
        target=os.path.join(top, entry.target) if entry.target else "",
        directory=os.path.join(top, entry.directory).rstrip("/"),
        advice=next_step(entry, mount),
    )


def _print_state(target: str, mountpoint: str, project: str | None, facts: dict[str, str]) -> None:
    if project is None:
        say(f"{target} belongs to no project")
        return
    if is_away(facts):
        say(f"{project} is a container that is away: {facts.get('reason', '')}")
        return
    called = f" {facts['uid']}" if "uid" in facts else ""
    say(f"{project} is a project directory, state {facts['state']}{called}")
    if "owner" in facts:
        say(f"  owner: {facts['owner']}")
    if "heartbeat" in facts:
        say(f"  {facts['heartbeat']}; its lock is {facts['lock_id']}")
    if "unexported" in facts:
        say(
            f"  this instance has documents that were never exported: {facts['unexported']};"
            f" it keeps them in {os.path.join(mountpoint, names.CONTROL, 'projects', facts.get('uid', ''))}"
        )
    if "export_failed" in facts:
        say(f"  not on the backing directory yet, it is tried again: {facts['export_failed']}")
    if "reason" in facts:
        say(f"  {facts['reason']}")
