"""Writing documents to the backing directory: whole or not at all, durable, in place of the old one."""

import os
import stat

from csfs.backing import temporary
from csfs.backing.descriptor import Descriptor

_NEW_MODE = 0o644


def export(
    directory: Descriptor, name: bytes, content: bytes, *, mtime_ns: int, owner: tuple[int, int]
) -> None:
    """Makes the file `name` in `directory` hold `content`, with this mtime.

    A temporary file is written, synced and renamed over it, and the directory is synced, so at any
    instant, also after power loss, the file is the old document or the new one. Mode and owner stay
    what they were; a new file gets 0644 and `owner` (uid, gid). Raises OSError.
    """
    mode = _NEW_MODE
    try:
        before = directory.stat(name)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(before.st_mode):
            mode = stat.S_IMODE(before.st_mode)
            owner = (before.st_uid, before.st_gid)
    with temporary.holding(directory, content, mode=mode, owner=owner) as written:
        os.utime(written, ns=(mtime_ns, mtime_ns), dir_fd=directory.fd, follow_symlinks=False)
        os.rename(written, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    directory.sync()
