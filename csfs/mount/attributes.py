"""Attributes as the kernel wants them."""

import os
import stat

from pyfuse3 import EntryAttributes

from csfs.mount.tree import Inode

SECONDS = 1.0
"""How long the kernel may believe an entry and its attributes without asking again."""


def _absent() -> EntryAttributes:
    entry = EntryAttributes()
    entry.st_ino = 0
    entry.entry_timeout = SECONDS
    return entry


ABSENT = _absent()
"""The answer to a lookup of a name under which there is nothing: that is believed as long."""


def of_file(found: os.stat_result, inode: Inode) -> EntryAttributes:
    """The attributes of a file on the backing filesystem."""
    entry = EntryAttributes()
    entry.st_ino = inode.id
    entry.generation = inode.generation
    entry.st_mode = found.st_mode
    entry.st_nlink = found.st_nlink
    entry.st_uid = found.st_uid
    entry.st_gid = found.st_gid
    entry.st_rdev = found.st_rdev
    entry.st_size = found.st_size
    entry.st_blocks = found.st_blocks
    entry.st_blksize = found.st_blksize
    entry.st_atime_ns = found.st_atime_ns
    entry.st_mtime_ns = found.st_mtime_ns
    entry.st_ctime_ns = found.st_ctime_ns
    entry.entry_timeout = SECONDS
    entry.attr_timeout = SECONDS
    return entry


def of_content(inode: Inode, *, size: int, mtime_ns: int, mode: int, uid: int, gid: int) -> EntryAttributes:
    """The attributes of a file that csfs serves itself: never believed for longer than one request."""
    entry = EntryAttributes()
    entry.st_ino = inode.id
    entry.generation = inode.generation
    entry.st_mode = stat.S_IFREG | mode
    entry.st_nlink = 1
    entry.st_uid = uid
    entry.st_gid = gid
    entry.st_size = size
    entry.st_blocks = (size + 511) // 512
    entry.st_blksize = 4096
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = mtime_ns
    entry.entry_timeout = 0
    entry.attr_timeout = 0
    return entry
