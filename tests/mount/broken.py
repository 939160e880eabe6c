"""A mount of which one handler has an error in it.

`python -m tests.mount.broken BACKING MOUNTPOINT STATE [LOG]`, LOG being `text` or `json`. Looking up a name
that contains `broken` fails as no handler should, one that contains `failing` as on a storage that fails, as
long as there is a file `failing` in STATE.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Any

from csfs.cli import daemon_log
from csfs.mount import daemon
from csfs.mount.nodes.directory import Directory
from csfs.mount.options import MountOptions


def main() -> None:
    backing, mountpoint, state, *log = sys.argv[1:]
    if log:
        daemon_log.to_stderr(*log)
    lookup = Directory.lookup

    async def failing(self: Directory, name: bytes, context: Any) -> Any:
        if b"broken" in name:
            raise ZeroDivisionError("a mistake in a handler")
        if b"failing" in name and os.path.exists(f"{state}/failing"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return await lookup(self, name, context)

    Directory.lookup = failing  # type: ignore[method-assign]
    daemon.serve(MountOptions(backing, mountpoint, "lab1", Path(state)), lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
