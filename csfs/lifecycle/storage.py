"""Which storages an instance is on: its projects are looked for on no others."""

import logging

from csfs.backing import control
from csfs.backing.backings import Backing, Backings
from csfs.backing.io import in_thread
from csfs.domain import names
from csfs.lifecycle.instance import Instance
from csfs.store import records
from csfs.store.store import Change, Store

log = logging.getLogger(__name__)


class WrongStorage(Exception):
    """A backing directory is not the storage on which the instance's projects lie."""


class WrongContainers(Exception):
    """The containers are not those that the store knows; the message says what to do."""


def refuse_other_containers(store: Store, backings: Backings) -> None:
    """Passes unless the paths in the store would lead elsewhere. Raises WrongContainers.

    They begin with the name of a container, or with none: a store goes from the one to the other only as
    long as it holds no project.
    """
    identity, known, pending = store.read(lambda view: (view.instance(), view.projects(), view.intents()))
    if backings.is_one != bool(identity.containers) or not (known or pending):
        return
    many = f"the instance {identity.name} has {len(known)} projects"
    if backings.is_one:
        told = ", ".join(sorted(identity.containers))
        raise WrongContainers(
            f"{many} in containers ({told}): mount a file that names them (csfs mount FILE MOUNTPOINT)"
        )
    raise WrongContainers(
        f"{many} in one backing directory, and none in a container: mount that directory itself;"
        " to have containers, detach the projects here and attach them in an instance with another name"
    )


async def recognise_all(instance: Instance, *, accept: bool = False) -> None:
    """Compares each storage with the one that the store remembers. One that is another one is away.

    Raises WrongContainers where a container has another name now.
    """
    refuse_other_containers(instance.store, instance.backings)
    for backing in instance.backings.present:
        try:
            await recognise(instance, backing, accept=accept)
        except WrongStorage as error:
            instance.put_away(backing, str(error))
        except OSError as error:
            instance.put_away(backing, f"it cannot be read: {error.strerror or error}")
    for container in sorted(instance.identity.containers):
        count = len(_records(instance, container))
        if count and container not in {each.name for each in instance.backings}:
            log.warning("the container %s, with %d projects, is not in the configuration", container, count)


async def recognise(instance: Instance, backing: Backing, *, accept: bool = False) -> None:
    """Compares a storage with the one that the store remembers, and remembers it.

    A backing directory whose filesystem is not mounted looks like an empty one: every project would be
    missing, and what is written would end up below the mount point. `accept` takes what is there.
    Raises WrongStorage, WrongContainers, OSError.
    """
    try:
        await in_thread(control.clear, backing.descriptor)
    except NotADirectoryError as error:
        raise WrongStorage(
            f"what is called {names.CONTROL} in it is no directory, and csfs keeps its own things there:"
            " move it away, then mount again"
        ) from error
    found = await in_thread(control.storage, backing.descriptor)
    known = instance.identity.storage_of(backing.name)
    held = [record for record in _records(instance, backing.name) if record.state != "detached"]
    if held and known and found != known and not accept:
        raise WrongStorage(
            f"the instance has {len(held)} projects on another storage than the one that lies here: is the"
            " filesystem of the backing directory mounted? If the projects were brought here without the"
            " directory .csfs beside them, mount with -o accept_storage"
        )
    former = _refuse_other_name(instance, backing, found)
    if not found:
        told = f"the storage of the container {backing.name}" if backing.name else "the storage"
        try:
            found = await in_thread(control.name_storage, backing.descriptor)
        except OSError as error:
            log.warning("%s cannot be given a name: %s", told, error)
        else:
            if not found:
                log.warning(
                    "%s cannot be given a name: what is called %s/storage in it is not of csfs's"
                    " making; move it away, then mount again",
                    told,
                    names.CONTROL,
                )
    if former or found != known or backing.name not in (*instance.identity.containers, ""):

        def remember(change: Change) -> records.Instance:
            noted = change.instance().on_storage(backing.name, found)
            for name in former:
                noted.containers.pop(name, None)
            change.put_instance(noted)
            return noted

        instance.identity = await instance.store.write(remember)


def _refuse_other_name(instance: Instance, backing: Backing, found: str) -> list[str]:
    """Other names of this storage in the store, which have no projects. Raises WrongContainers."""
    others = []
    for name, storage in instance.identity.containers.items():
        if not found or storage != found or name == backing.name:
            continue
        if any(each.name == name and not each.away for each in instance.backings):
            raise WrongContainers(
                f"the storage of the container {backing.name} ({backing.path}) says that it is that of"
                f" {name}: if it is a copy, remove {names.CONTROL} at its top; otherwise name it once"
            )
        count = len(_records(instance, name))
        if count:
            raise WrongContainers(
                f"the container {backing.name} ({backing.path}) is the storage that the instance knows as"
                f" {name}, with {count} projects: call it {name} in the configuration"
            )
        others.append(name)
    return others


def _records(instance: Instance, container: str) -> list[records.Project]:
    """The projects in a container, in whatever state; empty for the backing directory at the root."""
    own = container.encode(errors="surrogateescape")
    known = instance.claims.by_number.values()
    return [record for record in known if instance.backings.container(record.path) == own]


async def note(store: Store, backings: Backings) -> None:
    """Notes the storages of a store that is rebuilt. Raises OSError."""
    for backing in backings:
        found = await in_thread(control.storage, backing.descriptor)

        def work(change: Change, container: str = backing.name, found: str = found) -> None:
            change.put_instance(change.instance().on_storage(container, found))

        await store.write(work)
