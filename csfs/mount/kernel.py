"""FUSE passthrough: reads and writes of data files go from the kernel to the backing file directly.

The C module is optional. It has to be loaded into the global scope before pyfuse3 is, so this module is
the first that the package imports. Without it, or without what it needs (Linux 6.9, CAP_SYS_ADMIN, a
backing filesystem that is not stacked), data goes through the daemon: the same, only slower.
"""

import errno
import logging
import os
import sys
from types import ModuleType

log = logging.getLogger(__name__)

NO_FLUSH = 1 << 62
"""In a file handle that is returned to pyfuse3: the kernel need not tell of each close(2)."""
_LISTING_IS_GOOD = 1 << 61
_KEEPS_LISTING = 1 << 60
_ID_SHIFT = 32


def _load() -> ModuleType | None:
    flags = sys.getdlopenflags()
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
    try:
        from csfs.mount import _kernel
    except ImportError:
        return None
    finally:
        sys.setdlopenflags(flags)
    return _kernel


_module = _load()


class Passthrough:
    """Backing ids of this mount, one per inode that is open. The kernel opens the file anew for each open."""

    def __init__(self, *, wanted: bool) -> None:
        self.off = "" if wanted else "switched off with -o nopassthrough"
        """Why it is used nowhere on this mount, as far as that is known; see `off_in`."""
        if _module is None:
            self.off = self.off or "the C module was not built"
        else:
            _module.want_passthrough(wanted)
        self.opens = 0
        """How many there were."""
        self._extends = False
        self._begun = False
        self._refused: dict[bytes, str] = {}
        """By container, why the kernel does not do it there."""
        self._ids: dict[int, tuple[int, int]] = {}
        """Inode number -> backing id, opens that use it."""

    @property
    def extends(self) -> bool:
        """Whether what an open answers may say more than libfuse knows of: see `handle`."""
        if not self._begun:
            self._begin()
        return self._extends

    def _begin(self) -> None:
        """To be called when requests are answered: only then it is known what the kernel agreed to."""
        self._begun = True
        self._extends = _module is not None and _module.in_use()
        if _module is None or self.off:
            return
        if not self._extends:
            self.off = "pyfuse3 was loaded before csfs"
        elif not _module.negotiated():
            self.off = "this kernel does not offer it (Linux 6.9 does)"

    def off_in(self, container: bytes) -> str:
        """Why it is not used in a container; empty if it is."""
        if not self._begun:
            self._begin()
        return self.off or self._refused.get(container, "")

    def open(self, inode: int, fd: int, *, container: bytes, cached: bool) -> int:
        """The backing id for an open of an inode in a container, 0 if it goes through the daemon.

        `cached`: the inode is open through the daemon; the kernel allows no mixture.
        """
        if not self.extends:
            return 0
        known = self._ids.get(inode)
        if known is not None:
            self._ids[inode] = (known[0], known[1] + 1)
            self.opens += 1
            return known[0]
        if self.off_in(container) or cached or _module is None:
            return 0
        try:
            id: int = _module.register(fd)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ELOOP):
                self._refused[container] = f"the kernel refuses it here: {error.strerror}"
                log.info("passthrough is not used: %s", self._refused[container])
            return 0
        self._ids[inode] = (id, 1)
        self.opens += 1
        return id

    def release(self, inode: int) -> None:
        """Ends one open that uses the inode's backing id."""
        assert _module is not None, "without the module nothing is opened so"
        id, opens = self._ids[inode]
        if opens > 1:
            self._ids[inode] = (id, opens - 1)
            return
        del self._ids[inode]
        _module.unregister(id)


def asked_about() -> int:
    """The inode that the request is about which has just come; 0 if that is not known.

    pyfuse3 does not pass it on for statfs(2). To be called before a handler waits for anything.
    """
    found: int = 0 if _module is None else _module.node()
    return found


def handle(number: int, *, backing_id: int = 0, flush: bool = True) -> int:
    """What a handler returns as its file handle, for the C module to take apart."""
    return number | backing_id << _ID_SHIFT | (0 if flush else NO_FLUSH)


def directory_handle(number: int, *, listing_is_good: bool) -> int:
    """The same for a directory: the kernel keeps its listing, and may use the one it has if that is good."""
    return number | _KEEPS_LISTING | (_LISTING_IS_GOOD if listing_is_good else 0)
