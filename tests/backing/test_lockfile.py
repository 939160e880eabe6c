"""cs.lock on the backing directory: one winner, never half written, never taken from another."""

import errno
import os
import stat
from pathlib import Path

import msgspec
import pytest

from csfs.backing import lockfile, temporary
from csfs.backing.descriptor import Descriptor
from csfs.domain.lock import Lock, Opaque
from tests.backing import race
from tests.backing.conftest import Hindrance, open_descriptors

OWNER = (os.geteuid(), os.getegid())
OURS, THEIRS, NEWER = b"ours\n", b"theirs\n", b"ours, newer\n"
LOCK = Lock(
    lock_id="8a5c",
    instance_uuid="11f0",
    instance_name="lab1",
    project_uuid="77aa",
    project_uid="P12",
    state="attached",
    epoch=3,
    inode=4711,
    path="group/CS-x",
    host="node1",
    since="2026-01-01T00:00:00.000Z",
)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def put(place: Path, content: bytes) -> None:
    (place / "cs.lock").write_bytes(content)


# Reading.


@pytest.mark.parametrize("network", [False, True])
def test_no_lock(here: Descriptor, network: bool) -> None:
    assert lockfile.read(here, network=network) is None
    assert lockfile.content_of(here) is None
    assert lockfile.signature(here) is None


@pytest.mark.parametrize("network", [False, True])
@pytest.mark.parametrize("content", [b"", b"3f1c\n", b"\x00\xff"])
def test_bytes_of_others_are_opaque(here: Descriptor, place: Path, content: bytes, network: bool) -> None:
    put(place, content)
    assert lockfile.read(here, network=network) == Opaque(content)
    assert lockfile.content_of(here) == content


@pytest.mark.parametrize("network", [False, True])
def test_our_own_lock_is_read(here: Descriptor, place: Path, network: bool) -> None:
    put(place, LOCK.encode())
    assert lockfile.read(here, network=network) == LOCK


@pytest.mark.parametrize("network", [False, True])
def test_what_is_no_file_is_opaque_and_does_not_block(
    here: Descriptor, place: Path, hindrance: Hindrance, network: bool
) -> None:
    hindrance(place / "cs.lock")
    before = open_descriptors()
    assert lockfile.read(here, network=network) == Opaque(b"")
    assert lockfile.content_of(here) is None
    assert lockfile.signature(here) is not None
    assert open_descriptors() == before


def test_a_symlink_to_a_lock_is_no_lock(here: Descriptor, place: Path) -> None:
    (place / "real").write_bytes(LOCK.encode())
    (place / "cs.lock").symlink_to("real")
    assert lockfile.read(here, network=False) == Opaque(b"")


