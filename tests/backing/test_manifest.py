"""The manifest: all of a project is in it, and each difference is found and told once."""

import os
import shutil
from pathlib import Path

import pytest

from csfs.backing import manifest
from csfs.backing.descriptor import Descriptor
from csfs.domain.manifest import Entry, Page
from tests.backing.conftest import open_descriptors

SECOND = 1_000_000_000


def fill(project: Path) -> None:
    """A small project of every kind of file, with the times of long ago."""
    for name in ("cs.lock", "project.json", "workspaces.json", ".csfs-tmp.1234"):
        (project / name).write_bytes(b"the store's own")
    job = project / "J1"
    (job / "extract" / "deep").mkdir(parents=True)
    (job / "job.json").write_bytes(b"{}")
    (job / "cs.lock").write_bytes(b"a file of the user's")
    (job / ".csfs-tmp.5678").write_bytes(b"")
    (job / "extract" / "a.mrc").write_bytes(b"12345")
    (job / "extract" / "deep" / "b.mrc").write_bytes(b"")
    (job / "link").symlink_to("extract/a.mrc")
    (job / "to-a-directory").symlink_to("extract")
    (project / "empty").mkdir()
    os.mkfifo(project / "fifo")
    (project / os.fsdecode(b"\xff\n")).write_bytes(b"x")
    for directory, directories, files in os.walk(project):
        for name in [*directories, *files]:
            os.utime(os.path.join(directory, name), ns=(0, 1_700_000_000 * SECOND), follow_symlinks=False)


@pytest.fixture
def project(place: Path) -> Path:
    made = place / "CS-x"
    made.mkdir()
    fill(made)
    return made


def pages_of(project: Path) -> list[Page]:
    return list(manifest.walk(Descriptor.root(os.fspath(project))))


def differences(project: Path, pages: list[Page]) -> list[str]:
    return sorted(manifest.differences(Descriptor.root(os.fspath(project)), pages))


def test_every_file_but_the_stores_is_in_it(project: Path) -> None:
    found = {page.directory: page.entries for page in pages_of(project)}
    when = 1_700_000_000 * SECOND
    assert found == {
        b"": [
            Entry(b"J1", "directory", 0, when),
            Entry(b"empty", "directory", 0, when),
            Entry(b"fifo", "other", 0, when),
            Entry(b"\xff\n", "file", 1, when),
        ],
        b"J1": [
            Entry(b"cs.lock", "file", 20, when),
            Entry(b"extract", "directory", 0, when),
            Entry(b"job.json", "file", 2, when),
            Entry(b"link", "symlink", 0, when, b"extract/a.mrc"),
            Entry(b"to-a-directory", "symlink", 0, when, b"extract"),
        ],
        b"J1/extract": [Entry(b"a.mrc", "file", 5, when), Entry(b"deep", "directory", 0, when)],
        b"J1/extract/deep": [Entry(b"b.mrc", "file", 0, when)],
        b"empty": [],
    }


def test_a_directory_comes_before_what_is_in_it(project: Path) -> None:
    order = [page.directory for page in pages_of(project)]
    assert order[0] == b""
    for path in order[1:]:
        above = path.rpartition(b"/")[0]
        assert order.index(above) < order.index(path)


def test_the_same_project_has_no_differences(project: Path) -> None:
    assert differences(project, pages_of(project)) == []


def test_a_copy_has_no_differences(project: Path, tmp_path: Path) -> None:
    pages = pages_of(project)
    os.unlink(project / "fifo")
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    assert differences(tmp_path / "copy", pages) == ["fifo is missing"]


def test_more_files_are_no_difference(project: Path) -> None:
    pages = pages_of(project)
    (project / "J1" / "new").write_bytes(b"")
    (project / "J2").mkdir()
    assert differences(project, pages) == []


def test_what_the_store_backs_is_no_difference(project: Path) -> None:
    pages = pages_of(project)
    for name in ("cs.lock", "project.json", "workspaces.json"):
        os.unlink(project / name)
    assert differences(project, pages) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda p: os.unlink(p / "J1/extract/a.mrc"), ["J1/extract/a.mrc is missing"]),
        (lambda p: os.unlink(p / "J1/cs.lock"), ["J1/cs.lock is missing"]),
        (lambda p: os.unlink(p / "J1/link"), ["J1/link is missing"]),
        (lambda p: os.rmdir(p / "empty"), ["empty is missing"]),
        (lambda p: shutil.rmtree(p / "J1/extract"), ["J1/extract is missing"]),
        (lambda p: shutil.rmtree(p / "J1"), ["J1 is missing"]),
        (lambda p: os.truncate(p / "J1/extract/a.mrc", 4), ["J1/extract/a.mrc had 5 bytes, has 4"]),
        (lambda p: os.utime(p / "J1/job.json"), ["J1/job.json was modified"]),
        (lambda p: os.utime(p / "J1/extract"), []),
        (lambda p: retarget(p / "J1/link", "elsewhere"), ["J1/link points elsewhere"]),
        (lambda p: retarget(p / "J1/extract/a.mrc", "b"), ["J1/extract/a.mrc was a file, is a symlink"]),
        (lambda p: to_directory(p / "J1/job.json"), ["J1/job.json was a file, is a directory"]),
        (lambda p: to_file(p / "J1"), ["J1 was a directory, is a file"]),
        (lambda p: to_symlink(p / "J1/extract"), ["J1/extract was a directory, is a symlink"]),
        (lambda p: os.unlink(p / os.fsdecode(b"\xff\n")), ["\\udcff\n is missing"]),
        (
            lambda p: (os.unlink(p / "fifo"), os.rmdir(p / "empty"), os.truncate(p / "J1/job.json", 0)),
            ["J1/job.json had 2 bytes, has 0", "empty is missing", "fifo is missing"],
        ),
    ],
)
def test_differences(project: Path, change: object, expected: list[str]) -> None:
    pages = pages_of(project)
    change(project)  # type: ignore[operator]
    assert differences(project, pages) == expected


def retarget(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_bytes(b"")


def to_symlink(path: Path) -> None:
    """The directory is still there, behind a symlink: it is not looked into."""
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


def test_nothing_is_followed_out_of_the_project(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"")
    (project / "out").symlink_to(outside)
    assert b"secret" not in {entry.name for page in pages_of(project) for entry in page.entries}


def test_a_deep_project(deep: Path) -> None:
    before = open_descriptors()
    pages = pages_of(deep)
    assert len(pages) == 2001
    assert [entry.name for entry in pages[-1].entries] == [b"bottom", b"link"]
    assert differences(deep, pages) == []
    assert open_descriptors() <= before


def test_of_a_deep_directory_that_is_missing_one_line_is_told(deep: Path) -> None:
    pages = pages_of(deep)
    os.rename(deep / "level-0" / "level-1" / "level-2", deep / "elsewhere")
    assert differences(deep, pages) == ["level-0/level-1/level-2 is missing"]
    os.rename(deep / "elsewhere", deep / "level-0" / "level-1" / "level-2")


def test_a_wide_directory(place: Path) -> None:
    for number in range(3000):
        (place / f"{number:05d}.mrc").touch()
    pages = pages_of(place)
    assert len(pages[0].entries) == 3000
    for number in range(0, 3000, 100):
        (place / f"{number:05d}.mrc").unlink()
    assert len(differences(place, pages)) == 30


def test_of_an_empty_directory_everything_at_the_top_is_missing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert differences(tmp_path / "empty", pages_of(project)) == [
        "J1 is missing",
        "\\udcff\n is missing",
        "empty is missing",
        "fifo is missing",
    ]
