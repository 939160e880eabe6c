"""What the processes of a race for a lock do; a module of its own, for each of them imports it."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, TypeAlias

from csfs.backing import lockfile
from csfs.backing.descriptor import Descriptor

RACERS = 8
ROUNDS = 50
OWNER = (os.geteuid(), os.getegid())
PATIENCE_SECONDS = 60

Racer: TypeAlias = Callable[[str, int, Barrier], Any]


def run(racer: Racer, place: str) -> list[Any]:
    """What each of the racers returns; they begin together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(RACERS)
    ends, processes = [], []
    for number in range(RACERS):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_send, args=(there, racer, place, number, barrier))
        process.start()
        there.close()
        ends.append(here)
        processes.append(process)
    try:
        return [end.recv() for end in ends if end.poll(PATIENCE_SECONDS)]
    finally:
        for end, process in zip(ends, processes, strict=True):
            end.close()
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


def _send(there: Connection, racer: Racer, place: str, number: int, barrier: Barrier) -> None:
    there.send(racer(place, number, barrier))
    there.close()


def content_of(number: int) -> bytes:
    """The lock of one racer: none is a part of another."""
    return b"racer %d\n" % number * (number + 1)


def take(place: str, number: int, barrier: Barrier) -> list[bool]:
    """Round by round, whether this racer got the lock of that round's directory."""
    root = Descriptor.root(place)
    won = []
    for turn in range(ROUNDS):
        directory = root.child(b"%d" % turn)
        barrier.wait(PATIENCE_SECONDS)
        try:
            lockfile.take(directory, content_of(number), owner=OWNER)
        except lockfile.Taken:
            won.append(False)
        else:
            won.append(True)
    return won


def release(place: str, number: int, barrier: Barrier) -> list[bool]:
    """Round by round, whether it was this racer who released the lock that all think theirs."""
    root = Descriptor.root(place)
    won = []
    for turn in range(ROUNDS):
        directory = root.child(b"%d" % turn)
        barrier.wait(PATIENCE_SECONDS)
        try:
            lockfile.release(directory, content_of(0))
        except lockfile.NotOurs:
            won.append(False)
        else:
            won.append(True)
    return won


def take_turns(place: str, number: int, barrier: Barrier) -> int:
    """Takes, changes and releases the one lock again and again; how often it was not alone."""
    directory = Descriptor.root(place)
    intruders = done = 0
    first, second = content_of(number), content_of(number) + b"changed"
    barrier.wait(PATIENCE_SECONDS)
    while done < ROUNDS // 5:
        try:
            lockfile.take(directory, first, owner=OWNER)
        except lockfile.Taken:
            continue
        done += 1
        try:
            os.close(os.open(b"held", os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=directory.fd))
            lockfile.replace(directory, first, second, owner=OWNER)
            intruders += lockfile.content_of(directory) != second
            os.unlink(b"held", dir_fd=directory.fd)
            lockfile.release(directory, second)
        except (OSError, lockfile.NotOurs):
            intruders += 1
    return intruders


def read(place: str, number: int, barrier: Barrier) -> list[bytes]:
    """Reads while the first racer replaces: what was seen that is neither old nor new."""
    directory = Descriptor.root(place)
    first, second = content_of(1), content_of(2)
    wrong = []
    barrier.wait(PATIENCE_SECONDS)
    for turn in range(ROUNDS * 4):
        if number == 0:
            old, new = (first, second) if turn % 2 == 0 else (second, first)
            lockfile.replace(directory, old, new, owner=OWNER)
        else:
            found = lockfile.read(directory, network=turn % 2 == 0)
            content = getattr(found, "content", b"none")
            if content not in (first, second):
                wrong.append(content)
    return wrong
