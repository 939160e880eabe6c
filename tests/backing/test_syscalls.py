"""System calls that Python lacks."""

import errno
import os
from pathlib import Path

import pytest

from csfs.backing.descriptor import Descriptor
from csfs.backing.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, network_filesystem, renameat2


def test_rename_without_replacing(here: Descriptor, place: Path) -> None:
    (place / "a").write_bytes(b"a")
    renameat2(here.fd, b"a", here.fd, b"b", RENAME_NOREPLACE)
    assert (place / "b").read_bytes() == b"a"
    (place / "a").write_bytes(b"new")
    with pytest.raises(OSError) as caught:
        renameat2(here.fd, b"a", here.fd, b"b", RENAME_NOREPLACE)
    assert caught.value.errno == errno.EEXIST
    assert (place / "b").read_bytes() == b"a"


def test_exchange(here: Descriptor, place: Path) -> None:
    (place / "a").mkdir()
    (place / "b").write_bytes(b"b")
    renameat2(here.fd, b"a", here.fd, b"b", RENAME_EXCHANGE)
    assert (place / "b").is_dir()
    assert (place / "a").read_bytes() == b"b"


def test_between_directories(here: Descriptor, place: Path) -> None:
    (place / "one").mkdir()
    (place / "two").mkdir()
    one, two, name = here.child(b"one"), here.child(b"two"), b"\xff\n"
    os.mkdir(name, dir_fd=one.fd)
    renameat2(one.fd, name, two.fd, name, 0)
    assert two.names() == [name]


def test_errors_have_their_errno(here: Descriptor) -> None:
    with pytest.raises(FileNotFoundError):
        renameat2(here.fd, b"missing", here.fd, b"b", 0)
    with pytest.raises(OSError) as caught:
        renameat2(-1, b"a", -1, b"b", 0)
    assert caught.value.errno == errno.EBADF


def test_a_local_filesystem_is_told_apart() -> None:
    fd = os.open("/proc", os.O_PATH)
    try:
        assert network_filesystem(fd) is None
    finally:
        os.close(fd)


def test_of_no_descriptor_no_filesystem_is_known() -> None:
    with pytest.raises(OSError) as caught:
        network_filesystem(-1)
    assert caught.value.errno == errno.EBADF
