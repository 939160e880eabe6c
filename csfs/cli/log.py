"""`csfs log`: which lifecycle actions there were, by whom, when and how."""

import os
import pwd

import click
import msgspec

from csfs.cli.deeds import deeds_of
from csfs.cli.facts import chosen_mount, project_of
from csfs.cli.mounts import Mounted, absolute, is_below, mount_of
from csfs.cli.untouched import UntouchedPath
from csfs.domain import names
from csfs.store.records import Deed


@click.command("log")
@click.argument("project", required=False, type=UntouchedPath())
@click.option("--mount", "mountpoint", metavar="DIR", help="The mount of the instance, if there are several.")
@click.option("-n", "count", type=click.IntRange(min=1), default=50, show_default=True, help="The last N.")
@click.option("--json", "as_json", is_flag=True, help="All of them, as a JSON array.")
def command(project: str | None, mountpoint: str | None, count: int, as_json: bool) -> None:
    """Show the lifecycle actions of an instance, or those on PROJECT: its number, or a path in it.

    Of a directory that is in no project, the mount point for instance, those on all that lay in it.

    By whom, when, from which host, by which program, and what came of it. What was refused is not among
    them: csfs why. The instance keeps the last 10,000.

    \b
    Examples:
      csfs log
      csfs log P7 --mount /mnt/cs
      csfs log /mnt/cs/CS-a -n 5

    \b
    Exit status: 0 shown, 1 if that project or mount is not there.
    """
    mount, number, path = _meant(project, mountpoint)
    deeds = deeds_of(mount)
    if number is not None:
        deeds = [deed for deed in deeds if deed.number == number]
    elif path is not None:
        deeds = [deed for deed in deeds if any(is_below(each, path) for each in (deed.path, deed.came_from))]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(deeds), indent=2))
    elif not deeds:
        click.echo("nothing was done yet")
    else:
        _print(deeds[-count:])


def _meant(project: str | None, mountpoint: str | None) -> tuple[Mounted, int | None, str | None]:
    """The mount, and the number of the project, or the directory that is meant. Raises ClickException."""
    if project is None:
        return chosen_mount(mountpoint), None, None
    number = names.project_number(project)
    if number is not None:
        return chosen_mount(mountpoint), number, None
    target = absolute(project)
    mount = mount_of(target)
    directory, facts = project_of(target, mount.mountpoint)
    known = names.project_number(facts.get("uid", ""))
    below = os.path.relpath(directory or target, mount.mountpoint)
    return mount, known, None if below == "." else below


def _print(deeds: list[Deed]) -> None:
    from rich.text import Text

    from csfs.cli.tables import print_table

    rows = []
    for deed in deeds:
        place = f"{deed.came_from} -> {deed.path}" if deed.came_from else deed.path
        by = f"{deed.program} ({deed.pid})" if deed.pid else "csfs"
        uid = names.project_uid(deed.number) if deed.number else "-"
        done = deed.action if deed.outcome == "done" else f"{deed.action} ({deed.outcome})"
        rows.append([Text(each) for each in (deed.at, uid, done, _user(deed.uid), deed.host, by, place)])
    print_table(["when", "uid", "action", "who", "host", "by", "path"], rows)


def _user(uid: int | None) -> str:
    if uid is None:
        return "-"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
