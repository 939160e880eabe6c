"""`csfs mount`: starts the daemon, and returns once the mount is there."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from csfs.cli import daemon_log
from csfs.cli.mounts import mount_at, unmount

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions


def default_state() -> Path:
    """Where instances are kept: /var/lib/csfs for root, the XDG state directory otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/csfs")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "csfs"


@click.command("mount")
@click.argument("backing", type=click.Path(resolve_path=True))
@click.argument("mountpoint", type=click.Path(resolve_path=True))
@click.option("--instance", required=True, metavar="NAME", help="Made at the first use of a name.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="State directory.")
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("--log-format", type=click.Choice(daemon_log.FORMATS), help="The same as -o log=FORMAT.")
@click.option("-o", "fuse", multiple=True, metavar="OPTS", help="Mount options, comma separated.")
def command(
    backing: str,
    mountpoint: str,
    instance: str,
    state: Path | None,
    foreground: bool,
    log_format: str | None,
    fuse: tuple[str, ...],
) -> None:
    """Mount BACKING, a directory with projects, on MOUNTPOINT for an instance.

    Returns once the mount answers; the reason is on standard error if it does not come about.
    BACKING and MOUNTPOINT may be the same directory.

    \b
    Mount options:
      ro                       nothing can be changed through this mount
      nopassthrough            all data goes through the daemon
      strict                   writing in projects goes through the daemon, which asks each time
      takeover=SECONDS         an instance that is silent for so long counts as dead (300)
      backup=HOURS, backup=off how often the store is backed up (24)
      io=threads, io=inline    whether calls to the storage may overlap (by its type)
      accept_storage           the storage is another one than before, and that is intended
      and those of mount.fuse3(8)

    \b
    Examples:
      csfs mount /data/projects /mnt/cs --instance lab1
      csfs mount /data /data --instance lab1

    \b
    Exit status: 0 mounted (--foreground: and unmounted again), 1 it did not come about.
    """
    if log_format is not None:
        fuse += (f"log={log_format}",)
    words = frozenset(word for each in fuse for word in each.split(",") if word)
    if foreground:
        mount_in_foreground(backing, mountpoint, instance, state, words)
    else:
        mount_in_background(backing, mountpoint, instance, state, words)


def mount_in_foreground(
    backing: str, mountpoint: str, instance: str, state: Path | None, words: frozenset[str]
) -> None:
    """Serves a mount until it ends, logging to standard error, and tells a service manager of it.

    Raises ClickException if it does not come about.
    """
    from csfs.mount.service import tell

    _clear(mountpoint)
    options = _options(backing, mountpoint, instance, state, words)
    daemon_log.to_stderr(options.log_format, timed=False)
    _serve(options, lambda: tell("READY=1"))


def mount_in_background(
    backing: str, mountpoint: str, instance: str, state: Path | None, words: frozenset[str]
) -> None:
    """Returns when the mount is there. Raises ClickException, SystemExit 1 if its daemon said why not."""
    _clear(mountpoint)
    _serve_in_background(_options(backing, mountpoint, instance, state, words))


def _options(
    backing: str, mountpoint: str, instance: str, state: Path | None, words: frozenset[str]
) -> "MountOptions":
    from csfs.mount.options import MountOptions

    return MountOptions(
        backing=backing,
        mountpoint=mountpoint,
        instance=instance,
        state=(state or default_state()).absolute(),
        fuse=words,
    )


def _clear(mountpoint: str) -> None:
    """Ends a mount there whose daemon has died. Raises ClickException for one that lives."""
    mount = mount_at(mountpoint)
    if mount is None:
        return
    if mount.state != "dead":
        raise click.ClickException(
            f"{mountpoint} is a csfs mount already (instance {mount.instance or '?'}, it is {mount.state}):"
            f" use it, or end it first: csfs umount {mountpoint}"
        )
    ended = unmount(mountpoint)
    if ended.returncode != 0:
        raise click.ClickException(f"the dead mount at {mountpoint} cannot be ended: {ended.stderr.strip()}")
    click.echo(f"the mount at {mountpoint} was dead and has been ended", err=True)


def _serve(
    options: "MountOptions", ready: Callable[[], None], reopen_log: Callable[[], None] | None = None
) -> None:
    from csfs.mount.daemon import CannotMount, serve

    try:
        serve(options, ready, reopen_log)
    except CannotMount as error:
        raise click.ClickException(str(error)) from error


def _serve_in_background(options: "MountOptions") -> None:
    """Forks; the parent returns when the child says that the mount is there, or dies with it."""
    heard, say = os.pipe()
    if os.fork():
        os.close(say)
        if os.read(heard, 1) != b"+":
            sys.exit(1)
        return
    os.close(heard)
    os.setsid()
    os.chdir("/")

    def ready() -> None:
        _leave_terminal(options.log)
        daemon_log.to_stderr(options.log_format)
        os.write(say, b"+")
        os.close(say)

    status = 1
    try:
        _serve(options, ready, lambda: _write_to(options.log))
        status = 0
    except click.ClickException as error:
        error.show()
    except Exception:
        logging.getLogger(__name__).exception("the daemon ends")
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(status)


def _leave_terminal(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    _write_to(log)


def _write_to(log: Path) -> None:
    """Makes the file of this name, a new one if it was renamed away, what all output goes to."""
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target in (1, 2):
        os.dup2(written, target)
    os.close(written)
