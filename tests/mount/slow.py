"""A slow filesystem: csfs itself over plain directories, whose every answer comes late, or not at all.

`python -m tests.mount.slow BACKING MOUNTPOINT STATE SECONDS`. A request for a name that contains `stuck`
waits until there is a file `go` in STATE.
"""

import functools
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import trio

from csfs.domain import names

# What is a project to the mount above is plain to this one.
names.LOCK, names.PROJECT_DOCUMENT, names.CONTROL = "slow.lock", "slow.json", ".slow"
names.PROJECT_DOCUMENTS = (names.PROJECT_DOCUMENT, "slow-workspaces.json")
names.TEMPORARY_PREFIX = ".slow-tmp."

from csfs.mount import attributes, daemon  # noqa: E402
from csfs.mount.operations import Operations  # noqa: E402
from csfs.mount.options import MountOptions  # noqa: E402

DELAYED = ["lookup", "getattr", "setattr", "create", "open", "mkdir", "unlink", "rename", "opendir"]


def main() -> None:
    backing, mountpoint, state, seconds = sys.argv[1:]
    attributes.SECONDS = attributes.ABSENT.entry_timeout = 0
    for name in DELAYED:
        setattr(Operations, name, late(getattr(Operations, name), float(seconds), Path(state) / "go"))
    options = MountOptions(backing, mountpoint, "slow", Path(state), frozenset({"nopassthrough"}))
    daemon.serve(options, lambda: print("ready", flush=True))


Handler = Callable[..., Coroutine[Any, Any, Any]]


def late(handler: Handler, seconds: float, go: Path) -> Handler:
    @functools.wraps(handler)
    async def answer(self: Operations, *arguments: Any) -> Any:
        await trio.sleep(seconds)
        if any(isinstance(each, bytes) and b"stuck" in each for each in arguments):
            while not go.exists():
                await trio.sleep(0.01)
        return await handler(self, *arguments)

    return answer


if __name__ == "__main__":
    main()
