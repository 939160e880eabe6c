"""flock(2), fcntl(2) locks and those of open file descriptions, between processes."""

import fcntl
import os
import struct

from tests.mount.posix.cases import case
from tests.mount.posix.observation import Observation, in_child, outcome, put

SH, EX, UN, NB = fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN, fcntl.LOCK_NB
_OFD_GETLK, _OFD_SETLK = 36, 37
_FLOCK = "hhqqixxxx"


def _elsewhere(how: int, path: str = "f") -> object:
    """Whether another process gets it."""
    return in_child(lambda: outcome(fcntl.flock, os.open(path, os.O_RDWR), how | NB))


@case
def flock_between_processes() -> Observation:
    put("f")
    fd = os.open("f", os.O_RDWR)
    found: Observation = {"shared": outcome(fcntl.flock, fd, SH | NB)}
    found["others, while shared"] = (_elsewhere(SH), _elsewhere(EX))
    found["exclusive"] = outcome(fcntl.flock, fd, EX | NB)
    found["others, while exclusive"] = (_elsewhere(SH), _elsewhere(EX))
    copy, again = os.dup(fd), os.open("f", os.O_RDONLY)
    found["another descriptor"] = outcome(fcntl.flock, again, SH | NB)
    os.close(fd)
    found["while a copy is open"] = _elsewhere(EX)
    found["unlock by the copy"] = (outcome(fcntl.flock, copy, UN), _elsewhere(EX))
    fcntl.flock(copy, EX)
    os.close(copy)
    found["released at close"] = _elsewhere(EX)
    directory = os.open(".", os.O_RDONLY)
    found["of a directory"] = (outcome(fcntl.flock, directory, EX | NB), outcome(fcntl.flock, directory, UN))
    return found


def _lockf_elsewhere(how: int, length: int = 0, start: int = 0) -> object:
    return in_child(lambda: outcome(fcntl.lockf, os.open("f", os.O_RDWR), how | NB, length, start))


@case
def fcntl_locks_between_processes() -> Observation:
    put("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    found: Observation = {"lock": outcome(fcntl.lockf, fd, EX | NB, 10, 20)}
    found["within"] = _lockf_elsewhere(EX, 1, 25)
    found["overlapping"] = _lockf_elsewhere(SH, 10, 15)
    found["before"] = _lockf_elsewhere(EX, 20, 0)
    found["after"] = _lockf_elsewhere(EX, 0, 30)

    def conflicting() -> tuple[int, ...]:
        other = os.open("f", os.O_RDWR)
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, whence, start, length, pid = struct.unpack(_FLOCK, fcntl.fcntl(other, fcntl.F_GETLK, asked))
        return kind, whence, start, length, pid == os.getppid()

    found["F_GETLK"] = in_child(conflicting)
    found["split"] = (outcome(fcntl.lockf, fd, UN, 2, 24), _lockf_elsewhere(EX, 2, 24))
    found["still"] = (_lockf_elsewhere(EX, 2, 22), _lockf_elsewhere(EX, 2, 26))
    found["of a reader"] = outcome(fcntl.lockf, os.open("f", os.O_RDONLY), EX | NB)
    os.close(os.open("f", os.O_RDONLY))
    found["any close releases all"] = _lockf_elsewhere(EX)
    return found


@case
def locks_of_open_file_descriptions() -> Observation:
    put("f", b"x" * 100)
    one, two = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)

    def lock(fd: int, kind: int, start: int, length: int) -> object:
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)
        return outcome(lambda: fcntl.fcntl(fd, _OFD_SETLK, asked) and None)

    found: Observation = {"lock": lock(one, fcntl.F_WRLCK, 0, 10)}
    found["the other"] = (lock(two, fcntl.F_WRLCK, 5, 10), lock(two, fcntl.F_WRLCK, 10, 10))
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    found["asked"] = struct.unpack(_FLOCK, fcntl.fcntl(two, _OFD_GETLK, asked))
    os.close(os.open("f", os.O_RDONLY))
    found["a close of another"] = lock(two, fcntl.F_WRLCK, 5, 2)
    os.close(one)
    found["released at close"] = lock(two, fcntl.F_WRLCK, 0, 0)
    return found


@case
def locks_of_removed_and_renamed_files() -> Observation:
    put("f")
    fd = os.open("f", os.O_RDWR)
    fcntl.flock(fd, EX)
    os.rename("f", "g")
    found: Observation = {"renamed": _elsewhere(EX, "g")}
    put("f")
    found["a new one"] = _elsewhere(EX)
    os.unlink("g")
    found["removed"] = (outcome(fcntl.flock, fd, SH | NB), outcome(fcntl.lockf, fd, EX | NB))
    return found


@case
def a_lock_ends_with_its_process() -> Observation:
    put("f")

    def take() -> object:
        fd = os.open("f", os.O_RDWR)
        return outcome(fcntl.flock, fd, EX | NB), outcome(fcntl.lockf, fd, EX | NB)

    found: Observation = {"taken": in_child(take)}
    found["afterwards"] = (_elsewhere(EX), _lockf_elsewhere(EX))
    return found
