"""Renames between two directories: of files, over documents, and to a new cs.lock."""

import errno
import os
import stat
from typing import TYPE_CHECKING

import pyfuse3
from pyfuse3 import RequestContext

from csfs.backing.descriptor import Pin, read_file
from csfs.backing.export import Export, export
from csfs.backing.syscalls import renameat2
from csfs.domain import document, lock, names, refusals
from csfs.lifecycle import leftovers
from csfs.lifecycle.held_lock import holding
from csfs.lifecycle.project import Project
from csfs.mount.nodes.content import ContentFile
from csfs.mount.nodes.document import Document
from csfs.mount.nodes.lock import claim_directory, is_copy

if TYPE_CHECKING:
    from csfs.mount.nodes.base import Node
    from csfs.mount.nodes.directory import Directory

_LOCK = names.LOCK.encode()


async def rename(
    source: "Directory", old: bytes, target: "Directory", new: bytes, flags: int, context: RequestContext
) -> None:
    """Renames what lies under `old` in `source` to `new` in `target`.

    Raises Refusal EROFS, EXDEV across the boundary of a project, EPERM for what keeps its place, EINVAL
    over a document that it would make invalid; OSError.
    """
    source.refuse_change()
    target.refuse_change()
    target.refuse_name(new)
    refuse_across(source, target)
    source.refuse_departure(old, context)
    refuse_boundary(source.project, target.project)
    leaving, replaced = source.special(old), target.special(new)
    if flags & pyfuse3.RENAME_EXCHANGE:
        target.refuse_departure(new, context)
        if isinstance(leaving, ContentFile) or isinstance(replaced, ContentFile):
            raise refusals.document_stays(os.fsdecode(old))
        await rename_files(source, old, target, new, flags)
    elif isinstance(leaving, Document):
        await _leave_copy(leaving, target, new, flags)
    elif isinstance(replaced, Document):
        await _replace_document(source, old, replaced, target, new, flags)
    elif new == _LOCK and target.takes_lock():
        await _become_lock(source, old, target, flags, context)
    else:
        await rename_files(source, old, target, new, flags)
        await target.received(new)


def refuse_across(one: "Node", other: "Node") -> None:
    """Passes if both lie in one container; otherwise EXDEV, whatever filesystems lie below."""
    if one.inode.backing is not other.inode.backing:
        raise refusals.across_containers()


def refuse_boundary(one: Project | None, other: Project | None) -> None:
    """Passes unless the boundary of a held project lies between two places; otherwise EXDEV."""
    if one is not other and any(p is not None and not p.is_free for p in (one, other)):
        raise refusals.boundary()


async def _leave_copy(leaving: Document, target: "Directory", new: bytes, flags: int) -> None:
    """Editors rename a file to a backup before they write it anew: the document itself stays.

    What is found under the new name is a copy. Raises Refusal EPERM where that is another document.
    """
    if isinstance(target.special(new), ContentFile):
        raise refusals.document_stays(os.fsdecode(leaving.name))
    directory = target.descriptor
    if flags & pyfuse3.RENAME_NOREPLACE and directory.exists(new):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    found = await leaving.getattr()
    due = Export(directory, new, leaving.read(), found.st_mtime_ns, (found.st_uid, found.st_gid))
    instance = leaving.mount.instance
    async with leaving.held.exporting, leftovers.noted(instance, directory, target.inode.path()):
        await holding(instance, leaving.held, lambda confirm: export([due], confirm))


async def _replace_document(
    source: "Directory", old: bytes, replaced: Document, target: "Directory", new: bytes, flags: int
) -> None:
    """Makes a file the new version of a document: validated, stored, exported; then it is gone."""
    if flags & pyfuse3.RENAME_NOREPLACE:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    content = await source.io(read_file, source.descriptor, old, document.MAX_BYTES)
    await replaced.edit(content)
    await _consume(source, old, target, new)


async def _become_lock(
    source: "Directory", old: bytes, target: "Directory", flags: int, context: RequestContext
) -> None:
    """Makes a file the cs.lock of a directory that nobody owns: it came with a copy, or it is a claim."""
    content = await source.io(read_file, source.descriptor, old, lock.MAX_BYTES)
    if is_copy(target, content):
        await rename_files(source, old, target, _LOCK, flags)
        target.mount.restorers.restored(target.inode.id, context.pid)
        return
    await claim_directory(target, content)
    await _consume(source, old, target, _LOCK)


async def _consume(source: "Directory", old: bytes, target: "Directory", new: bytes) -> None:
    """Removes a file whose content csfs has taken over; the kernel finds that under the new name."""
    mount, directory = source.mount, source.descriptor
    inode = mount.tree.known(await source.io(directory.stat, old))
    if inode is not None and inode.pin is None:
        inode.pin = Pin(directory, old)
    await source.remove(old, os.unlink)
    if inode is not None:
        inode.removed = False
        mount.tree.place(inode, target.inode, new)


async def rename_files(source: "Directory", old: bytes, target: "Directory", new: bytes, flags: int) -> None:
    """The rename on the backing directory, and what the tree has to know of it. Raises OSError."""
    at, to = source.descriptor, target.descriptor

    def work() -> tuple[os.stat_result, tuple[os.stat_result, Pin | None] | None]:
        moved = at.stat(old)
        try:
            replaced = target.leaving(to, new)
        except FileNotFoundError:
            replaced = None
        if flags:
            renameat2(at.fd, old, to.fd, new, flags)
        else:
            os.rename(old, new, src_dir_fd=at.fd, dst_dir_fd=to.fd)
        return moved, replaced

    moved, replaced = await source.io(work)
    _place(source, old, target, new, moved, replaced, exchange=bool(flags & pyfuse3.RENAME_EXCHANGE))


def _place(
    source: "Directory",
    old: bytes,
    target: "Directory",
    new: bytes,
    moved: os.stat_result,
    leaving: tuple[os.stat_result, Pin | None] | None,
    *,
    exchange: bool,
) -> None:
    tree = source.mount.tree
    replaced, pin = leaving or (None, None)
    inode = tree.known(moved)
    other = tree.known(replaced) if replaced is not None else None
    if other is inode and other is not None:
        return
    if not exchange:
        tree.unlinked(target.inode, new, other, pin)
    elif other is not None:
        tree.moved(other, target.inode, new, source.inode, old)
    if inode is not None:
        tree.moved(inode, source.inode, old, target.inode, new)
    source.touched(old)
    target.touched(new)
    if stat.S_ISDIR(moved.st_mode) or (replaced is not None and stat.S_ISDIR(replaced.st_mode)):
        tree.epoch += 1
