"""What a test tells the calls of a daemon to do, and what it learns of them: memory that both share.

`interpose.c` is preloaded into the daemon; the layout here is that of its `struct control`.
"""

import ctypes
import enum
import mmap
import subprocess
from collections.abc import Iterable
from pathlib import Path

_SOURCE = Path(__file__).with_name("interpose.c")
_ENTRIES = 8192
_PATH_BYTES = 252
_WITHIN_BYTES = 256


class Kind(enum.IntEnum):
    """What a call does; of some there are many (write, pwritev, sendfile ...)."""

    OPEN = 1
    """Only an open that makes or truncates a file."""
    WRITE = 2
    TRUNCATE = 3
    ALLOCATE = 4
    SYNC = 5
    RENAME = 6
    LINK = 7
    UNLINK = 8
    RMDIR = 9
    MKDIR = 10
    MKNOD = 11
    SYMLINK = 12
    CHMOD = 13
    CHOWN = 14
    UTIME = 15
    XATTR = 16
    LOOK = 17
    """An open that changes nothing. Of this kind and those that follow a call is not counted, and none is
    killed at; it can only be made to fail."""
    READ = 18
    STAT = 19
    LIST = 20


READS = frozenset({Kind.LOOK, Kind.READ, Kind.STAT, Kind.LIST})
CHANGES = frozenset(Kind) - READS


class _Entry(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_uint32), ("path", ctypes.c_char * _PATH_BYTES))


class _Shared(ctypes.Structure):
    _fields_ = (
        ("armed", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("kill_at", ctypes.c_uint32),
        ("kill_after", ctypes.c_uint32),
        ("fail_kinds", ctypes.c_uint32),
        ("fail_errno", ctypes.c_uint32),
        ("fail_at", ctypes.c_uint32),
        ("fail_always", ctypes.c_uint32),
        ("matched", ctypes.c_uint32),
        ("within", ctypes.c_char * _WITHIN_BYTES),
        ("entries", _Entry * _ENTRIES),
    )


def compile_library(directory: Path) -> Path:
    """The library to preload, made in `directory`. Raises CalledProcessError, FileNotFoundError (no cc)."""
    library = directory / "interpose.so"
    words = ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(_SOURCE), "-ldl"]
    subprocess.run(words, check=True, capture_output=True, text=True)
    return library


class Control:
    """The calls of one daemon that change files. Nothing is counted before it is armed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("w+b") as opened:
            opened.truncate(ctypes.sizeof(_Shared))
            self._map = mmap.mmap(opened.fileno(), 0)
        self._shared = _Shared.from_buffer(self._map)

    def count(self) -> None:
        """From now on calls are counted, from 0."""
        self.disarm()
        self._shared.armed = 1

    def kill(self, at: int, *, after: bool) -> None:
        """Counts, and kills the daemon before or after the call of this number, the first being 1."""
        self.disarm()
        self._shared.kill_after = after
        self._shared.kill_at = at
        self._shared.armed = 1

    def fail(
        self,
        code: int,
        kinds: Iterable[Kind] = CHANGES,
        *,
        within: Path | str = "",
        at: int = 1,
        always: bool = False,
    ) -> None:
        """Counts, and fails with the errno `code` the call of number `at` among those of these kinds.

        Only calls on paths that begin with `within` are meant. With `always` all from there on fail.
        """
        self.disarm()
        self._shared.within = str(within).encode()
        self._shared.fail_kinds = sum(1 << kind for kind in set(kinds))
        self._shared.fail_at = at
        self._shared.fail_always = always
        self._shared.fail_errno = code
        self._shared.armed = 1

    def disarm(self) -> None:
        """Lets all pass uncounted; what was counted before is forgotten."""
        self._shared.armed = 0
        for name in ("count", "kill_at", "kill_after", "fail_kinds", "fail_errno", "fail_at", "matched"):
            setattr(self._shared, name, 0)

    @property
    def calls(self) -> int:
        """How many were made since it was armed."""
        return int(self._shared.count)

    @property
    def failable(self) -> int:
        """How many of them `fail` meant."""
        return int(self._shared.matched)

    def call(self, number: int) -> str:
        """What a call was, for a message: `RENAME .../CS-x/project.json`."""
        entry = self._shared.entries[(number - 1) % _ENTRIES]
        return f"{Kind(entry.kind).name} {entry.path.decode(errors='replace')}"

    def journal(self) -> list[str]:
        """All calls, in their order."""
        return [self.call(number) for number in range(1, min(self.calls, _ENTRIES) + 1)]
