"""Runs the rows: all filesystems in turn, round after round, so that what disturbs one disturbs all."""

import multiprocessing
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

from benchmark.filesystems import Filesystem, mounted
from benchmark.rows import Row
from benchmark.trees import Trees

_PATIENCE_SECONDS = 600


class Measured(NamedTuple):
    """One run of one row; `rate` in the row's unit."""

    row: str
    unit: str
    filesystem: str
    round: int
    rate: float


def variants(row: Row) -> Iterator[tuple[str, int]]:
    """The names of a row, and its number of clients."""
    for clients in row.clients:
        yield (row.name if clients == 1 else f"{row.name}, {clients} clients"), clients


def run(
    rows: list[Row],
    filesystems: list[Filesystem],
    trees: Trees,
    place: Path,
    rounds: int,
    say: Callable[[str], None],
) -> Iterator[Measured]:
    """What was measured, as it comes. A filesystem that fails at a row is told, and left out of it.

    Each round begins with another one: what the one before leaves in the backing filesystem hits all.
    """
    mountpoint = place / "mnt"
    mountpoint.mkdir(exist_ok=True)
    for turn in range(rounds):
        for row in rows:
            for name, clients in variants(row):
                first = turn % len(filesystems)
                for filesystem in filesystems[first:] + filesystems[:first]:
                    try:
                        rate = _once(row, filesystem, trees, mountpoint, clients)
                    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                        say(f"{filesystem.name} failed at {name}: {error}")
                        continue
                    yield Measured(name, row.unit, filesystem.name, turn, rate)


def _once(row: Row, filesystem: Filesystem, trees: Trees, mountpoint: Path, clients: int) -> float:
    with mounted(filesystem, trees.backing, mountpoint):
        root = mountpoint / trees.project
        if not row.cold:
            row.run(root, trees, (0, 1))
            row.undo(root, trees)
        os.sync()
        if row.cold:
            drop_caches()
        try:
            if clients == 1:
                began = time.perf_counter()
                done = row.run(root, trees, (0, 1))
                return done / (time.perf_counter() - began)
            return _together(row, root, trees, clients)
        finally:
            row.undo(root, trees)


def drop_caches() -> None:
    """Needs root."""
    Path("/proc/sys/vm/drop_caches").write_text("3")


def _together(row: Row, root: Path, trees: Trees, clients: int) -> float:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(clients + 1)
    results = context.SimpleQueue()

    def work(number: int, barrier: Barrier) -> None:
        barrier.wait(_PATIENCE_SECONDS)
        try:
            results.put(row.run(root, trees, (number, clients)))
        except OSError as error:
            results.put(str(error))

    processes = [context.Process(target=work, args=(number, barrier)) for number in range(clients)]
    for process in processes:
        process.start()
    barrier.wait(_PATIENCE_SECONDS)
    began = time.perf_counter()
    said = [results.get() for _ in processes]
    took = time.perf_counter() - began
    for process in processes:
        process.join()
    failed = [each for each in said if isinstance(each, str)]
    if failed:
        raise RuntimeError(failed[0])
    return sum(said) / took
