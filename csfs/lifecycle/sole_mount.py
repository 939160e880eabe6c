"""That an instance is mounted once.

Its state directory may have been copied with the machine, or its store rebuilt on another node: two mounts
would then own the same projects, and no lock of theirs could tell the one from the other. What they share
is the session of the instance on the storage: who mounts it holds the file, and watches its heartbeat
where a lock on it says nothing.
"""

import logging
import os
from pathlib import Path

import trio

from csfs.backing import sessions
from csfs.backing.descriptor import Descriptor
from csfs.backing.io import in_thread
from csfs.domain import session
from csfs.domain.session import Session
from csfs.lifecycle import clock

log = logging.getLogger(__name__)

_DYING_SECONDS = 2.0
"""How long a process that was killed may need until the kernel has closed its files."""
_LOOKS = 4
"""How often a heartbeat is looked at in the time between two beats."""


class MountedElsewhere(Exception):
    """Another mount of the instance is alive; the message says which, and what to do."""


def boot() -> str:
    """Which run of the kernel this is: what `Session.boot` says."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def hold(backing: Descriptor, instance_uuid: str) -> int | None:
    """Makes this process the only one that has an instance on a storage, as long as the descriptor is open.

    None where the filesystem has no locks. Waits where only a heartbeat can tell whether another mount is
    alive. Raises MountedElsewhere.
    """
    fd = await _lock(backing, instance_uuid)
    try:
        before = await in_thread(sessions.read_own, backing, instance_uuid)
        if before is None or before.ended or (fd is not None and before.boot == boot()):
            return fd
        await _watch(backing, before)
    except MountedElsewhere:
        if fd is not None:
            os.close(fd)
        raise
    except OSError as error:
        log.warning("whether the instance is mounted elsewhere cannot be seen: %s", error.strerror or error)
    return fd


async def refuse_mounted(backing: Descriptor, instance_uuid: str) -> None:
    """Passes if no mount of an instance is alive, and makes nothing. Raises MountedElsewhere, OSError."""
    found = await in_thread(sessions.read_own, backing, instance_uuid)
    if found is not None and not found.ended:
        fd = await hold(backing, instance_uuid)
        if fd is not None:
            os.close(fd)


async def _lock(backing: Descriptor, instance_uuid: str) -> int | None:
    """The descriptor that holds the session; None if the filesystem does not let it be held."""
    patience = clock.seconds() + _DYING_SECONDS
    while True:
        try:
            return await in_thread(sessions.hold, backing, instance_uuid)
        except sessions.Held:
            if clock.seconds() > patience:
                found = await in_thread(sessions.read_own, backing, instance_uuid)
                raise _mounted(found) from None
        except OSError as error:
            log.info("the session cannot be held: %s", error.strerror or error)
            return None
        await trio.sleep(_DYING_SECONDS / 20)


async def _watch(backing: Descriptor, before: Session) -> None:
    """Passes once the heartbeat has stood still for so long that its owner looks before it acts again."""
    interval = min(before.interval, session.LONGEST_INTERVAL)
    patience = session.SILENT_BEATS * interval
    log.warning(
        "the instance was not unmounted by %s: whether that lives is watched for %.0f s",
        before.describe(),
        patience,
    )
    end = clock.seconds() + patience
    while clock.seconds() < end:
        await trio.sleep(interval / _LOOKS)
        found = await in_thread(sessions.read_own, backing, before.instance_uuid)
        if found is None or found.ended:
            return
        if found != before:
            raise _mounted(found)


def _mounted(found: Session | None) -> MountedElsewhere:
    who = "another process" if found is None else found.describe()
    name = "the instance" if found is None else f"the instance {found.instance_name}"
    return MountedElsewhere(
        f"{name} is mounted by {who}, with a store of its own: two would own the same projects."
        " Unmount it there (csfs umount), or choose another name with --instance here"
    )
