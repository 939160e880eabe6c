"""Writing documents to the backing directory: whole or not at all, durable, in place of the old one."""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from csfs.backing import temporary
from csfs.backing.descriptor import Descriptor
from csfs.backing.syscalls import syncfs

_NEW_MODE = 0o644
_EXPORT = b".export"
"""Ends the names of the temporary files that are made here."""
_MANY = 16
"""From this number on, syncing the filesystem twice costs less than syncing each file."""


@dataclass(frozen=True)
class Export:
    """A document for the file `name` in `directory`; the mtime in nanoseconds.

    `owner` (uid, gid) is for a new file; one that is there keeps its owner and mode.
    """

    directory: Descriptor
    name: bytes
    content: bytes
    mtime_ns: int
    owner: tuple[int, int]


def export(due: Sequence[Export], confirm: Callable[[], None]) -> None:
    """Makes each file hold its document.

    A temporary file is written, synced and renamed over it, and the directory is synced, so at any
    instant, also after power loss, the file is the old document or the new one. Many are synced
    together, all of them before the first is renamed. `confirm` is called as the last thing before that,
    for the writing may have taken long; what it raises leaves every file as it was. Raises OSError; some
    may be in place then.
    """
    many = len(due) >= _MANY
    with ExitStack() as stack:
        written = [stack.enter_context(_written(each, sync=not many)) for each in due]
        if many:
            syncfs(_readable(stack, due[0].directory))
        confirm()
        for each, name in zip(due, written, strict=True):
            at = each.directory.fd
            os.utime(name, ns=(each.mtime_ns, each.mtime_ns), dir_fd=at, follow_symlinks=False)
            os.rename(name, each.name, src_dir_fd=at, dst_dir_fd=at)
            if not many:
                each.directory.sync()
        if many:
            syncfs(_readable(stack, due[0].directory))


def _readable(stack: ExitStack, directory: Descriptor) -> int:
    """A descriptor that syncfs(2) takes: an O_PATH one it does not."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fd)
    stack.callback(os.close, fd)
    return fd


def _written(each: Export, *, sync: bool) -> temporary.Holding:
    mode, owner = _NEW_MODE, each.owner
    try:
        before = each.directory.stat(each.name)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(before.st_mode):
            mode = stat.S_IMODE(before.st_mode)
            owner = (before.st_uid, before.st_gid)
    return temporary.holding(each.directory, each.content, mode=mode, owner=owner, sync=sync, ending=_EXPORT)


def clear_failed(directory: Descriptor) -> None:
    """Removes what an export into `directory` left that failed, and could not even do that. Raises OSError.

    No other export into it may be under way.
    """
    temporary.remove_own(directory, _EXPORT)
