"""Daemons that can be killed at any of their system calls."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.control import compile_library
from tests.crash.zygote import Zygote

EVERY_CALL = bool(os.environ.get("CSFS_CRASH_ALL"))
"""Whether the daemon is killed at each call in every way; some tests are content with a part by default."""


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """Where daemons come from; one for all tests."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to build the library that is preloaded")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse is not accessible")
    try:
        library = compile_library(tmp_path_factory.mktemp("interpose"))
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"interpose.c: {error.stderr}") from error
    with Zygote(library) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory outside of pytest's own: a mount that a failing test left in those could not be removed."""
    path = Path(tempfile.mkdtemp(prefix="csfs-crash-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
