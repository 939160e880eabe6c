"""What a project directory holds, as an attach reads it."""

import errno
import os
from pathlib import Path

import pytest

from csfs.backing import contents
from csfs.backing.contents import Found
from csfs.backing.descriptor import Descriptor
from csfs.domain import document
from tests.backing.conftest import Hindrance, open_descriptors


def job(place: Path, name: str, content: bytes | None = b"{}") -> Path:
    (place / name).mkdir()
    if content is not None:
        (place / name / "job.json").write_bytes(content)
        os.utime(place / name / "job.json", ns=(7, 7))
    return place / name


def test_a_document_at_the_top(here: Descriptor, place: Path) -> None:
    assert contents.read(here, "project.json") is None
    (place / "project.json").write_bytes(b"{}")
    os.utime(place / "project.json", ns=(1, 1_234_567_890_123_456_789))
    assert contents.read(here, "project.json") == Found(b"{}", 1_234_567_890_123_456_789)


def test_a_document_that_is_no_file(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(place / "project.json")
    with pytest.raises(OSError) as caught:
        contents.read(here, "project.json")
    assert caught.value.errno in (errno.ELOOP, errno.EINVAL, errno.EFBIG)


def test_jobs_come_in_the_order_of_their_numbers(here: Descriptor, place: Path) -> None:
    for name in ("J10", "J9", "J1", "J100", "J2"):
        job(place, name, name.encode())
    assert [(name, found) for name, found in contents.jobs(here)] == [
        (name, Found(name.encode(), 7)) for name in ("J1", "J2", "J9", "J10", "J100")
    ]


def test_what_is_no_job(here: Descriptor, place: Path) -> None:
    for name in ("J0", "J01", "j1", "S1", "J1a", "exports"):
        job(place, name)
    (place / "J3").write_bytes(b"a file")
    (place / "J4").symlink_to("S1")
    os.mkfifo(place / "J5")
    assert list(contents.jobs(here)) == []


def test_a_job_without_a_document(here: Descriptor, place: Path) -> None:
    job(place, "J1", None)
    job(place, "J2")
    assert list(contents.jobs(here)) == [("J1", None), ("J2", Found(b"{}", 7))]


def test_a_job_with_something_else_as_document(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    hindrance(job(place, "J1", None) / "job.json")
    job(place, "J2")
    (_, broken), (name, good) = list(contents.jobs(here))
    assert isinstance(broken, OSError)
    assert (name, good) == ("J2", Found(b"{}", 7))


def test_a_job_document_that_is_too_large(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 4)
    job(place, "J1", b"12345")
    job(place, "J2", b"1234")
    found = dict(contents.jobs(here))
    assert isinstance(found["J1"], OSError)
    assert found["J2"] == Found(b"1234", 7)


def test_a_disk_that_fails_is_no_broken_job(
    here: Descriptor, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job(place, "J1")

    def fail(*arguments: object) -> tuple[bytes, int]:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(contents, "read_dated_file", fail)
    with pytest.raises(OSError, match="broken"):
        list(contents.jobs(here))


def test_is_empty(here: Descriptor, place: Path) -> None:
    assert contents.is_empty(here)
    (place / ".csfs-tmp.0123").write_bytes(b"")
    assert contents.is_empty(here)
    (place / ".hidden").write_bytes(b"")
    assert not contents.is_empty(here)


def test_projects_below(here: Descriptor, place: Path) -> None:
    for path in ("CS-a", "group/CS-b", "group/sub/CS-c", "group/sub/plain", "group/CS-d"):
        (place / path).mkdir(parents=True)
    for path in ("CS-a", "group/CS-b", "group/sub/CS-c"):
        (place / path / "project.json").write_bytes(b"{}")
    (place / "group/CS-d/cs.lock").write_bytes(b"")
    found = {path: directory.inode for path, directory in contents.projects_below(here)}
    assert found == {
        path: (place / os.fsdecode(path)).stat().st_ino
        for path in (b"CS-a", b"group/CS-b", b"group/sub/CS-c", b"group/CS-d")
    }


def test_projects_below_does_not_look_into_projects(here: Descriptor, place: Path) -> None:
    (place / "CS-a/J1/inner").mkdir(parents=True)
    (place / "CS-a/project.json").write_bytes(b"{}")
    (place / "CS-a/J1/inner/project.json").write_bytes(b"{}")
    assert [path for path, _ in contents.projects_below(here)] == [b"CS-a"]


def test_projects_below_does_not_count_the_directory_itself(here: Descriptor, place: Path) -> None:
    (place / "project.json").write_bytes(b"{}")
    (place / "sub").mkdir()
    assert list(contents.projects_below(here)) == []
    (place / "sub/project.json").write_bytes(b"{}")
    assert [path for path, _ in contents.projects_below(here)] == [b"sub"]


def test_projects_below_follows_no_symlink(here: Descriptor, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "CS-x").mkdir(parents=True)
    (outside / "CS-x/project.json").write_bytes(b"{}")
    (place / "link").symlink_to(outside)
    (place / "loop").symlink_to(".")
    assert list(contents.projects_below(here)) == []


def test_a_dangling_marker_is_one_all_the_same(here: Descriptor, place: Path) -> None:
    (place / "CS-a").mkdir()
    (place / "CS-a/cs.lock").symlink_to("nowhere")
    assert [path for path, _ in contents.projects_below(here)] == [b"CS-a"]


def test_projects_below_a_deep_container(deep: Path) -> None:
    before = open_descriptors()
    at = Descriptor.root(os.fspath(deep)).descend(b"/".join(b"level-%d" % level for level in range(2000)))
    os.rename(b"bottom", b"project.json", src_dir_fd=at.fd, dst_dir_fd=at.fd)
    del at
    found = [path for path, _ in contents.projects_below(Descriptor.root(os.fspath(deep)))]
    assert len(found) == 1
    assert found[0].endswith(b"level-1999")
    assert open_descriptors() == before
