"""`csfs recover`: rebuilds the store of an instance, and tells what came back."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from csfs.cli.instance_options import BackingCommand, chosen, instance_options
from csfs.cli.mounts import all_mounts, is_below
from csfs.cli.say import say

if TYPE_CHECKING:
    from csfs.lifecycle.recover import Report, Wanted
    from csfs.mount.options import MountOptions


@click.command("recover", cls=BackingCommand)
@instance_options
@click.option("--uuid", help="Of the instance, where locks name several of this NAME.")
@click.option(
    "--from",
    "backup",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    metavar="BACKUP",
    help="A file made by `csfs backup`.",
)
@click.option("--replace", is_flag=True, help="Also a store that is not damaged.")
@click.option("--dry-run", is_flag=True, help="Tell what would come back, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, for programs.")
def command(
    backing: str,
    instance: str | None,
    state: Path | None,
    uuid: str | None,
    backup: Path | None,
    replace: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Rebuild the lost or damaged store of an instance from the projects below BACKING, or in all
    containers of a file (BACKING or --config FILE).

    The projects whose locks name the instance come back with their numbers, attached or archived as
    they were. With a backup also what the directories do not hold: jobs that failed or were killed,
    detached projects, archived ones that are away. The instance must not be mounted. The old store
    stays beside the new one, and nothing below a backing directory is changed.

    \b
    Examples:
      csfs recover /data/projects --instance lab1 --dry-run
      csfs recover /data/projects --instance lab1 --from /safe/lab1.mdb
      csfs recover --config lab1.toml

    \b
    Exit status: 0 rebuilt (or --dry-run), 1 it could not be.
    """
    from csfs.lifecycle.recover import Wanted

    options = chosen(backing, instance, state)
    for mount in all_mounts():
        ours = mount.instance == options.instance and os.path.realpath(mount.backing) == options.backing
        if ours or any(
            is_below(os.path.realpath(each), mount.mountpoint) for each in options.backings.values()
        ):
            raise click.ClickException(
                f"{mount.instance or 'an instance'} is mounted at {mount.mountpoint}; end that first:"
                f" csfs umount {mount.mountpoint}"
            )
    directory = options.directory
    report = _recover(
        options,
        Wanted(options.backings, directory, options.instance, uuid, backup, replace, dry_run),
    )
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        _show(report, directory)


def _recover(options: "MountOptions", wanted: "Wanted") -> "Report":
    import trio

    from csfs.lifecycle.recover import recover
    from csfs.lifecycle.survey import CannotRecover
    from csfs.mount.daemon import CannotMount, holding
    from csfs.store.store import Damaged, UnknownFormat

    try:
        with holding(options):
            return trio.run(recover, wanted)
    except (CannotMount, CannotRecover) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, Damaged, UnknownFormat) as error:
        raise click.ClickException(f"nothing was recovered, and nothing changed: {error}") from error


def _show(report: "Report", directory: Path) -> None:
    from csfs.store import backup

    for project in report.projects:
        say(f"{project.uid} {project.path}: {project.state}, {project.jobs} jobs")
        if project.from_backup:
            say(f"  from the backup: {', '.join(project.from_backup)}")
        for note in project.notes:
            say(f"  {note}")
    for kept in report.kept:
        say(f"{kept.uid} {kept.path}: from the backup; {kept.why}")
    for passed in report.passed_over:
        say(f"not taken: {passed.path} {f'({passed.uid})' if passed.uid else ''}: {passed.why}")
    for project in report.projects:
        if project.never_exported:
            jobs = "; ".join(f"{each.job} {each.why}" for each in project.never_exported)
            say(f"{project.uid} {project.path}: {jobs}")
    would = "would be" if report.dry_run else "is"
    say(
        f"the store of {report.instance} ({report.uuid}) {would} rebuilt:"
        f" {len(report.projects)} projects from their locks, {len(report.kept)} from the backup alone;"
        f" the next one gets P{report.next_project}"
    )
    if report.set_aside is not None:
        say(f"the store before it is kept in {report.set_aside}")
    newest = backup.listed(backup.place(directory))[-1:]
    if report.backup is None and newest:
        say(f"there is a backup; with --from {newest[0]} comes back what is not on the directories")
