"""Temporary files: whole when they are seen, gone when they are not wanted."""

import errno
import os
import stat
from pathlib import Path

import pytest

from csfs.backing import temporary
from csfs.backing.descriptor import Descriptor
from csfs.domain import names

OWNER = (os.geteuid(), os.getegid())


def test_names_are_never_the_same(here: Descriptor) -> None:
    made = {temporary.name(here) for _ in range(1000)}
    assert len(made) == 1000
    assert all(name.startswith(names.TEMPORARY_PREFIX.encode()) for name in made)


def test_it_is_whole_and_then_gone(here: Descriptor, place: Path) -> None:
    umask = os.umask(0o077)
    try:
        with temporary.holding(here, b"content", mode=0o664, owner=OWNER) as name:
            found = place / os.fsdecode(name)
            assert found.read_bytes() == b"content"
            assert stat.S_IMODE(found.stat().st_mode) == 0o664
    finally:
        os.umask(umask)
    assert list(place.iterdir()) == []


def test_it_is_gone_after_an_error(here: Descriptor, place: Path) -> None:
    with pytest.raises(ValueError), temporary.holding(here, b"", mode=0o600, owner=OWNER):
        raise ValueError
    assert list(place.iterdir()) == []


def test_renamed_away_it_stays(here: Descriptor, place: Path) -> None:
    with temporary.holding(here, b"content", mode=0o600, owner=OWNER) as name:
        os.rename(name, b"kept", src_dir_fd=here.fd, dst_dir_fd=here.fd)
    assert [path.name for path in place.iterdir()] == ["kept"]


def test_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    directory = Descriptor.root(os.fspath(small_disk))
    with (
        pytest.raises(OSError) as caught,
        temporary.holding(directory, bytes(2 << 20), mode=0o600, owner=OWNER),
    ):
        pytest.fail("it does not fit")
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


def test_write_all_writes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little the kernel takes at a time."""
    written: list[bytes] = []

    def write(fd: int, content: memoryview) -> int:
        written.append(bytes(content[:3]))
        return len(written[-1])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        temporary.write_all(0, b"0123456789")
    assert b"".join(written) == b"0123456789"


def test_removing_what_is_gone_is_no_error(here: Descriptor) -> None:
    temporary.remove(here, b"missing")


# Left-overs of a mount that was cut short.


@pytest.fixture
def marks(here: Descriptor) -> tuple[bytes, bytes, bytes]:
    """Of an earlier and of this mount of one instance, and of another instance; `here` has the second."""
    earlier, here.mark = temporary.mark("8a5c"), temporary.mark("8a5c")
    return earlier, here.mark, temporary.mark("8a5c77")


def test_only_earlier_mounts_of_the_same_instance_have_left_something(
    here: Descriptor, place: Path, marks: tuple[bytes, bytes, bytes]
) -> None:
    mounts = []
    for mark in marks:
        here.mark = mark
        mounts.append(temporary.name(here))
        (place / os.fsdecode(mounts[-1])).touch()
    here.mark = marks[1]
    (place / "data").touch()
    assert temporary.left_over(here) == mounts[:1]


def test_without_a_mark_nothing_counts_as_left_over(here: Descriptor, place: Path) -> None:
    (place / os.fsdecode(temporary.name(here))).touch()
    (place / f"{names.TEMPORARY_PREFIX}.x").touch()
    assert temporary.left_over(here) == []


def test_the_mark_is_handed_down(here: Descriptor, place: Path) -> None:
    (place / "a/b").mkdir(parents=True)
    here.mark = temporary.mark("8a5c")
    assert here.descend(b"a/b").mark == here.mark
    with temporary.holding(here.descend(b"a/b"), b"", mode=0o600, owner=OWNER) as name:
        assert here.mark in name
        assert len(name) < 200
