"""Several backing directories: where a path leads, and what cannot be named together."""

import errno
from pathlib import Path

import pytest

from csfs.backing.backings import Backings, Overlap
from csfs.backing.descriptor import Descriptor


@pytest.fixture
def two(tmp_path: Path) -> Backings:
    for name in ("fast", "bulk"):
        (tmp_path / name / "group/CS-x").mkdir(parents=True)
    return Backings.open({b"ssd": str(tmp_path / "fast"), b"hdd": str(tmp_path / "bulk")})


def test_the_first_name_is_that_of_the_container(two: Backings, tmp_path: Path) -> None:
    found = two.descend(b"hdd/group/CS-x")
    assert found.inode == (tmp_path / "bulk/group/CS-x").stat().st_ino
    assert found.container == b"hdd"
    assert two.of(found) is two.at(b"hdd/group")
    assert (two.container(b"hdd/group"), two.below(b"hdd/group/CS-x")) == (b"hdd", b"group/CS-x")
    assert two.below(b"hdd") == b""
    assert two.descend(b"hdd").inode == (tmp_path / "bulk").stat().st_ino


def test_the_one_at_the_root_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "ssd/CS-x").mkdir(parents=True)
    one = Backings.of_one(Descriptor.root(str(tmp_path)))
    assert one.is_one
    assert (one.container(b"ssd/CS-x"), one.below(b"ssd/CS-x")) == (b"", b"ssd/CS-x")
    assert one.descend(b"ssd/CS-x").inode == (tmp_path / "ssd/CS-x").stat().st_ino
    assert one.descend(b"").inode == tmp_path.stat().st_ino


def test_what_is_not_there_is_away(tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    backings = Backings.open({b"ssd": str(tmp_path / "fast"), b"hdd": str(tmp_path / "bulk")})
    assert [each.name for each in backings.present] == ["ssd"]
    assert not backings.has(b"hdd/CS-x")
    for path, said in ((b"hdd/CS-x", "bulk is not there: No such file"), (b"usb/CS-x", "no container usb")):
        with pytest.raises(OSError, match=said) as caught:
            backings.descend(path)
        assert caught.value.errno == errno.ENODEV


def test_two_on_one_filesystem_share_its_numbers(two: Backings) -> None:
    one, other = two.descend(b"ssd/group"), two.descend(b"hdd/group")
    assert two.identity(one) != two.identity(other)
    assert two.filesystem(b"ssd/x") == two.filesystem(b"hdd/x") == b"ssd"
    assert two.filesystem(b"usb/x") == b"usb"


@pytest.mark.parametrize("way", ["the same", "by a symlink"])
def test_one_directory_twice(tmp_path: Path, way: str) -> None:
    (tmp_path / "fast").mkdir()
    (tmp_path / "link").symlink_to("fast")
    other = "fast" if way == "the same" else "link"
    with pytest.raises(Overlap, match="ssd and hdd are the same directory"):
        Backings.open({b"ssd": str(tmp_path / "fast"), b"hdd": str(tmp_path / other)})


@pytest.mark.parametrize("order", [1, -1])
def test_one_inside_another(tmp_path: Path, order: int) -> None:
    (tmp_path / "fast/deep/bulk").mkdir(parents=True)
    places = [(b"ssd", str(tmp_path / "fast")), (b"hdd", str(tmp_path / "fast/deep/bulk"))]
    with pytest.raises(Overlap, match=r"hdd .* lies inside the container ssd"):
        Backings.open(dict(places[::order]))
