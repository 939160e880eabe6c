"""What a command works on: BACKING with --instance and --state, or all that a --config file names."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions

Command = TypeVar("Command", bound=Callable[..., Any])


def default_state() -> Path:
    """Where instances are kept: /var/lib/csfs for root, the XDG state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/csfs")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "csfs"


def instance_options(command: Command) -> Command:
    """Gives a command --config, --instance and --state."""
    for option in (
        click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="State directory."),
        click.option("--instance", metavar="NAME", help="Needed without --config."),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
            metavar="FILE",
            help="Names the instance, and a backing directory for each of its containers.",
        ),
    ):
        command = option(command)
    return command


def chosen(config: Path | None, backing: str, instance: str | None, state: Path | None) -> "MountOptions":
    """What a command was told; --state counts for more than the file. Raises ClickException."""
    from csfs.mount.config import BadConfig, read
    from csfs.mount.options import MountOptions

    if config is None:
        if instance is None:
            raise click.UsageError("say which instance: --instance NAME, or --config FILE")
        return MountOptions(backing, "", instance, (state or default_state()).absolute())
    if instance is not None:
        raise click.UsageError("--instance does not go with --config: that file names the instance")
    try:
        found = read(config)
    except BadConfig as error:
        raise click.ClickException(str(error)) from error
    directory = (state or found.state or default_state()).absolute()
    return MountOptions(str(config), "", found.instance, directory, containers=found.containers)


def take_backing(config: Path | None, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """BACKING, and the words that follow it; with --config all words follow. Raises UsageError."""
    if config is not None:
        return "", words
    if not words:
        raise click.UsageError("name the backing directory: BACKING, or --config FILE")
    return os.path.realpath(words[0]), words[1:]
