"""`csfs umount`: ends a mount, and returns when its daemon has ended and the store is closed."""

import os
import select
import time

import click

from csfs.cli.mounts import absolute, mount_at, unmount
from csfs.cli.untouched import UntouchedPath

_PATIENCE_SECONDS = 2.0
"""A command that just looks at the mount (`csfs status` on another terminal) makes it busy for a moment."""


@click.command("umount")
@click.argument("mountpoint", type=UntouchedPath())
@click.option("--wait", default=60.0, show_default=True, metavar="SECONDS", help="For the daemon's end.")
def command(mountpoint: str, wait: float) -> None:
    """Unmount MOUNTPOINT and wait until its daemon has ended.

    \b
    Examples:
      csfs umount /mnt/cs

    \b
    Exit status: 0 the daemon has ended, 1 it has not.
    """
    path = absolute(mountpoint)
    mount = mount_at(path)
    if mount is None:
        raise click.ClickException(f"{path} is no csfs mount; `csfs status` lists them")
    daemon = _watch(mount.pid)
    dead = mount.state == "dead"
    ended = unmount(path, dead=dead)
    patient_until = time.monotonic() + _PATIENCE_SECONDS
    while "busy" in ended.stderr and time.monotonic() < patient_until:
        time.sleep(0.05)
        ended = unmount(path, dead=dead)
    if ended.returncode != 0:
        reason = ended.stderr.strip()
        if "busy" in reason:
            reason += "\nclose what is open on it (find it with: fuser -vm " + path + "), then repeat"
        raise click.ClickException(reason)
    if daemon is not None:
        readable, _, _ = select.select([daemon], [], [], wait)
        os.close(daemon)
        if not readable:
            raise click.ClickException(
                f"{path} is unmounted, but its daemon (process {mount.pid}) has not ended in {wait:g} s"
            )


def _watch(pid: int | None) -> int | None:
    """A descriptor that becomes readable when the process ends; None if it has."""
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
