"""What a command works on: BACKING with --instance and --state, or a file BACKING that names all of it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions

Command = TypeVar("Command", bound=Callable[..., Any])


class WrongConfig(click.ClickException):
    """What is to be mounted can never be: trying again leads nowhere."""

    exit_code = 2


class BackingCommand(click.Command):
    """A command that takes BACKING first, also as `--config FILE`: so it says what is meant to a reader."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for at, word in enumerate(args):
            if word == "--":
                break
            option, given, value = word.partition("=")
            if option != "--config":
                continue
            rest = args[at + 1 :]
            if not given:
                if not rest:
                    raise click.UsageError("--config wants the FILE that names the containers", ctx)
                value, *rest = rest
            return super().parse_args(ctx, [value, *args[:at], *rest])
        return super().parse_args(ctx, args)


def default_state() -> Path:
    """Where instances are kept: /var/lib/csfs for root, the XDG state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/csfs")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "csfs"


def instance_options(command: Command) -> Command:
    """Gives a command BACKING, --instance and --state."""
    for option in (
        click.argument("backing", type=click.Path()),
        click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="State directory."),
        click.option("--instance", metavar="NAME", help="Needed, unless BACKING is a file that names it."),
    ):
        command = option(command)
    return command


def chosen(backing: str, instance: str | None, state: Path | None) -> "MountOptions":
    """What a command was told; --state counts for more than a file. Raises UsageError, WrongConfig."""
    from csfs.mount.config import BadConfig, read
    from csfs.mount.options import MountOptions

    path = resolved(backing, "BACKING")
    if not os.path.isfile(path):
        if instance is None:
            there = "is a directory" if os.path.isdir(path) else "is not there"
            raise click.UsageError(f"{path} {there}: say which instance, --instance NAME, or name a file")
        return MountOptions(path, "", instance, (state or default_state()).absolute())
    try:
        found = read(Path(path))
    except BadConfig as error:
        raise WrongConfig(str(error)) from error
    if instance not in (None, found.instance):
        raise WrongConfig(f"{path} is for the instance {found.instance}, not for {instance}")
    directory = (state or found.state or default_state()).absolute()
    return MountOptions(path, "", found.instance, directory, containers=found.containers)


def resolved(path: str, what: str) -> str:
    """Absolute, symlinks resolved. Raises UsageError for the empty path, which realpath takes for `.`."""
    if not path:
        raise click.UsageError(f"{what} is empty: name a path")
    return os.path.realpath(path)
