"""`csfs mount`: starts the daemon, and returns once the mount is there."""

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from csfs.cli.instance_options import chosen, instance_options, take_backing
from csfs.cli.mounts import mount_at, unmount
from csfs.domain.printable import printable

if TYPE_CHECKING:
    from csfs.mount.options import MountOptions


@click.command("mount")
@click.argument("words", nargs=-1, metavar="[BACKING] MOUNTPOINT")
@instance_options
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error.")
@click.option("-o", "fuse", multiple=True, metavar="OPTS", help="Mount options, comma separated.")
def command(
    words: tuple[str, ...],
    config: Path | None,
    instance: str | None,
    state: Path | None,
    foreground: bool,
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
    Examples:
      csfs mount /data/projects /mnt/cs --instance lab1
      csfs mount /data /data --instance lab1
      csfs mount --config lab1.toml /mnt/cs
    """
    backing, rest = take_backing(config, words)
    if len(rest) != 1:
        raise click.UsageError("name one mount point: BACKING MOUNTPOINT, or --config FILE MOUNTPOINT")
    mountpoint = os.path.realpath(rest[0])
    options = chosen(config, backing, instance, state)
    _clear(mountpoint)
    options = replace(
        options,
        mountpoint=mountpoint,
        fuse=frozenset(word for words in fuse for word in words.split(",") if word),
    )
    if foreground:
        _log_to_stderr("%(levelname)s %(name)s: %(message)s")
        _serve(options, lambda: None)
    else:
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


class _OneLine(logging.Formatter):
    """One record a line, whatever names and errors hold; a traceback follows in lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def _log_to_stderr(form: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


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
        _log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s")
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
