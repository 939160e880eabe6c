"""Worlds for the tests of the lifecycle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lifecycle.world import Lab, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def lab(world: World) -> Lab:
    """The first instance."""
    return world.lab("lab1")


@pytest.fixture
def other(world: World) -> Lab:
    """A second one, with a store of its own."""
    return world.lab("lab2")
