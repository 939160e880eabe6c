"""What the store holds, record by record. The format of the whole is FORMAT.

Databases of the environment (each record msgpack unless said otherwise; numbers big-endian):

| database    | key                     | value |
|-------------|-------------------------|-------|
| `instance`  | `instance`              | Instance |
| `instance`  | `deed`, u64             | Deed, in the order in which they were done |
| `projects`  | project number, u32     | Project |
| `documents` | project number, path    | the document's bytes as they are served |
| `heads`     | project number, path    | DocumentHead |
| `unexported`| project number, path    | empty: the backing directory does not hold these bytes yet |
| `jobs`      | project number, `J12`   | Job |
| `manifest`  | project number, u64     | domain.manifest.Page, in the order of the walk |
| `intents`   | project number, u32     | Intent: the one action under way on it; from 2**31 on, a rescue |
| `temporary` | a unique word           | the path of a directory in which a temporary file may lie |
"""

from typing import Literal

import msgspec

FORMAT = 1


class Instance(msgspec.Struct, kw_only=True, frozen=True):
    """The owner of this store."""

    format: int = FORMAT
    uuid: str
    name: str
    created: str
    """ISO 8601, UTC."""
    next_project: int = 1
    """The next P-number to give; never goes back."""
    storage: str = ""
    """The UUID of the storage on which its projects lie; empty if that has none, or there are containers."""
    containers: dict[str, str] = {}
    """The UUID of the storage of each container (its bytes as `os.fsdecode` has them).

    With any, the first name of every path in this store is that of a container; without, paths begin in the
    one backing directory.
    """

    def storage_of(self, container: str) -> str:
        """Empty where it has none, or is not known; `container` is empty for the one at the root."""
        return self.containers.get(container, "") if container else self.storage

    def on_storage(self, container: str, storage: str) -> "Instance":
        """The same, with the storage of one container noted."""
        if not container:
            return msgspec.structs.replace(self, storage=storage, containers={})
        return msgspec.structs.replace(self, storage="", containers={**self.containers, container: storage})


class Project(msgspec.Struct, kw_only=True, frozen=True):
    """A project of the instance, attached, archived or detached."""

    number: int
    uuid: str
    title: str
    state: Literal["attached", "archived", "detached"]
    path: bytes
    """Of its directory, relative to the mount point; the last known one when away."""
    inode: int
    """Of its directory."""
    born: int = 0
    """When its directory was made, nanoseconds; 0 where the filesystem does not tell."""
    lock_id: str
    lock_content: bytes
    """The bytes of its cs.lock, on the backing directory and on the mount."""
    epoch: int
    since: str
    """When it took this state; ISO 8601, UTC."""

    @property
    def uid(self) -> str:
        return f"P{self.number}"


class Deed(msgspec.Struct, kw_only=True, frozen=True):
    """A lifecycle action that was done: who did it, when, by what, and what came of it."""

    at: str
    """ISO 8601, UTC."""
    action: str
    """`create`, `attach`, `detach`, `archive`, `unarchive`, `move`, `rescue`, `let go` or `forget`."""
    number: int
    """Of the project; 0 where this instance has given it none."""
    title: str
    path: str
    """Of its directory afterwards, relative to the backing directory."""
    came_from: str = ""
    """Where a move took it from."""
    host: str
    uid: int | None = None
    """Of the user; None if csfs itself did it."""
    pid: int = 0
    program: str = ""
    outcome: str = "done"
    """`done`, or what happened besides."""


DEEDS_KEPT = 10_000
"""Of the actions that were done, the last so many."""

FIRST_RESCUE = 1 << 31
"""Intents of rescues are numbered from here on: no project has such a number."""


class DocumentHead(msgspec.Struct, kw_only=True, frozen=True):
    """What is known of a document without reading it."""

    size: int
    """Bytes."""
    mtime_ns: int


class Job(msgspec.Struct, kw_only=True, frozen=True):
    """A job of a project, in the words of its document."""

    uid: str
    type: str
    title: str
    status: str
    parents: tuple[str, ...] = ()
    workspaces: tuple[str, ...] = ()
    attach_status: Literal["complete", "failed"] = "complete"
    """`failed`: its document could not be read at attach; its file is as it was."""


class Intent(msgspec.Struct, kw_only=True, frozen=True):
    """An action on store and backing directory, written before its first step.

    `before` is the record as it was (None: the project is new), `after` as it will be. With both
    at hand any step can be repeated or taken back. Of a rescue, `after` describes the lock that is broken:
    the project becomes nobody's, and no record is kept.
    """

    action: Literal["create", "attach", "detach", "archive", "unarchive", "move", "rescue"]
    before: Project | None
    after: Project
