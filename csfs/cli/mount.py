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
from csfs.cli.instance_options import chosen, instance_options, take_backing
from csfs.cli.mounts import mount_at, unmount

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions


@click.command("mount")
@click.argument("words", nargs=-1, type=click.Path(), metavar="[BACKING] MOUNTPOINT")
@instance_options
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("--log-format", type=click.Choice(daemon_log.FORMATS), help="The same as -o log=FORMAT.")
@click.option("-o", "fuse", multiple=True, metavar="OPTS", help="Mount options, comma separated.")
def command(
    words: tuple[str, ...],
    config: Path | None,
    instance: str | None,
    state: Path | None,
    foreground: bool,
    log_format: str | None,
    fuse: tuple[str, ...],
) -> None:
    """Mount BACKING, a directory with projects, on MOUNTPOINT for an instance.

    Returns once the mount answers; the reason is on standard error if it does not come about.
    BACKING and MOUNTPOINT may be the same directory. An instance is made at the first use of its name.

    With --config the mount has several backing directories, its containers: each appears as a directory at
    the top. A file for that:

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
      accept_storage           the storage is another one than before, and that is intended
      and those of mount.fuse3(8)

    \b
    Examples:
      csfs mount /data/projects /mnt/cs --instance lab1
      csfs mount /data /data --instance lab1
      csfs mount --config lab1.toml /mnt/cs

    \b
    Exit status: 0 mounted (--foreground: and unmounted again), 1 it did not come about.
    """
    backing, rest = take_backing(config, words)
    if len(rest) != 1:
        raise click.UsageError("name one mount point: BACKING MOUNTPOINT, or --config FILE MOUNTPOINT")
    if log_format is not None:
        fuse += (f"log={log_format}",)
    options = replace(
        chosen(config, backing, instance, state),
        mountpoint=os.path.realpath(rest[0]),
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
    _serve(options, lambda: tell("READY=1"))


def mount_in_background(options: "MountOptions") -> None:
    """Returns when the mount is there. Raises ClickException, SystemExit 1 if its daemon said why not."""
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
