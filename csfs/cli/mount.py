"""`csfs mount`: starts the daemon, and returns once the mount is there."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from csfs.cli import daemon_log
from csfs.cli.instance_options import BackingCommand, WrongConfig, chosen, instance_options, resolved
from csfs.cli.mounts import mount_at, unmount
from csfs.cli.untouched import UntouchedPath

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions


@click.command("mount", cls=BackingCommand)
@instance_options
@click.argument("mountpoint", type=UntouchedPath())
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("--log-format", type=click.Choice(daemon_log.FORMATS), help="The same as -o log=FORMAT.")
@click.option("-o", "fuse", multiple=True, metavar="OPTS", help="Mount options, comma separated.")
def command(
    backing: str,
    mountpoint: str,
    instance: str | None,
    state: Path | None,
    foreground: bool,
    log_format: str | None,
    fuse: tuple[str, ...],
) -> None:
    """Mount BACKING, a directory with projects, on MOUNTPOINT for an instance.

    Returns once the mount answers; the reason is on standard error if it does not come about.
    BACKING and MOUNTPOINT may be the same directory. An instance is made at the first use of its name.

    BACKING may also be a file that names several backing directories, the containers of the mount: each
    appears as a directory at the top. `--config FILE` says the same. Such a file:

    \b
      [instance]
      name = "lab1"
      state = "/var/lib/csfs"    # if it is to be another one than that of --state
      [containers]
      ssd = "/fast/projects"
      hdd = "/bulk/projects"

    \b
    Mount options:
      ro                       nothing can be changed through this mount
      nopassthrough            all data goes through the daemon
      strict                   writing in projects goes through the daemon, which asks each time
      takeover=SECONDS         an instance that is silent for so long counts as dead (300)
      backup=HOURS, backup=off how often the store is backed up (24)
      io=threads, io=inline    whether calls to the storage may overlap (by its type)
      log=text, log=json       how the daemon's log looks (text)
      accept_storage           the storage is another one than before, and that is intended
      and those of mount.fuse3(8)

    \b
    Examples:
      csfs mount /data/projects /mnt/cs --instance lab1
      csfs mount /data /data --instance lab1
      csfs mount --config lab1.toml /mnt/cs

    \b
    Exit status: 0 mounted (--foreground: and unmounted again), 1 it did not come about,
    2 what it was told is wrong.
    """
    if log_format is not None:
        fuse += (f"log={log_format}",)
    options = replace(
        chosen(backing, instance, state),
        mountpoint=resolved(mountpoint, "MOUNTPOINT"),
        fuse=frozenset(word for each in fuse for word in each.split(",") if word),
    )
    if foreground:
        _serve_in_foreground(options)
    else:
        mount_in_background(options)


def _serve_in_foreground(options: "MountOptions") -> None:
    """Serves a mount until it ends, logging to standard error, and tells a service manager of it.

    Raises ClickException if it does not come about.
    """
    from csfs.mount.service import tell

    _clear(options.mountpoint)
    daemon_log.to_stderr(options.log_format, timed=False)
    # A terminal that is gone ends the mount. Without one SIGHUP asks for the log anew, and this one stays.
    _serve(options, lambda: tell("READY=1"), None if os.isatty(2) else lambda: None)


def mount_in_background(options: "MountOptions") -> None:
    """Returns when the mount is there. Raises ClickException, SystemExit if its daemon said why not."""
    _clear(options.mountpoint)
    _serve_in_background(options)


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
    ended = unmount(mountpoint, dead=True)
    if ended.returncode != 0:
        raise click.ClickException(f"the dead mount at {mountpoint} cannot be ended: {ended.stderr.strip()}")
    click.echo(f"the mount at {mountpoint} was dead and has been ended", err=True)


def _serve(
    options: "MountOptions", ready: Callable[[], None], reopen_log: Callable[[], None] | None = None
) -> None:
    from csfs.mount.daemon import CannotMount, WrongOptions, serve

    try:
        serve(options, ready, reopen_log)
    except WrongOptions as error:
        raise WrongConfig(str(error)) from error
    except CannotMount as error:
        raise click.ClickException(str(error)) from error


def _serve_in_background(options: "MountOptions") -> None:
    """Forks; the parent returns when the child says that the mount is there, or dies with it."""
    heard, say = os.pipe()
    child = os.fork()
    if child:
        os.close(say)
        if os.read(heard, 1) != b"+":
            _, status = os.waitpid(child, 0)
            sys.exit(max(os.waitstatus_to_exitcode(status), 1))
        return
    os.close(heard)
    os.chdir("/")

    def ready() -> None:
        # Not before: an automounter lets only its own process group look at a mount point that it waits for.
        os.setsid()
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
        status = error.exit_code
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
