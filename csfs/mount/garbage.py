"""Keeps Python's cycle collector from holding up requests.

Left to itself it goes through all objects whenever their number has grown by a quarter: with a million
inodes a pause of a third of a second, and half of the work of a first listing. What the tree holds is freed
by its reference counts. So the young generations are collected automatically, and everything once an hour.
"""

import gc

import trio

_YOUNG, _MIDDLE = 2_000, 25
"""New objects between two collections of them, and how many of those to one of the last but one."""
_NEVER = 1_000_000_000
_SECONDS = 3600.0


def tune() -> None:
    """Leaves the old generation to `collect`."""
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)


async def collect() -> None:
    """Collects everything, every hour: a background task of the mount."""
    while True:
        await trio.sleep(_SECONDS)
        gc.collect()
