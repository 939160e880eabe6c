"""Which storage an instance is on: its projects are looked for on no other."""

import logging

import msgspec

from csfs.backing import control
from csfs.backing.io import in_thread
from csfs.domain import names
from csfs.lifecycle.instance import Instance

log = logging.getLogger(__name__)


class WrongStorage(Exception):
    """The backing directory is not the storage on which the instance's projects lie."""


async def recognise(instance: Instance, *, accept: bool = False) -> None:
    """Compares the storage with the one that the store remembers, and remembers it.

    A backing directory whose filesystem is not mounted looks like an empty one: every project would be
    missing, and what is written would end up below the mount point. `accept` takes what is there.
    Raises WrongStorage, OSError.
    """
    try:
        await in_thread(control.clear, instance.backing)
    except NotADirectoryError as error:
        raise WrongStorage(
            f"what is called {names.CONTROL} in it is no directory, and csfs keeps its own things there:"
            " move it away, then mount again"
        ) from error
    found = await in_thread(control.storage, instance.backing)
    known = instance.identity.storage
    held = [record for record in instance.claims.by_number.values() if record.state != "detached"]
    if held and known and found != known and not accept:
        raise WrongStorage(
            f"the instance has {len(held)} projects on another storage than the one that lies here: is the"
            " filesystem of the backing directory mounted? If the projects were brought here without the"
            " directory .csfs beside them, mount with -o accept_storage"
        )
    if not found:
        try:
            found = await in_thread(control.name_storage, instance.backing)
        except OSError as error:
            log.warning("the storage cannot be given a name: %s", error)
        else:
            if not found:
                log.warning(
                    "the storage cannot be given a name: what is called %s/storage in it is not of csfs's"
                    " making; move it away, then mount again",
                    names.CONTROL,
                )
    if found != known:
        identity = msgspec.structs.replace(instance.identity, storage=found)
        await instance.store.write(
            lambda change: change.put_instance(msgspec.structs.replace(change.instance(), storage=found))
        )
        instance.identity = identity
