"""Open files and directories."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyfuse3 import RequestContext

from csfs.domain import refusals
from csfs.lifecycle.project import Project
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.nodes.document import Document
    from csfs.mount.nodes.lock import PendingLock


@dataclass(eq=False, slots=True)
class FileHandle:
    """An open file; `context` is that of its open, for requests that carry none."""

    inode: Inode
    context: RequestContext
    writable: bool


@dataclass(eq=False, slots=True)
class DataHandle(FileHandle):
    """A file open on the backing filesystem."""

    fd: int
    project: Project | None = field(default=None, kw_only=True)
    """The project it lies in: what is written through the daemon is written only while that permits it."""
    passthrough: bool = field(default=False, kw_only=True)
    """The kernel reads and writes it without asking."""
    privileged: bool = field(default=False, kw_only=True)
    """The first write through it ends privileges of the file: see `privileges`."""


@dataclass(eq=False, slots=True)
class PendingLockHandle(DataHandle):
    """A new cs.lock that has not been decided on yet."""

    pending: "PendingLock"


@dataclass(eq=False, slots=True)
class ContentHandle(FileHandle):
    """A file that csfs serves: readers keep the content they opened, whatever happens to it."""

    content: bytearray
    append: bool = False
    dirty: bool = False
    document: "Document | None" = None
    """Takes the content when it was changed; None for what cannot be written."""


@dataclass(eq=False, slots=True)
class DirectoryHandle:
    """A directory that is being listed: the names it had when that began."""

    inode: Inode
    context: RequestContext
    names: list[bytes] | None = None
    read_at: float = 0.0
    """When, by `clock.seconds`."""
    swept: list[tuple[int, int]] = field(default_factory=list)
    """What the sweep guard counted at its opening."""


class Handles:
    """All that is open, by the number that the kernel knows it by."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        """Files that may be open on the backing filesystem at the same time."""
        self._data = 0
        """How many are: each takes a descriptor of the daemon's."""
        self.files: dict[int, FileHandle] = {}
        self.directories: dict[int, DirectoryHandle] = {}
        self._last = 0

    def refuse_more(self) -> None:
        """Passes if another file may be opened on the backing filesystem. Raises Refusal ENFILE."""
        if self._data >= self._limit:
            raise refusals.too_many_files(f"{self._data} files")

    def add_file(self, handle: FileHandle) -> int:
        self._last += 1
        self.files[self._last] = handle
        if isinstance(handle, DataHandle):
            self._data += 1
            if handle.inode.open_fds is None:
                handle.inode.open_fds = []
            handle.inode.open_fds.append(handle.fd)
        return self._last

    def remove_file(self, number: int) -> FileHandle:
        handle = self.files.pop(number)
        if isinstance(handle, DataHandle):
            self._data -= 1
            if handle.inode.open_fds is not None:
                handle.inode.open_fds.remove(handle.fd)
                if not handle.inode.open_fds:
                    handle.inode.open_fds = None
        return handle

    def add_directory(self, handle: DirectoryHandle) -> int:
        self._last += 1
        self.directories[self._last] = handle
        return self._last

    def writers(self) -> list[FileHandle]:
        """The handles through which files may be changed."""
        return [
            handle
            for handle in self.files.values()
            if handle.writable and not isinstance(handle, PendingLockHandle)
        ]
