"""`csfs check`: an instance's store held against its backing directory, and repaired if asked."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
import trio

from csfs.cli.asking import INTERRUPTED
from csfs.cli.instance_options import BackingCommand, chosen, instance_options
from csfs.cli.mounts import devices, is_below, mount_of
from csfs.cli.say import say
from csfs.domain import names

if TYPE_CHECKING:
    from csfs.backing.backings import Backings
    from csfs.lifecycle.check.findings import Finding
    from csfs.mount.options import MountOptions
    from csfs.store.store import Store

_FOUND = 1
_PROGRESS_SECONDS = 0.2


class CannotCheck(click.ClickException):
    """Nothing could be checked; the message says why and what to do."""

    exit_code = 2


class Result(msgspec.Struct, kw_only=True):
    """A finding as JSON shows it, and what a repair did about it."""

    kind: str
    severity: str
    project: str
    directory: str
    path: str
    meaning: str
    advice: str
    repaired: str = ""
    not_repaired: str = ""
    """Why a repair was tried and failed."""


@click.command("check", cls=BackingCommand)
@instance_options
@click.argument("projects", nargs=-1, type=click.Path(), metavar="[PROJECT]...")
@click.option("--repair", is_flag=True, help="Mend what can be mended; the instance must be unmounted.")
@click.option("--json", "as_json", is_flag=True, help="Findings and counts as JSON.")
def command(
    backing: str,
    projects: tuple[str, ...],
    instance: str | None,
    state: Path | None,
    repair: bool,
    as_json: bool,
) -> None:
    """Hold the store of an instance against the BACKING directory, or all containers of a file
    (BACKING or --config FILE).

    Of every PROJECT (its number, or its path below BACKING, or CONTAINER/PATH), or of all. Without --repair
    nothing is written, and the instance may be mounted. Nothing that a repair does loses anything: a file
    that differs from its document is kept beside it as NAME.before-repair-TIME.

    \b
    Exit status:
      0  nothing was found, or notes only, or all was repaired
      1  errors or warnings were found
      2  it could not be checked
      130  interrupted: not all was looked at

    \b
    Examples:
      csfs check /data/projects --instance lab1
      csfs check /data/projects --instance lab1 P7 group/CS-x
      csfs check --repair /data/projects --instance lab1
      csfs check --config lab1.toml ssd/CS-x
    """
    options = chosen(backing, instance, state)
    for each in options.backings.values():
        _refuse_covered(os.path.realpath(each))
    if not (options.directory / "store" / "data.mdb").exists():
        raise CannotCheck(
            f"there is no instance {options.instance} in {options.state}: give its name,"
            " and --state if need be"
        )
    with _opened(options, repair=repair) as store:
        try:
            results, counts = _run(store, options, projects, repair=repair, show=not as_json)
        except KeyboardInterrupt:
            done = "what was repaired stays so" if repair else "nothing was changed"
            click.echo(
                f"\ninterrupted: not all was looked at, {done}; repeat the command to look at all", err=True
            )
            sys.exit(INTERRUPTED)
    if as_json:
        report = {"findings": results, **counts}
        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        click.echo(_summary(counts))
    if counts["errors"] or counts["warnings"]:
        sys.exit(_FOUND)


def _refuse_covered(backing: str) -> None:
    try:
        mount = mount_of(backing)
    except click.ClickException:
        return
    raise CannotCheck(
        f"{backing} lies in the csfs mount at {mount.mountpoint}: give the backing directory;"
        f" if that is covered by the mount, end it first: csfs umount {mount.mountpoint}"
    )


@contextmanager
def _opened(options: "MountOptions", *, repair: bool) -> Iterator["Store"]:
    """The store: for reading, beside a mount; for a repair, held as a mount holds it."""
    from csfs.mount.daemon import CannotMount, holding
    from csfs.store.store import Damaged, Store, UnknownFormat

    directory = options.directory
    with ExitStack() as stack:
        try:
            if repair:
                stack.enter_context(holding(options))
                store = Store.open(directory / "store", options.instance)
            else:
                store = Store.open_for_reading(directory / "store")
        except CannotMount as error:
            raise CannotCheck(str(error)) from error
        except (OSError, UnknownFormat) as error:
            raise CannotCheck(f"{directory}: {error}") from error
        except Damaged as error:
            raise CannotCheck(
                f"{directory}: the store is damaged: {error}; see: csfs recover --help"
            ) from error
        stack.callback(store.close)
        yield store


def _run(
    store: "Store",
    options: "MountOptions",
    projects: tuple[str, ...],
    *,
    repair: bool,
    show: bool,
) -> tuple[list[Result], dict[str, int]]:
    """Checks, repairs and prints. The findings, and how many there are of each severity."""
    from csfs.backing.backings import Backings, Overlap
    from csfs.lifecycle import sole_mount, storage
    from csfs.lifecycle.check.check import Check
    from csfs.lifecycle.check.repair import now_ns
    from csfs.mount.daemon import is_held
    from csfs.store.store import View

    try:
        backings = Backings.open(options.backings)
        storage.refuse_other_containers(store, backings)
        if not backings.present:
            raise CannotCheck("; ".join(f"{each.path}: {each.away}" for each in backings))
        clocks = [now_ns(each.descriptor) for each in backings.present] if repair else [time.time_ns()]
    except (Overlap, storage.WrongContainers) as error:
        raise CannotCheck(str(error)) from error
    except OSError as error:
        raise CannotCheck(f"{options.backing}: {error.strerror}") from error
    places = [_place(store, options, project) for project in projects]
    progress = _Progress(len(places) or len(store.read(View.projects)))
    check = Check(
        store,
        backings,
        mounted=not repair and is_held(options.directory),
        now_ns=min(clocks),
        skipped=devices(),
        progress=lambda: progress.step(check.projects),
    )
    counts: Counter[str] = Counter()
    results = []

    def found() -> Iterator["Finding"]:
        if not places:
            yield from check.everything()
        for place in dict.fromkeys(places):
            yield from check.project(place)

    async def work() -> None:
        if repair:
            for each in backings.present:
                await sole_mount.refuse_mounted(each.descriptor, store.read(View.instance).uuid)
        for finding in found():
            result = await _settled(store, backings, finding, repair=repair)
            counts[f"{finding.severity}s" if not result.repaired else "repaired"] += 1
            progress.clear()
            if show:
                _print(result)
            else:
                results.append(result)

    try:
        trio.run(work)
    except sole_mount.MountedElsewhere as error:
        raise CannotCheck(str(error)) from error
    finally:
        progress.clear()
    return results, {
        "projects": check.projects,
        "files": progress.files,
        **{each: counts[each] for each in ("errors", "warnings", "notes", "repaired")},
    }


async def _settled(store: "Store", backings: "Backings", finding: "Finding", *, repair: bool) -> Result:
    from csfs.lifecycle.check.findings import shown
    from csfs.lifecycle.check.repair import CannotMend, mend

    result = Result(
        kind=finding.kind.value,
        severity=finding.severity.value,
        project=finding.project,
        directory=shown(finding.directory),
        path=shown(finding.path),
        meaning=finding.meaning,
        advice=finding.advice,
    )
    if repair and finding.mendable:
        try:
            result.repaired = await mend(store, backings, finding)
        except (CannotMend, OSError) as error:
            result.not_repaired = str(error)
    return result


def _place(store: "Store", options: "MountOptions", project: str) -> bytes:
    """The path of a project on the mount. Raises CannotCheck if there is none."""
    number = names.project_number(project)
    if number is not None:
        record = store.read(lambda view: view.project(number))
        if record is not None:
            return record.path
    from csfs.store.store import View

    known = {each.path for each in store.read(View.projects)}
    for container, backing in options.backings.items():
        name = os.fsdecode(container)
        inside = project if not name or project.startswith("/") else os.path.relpath(project, name)
        path = os.path.normpath(os.path.join(backing, inside))
        if is_below(path, backing):
            place = os.fsencode(os.path.join(name, path[len(backing) :].strip("/"))).rstrip(b"/")
            if os.path.lexists(path) or place in known:
                return place
    where = " or ".join(options.backings.values())
    if project.startswith("/") and not any(is_below(project, each) for each in options.backings.values()):
        raise CannotCheck(f"{project} does not lie below {where}")
    raise CannotCheck(f"there is no project {project}: give its number (P7) or its path below {where}")


class _Progress:
    """A line on a terminal that tells how far it is; nothing elsewhere.

    The time left is guessed from how many of the `known` projects are done.
    """

    def __init__(self, known: int) -> None:
        self.files = 0
        self._known = known
        self._shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._due = self._began

    def step(self, projects: int) -> None:
        """One more file; it lies in the so manieth project."""
        self.files += 1
        now = time.monotonic()
        if self._shown and self.files % 256 == 0 and now > self._due:
            self._due = now + _PROGRESS_SECONDS
            line = f"{self.files} files, {self.files / (now - self._began):.0f}/s"
            done = projects - 1
            if done > 0 and projects <= self._known:
                left = (now - self._began) / done * (self._known - done)
                line += f", project {projects} of {self._known}, {timedelta(seconds=int(left))} left"
            click.echo(f"\r\033[K{line}", nl=False, err=True)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)


def _print(result: Result) -> None:
    place = "/".join(filter(None, (result.directory, result.path))) or "."
    project = f" {result.project}" if result.project else ""
    say(f"{result.severity}: {result.kind}{project} {place}")
    say(f"  {result.meaning}")
    if result.repaired:
        say(f"  repaired: {result.repaired}")
    else:
        if result.not_repaired:
            say(f"  not repaired: {result.not_repaired}")
        say(f"  next: {result.advice}")


def _summary(counts: dict[str, Any]) -> str:
    def many(number: int, word: str) -> str:
        return f"{number} {word}" if number == 1 else f"{number} {word}s"

    told = [many(counts[f"{word}s"], word) for word in ("error", "warning", "note")]
    repaired = f", {counts['repaired']} repaired" if counts["repaired"] else ""
    return (
        f"{many(counts['projects'], 'project')}, {many(counts['files'], 'file')}: {', '.join(told)}{repaired}"
    )
