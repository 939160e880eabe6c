"""Where blocking calls run: inline on a local backing filesystem, in threads on a network one."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import trio

T = TypeVar("T")


class Io(Protocol):
    """One of the two."""

    async def __call__(self, function: Callable[..., T], *arguments: Any) -> T: ...


async def in_thread(function: Callable[..., T], *arguments: Any) -> T:
    """Runs what may take long wherever it is (fsync, a walk, an export) in a worker thread."""
    return await trio.to_thread.run_sync(function, *arguments)


async def inline(function: Callable[..., T], *arguments: Any) -> T:
    """Runs a call that takes microseconds on a local filesystem where it stands."""
    return function(*arguments)
