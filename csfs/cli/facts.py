"""What a mount tells of a project or job: its user.csfs attributes, and the records under .csfs/projects."""

import os
from collections.abc import Iterator
from typing import Literal

import click
import msgspec

from csfs.cli.mounts import Mounted, control_file, is_below, mount_of, places
from csfs.domain import names

PREFIX = "user.csfs."
_AWAY = "away"
"""What is said of a container whose backing directory is not there, in place of a project's state."""


class Record(msgspec.Struct, frozen=True):
    """What an instance knows of a project, wherever its directory is; of `record.json`."""

    number: int
    uuid: str
    title: str
    state: Literal["attached", "archived", "detached"]
    path: str
    """Of its directory, relative to the mount point; the last known one when away."""
    lock_id: str
    since: str
    """When it took this state; ISO 8601, UTC."""

    @property
    def uid(self) -> str:
        return names.project_uid(self.number)


def attributes_of(path: str) -> dict[str, str]:
    """The user.csfs attributes of a file, without their prefix; empty where there are none."""
    try:
        found = [name for name in os.listxattr(path) if name.startswith(PREFIX)]
        return {name[len(PREFIX) :]: os.getxattr(path, name).decode(errors="replace") for name in found}
    except OSError:
        return {}


def attribute(path: str, name: str) -> str:
    """One user.csfs attribute of a file; empty where it has none."""
    try:
        return os.getxattr(path, PREFIX + name).decode(errors="replace")
    except OSError:
        return ""


def project_of(path: str, mountpoint: str) -> tuple[str | None, dict[str, str]]:
    """The project directory that an absolute path is or lies in, and its attributes."""
    at = path
    while is_below(at, mountpoint):
        facts = attributes_of(at)
        if "state" in facts and not is_away(facts):
            return at, facts
        at = os.path.dirname(at)
        if at == "/":
            break
    return None, {}


def is_away(facts: dict[str, str]) -> bool:
    """Whether attributes are those of a container whose backing directory is not there."""
    return facts.get("state") == _AWAY


def away_container(path: str, mountpoint: str) -> tuple[str | None, dict[str, str]]:
    """The container that is away and that an absolute path is or lies in, and its attributes."""
    top = os.path.join(mountpoint, os.path.relpath(path, mountpoint).partition("/")[0])
    facts = attributes_of(top)
    return (top, facts) if is_away(facts) else (None, {})


def records_of(mount: Mounted) -> list[Record]:
    """Every project of the instance of a mount, by number. Raises ClickException if it does not answer."""
    control_file(mount, "status.json")
    return list(_records(os.path.join(mount.mountpoint, names.CONTROL, "projects")))


def _records(directory: str) -> Iterator[Record]:
    for uid in os.listdir(directory):
        try:
            with open(os.path.join(directory, uid, "record.json"), "rb") as file:
                yield msgspec.json.decode(file.read(), type=Record)
        except FileNotFoundError:
            continue  # it was forgotten at this moment


def chosen_mount(mountpoint: str | None) -> Mounted:
    """The mount that is meant: the one of this path, that of the working directory, or the only one.

    Raises ClickException if that leaves more than one.
    """
    if mountpoint is not None:
        return mount_of(os.path.realpath(mountpoint))
    found = [place for place, _ in places()]
    try:
        here = os.getcwd()
    except OSError:
        here = "/"
    inside = [place for place in found if is_below(here, place)]
    if inside or len(found) == 1:
        return mount_of(max(inside or found, key=len))
    if not found:
        raise click.ClickException("nothing is mounted; mount a backing directory first: csfs mount --help")
    raise click.ClickException(f"there are several csfs mounts: name one of them ({', '.join(found)})")
