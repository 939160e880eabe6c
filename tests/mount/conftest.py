"""Mounts for the tests: one instance, or two over the same backing directory."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csfs.cli.sample.project import build
from tests.mount.lab import Lab

LabMaker = Callable[..., Lab]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory that other users may enter: pytest's own are closed to them."""
    path = Path(tempfile.mkdtemp(prefix="csfs-test-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[LabMaker]:
    """Makes labs that are taken down at the end, the last first, also if the test fails."""
    labs: list[Lab] = []

    def make(name: str = "lab1", *, mounted: bool = True, as_user: int | None = None, **more: object) -> Lab:
        backing = tmp_path / "backing"
        for directory in (backing, tmp_path / name, tmp_path / "state"):
            directory.mkdir(exist_ok=True)
            if as_user is not None:
                os.chown(directory, as_user, as_user)
        lab = Lab(name, backing, tmp_path / name, tmp_path / "state", as_user=as_user, **more)  # type: ignore[arg-type]
        labs.append(lab)
        return lab.mount() if mounted else lab

    yield make
    problems = []
    for lab in reversed(labs):
        try:
            lab.take_down()
        except AssertionError as problem:
            problems.append(str(problem))
    for lab in labs:
        lab.check_traces()
    assert not problems, problems
    for lab in labs:
        shutil.rmtree(lab.backing, ignore_errors=True)


@pytest.fixture
def lab(make_lab: LabMaker) -> Lab:
    """One instance."""
    return make_lab()


@pytest.fixture
def labs(make_lab: LabMaker) -> tuple[Lab, Lab]:
    """Two instances over the same backing directory."""
    return make_lab("lab1"), make_lab("lab2")


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A realistic, detached project CS-a in the backing directory; to be asked for before a lab."""
    directory = tmp_path / "backing" / "CS-a"
    directory.parent.mkdir(exist_ok=True)
    build(directory)
    return directory
