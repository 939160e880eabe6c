"""What the kernel believes without asking: never what csfs has ended, and nobody else's change for long."""

import os
import time
from pathlib import Path

from csfs.cli.sample.project import build
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

PROMISED_SECONDS = 1.0
"""Within which a change on the backing directory is seen."""
OLD = 1_000_000_000


def listed(directory: Path) -> list[str]:
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if entry.stat(follow_symlinks=False))


def test_a_name_that_was_missing_is_seen_once_it_is_there(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    for directory, below in ((lab / "CS-a/J1", sample / "J1"), (lab.mountpoint, lab.backing)):
        path = directory / "new"
        assert not path.exists()
        path.write_text("made here")
        assert path.read_text() == "made here"
        path.unlink()
        assert not path.exists()
        began = time.monotonic()
        (below / "new").write_text("made below")
        wait_for(path.exists, "a file that was made below is seen")
        assert time.monotonic() - began < PROMISED_SECONDS + 1


def test_what_csfs_makes_is_there_at_once(lab: Lab) -> None:
    (lab / "CS-a").mkdir()
    for name in ("cs.lock", "project.json", "workspaces.json", "J1"):
        assert not (lab / "CS-a" / name).exists()
    assert listed(lab / "CS-a") == []
    (lab / "CS-a/cs.lock").touch()
    assert listed(lab / "CS-a") == ["cs.lock", "project.json", "workspaces.json"]
    for name in ("cs.lock", "project.json", "workspaces.json"):
        assert (lab / "CS-a" / name).exists()
    (lab / "CS-a/J1").mkdir()
    assert listed(lab / "CS-a/J1") == ["job.json"]
    assert (lab / "CS-a/J1/job.json").exists()
    (lab / "CS-a/cs.lock").unlink()
    assert listed(lab / "CS-a") == ["J1", "project.json", "workspaces.json"]
    assert not (lab / "CS-a/cs.lock").exists()


def test_a_listing_that_is_kept_follows_every_change(sample: Path, lab: Lab) -> None:
    """Listed so often that the kernel has it; the directory looks as if it had not changed lately."""
    lab.run("touch CS-a/cs.lock").ok()
    directory, below = lab / "CS-a/J1", sample / "J1"
    os.utime(below, (OLD, OLD))
    wait_for(lambda: directory.stat().st_mtime == OLD, "the time is seen")
    expected = listed(directory)
    for number in range(20):
        assert listed(directory) == expected
        name = f"made{number}"
        (directory / name).touch()
        expected = sorted([*expected, name])
        assert listed(directory) == expected
        os.utime(directory, (OLD, OLD))
        assert listed(directory) == expected
        (directory / name).rename(directory / f"{name}~")
        expected = sorted([each for each in expected if each != name] + [f"{name}~"])
        assert listed(directory) == expected
        os.utime(directory, (OLD, OLD))
        (directory / f"{name}~").unlink()
        expected.remove(f"{name}~")
        assert listed(directory) == expected
        os.utime(directory, (OLD, OLD))
    (below / "made below").touch()
    wait_for(lambda: "made below" in listed(directory), "a file that was made below is listed")
    (below / "made below").unlink()
    wait_for(lambda: "made below" not in listed(directory), "a file that was removed below is not listed")


def test_a_document_is_found_whatever_became_of_its_file(tmp_path: Path, make_lab: LabMaker) -> None:
    """Attach replaces files whose inode numbers then go to others, while the kernel still knows them."""
    projects, jobs = ("CS-a", "CS-b", "CS-c"), ("J1", "J2", "J3", "J5", "J9")
    (tmp_path / "backing").mkdir()
    for name in projects:
        build(tmp_path / "backing" / name, movies=1)
    lab = make_lab()
    for _ in range(10):
        for name in projects:
            for job in jobs:
                (lab / name / job / "job.json").stat()
            (lab / name / "cs.lock").touch()
            for each in projects:
                for job in jobs:
                    assert (lab / each / job / "job.json").stat().st_size > 0
        for name in projects:
            (lab / name / "cs.lock").unlink()
