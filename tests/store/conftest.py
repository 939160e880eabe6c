"""Stores in temporary directories, and a filesystem that is soon full."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.store.store import Store


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lab1"


@pytest.fixture
def store(directory: Path) -> Iterator[Store]:
    opened = Store.open(directory, "lab1")
    yield opened
    opened.close()


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """An empty filesystem of a few MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem to fill")
    mountpoint = tmp_path / "small"
    mountpoint.mkdir()
    if request.param == "tmpfs":
        _run_or_skip("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mountpoint)
    else:
        image = tmp_path / "image"
        with open(image, "wb") as file:
            file.truncate(6 << 20)
        _run_or_skip("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", image)
        _run_or_skip("mount", "-o", "loop", image, mountpoint)
    try:
        yield mountpoint
    finally:
        subprocess.run(["umount", "--lazy", mountpoint], check=True)


def _run_or_skip(*command: str | Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {command[0]} here")
    if done.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")
