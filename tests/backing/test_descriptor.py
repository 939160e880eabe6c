"""Directory descriptors: nothing is followed, nothing blocks, nothing is left open."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from csfs.backing.descriptor import Descriptor, open_file, read_dated_file, read_file
from tests.backing.conftest import Hindrance, open_descriptors


def test_it_is_the_directory(here: Descriptor, place: Path) -> None:
    found = place.stat()
    assert (here.inode, here.device) == (found.st_ino, found.st_dev)


def test_it_stays_the_directory_when_that_is_renamed(here: Descriptor, place: Path) -> None:
    (place / "a").mkdir()
    child = here.child(b"a")
    os.rename(place / "a", place / "b")
    (place / "b" / "file").write_bytes(b"x")
    assert child.names() == [b"file"]
    assert child.inode == (place / "b").stat().st_ino


def test_root_follows_symlinks_and_child_does_not(here: Descriptor, place: Path) -> None:
    (place / "a").mkdir()
    (place / "link").symlink_to("a")
    assert Descriptor.root(os.fspath(place / "link")).inode == (place / "a").stat().st_ino
    with pytest.raises(NotADirectoryError):
        here.child(b"link")


@pytest.mark.parametrize("name", ["file", "fifo"])
def test_child_is_a_directory(here: Descriptor, place: Path, name: str) -> None:
    (place / "file").write_bytes(b"")
    os.mkfifo(place / "fifo")
    with pytest.raises(NotADirectoryError):
        here.child(os.fsencode(name))
    with pytest.raises(FileNotFoundError):
        here.child(b"missing")


@pytest.mark.parametrize("path", [b"a/b/c", b"a//b/./c/", b"./a/b/c"])
def test_descend(here: Descriptor, place: Path, path: bytes) -> None:
    (place / "a" / "b" / "c").mkdir(parents=True)
    assert here.descend(path).inode == (place / "a" / "b" / "c").stat().st_ino


@pytest.mark.parametrize("path", [b"", b".", b"/", b"./."])
def test_descend_to_itself(here: Descriptor, path: bytes) -> None:
    assert here.descend(path) is here


def test_descend_follows_no_symlink(here: Descriptor, place: Path) -> None:
    (place / "a" / "b").mkdir(parents=True)
    (place / "link").symlink_to("a")
    with pytest.raises(NotADirectoryError):
        here.descend(b"link/b")
    with pytest.raises(FileNotFoundError):
        here.descend(b"a/x/b")


def test_descend_further_than_a_path_may_be_long(deep: Path) -> None:
    path = b"/".join(b"level-%d" % level for level in range(2000))
    assert len(path) > 4 * 4096
    bottom = Descriptor.root(os.fspath(deep)).descend(path)
    assert sorted(bottom.names()) == [b"bottom", b"link"]


def test_names_and_subdirectories(here: Descriptor, place: Path) -> None:
    (place / "directory").mkdir()
    (place / "link").symlink_to("directory")
    (place / "file").write_bytes(b"")
    os.mkfifo(place / "fifo")
    raw = b"\xff\xfe directory"
    os.mkdir(os.fsencode(place) + b"/" + raw)
    assert sorted(here.names()) == sorted([b"directory", b"link", b"file", b"fifo", raw])
    assert sorted(here.subdirectories()) == sorted([b"directory", raw])
    here.revalidate()
    here.sync()


def test_stat_and_exists_follow_nothing(here: Descriptor, place: Path) -> None:
    (place / "dangling").symlink_to("nowhere")
    assert stat.S_ISLNK(here.stat(b"dangling").st_mode)
    assert here.exists(b"dangling")
    assert not here.exists(b"nowhere")


def test_path_names_a_file_in_it(here: Descriptor, place: Path) -> None:
    (place / "file").write_bytes(b"content")
    assert Path(os.fsdecode(here.path(b"file"))).read_bytes() == b"content"
    assert os.stat(here.path()).st_ino == here.inode


def test_descriptors_are_closed_when_dropped(here: Descriptor, place: Path) -> None:
    (place / "a" / "b" / "c").mkdir(parents=True)
    (place / "file").write_bytes(b"x")
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("a")
    before = open_descriptors()
    kept = [here.descend(b"a/b/c") for _ in range(50)]
    assert open_descriptors() == before + 50
    del kept
    assert open_descriptors() == before
    for _ in range(20):
        here.names()
        here.subdirectories()
        here.revalidate()
        here.sync()
        read_file(here, b"file", 10)
        for wrong in (
            lambda: here.descend(b"a/b/x"),
            lambda: here.descend(b"link/b"),
            lambda: read_file(here, b"fifo", 10),
            lambda: read_file(here, b"a", 10),
            lambda: read_file(here, b"file", 0),
        ):
            with pytest.raises(OSError):
                wrong()
    assert open_descriptors() == before


def test_they_are_not_inherited(here: Descriptor, place: Path) -> None:
    (place / "file").write_bytes(b"")
    fd = open_file(here, b"file", os.O_RDONLY)
    try:
        assert not os.get_inheritable(here.fd)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 1])
def test_read_file(here: Descriptor, place: Path, size: int) -> None:
    content = os.urandom(size)
    (place / "file").write_bytes(content)
    assert read_file(here, b"file", size) == content
    os.utime(place / "file", ns=(1, 1_234_567_890_123_456_789))
    assert read_dated_file(here, b"file", size) == (content, 1_234_567_890_123_456_789)


def test_read_file_that_is_too_large(here: Descriptor, place: Path) -> None:
    (place / "file").write_bytes(b"12345")
    with pytest.raises(OSError) as caught:
        read_file(here, b"file", 4)
    assert caught.value.errno == errno.EFBIG


def test_read_file_takes_regular_files_only(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(place / "file")
    with pytest.raises(OSError) as caught:
        read_file(here, b"file", 1 << 20)
    assert caught.value.errno in (errno.ELOOP, errno.EINVAL, errno.EFBIG)


def test_read_file_of_a_socket(here: Descriptor, place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(place / "socket"))
        with pytest.raises(OSError) as caught:
            read_file(here, b"socket", 10)
    assert caught.value.errno == errno.ENXIO


def test_a_missing_file_is_told_apart(here: Descriptor) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(here, b"missing", 10)


def test_open_file_writes_to_no_fifo_and_through_no_symlink(here: Descriptor, place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "target").write_bytes(b"kept")
    (place / "link").symlink_to("target")
    with pytest.raises(OSError) as caught:
        open_file(here, b"fifo", os.O_WRONLY)
    assert caught.value.errno == errno.ENXIO
    with pytest.raises(OSError) as caught:
        open_file(here, b"link", os.O_WRONLY | os.O_TRUNC)
    assert caught.value.errno == errno.ELOOP
    assert (place / "target").read_bytes() == b"kept"


def test_open_file_creates(here: Descriptor, place: Path) -> None:
    fd = open_file(here, b"new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.close(fd)
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((place / "new").stat().st_mode) == 0o640 & ~umask
