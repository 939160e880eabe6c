"""A project directory as a check sees it: what the store has of it, and what lies there."""

from dataclasses import dataclass

from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor
from csfs.domain.state import Verdict
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Sight
from csfs.store import records
from csfs.store.store import Store


@dataclass(frozen=True)
class Seen:
    """One look at one directory, with a read transaction of its own."""

    instance: Instance
    directory: Descriptor
    path: bytes
    sight: Sight
    verdict: Verdict
    record: records.Project | None

    @property
    def uid(self) -> str:
        return self.record.uid if self.record is not None else ""


def look(store: Store, backings: Backings, directory: Descriptor, path: bytes) -> Seen:
    """Looks at a directory on the backing filesystem, as a mount does. Raises OSError."""
    instance = Instance(store, backings, "")
    sight = instance.look(directory)
    verdict, claim = instance.judge(sight, directory.inode, path)
    return Seen(instance, directory, path, sight, verdict, claim)
