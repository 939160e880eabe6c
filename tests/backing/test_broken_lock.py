"""Breaking another's lock: one does it, the bytes stay, and a lock that is not the expected one too."""

import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from csfs.backing import broken_lock, lockfile
from csfs.backing.broken_lock import Reservation
from csfs.backing.descriptor import Descriptor
from tests.backing import race

OWNER = (os.geteuid(), os.getegid())
KEPT = "cs.lock.rescued-2026-05-15T100000.000Z"
FIRST, SECOND = Reservation("u1", "lab1"), Reservation("u2", "lab2")


def reserve(here: Descriptor, own: Reservation) -> Reservation | None:
    return broken_lock.reserve(here, "id", own, owner=OWNER)


def test_one_reserves_at_a_time(here: Descriptor, place: Path) -> None:
    assert reserve(here, FIRST) is None
    assert reserve(here, FIRST) is None
    assert reserve(here, SECOND) == FIRST
    broken_lock.release(here, "id", FIRST)
    assert reserve(here, SECOND) is None
    broken_lock.release(here, "id", FIRST)
    assert reserve(here, FIRST) == SECOND
    broken_lock.release(here, "id", SECOND)
    broken_lock.release(here, "id", SECOND)
    assert os.listdir(place) == []


def test_a_reservation_is_of_one_lock(here: Descriptor) -> None:
    assert reserve(here, FIRST) is None
    assert broken_lock.reserve(here, "other", SECOND, owner=OWNER) is None


def test_the_bytes_stay(here: Descriptor, place: Path) -> None:
    lockfile.take(here, b"theirs", owner=OWNER)
    broken_lock.break_lock(here, b"theirs", KEPT)
    assert os.listdir(place) == [KEPT]
    assert (place / KEPT).read_bytes() == b"theirs"
    assert broken_lock.was_broken(here, b"theirs", KEPT)


def test_another_lock_is_not_broken(here: Descriptor, place: Path) -> None:
    lockfile.take(here, b"new", owner=OWNER)
    with pytest.raises(lockfile.NotOurs):
        broken_lock.break_lock(here, b"theirs", KEPT)
    assert os.listdir(place) == ["cs.lock"]


def test_one_that_was_taken_at_the_last_moment_is_put_back(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lockfile.take(here, b"theirs", owner=OWNER)
    rename = os.rename

    def later(source: str | bytes, target: str | bytes, **more: int) -> None:
        (place / "cs.lock").unlink()
        (place / "cs.lock").write_bytes(b"new")
        rename(source, target, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", later)
        with pytest.raises(lockfile.NotOurs):
            broken_lock.break_lock(here, b"theirs", KEPT)
    assert os.listdir(place) == ["cs.lock"]
    assert (place / "cs.lock").read_bytes() == b"new"


def test_nothing_that_was_kept_is_overwritten(here: Descriptor, place: Path) -> None:
    (place / KEPT).write_bytes(b"kept before")
    lockfile.take(here, b"theirs", owner=OWNER)
    with pytest.raises(FileExistsError):
        broken_lock.break_lock(here, b"theirs", KEPT)
    assert (place / KEPT).read_bytes() == b"kept before"
    assert (place / "cs.lock").read_bytes() == b"theirs"


def breaking(place: str, number: int, barrier: Barrier) -> list[int]:
    """The rounds in which this one broke the lock, and took the directory itself."""
    here = Descriptor.root(place)
    own, won = Reservation(str(number), "lab"), []
    for turn in range(race.ROUNDS):
        expected = f"lock {turn}".encode()
        if number == 0:
            lockfile.take(here, expected, owner=OWNER)
        barrier.wait()
        if broken_lock.reserve(here, str(turn), own, owner=OWNER) is None:
            try:
                broken_lock.break_lock(here, expected, f"{KEPT}{turn}")
                lockfile.take(here, b"mine %d" % number, owner=OWNER)
                won.append(turn)
            except lockfile.NotOurs:
                pass
            broken_lock.release(here, str(turn), own)
        barrier.wait()
        if won and won[-1] == turn:
            assert lockfile.content_of(here) == b"mine %d" % number
            lockfile.release(here, b"mine %d" % number)
        barrier.wait()
    return won


def test_of_several_one_breaks_it_and_keeps_what_it_takes(tmp_path: Path) -> None:
    wins = race.run(breaking, str(tmp_path))
    assert sorted(turn for each in wins for turn in each) == list(range(race.ROUNDS))
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".csfs-tmp")]
