"""When a file of an archived project counts as changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain.manifest import MTIME_TOLERANCE_NS, Entry, difference

SECOND = 1_000_000_000
FILE = Entry(b"a.mrc", "file", 100, 5 * SECOND)


def test_the_same_is_no_difference() -> None:
    assert difference(FILE, FILE) == ""


@pytest.mark.parametrize("later", [1, -1, 999_999_999, -999_999_999])
def test_less_than_a_second_is_no_difference(later: int) -> None:
    assert difference(FILE, Entry(b"a.mrc", "file", 100, FILE.mtime_ns + later)) == ""


@pytest.mark.parametrize("later", [SECOND, -SECOND, 3600 * SECOND])
def test_a_second_is_a_difference(later: int) -> None:
    assert difference(FILE, Entry(b"a.mrc", "file", 100, FILE.mtime_ns + later)) == "was modified"


@given(st.integers(0, 2**62))
def test_whole_seconds_as_tar_keeps_them_are_no_difference(mtime_ns: int) -> None:
    before = Entry(b"a", "file", 1, mtime_ns)
    assert difference(before, Entry(b"a", "file", 1, mtime_ns // SECOND * SECOND)) == ""


def test_size() -> None:
    assert difference(FILE, Entry(b"a.mrc", "file", 99, FILE.mtime_ns)) == "had 100 bytes, has 99"


def test_type() -> None:
    now = Entry(b"a.mrc", "symlink", 0, FILE.mtime_ns, b"elsewhere")
    assert difference(FILE, now) == "was a file, is a symlink"
    assert difference(now, FILE) == "was a symlink, is a file"


def test_target_of_a_symlink() -> None:
    before = Entry(b"l", "symlink", 0, 0, b"there")
    assert difference(before, Entry(b"l", "symlink", 0, 0, b"elsewhere")) == "points elsewhere"
    assert difference(before, Entry(b"l", "symlink", 0, 99 * SECOND, b"there")) == ""


@pytest.mark.parametrize("kind", ["directory", "other"])
def test_times_count_for_files_alone(kind: str) -> None:
    before = Entry(b"d", kind, 0, 0)  # type: ignore[arg-type]
    assert difference(before, Entry(b"d", kind, 0, 2 * MTIME_TOLERANCE_NS)) == ""  # type: ignore[arg-type]
