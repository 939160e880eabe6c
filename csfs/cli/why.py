"""`csfs why`: what a path is to csfs, and why requests on it were refused."""

import os

import click
import msgspec

from csfs.cli.mounts import absolute, control_file, is_below, mount_of
from csfs.cli.say import say
from csfs.domain import names
from csfs.domain.printable import printable
from csfs.domain.state import State

_SHOWN = 5
_AWAY = "away"
"""What is said of a container whose backing directory is not there, in place of a state."""
_PREFIX = "user.csfs."


@click.command("why")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="State and refusals as JSON.")
def command(path: str, as_json: bool) -> None:
    """Say what state PATH is in, who holds it, and why requests on it were refused.

    The last refusals that concern PATH, what lies below it, or the project it lies in; each with what
    to do next.

    \b
    Examples:
      csfs why CS-my-protein
      csfs why CS-my-protein/J3/particles.cs
    """
    target = absolute(path)
    mount = mount_of(target)
    project, facts = _project(target, mount.mountpoint)
    lines = control_file(mount, "refusals").splitlines()
    around, top = printable(project or target), printable(mount.mountpoint)
    refused = []
    for line in lines:
        entry = msgspec.json.decode(line)
        where = os.path.join(top, entry["path"])
        if is_below(where, around) or is_below(around, where):
            refused.append({**entry, "path": where})
    if as_json:
        report = {
            "path": printable(target),
            "project": None if project is None else printable(project),
            **facts,
            "refusals": refused,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
        return
    _print_state(target, mount.mountpoint, project, facts)
    if not refused:
        say("nothing was refused here since the mount")
    for entry in refused[-_SHOWN:]:
        times = f", {entry['count']} times" if entry["count"] > 1 else ""
        say(
            f"{entry['at']} {entry['operation']} {entry['path']} by {entry['command']} ({entry['pid']}),"
            f" uid {entry['uid']}: {entry['errno']}{times}"
        )
        say(f"  because {entry['reason']}")
        say(f"  next: {entry['advice']}")


def _project(path: str, mountpoint: str) -> tuple[str | None, dict[str, str]]:
    """The project directory that a path is or lies in, and its user.csfs attributes."""
    at = path
    while is_below(at, mountpoint):
        try:
            found = [name for name in os.listxattr(at) if name.startswith(_PREFIX)]
            facts = {name[len(_PREFIX) :]: os.getxattr(at, name).decode() for name in found}
        except OSError:
            facts = {}
        if "state" in facts:
            return at, facts
        at = os.path.dirname(at)
        if at == "/":
            break
    return None, {"state": State.PLAIN.value}


def _print_state(target: str, mountpoint: str, project: str | None, facts: dict[str, str]) -> None:
    if project is None:
        say(f"{target} belongs to no project")
        return
    if facts["state"] == _AWAY:
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
