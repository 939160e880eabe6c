"""How much room there is: what statfs(2) answers."""

import os

from pyfuse3 import StatvfsData

from csfs.backing.backings import Backing, Backings

_BLOCKS = ("f_blocks", "f_bfree", "f_bavail")
_FILES = ("f_files", "f_ffree", "f_favail")
_UNIT = 4096


async def of(backings: Backings, backing: Backing) -> StatvfsData:
    """The room on the filesystem of a backing directory; for what is csfs's own that of all together.

    Raises OSError, ENODEV for one that is away.
    """
    result = StatvfsData()
    if backing in list(backings):
        found = await backing.io(os.fstatvfs, backing.descriptor.fd)
        for field in ("f_bsize", "f_frsize", "f_namemax", *_BLOCKS, *_FILES):
            setattr(result, field, getattr(found, field))
        return result
    one_each = {each.filesystem: each for each in backings.present}
    parts = [await each.io(os.fstatvfs, each.descriptor.fd) for each in one_each.values()]
    result.f_bsize = result.f_frsize = _UNIT
    result.f_namemax = min((part.f_namemax for part in parts), default=255)
    for field in _BLOCKS:
        setattr(result, field, sum(getattr(part, field) * part.f_frsize // _UNIT for part in parts))
    for field in _FILES:
        setattr(result, field, sum(getattr(part, field) for part in parts))
    return result
