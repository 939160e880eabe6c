"""Power cuts: an action ends at a chosen system call or store write, and nothing after that happens."""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lifecycle.world import Lab

_CALLS = ("rename", "link", "unlink", "mkdir", "write", "fsync", "utime", "fchmod", "chmod")
"""What changes the backing directory; each is one step."""


class PowerCut(BaseException):
    """From here on nothing can be done: what clears up after an error does not get to it either."""


class Fuse:
    """Lets so many steps pass and then blows."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.blown = False

    def step(self) -> None:
        if self.steps == 0:
            self.blown = True
            raise PowerCut
        self.steps -= 1


def _guarded(fuse: Fuse, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        fuse.step()
        return function(*arguments, **more)

    return call


@contextmanager
def _installed(fuse: Fuse, lab: Lab) -> Iterator[None]:
    write = lab.store.write

    async def guarded_write(work: Callable[..., Any]) -> Any:
        fuse.step()
        return await write(work)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.store, "write", guarded_write)
        for name in _CALLS:
            patch.setattr(os, name, _guarded(fuse, getattr(os, name)))
        yield


async def cut_after(steps: int, lab: Lab, action: Callable[[], Awaitable[object]]) -> bool:
    """Runs the action until the power goes; whether it was cut short."""
    fuse = Fuse(steps)
    with _installed(fuse, lab):
        try:
            await action()
        except PowerCut:
            pass
        except BaseExceptionGroup as group:
            assert group.subgroup(PowerCut) is not None
            assert fuse.blown
    return fuse.blown
