"""Exporting: the file is the old document or the new one, whole, at any instant."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from csfs.backing import export as module
from csfs.backing.descriptor import Descriptor
from csfs.backing.export import Export
from csfs.backing.export import export as export_together

OWNER = (os.geteuid(), os.getegid())
MTIME_NS = 1_234_567_890_123_456_789
IS_ROOT = os.geteuid() == 0


def export(
    directory: Descriptor, name: bytes, content: bytes, *, mtime_ns: int, owner: tuple[int, int]
) -> None:
    """Exports one document."""
    export_together([Export(directory, name, content, mtime_ns, owner)], confirm=lambda: None)


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_a_new_file(here: Descriptor, place: Path) -> None:
    umask = os.umask(0o077)
    try:
        export(here, b"project.json", b"content", mtime_ns=MTIME_NS, owner=OWNER)
    finally:
        os.umask(umask)
    found = (place / "project.json").stat()
    assert (place / "project.json").read_bytes() == b"content"
    assert stat.S_IMODE(found.st_mode) == 0o644
    assert (found.st_uid, found.st_gid) == OWNER
    assert found.st_mtime_ns == MTIME_NS
    assert names(place) == ["project.json"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o400, 0o2664])
def test_mode_and_mtime(here: Descriptor, place: Path, mode: int) -> None:
    file = place / "project.json"
    file.write_bytes(b"old")
    file.chmod(mode)
    export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.stat().st_mtime_ns == MTIME_NS


@pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")
def test_owner_of_a_new_file_and_of_an_old_one(here: Descriptor, place: Path) -> None:
    file = place / "project.json"
    export(here, b"project.json", b"one", mtime_ns=1, owner=(4711, 4712))
    assert (file.stat().st_uid, file.stat().st_gid) == (4711, 4712)
    os.chown(file, 1234, 1235)
    export(here, b"project.json", b"two", mtime_ns=2, owner=(4711, 4712))
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 1235)
    assert file.read_bytes() == b"two"


def test_a_symlink_is_replaced_and_not_written_through(here: Descriptor, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    outside.chmod(0o600)
    (place / "project.json").symlink_to(outside)
    export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert outside.read_bytes() == b"kept"
    assert not (place / "project.json").is_symlink()
    assert stat.S_IMODE((place / "project.json").stat().st_mode) == 0o644


def test_a_hard_link_elsewhere_keeps_the_old_content(here: Descriptor, place: Path, tmp_path: Path) -> None:
    (place / "project.json").write_bytes(b"old")
    os.link(place / "project.json", tmp_path / "other")
    export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert (tmp_path / "other").read_bytes() == b"old"


def test_what_cannot_be_replaced_is_an_oserror_and_leaves_nothing(here: Descriptor, place: Path) -> None:
    (place / "project.json").mkdir()
    with pytest.raises(OSError):
        export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert names(place) == ["project.json"]


def test_a_directory_that_is_gone_is_an_oserror(here: Descriptor, place: Path) -> None:
    place.rmdir()
    with pytest.raises(FileNotFoundError):
        export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)


def test_a_full_disk_keeps_the_old_content(small_disk: Path) -> None:
    directory = Descriptor.root(os.fspath(small_disk))
    file = small_disk / "project.json"
    export(directory, b"project.json", b"old", mtime_ns=MTIME_NS, owner=OWNER)
    with pytest.raises(OSError) as caught:
        export(directory, b"project.json", bytes(2 << 20), mtime_ns=1, owner=OWNER)
    assert caught.value.errno == errno.ENOSPC
    assert file.read_bytes() == b"old"
    assert file.stat().st_mtime_ns == MTIME_NS
    assert names(small_disk) == ["project.json"]
    export(directory, b"project.json", bytes(512 << 10), mtime_ns=1, owner=OWNER)
    assert file.stat().st_size == 512 << 10


@pytest.mark.parametrize("step", ["utime", "rename"])
def test_a_failure_on_the_way_leaves_no_temporary(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    (place / "project.json").write_bytes(b"old")

    def fail(*arguments: object, **more: object) -> None:
        raise OSError(errno.EDQUOT, "quota")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, step, fail)
        with pytest.raises(OSError, match="quota"):
            export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert names(place) == ["project.json"]
    assert (place / "project.json").read_bytes() == b"old"


def test_it_is_on_disk_before_it_gets_its_name(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File synced, renamed, directory synced, in this order."""
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def noted_rename(*arguments: str, **more: int) -> None:
        calls.append("rename")
        rename(*arguments, **more)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "rename", noted_rename)
    export(here, b"project.json", b"new", mtime_ns=MTIME_NS, owner=OWNER)
    assert calls == ["file", "rename", "directory"]


