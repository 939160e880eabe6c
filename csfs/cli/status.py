"""`csfs status`: the mounts of this node, how they do, and what needs attention."""

import os
from collections.abc import Iterator

import click
import msgspec

from csfs.cli.mounts import Container, Mounted, absolute, add_refusals, all_mounts
from csfs.cli.say import say
from csfs.cli.untouched import UntouchedPath

_NOTHING, _ATTENTION = 1, 3
"""Exit statuses."""
_LAG_SECONDS = 60.0
"""An export that has waited for longer needs attention, whether its attempts are known to fail or not."""


class _Report(Mounted, kw_only=True):
    """A mount, and what about it needs attention."""

    attention: list[str]


@click.command("status")
@click.argument("mountpoints", nargs=-1, type=UntouchedPath())
@click.option("--json", "as_json", is_flag=True, help="A JSON array, for programs.")
@click.pass_context
def command(context: click.Context, mountpoints: tuple[str, ...], as_json: bool) -> None:
    """Show the csfs mounts of this node, or those at MOUNTPOINTS, and what needs attention.

    A mount whose daemon has died or does not answer is shown as such: nothing is waited for longer than a
    few seconds. Of a mount of another user's, into which only they may look, nothing is known.

    \b
    Exit status: 0 all is well, 1 nothing is mounted (there), 3 something needs attention.

    \b
    Examples:
      csfs status
      csfs status --json /mnt/cs
    """
    mounts = all_mounts(frozenset(absolute(path) for path in mountpoints))
    add_refusals(mounts)
    found = [_Report(**msgspec.structs.asdict(mount), attention=list(_attention(mount))) for mount in mounts]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(list(map(_printable, found))), indent=2))
    elif not found:
        say("nothing is mounted" + (" there" if mountpoints else ""))
    else:
        for mount in found:
            _show(mount)
    if not found:
        context.exit(_NOTHING)
    if any(mount.attention for mount in found):
        context.exit(_ATTENTION)


def _attention(mount: Mounted) -> Iterator[str]:
    match mount.state:
        case "ready" | "closed":
            pass
        case "dead":
            yield f"its daemon has ended; end the mount (csfs umount {mount.mountpoint}) and mount again"
        case "hanging":
            yield "its daemon does not answer; look whether the storage does, and at the daemon's log"
        case _:
            yield "what it tells of itself cannot be read"
    for container in mount.containers:
        yield from _attention_of(mount, container)
    if mount.store_problem:
        yield f"the store of {mount.instance} fails: {mount.store_problem}"
    if lost := mount.projects.get("lost"):
        yield f"lost projects: {lost}; csfs why says to whom"
    for action in mount.unsettled:
        yield f"{action} failed half way and is still to be settled; it is tried again"
    for document, reason in mount.exports_failing.items():
        yield f"{document} cannot be exported ({reason}); it is tried again"
    if mount.exports_waiting.oldest_seconds > _LAG_SECONDS and not mount.exports_failing:
        yield f"a document has waited for its export for {mount.exports_waiting.oldest_seconds:.0f} s"
    if mount.backup is not None and mount.backup.failing:
        yield f"the backup fails ({mount.backup.failing}); it is tried again"


def _attention_of(mount: Mounted, container: Container) -> Iterator[str]:
    about = f"{container.name}: " if container.name else ""
    if container.away:
        yield f"{_place(mount, container)} is away: {container.backing}: {container.away}"
    elif container.heartbeat.problem:
        yield about + container.heartbeat.problem
    elif container.heartbeat.late:
        yield f"{about}the heartbeat is late; does the storage answer?"


def _place(mount: Mounted, container: Container) -> str:
    return os.path.join(mount.mountpoint, container.name).rstrip("/")


def _show(mount: _Report) -> None:
    instance = f"{mount.instance}, " if mount.instance else ""
    health = (
        "needs attention" if mount.attention else "healthy" if mount.state == "ready" else "not to be seen"
    )
    say(f"{mount.mountpoint} over {mount.backing}: {instance}{mount.state}, {health}")
    for each in mount.attention:
        say(f"  attention    {each}")
    if mount.state == "ready":
        for name, text in _facts(mount):
            say(f"  {name:<12} {text}")
        for container in mount.containers:
            _show_sessions(mount, container)
        for refused in mount.last_refusals:
            say(f"  refused      {refused.at} {refused.path or '.'} {refused.errno} {refused.rule}")


def _show_sessions(mount: Mounted, container: Container) -> None:
    storage = f"storage {container.name}" if container.name else "storage"
    for other in container.sessions:
        silent = f", silent for {other.silent_seconds:.0f} s" if other.life in ("silent", "dead") else ""
        say(
            f"  {mount.instance} shares its {storage} with {other.instance}: {other.life} on {other.host}"
            f" since {other.since}{silent}"
        )


def _facts(mount: Mounted) -> Iterator[tuple[str, str]]:
    yield "since", f"{mount.since}, process {mount.pid}, csfs {mount.version}"
    for container in mount.containers:
        yield from _facts_of(mount, container)
    yield "store", f"{(mount.store_bytes or 0) / (1 << 20):.1f} MiB"
    if mount.backup is not None:
        yield "last backup", mount.backup.last or "none"
    projects = [f"{count} {state}" for state, count in sorted(mount.projects.items())]
    yield "projects", ", ".join(projects) or "none"
    for path, transition in mount.transitions.items():
        yield "under way", f"{transition.action} of {path}"
    waiting = mount.exports_waiting
    if waiting.documents:
        first = ", ".join(waiting.first[:3]) + (", ..." if waiting.documents > 3 else "")
        yield (
            "not exported",
            f"documents: {waiting.documents}, for up to {waiting.oldest_seconds:.0f} s: {first}",
        )
    if waiting.held_back:
        yield "held back", f"documents of jobs that are not completed: {waiting.held_back}"


def _facts_of(mount: Mounted, container: Container) -> Iterator[tuple[str, str]]:
    passthrough = "active" if container.passthrough == "active" else f"off: {container.passthrough or '?'}"
    io = f"{container.io}, strict" if mount.strict else container.io or "?"
    if not container.name:
        yield "passthrough", passthrough
        yield "io", io
    elif not container.away:
        place = f"{_place(mount, container)} is {container.backing}"
        yield "container", f"{place}, passthrough {passthrough}, io {io}"


def _printable(mount: _Report) -> _Report:
    """Paths as JSON can have them: bytes that are not UTF-8 are escaped."""
    return msgspec.structs.replace(mount, mountpoint=_text(mount.mountpoint), backing=_text(mount.backing))


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
