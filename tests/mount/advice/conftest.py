"""Two instances over one backing directory, for all cases of a module: each has projects of its own."""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from tests.mount.advice.asking import Asking
from tests.mount.lab import Lab

NASTY = 'it\'s "so" $HOME `id`;x'
"""In the name of each project: what is pasted has to stand for it, and for nothing else."""


@dataclass
class Site:
    one: Lab
    two: Lab
    numbers: Iterator[int]

    def directory(self) -> str:
        """The name of an empty directory."""
        name = f"CS-{next(self.numbers)} {NASTY}"
        (self.one / name).mkdir()
        return name

    def project(self, *jobs: str) -> str:
        """The name of a project that is attached to the first instance, with these jobs and a file."""
        name = self.directory()
        (self.one / name / "cs.lock").touch()
        for job in jobs:
            (self.one / name / job).mkdir()
        (self.one / name / "file").write_text("x")
        return name


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory with what a module makes, and `bin/csfs` in it."""
    path = Path(tempfile.mkdtemp(prefix="csfs-test-")).resolve()
    path.chmod(0o755)
    (path / "bin").mkdir()
    program = path / "bin/csfs"
    root = shlex.quote(str(Path(__file__).parents[3]))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {shlex.quote(sys.executable)} -m csfs "$@"\n')
    program.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    backing = place / "backing"
    labs = []
    for name in ("lab1", "lab2"):
        for directory in (backing, place / name, place / "state"):
            directory.mkdir(exist_ok=True)
        labs.append(Lab(name, backing, place / name, place / "state"))
    try:
        for lab in labs:
            lab.mount()
        yield Site(*labs, count(1))
    finally:
        for lab in labs:
            lab.take_down()
    for lab in labs:
        lab.check_traces()


@pytest.fixture
def ask(place: Path) -> Iterator[Asking]:
    """Fails at the end if a command was advised that nobody has followed."""
    asking = Asking(place / "bin")
    yield asking
    assert asking.followed == asking.advised


@pytest.fixture
def filesystem() -> Iterator["Filesystems"]:
    """Mounts small filesystems."""
    if os.geteuid() != 0:
        pytest.skip("mounts filesystems of its own: needs root")
    made = Filesystems()
    yield made
    for path in reversed(made.mounted):
        subprocess.run(["umount", "-l", path], check=True)


class Filesystems:
    def __init__(self) -> None:
        self.mounted: list[Path] = []

    def mount(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", path], check=True)
        self.mounted.append(path)
