"""The tree of inodes: where files are found again, and descriptors that are put away."""

import errno
import os
from pathlib import Path

import pytest

from csfs.backing.backings import Backings
from csfs.backing.descriptor import Descriptor
from csfs.mount.tree import Inode, Tree

LIMIT = 3


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(Backings.of_one(Descriptor.root(str(tmp_path))), descriptors=LIMIT)


def see(tree: Tree, parent: Inode, name: str) -> Inode:
    inode = tree.see(parent, name.encode(), tree.descriptor(parent).stat(name.encode()))
    inode.lookups += 1
    return inode


def open_ones(inodes: list[Inode]) -> int:
    return sum(inode.descriptor is not None for inode in inodes)


def test_descriptors_are_put_away_and_opened_again(tree: Tree, tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number) / "inner").mkdir(parents=True)
    outer = [see(tree, tree.root, str(number)) for number in range(10)]
    inner = [see(tree, each, "inner") for each in outer]
    assert open_ones(outer + inner) <= LIMIT
    for each in inner:
        assert tree.descriptor(each).inode == each.number
    assert open_ones(outer + inner) <= LIMIT


def test_a_renamed_directory_is_found_again(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    a = see(tree, tree.root, "a")
    b = see(tree, a, "b")
    c = see(tree, b, "c")
    os.rename(tmp_path / "a", tmp_path / "z")
    tree.place(a, tree.root, b"z")
    for inode in (a, b, c):
        inode.descriptor = None
    assert c.path() == b"z/b/c"
    assert tree.descriptor(c).inode == c.number


def test_another_directory_in_its_place_is_stale(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    a = see(tree, tree.root, "a")
    tree.descriptor(a)
    a.descriptor = None
    os.rename(tmp_path / "a", tmp_path / "aside")
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError) as caught:
        tree.descriptor(a)
    assert caught.value.errno == errno.ESTALE


def test_removed_directories_keep_their_descriptors(tree: Tree, tmp_path: Path) -> None:
    """More of them than the limit: none can be opened again, and nothing loops."""
    removed = []
    for number in range(LIMIT + 3):
        (tmp_path / str(number)).mkdir()
        inode = see(tree, tree.root, str(number))
        tree.descriptor(inode)
        os.rmdir(tmp_path / str(number))
        tree.unlinked(tree.root, str(number).encode(), inode, None)
        removed.append(inode)
    (tmp_path / "kept").mkdir()
    tree.descriptor(see(tree, tree.root, "kept"))
    assert open_ones(removed) == LIMIT + 3
    for inode in removed:
        tree.forget(inode.id, 1)
    assert open_ones(removed) == 0


def test_one_of_several_names_goes(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    os.link(tmp_path / "one", tmp_path / "two")
    inode = see(tree, tree.root, "one")
    assert see(tree, tree.root, "two") is inode
    os.unlink(tmp_path / "two")
    tree.unlinked(tree.root, b"two", inode, None)
    assert (inode.name, inode.removed) == (b"one", False)
    os.unlink(tmp_path / "one")
    tree.unlinked(tree.root, b"one", inode, None)
    assert inode.removed


def test_a_number_that_goes_to_another_file_is_another_generation(tree: Tree, tmp_path: Path) -> None:
    for _ in range(50):
        (tmp_path / "f").write_text("x")
        inode = see(tree, tree.root, "f")
        before = inode.generation
        os.unlink(tmp_path / "f")
        tree.unlinked(tree.root, b"f", inode, None)
        (tmp_path / "g").write_text("y")
        again = see(tree, tree.root, "g")
        if again is inode:
            assert again.generation == before + 1
            assert not again.removed
            return
        os.unlink(tmp_path / "g")
    pytest.skip("this filesystem does not give a number again so soon")


def test_what_the_kernel_forgets_is_dropped(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    inode = see(tree, tree.root, "f")
    see(tree, tree.root, "f")
    tree.forget(inode.id, 1)
    assert tree.inodes[inode.id] is inode
    tree.forget(inode.id, 1)
    assert inode.id not in tree.inodes
    tree.forget(tree.root.id, 5)
    assert tree.inodes[tree.root.id] is tree.root


def test_containers_stay_where_they_are(tmp_path: Path) -> None:
    for name in ("fast", "bulk"):
        (tmp_path / name / "a/b").mkdir(parents=True)
    places = {b"ssd": str(tmp_path / "fast"), b"hdd": str(tmp_path / "bulk"), b"usb": str(tmp_path / "gone")}
    tree = Tree(Backings.open(places), descriptors=LIMIT)
    ssd, hdd, usb = (tree.containers[name] for name in places)
    tree.forget(ssd.id, 100)
    assert tree.inodes[ssd.id] is ssd
    assert tree.see(hdd, b"a", os.stat(tmp_path / "fast")) is ssd
    assert (ssd.parent, ssd.name, ssd.backing.name) == (tree.root, b"ssd", "ssd")
    inner = see(tree, see(tree, hdd, "a"), "b")
    assert (inner.path(), inner.backing) == (b"hdd/a/b", hdd.backing)
    assert tree.known(os.stat(tmp_path / "bulk/a/b")) is inner
    assert tree.id_at(tree.descriptor(inner)) == inner.id
    assert inner.id != inner.number
    with pytest.raises(OSError) as caught:
        tree.descriptor(usb)
    assert caught.value.errno == errno.ESTALE


def test_what_is_mounted_below_has_numbers_of_its_own(tree: Tree, tmp_path: Path) -> None:
    here, proc = os.stat(tmp_path), os.stat("/proc/self")
    assert tree.id_of(here) == tree.root.id
    assert tree.id_of(proc) == tree.id_of(proc) != proc.st_ino
