"""`csfs rescue`: says who holds a project, and breaks the lock of an instance that is gone."""

import os
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from csfs.cli.asking import ask
from csfs.cli.facts import PREFIX, attribute
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.say import say
from csfs.domain import names
from csfs.domain.document import Invalid, Kind, parse
from csfs.domain.state import State

_SHOWN = 10
_COMPLETED = "completed"


class _Holder(NamedTuple):
    """Who holds a project, as its directory says."""

    state: str
    owner: str
    lock_id: str
    heartbeat: str
    in_flight: list[str]


@click.command("rescue")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option("--lock-id", metavar="ID", help="Break this lock, whatever is known of its owner.")
@click.option("--attach", is_flag=True, help="Attach the project to this mount's instance afterwards.")
@click.option("--dry-run", is_flag=True, help="Only say what is found.")
@click.option("--json", "as_json", is_flag=True, help="What is found, as JSON.")
def command(directory: str, lock_id: str | None, attach: bool, dry_run: bool, as_json: bool) -> None:
    """Take a project from an instance that is gone.

    Says who holds the project in DIRECTORY, since when, whether that instance is alive, and which jobs had
    not ended: those are on the storage as they were exported last. Then breaks the lock, if the owner's
    heartbeat has stopped for long enough (`rm cs.lock` does the same then), or if --lock-id names it,
    which is for an owner that is known to be gone. Its bytes are kept as cs.lock.rescued-<time>.

    \b
    Examples:
      csfs rescue --dry-run /mnt/cs/CS-a
      csfs rescue --attach /mnt/cs/CS-a
      csfs rescue --lock-id 0f8fad5b-d9cb-469f-a165-70867728950e /mnt/cs/CS-a

    \b
    Exit status: 0 rescued (or --dry-run), 1 refused.
    """
    path = Path(absolute(directory))
    mount_of(str(path))
    holder = _holder(path)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(holder._asdict()), indent=2))
    elif holder.state == State.FOREIGN:
        _show(path, holder)
    if dry_run:
        return
    named = (lock_id or "").encode()
    ask(str(path), lambda: os.setxattr(path, PREFIX + "rescue", named))
    if not as_json:
        click.echo(f"{path} is rescued: nobody holds it now")
    if attach:
        ask(str(path), (path / names.LOCK).touch)
        if not as_json:
            click.echo(f"{path} is attached as {attribute(str(path), 'uid')}")
    if not attach and not as_json:
        click.echo(f"attach it: touch {path / names.LOCK}")


def _holder(path: Path) -> _Holder:
    state = attribute(str(path), "state") or State.PLAIN.value
    if state != State.FOREIGN:
        if state == State.PLAIN:
            raise click.ClickException(f"{path} is no project directory; name one that is")
        if state == State.DETACHED:
            advice = f"attach it: touch {path / names.LOCK}"
        else:
            advice = f"see: csfs why {path}"
        raise click.ClickException(f"{path} is {state}, there is nothing to rescue; {advice}")
    return _Holder(
        state=state,
        owner=attribute(str(path), "owner"),
        lock_id=attribute(str(path), "lock_id"),
        heartbeat=attribute(str(path), "heartbeat") or "it has no heartbeat: csfs did not write this lock",
        in_flight=_in_flight(path),
    )


def _show(path: Path, holder: _Holder) -> None:
    say(f"{path} is held by {holder.owner}")
    say(f"  {holder.heartbeat}")
    say(f"  its lock is {holder.lock_id}")
    if holder.in_flight:
        more = f" and {len(holder.in_flight) - _SHOWN} more" if len(holder.in_flight) > _SHOWN else ""
        say(
            "  jobs that had not ended when they were last exported: "
            + ", ".join(holder.in_flight[:_SHOWN])
            + more
        )
    else:
        say("  all its jobs had ended")


def _in_flight(path: Path) -> list[str]:
    """The jobs whose document says anything but that they are completed, or that have none."""
    found = []
    for each in sorted(path.iterdir(), key=lambda job: (len(job.name), job.name)):
        if not names.is_job(each.name):
            continue
        try:
            status = _status(each / names.JOB_DOCUMENT)
        except OSError as error:
            status = f"its document cannot be read: {error.strerror}"
        if status != _COMPLETED:
            found.append(f"{each.name} ({status})")
    return found


def _status(path: Path) -> str:
    try:
        return parse(path.read_bytes(), Kind.JOB).head.text("status") or "no status"
    except FileNotFoundError:
        return "never exported"
    except Invalid:
        return "its document is not valid"