def test_a_reader_sees_the_old_document_or_the_new_one(here: Descriptor, place: Path) -> None:
    file = place / "project.json"
    contents = [bytes([65 + number]) * (1000 + 997 * number) for number in range(10)]
    whole = set(contents)
    export(here, b"project.json", contents[0], mtime_ns=0, owner=OWNER)
    ended = threading.Event()
    reading = threading.Event()
    torn: list[bytes] = []
    seen: set[bytes] = set()

    def read() -> None:
        while not ended.is_set():
            found = file.read_bytes()
            seen.add(found)
            if found not in whole:
                torn.append(found)
            reading.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(30)
    for number in range(300):
        export(here, b"project.json", contents[number % 10], mtime_ns=number, owner=OWNER)
    ended.set()
    reader.join()
    assert torn == []
    assert len(seen) > 1
    assert names(place) == ["project.json"]


def test_many_are_exported_together(tmp_path: Path) -> None:
    """More than are synced one by one, into several directories, over old ones and new."""
    due = []
    for number in range(40):
        place = tmp_path / f"J{number}"
        place.mkdir()
        if number % 2:
            (place / "job.json").write_bytes(b"old")
            (place / "job.json").chmod(0o600)
        directory = Descriptor.root(str(place))
        due.append(Export(directory, b"job.json", b"new %d" % number, MTIME_NS + number, OWNER))
    export_together(due, confirm=lambda: None)
    for number in range(40):
        found = tmp_path / f"J{number}/job.json"
        assert found.read_bytes() == b"new %d" % number
        assert found.stat().st_mtime_ns == MTIME_NS + number
        assert stat.S_IMODE(found.stat().st_mode) == (0o600 if number % 2 else 0o644)
        assert names(found.parent) == ["job.json"]


def test_of_many_none_is_left_half_written(tmp_path: Path) -> None:
    """One that cannot be put in place ends it; no temporary file stays, no document is damaged."""
    due = []
    for number in range(40):
        place = tmp_path / f"J{number}"
        (place / "job.json").mkdir(parents=True) if number == 20 else place.mkdir()
        due.append(Export(Descriptor.root(str(place)), b"job.json", b"new", MTIME_NS, OWNER))
    with pytest.raises(OSError, match="directory"):
        export_together(due, confirm=lambda: None)
    for number in range(40):
        assert not [name for name in names(tmp_path / f"J{number}") if name.startswith(".csfs")]
    assert (tmp_path / "J19/job.json").read_bytes() == b"new"
    assert names(tmp_path / "J21") == []


def test_nothing_is_replaced_unless_it_is_confirmed_at_the_last_moment(here: Descriptor, place: Path) -> None:
    """By then all is written: only the renames are left."""
    (place / "a").write_bytes(b"old")

    def refuse() -> None:
        assert len([name for name in names(place) if name.startswith(".csfs-tmp.")]) == 2
        raise PermissionError

    due = [Export(here, name, b"new", MTIME_NS, OWNER) for name in (b"a", b"b")]
    with pytest.raises(PermissionError):
        export_together(due, confirm=refuse)
    assert (place / "a").read_bytes() == b"old"
    assert sorted(path.name for path in place.iterdir()) == ["a"]
