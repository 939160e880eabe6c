"""The collector does not go through all inodes while they grow in number."""

import gc
from collections.abc import Iterator

import pytest

from csfs.backing.backings import ROOT, Backing
from csfs.mount import garbage
from csfs.mount.tree import Inode


@pytest.fixture
def tuned() -> Iterator[None]:
    before = gc.get_threshold()
    garbage.tune()
    yield
    gc.set_threshold(*before)


def test_no_collection_of_everything_while_inodes_are_made(tuned: None) -> None:
    before = gc.get_stats()
    backing = Backing(ROOT, "", None)
    root = Inode(1, 1, None, b"", is_directory=True, backing=backing)
    known = {
        id: Inode(id, id, root, b"%d" % id, is_directory=False, backing=backing) for id in range(2, 300_000)
    }
    after = gc.get_stats()
    assert after[2]["collections"] == before[2]["collections"]
    assert after[0]["collections"] > before[0]["collections"]
    assert len(known) == 299_998


def test_what_refers_to_itself_and_is_new_is_freed(tuned: None) -> None:
    before = gc.get_stats()[0]["collected"]
    for _ in range(3 * gc.get_threshold()[0]):
        cycle: list[object] = []
        cycle.append(cycle)
    assert gc.get_stats()[0]["collected"] > before
