"""A directory on a backing filesystem, and what else the tests of that room share."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csfs.backing.descriptor import Descriptor

Hindrance = Callable[[Path], None]
"""Makes something that is no readable regular file."""


def symlink(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(b"what the symlink points at")
    path.symlink_to(target)


def dangling_symlink(path: Path) -> None:
    path.symlink_to("nowhere")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def huge(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


HINDRANCES: list[Hindrance] = [symlink, dangling_symlink, fifo, directory, huge]


@pytest.fixture(params=HINDRANCES, ids=lambda made: made.__name__)
def hindrance(request: pytest.FixtureRequest) -> Hindrance:
    found: Hindrance = request.param
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty directory."""
    made = tmp_path / "backing"
    made.mkdir()
    return made


@pytest.fixture
def here(place: Path) -> Descriptor:
    """That directory, opened."""
    return Descriptor.root(os.fspath(place))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty filesystem of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem to fill")
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mountpoint], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small filesystem cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "--lazy", mountpoint], check=True)


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A chain of 2000 directories, too deep for any path, with a file and a symlink at the bottom."""
    top = tmp_path / "deep"
    top.mkdir()
    at = Descriptor.root(os.fspath(top))
    for level in range(2000):
        name = b"level-%d" % level
        os.mkdir(name, dir_fd=at.fd)
        at = at.child(name)
    os.close(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=at.fd))
    os.symlink(b"bottom", b"link", dir_fd=at.fd)
    yield top
    subprocess.run(["rm", "-rf", top], check=True)


def open_descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))