def test_a_lock_that_cannot_be_read_is_an_error(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, OURS)

    def fail(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(lockfile, "read_file", fail)
    with pytest.raises(OSError, match="broken"):
        lockfile.read(here, network=False)
    with pytest.raises(OSError, match="broken"):
        lockfile.release(here, OURS)
    assert (place / "cs.lock").read_bytes() == OURS
    assert names(place) == ["cs.lock"]


@pytest.mark.parametrize("times", [1, 4])
def test_a_lock_that_is_being_replaced_is_read_again(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    put(place, OURS)
    read_file = lockfile.read_file
    stale = [OSError(errno.ESTALE, "stale")] * times

    def sometimes(directory: Descriptor, name: bytes, limit: int) -> bytes:
        if stale:
            raise stale.pop()
        return read_file(directory, name, limit)

    monkeypatch.setattr(lockfile, "read_file", sometimes)
    assert lockfile.read(here, network=True) == Opaque(OURS)


def test_a_name_that_a_client_still_believes_missing_is_looked_for_twice(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, OURS)
    read_file = lockfile.read_file
    missing = [FileNotFoundError(errno.ENOENT, "not yet")]

    def sometimes(directory: Descriptor, name: bytes, limit: int) -> bytes:
        if missing:
            raise missing.pop()
        return read_file(directory, name, limit)

    monkeypatch.setattr(lockfile, "read_file", sometimes)
    assert lockfile.read(here, network=True) == Opaque(OURS)


def test_one_that_is_always_stale_is_an_error(here: Descriptor, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*arguments: object) -> bytes:
        raise OSError(errno.ESTALE, "stale")

    monkeypatch.setattr(lockfile, "read_file", stale)
    with pytest.raises(OSError) as caught:
        lockfile.read(here, network=True)
    assert caught.value.errno == errno.ESTALE


def test_the_signature_changes_with_the_lock(here: Descriptor, place: Path) -> None:
    lockfile.take(here, OURS, owner=OWNER)
    first = lockfile.signature(here)
    assert first == lockfile.signature(here)
    lockfile.replace(here, OURS, NEWER, owner=OWNER)
    second = lockfile.signature(here)
    assert None not in (first, second)
    assert first != second


# Taking.


def test_take(here: Descriptor, place: Path) -> None:
    lockfile.take(here, OURS, owner=OWNER)
    found = (place / "cs.lock").stat()
    assert (place / "cs.lock").read_bytes() == OURS
    assert stat.S_IMODE(found.st_mode) == 0o444
    assert (found.st_uid, found.st_gid) == OWNER
    assert found.st_nlink == 1
    assert names(place) == ["cs.lock"]


def test_take_what_is_taken(here: Descriptor, place: Path) -> None:
    put(place, THEIRS)
    with pytest.raises(lockfile.Taken):
        lockfile.take(here, OURS, owner=OWNER)
    assert (place / "cs.lock").read_bytes() == THEIRS
    assert names(place) == ["cs.lock"]


def test_take_where_something_else_is_in_the_way(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(place / "cs.lock")
    before = (place / "cs.lock").lstat()
    with pytest.raises(lockfile.Taken):
        lockfile.take(here, OURS, owner=OWNER)
    assert (place / "cs.lock").lstat().st_ino == before.st_ino
    assert not any(name.startswith(".csfs") for name in names(place))


def test_take_in_a_directory_that_is_gone(here: Descriptor, place: Path) -> None:
    place.rmdir()
    with pytest.raises(FileNotFoundError):
        lockfile.take(here, OURS, owner=OWNER)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_lock_belongs_to_the_owner_of_the_directory(here: Descriptor, place: Path) -> None:
    lockfile.take(here, OURS, owner=(4711, 4712))
    assert ((place / "cs.lock").stat().st_uid, (place / "cs.lock").stat().st_gid) == (4711, 4712)


def test_take_on_a_full_disk_takes_nothing(small_disk: Path) -> None:
    directory = Descriptor.root(os.fspath(small_disk))
    with pytest.raises(OSError) as caught:
        lockfile.take(directory, bytes(2 << 20), owner=OWNER)
    assert caught.value.errno == errno.ENOSPC
    assert names(small_disk) == []


# Replacing.


def test_replace(here: Descriptor, place: Path) -> None:
    lockfile.take(here, OURS, owner=OWNER)
    lockfile.replace(here, OURS, NEWER, owner=OWNER)
    assert (place / "cs.lock").read_bytes() == NEWER
    assert stat.S_IMODE((place / "cs.lock").stat().st_mode) == 0o444
    assert names(place) == ["cs.lock"]


def test_replace_what_is_not_ours(here: Descriptor, place: Path) -> None:
    put(place, THEIRS)
    with pytest.raises(lockfile.NotOurs):
        lockfile.replace(here, OURS, NEWER, owner=OWNER)
    assert (place / "cs.lock").read_bytes() == THEIRS


def test_replace_where_there_is_none(here: Descriptor, place: Path) -> None:
    with pytest.raises(lockfile.NotOurs):
        lockfile.replace(here, OURS, NEWER, owner=OWNER)
    assert names(place) == []


def test_replace_something_else(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(place / "cs.lock")
    before = (place / "cs.lock").lstat()
    with pytest.raises(lockfile.NotOurs):
        lockfile.replace(here, OURS, NEWER, owner=OWNER)
    assert (place / "cs.lock").lstat().st_ino == before.st_ino


# Releasing.


def test_release(here: Descriptor, place: Path) -> None:
    lockfile.take(here, OURS, owner=OWNER)
    lockfile.release(here, OURS)
    assert names(place) == []
    with pytest.raises(lockfile.NotOurs):
        lockfile.release(here, OURS)


def test_release_of_a_lock_that_is_not_ours_leaves_it(here: Descriptor, place: Path) -> None:
    put(place, THEIRS)
    os.utime(place / "cs.lock", ns=(5, 5))
    before = (place / "cs.lock").stat()
    with pytest.raises(lockfile.NotOurs):
        lockfile.release(here, OURS)
    after = (place / "cs.lock").stat()
    assert (place / "cs.lock").read_bytes() == THEIRS
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (before.st_ino, 5, 1)
    assert names(place) == ["cs.lock"]


def test_release_of_something_else_leaves_it(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(place / "cs.lock")
    before, there = (place / "cs.lock").lstat(), names(place)
    with pytest.raises(lockfile.NotOurs):
        lockfile.release(here, OURS)
    after = (place / "cs.lock").lstat()
    assert (after.st_ino, after.st_mode, after.st_size) == (before.st_ino, before.st_mode, before.st_size)
    assert names(place) == there


def test_release_does_not_bring_a_lock_back_over_a_new_one(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third instance takes the directory while another's lock is being looked at."""
    put(place, THEIRS)
    content_of = lockfile.content_of

    def look(directory: Descriptor, name: bytes = b"cs.lock") -> bytes | None:
        put(place, b"a third one\n")
        return content_of(directory, name)

    monkeypatch.setattr(lockfile, "content_of", look)
    with pytest.raises(lockfile.NotOurs):
        lockfile.release(here, OURS)
    assert (place / "cs.lock").read_bytes() == b"a third one\n"
    assert names(place) == ["cs.lock"]


# Many at once.


def test_of_many_that_take_one_wins(place: Path) -> None:
    for turn in range(race.ROUNDS):
        (place / str(turn)).mkdir()
    results = race.run(race.take, os.fspath(place))
    assert len(results) == race.RACERS
    for turn in range(race.ROUNDS):
        winners = [number for number in range(race.RACERS) if results[number][turn]]
        assert len(winners) == 1
        assert (place / str(turn) / "cs.lock").read_bytes() == race.content_of(winners[0])
        assert names(place / str(turn)) == ["cs.lock"]


def test_of_many_that_release_one_wins(place: Path) -> None:
    for turn in range(race.ROUNDS):
        (place / str(turn)).mkdir()
        put(place / str(turn), race.content_of(0))
    results = race.run(race.release, os.fspath(place))
    assert len(results) == race.RACERS
    for turn in range(race.ROUNDS):
        assert [result[turn] for result in results].count(True) == 1
        assert names(place / str(turn)) == []


def test_the_holder_is_alone(place: Path) -> None:
    assert race.run(race.take_turns, os.fspath(place)) == [0] * race.RACERS
    assert names(place) == []


def test_readers_see_the_old_lock_or_the_new_one(place: Path) -> None:
    put(place, race.content_of(1))
    assert race.run(race.read, os.fspath(place)) == [[]] * race.RACERS


def test_a_lock_that_another_takes_while_ours_is_written_is_not_replaced(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon was stopped in the middle of it, for so long that the project was rescued."""
    lockfile.take(here, b"ours", owner=OWNER)
    fsync = os.fsync

    def slow(fd: int) -> None:
        (place / "cs.lock").unlink()
        (place / "cs.lock").write_bytes(b"theirs")
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", slow)
        with pytest.raises(lockfile.NotOurs):
            lockfile.replace(here, b"ours", b"newer", owner=OWNER)
    assert (place / "cs.lock").read_bytes() == b"theirs"
    assert os.listdir(place) == ["cs.lock"]


# Clearing up after a release that was cut short.


def cut_short(here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that ends when the lock is set aside; the next mount has another mark."""

    class Cut(BaseException):
        pass

    def cut(*_: object) -> None:
        raise Cut

    here.mark = temporary.mark(LOCK.instance_uuid)
    with monkeypatch.context() as patch:
        patch.setattr(temporary, "remove", cut)
        patch.setattr(lockfile, "put_back", cut)
        with pytest.raises(Cut):
            lockfile.release(here, OURS)
    assert "cs.lock" not in names(place)
    assert len(names(place)) == 1
    here.mark = temporary.mark(LOCK.instance_uuid)


def test_our_lock_that_was_set_aside_is_removed(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, OURS)
    cut_short(here, place, monkeypatch)
    lockfile.clear(here, LOCK.instance_uuid, {OURS})
    assert names(place) == []


def test_a_lock_that_names_us_is_ours(here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(place, LOCK.encode())
    cut_short(here, place, monkeypatch)
    lockfile.clear(here, LOCK.instance_uuid, {OURS})
    assert names(place) == []


@pytest.mark.parametrize("content", [THEIRS, b"", msgspec.structs.replace(LOCK, instance_uuid="22").encode()])
def test_the_lock_of_another_gets_its_name_again(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    put(place, content)
    cut_short(here, place, monkeypatch)
    lockfile.clear(here, LOCK.instance_uuid, {OURS})
    assert names(place) == ["cs.lock"]
    assert lockfile.content_of(here) == content


def test_it_does_not_take_the_place_of_a_later_one(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(place, THEIRS)
    cut_short(here, place, monkeypatch)
    put(place, NEWER)
    lockfile.clear(here, LOCK.instance_uuid, {OURS})
    assert names(place) == ["cs.lock"]
    assert lockfile.content_of(here) == NEWER


def test_a_lock_that_was_not_put_in_place_is_removed(here: Descriptor, place: Path) -> None:
    here.mark = temporary.mark(LOCK.instance_uuid)
    (place / os.fsdecode(temporary.name(here))).write_bytes(THEIRS)
    here.mark = temporary.mark(LOCK.instance_uuid)
    lockfile.clear(here, LOCK.instance_uuid, frozenset())
    assert names(place) == []
