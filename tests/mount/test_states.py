"""What each state permits, and how refusals explain themselves."""

import json
import os
from pathlib import Path

import pytest

from tests.mount.lab import Lab, wait_for


def test_a_foreign_project_can_be_read_and_not_changed(
    sample: Path, labs: tuple[Lab, Lab], tmp_path: Path
) -> None:
    owner, other = labs
    owner.run("touch CS-a/cs.lock").ok()
    assert other.state_of("CS-a") == "foreign"
    assert other.attribute("CS-a", "instance") == "lab1"
    other.run(f"cp -a CS-a {tmp_path}/copy && diff -r --no-dereference CS-a {tmp_path}/copy").ok()
    for command in (
        "touch CS-a/new",
        "touch CS-a/cs.lock",
        "touch CS-a/project.json",
        "echo x >> CS-a/J2/job.log",
        "mkdir CS-a/d",
        "mv CS-a/J2 CS-a/J99",
        "mv CS-a/J2/job.log .",
        "rm CS-a/J2/job.log",
        "rm -rf CS-a/J2",
        "chmod a-w CS-a",
        "chmod 600 CS-a/J2/job.log",
        "touch x && mv x CS-a/x",
        "setfattr -n user.x -v y CS-a",
    ):
        other.run(command).refused("Read-only file system")
    for command in ("rm CS-a/cs.lock", "mv CS-a CS-b", "rmdir CS-a"):
        other.run(command).refused("Operation not permitted")
    assert "lab1 (P1)" in other.why("CS-a")
    assert "lab1 (P1)" in other.why("CS-a/J2/job.log")
    assert sorted(os.listdir(sample)) == sorted(os.listdir(tmp_path / "copy"))
    owner.run("touch CS-a/still-works").ok()


@pytest.mark.parametrize(
    ("action", "after"),
    [
        ("rm CS-a/cs.lock", "detached"),
        ("chmod a-w CS-a", "archived"),
        ("mv CS-a CS-b && mv CS-b CS-a", "attached"),
    ],
)
def test_an_open_writer_keeps_the_project_in_place(sample: Path, lab: Lab, action: str, after: str) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run(
        f"exec 9>CS-a/J1/file; ! {action.split(' && ')[0]} 2>{lab.backing.parent}/said || exit 1;"
        f" grep 'Device or resource busy' {lab.backing.parent}/said >/dev/null || exit 1;"
        f" exec 9>&-; {action}"
    ).ok()
    assert lab.state_of("CS-a") == after
    refusal = lab.refusals()[-1]
    assert (refusal["errno"], refusal["rule"]) == ("EBUSY", "OPEN_WRITER")


def test_why_names_the_process_that_writes(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    with (lab / "CS-a/J1/file").open("wb"):
        lab.run("rm CS-a/cs.lock").refused("Device or resource busy")
        told = lab.why("CS-a")
    assert f"({os.getpid()})" in told
    assert "CS-a/J1/file is open in" in told
    assert "close the file" in told


def test_a_reader_keeps_nobody_waiting(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    with (lab / "CS-a/J2/job.log").open("rb") as reader:
        lab.run("chmod a-w CS-a && chmod u+w CS-a && mv CS-a CS-b && rm CS-b/cs.lock").ok()
        assert len(reader.read()) == (lab.backing / "CS-b/J2/job.log").stat().st_size


@pytest.mark.parametrize("status", ["queued", "launched", "started", "running", "waiting"])
def test_an_active_job_keeps_the_project_in_place(sample: Path, lab: Lab, status: str) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    path = lab / "CS-a/J13/job.json"
    document = json.loads(path.read_text())
    on_the_way = {"queued": [], "launched": ["queued"], "started": ["queued"], "running": [], "waiting": []}
    for step in ("building", *on_the_way[status], status):
        path.write_text(json.dumps({**document, "status": step}))
    for command in ("rm CS-a/cs.lock", "chmod a-w CS-a", "mv CS-a CS-b", "rm CS-a/J13/job.json"):
        lab.run(command).refused("Device or resource busy")
    assert f"J13 is {status}" in lab.why("CS-a")
    path.write_text(json.dumps({**document, "status": "failed"}))
    lab.run("mv CS-a CS-b && rm CS-b/cs.lock").ok()


def test_a_lost_project_is_served_read_only_and_let_go(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    (sample / "cs.lock").unlink()
    wait_for(lambda: lab.state_of("CS-a") == "lost", "the loss is seen")
    lab.run("cat CS-a/project.json CS-a/J2/job.log").ok()
    lab.run("touch CS-a/new").refused("Read-only file system")
    lab.run("echo {} > CS-a/project.json").refused("Read-only file system")
    assert "removed from the backing directory" in lab.why("CS-a")
    lab.run("rm CS-a/cs.lock").ok()
    assert lab.state_of("CS-a") == "detached"
    lab.run("touch CS-a/cs.lock").ok()
    assert lab.attribute("CS-a", "uid") == "P2"


def test_a_project_restored_in_place_from_outside_is_ours_again(
    sample: Path, lab: Lab, tmp_path: Path
) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    title = lab.attribute("CS-a", "title")
    os.rename(sample, tmp_path / "backup")
    os.system(f"cp -a {tmp_path}/backup {sample}")
    wait_for(lambda: (lab / "CS-a").stat().st_ino == sample.stat().st_ino, "the new directory is seen")
    assert lab.state_of("CS-a") == "attached"
    assert json.loads((sample / "cs.lock").read_text())["inode"] == sample.stat().st_ino
    lab.run("touch CS-a/new").ok()
    assert (sample / "new").exists()
    assert lab.attribute("CS-a", "title") == title


def test_our_own_lock_put_back_by_hand_can_be_removed(sample: Path, labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    lab.run("touch CS-a/cs.lock").ok()
    content = (sample / "cs.lock").read_bytes()
    lab.run("rm CS-a/cs.lock").ok()
    (sample / "cs.lock").write_bytes(content)
    wait_for(lambda: lab.state_of("CS-a") == "foreign", "the lock is seen")
    assert "does not know that claim" in lab.attribute("CS-a", "reason")
    other.run("rm CS-a/cs.lock").refused("Operation not permitted")
    lab.run("rm CS-a/cs.lock && touch CS-a/cs.lock").ok()
    assert lab.attribute("CS-a", "uid") == "P2"


def test_what_a_killed_daemon_left_is_not_in_the_way(sample: Path, lab: Lab) -> None:
    (sample / ".csfs-tmp.0123").write_bytes(b"half a document")
    lab.run("ls -A CS-a | grep csfs-tmp").refused()
    lab.run("rm -rf CS-a").ok()
    assert not sample.exists()


def test_a_detached_project_moves_whoever_writes_in_it(sample: Path, lab: Lab) -> None:
    with (lab / "CS-a/J2/job.log").open("ab") as writer:
        lab.run("mv CS-a CS-b").ok()
        writer.write(b"goes on")
    assert (lab / "CS-b/J2/job.log").read_bytes().endswith(b"goes on")


def test_plain_directories_are_just_directories(lab: Lab) -> None:
    lab.run("mkdir -p a/b/c && echo x > a/b/c/f && mv a/b d && chmod a-w d && chmod u+w d").ok()
    lab.run("cp -a d e && rm -rf a d && find e -delete && ls").ok()
    assert os.listdir(lab.backing) == [".csfs"]
    assert lab.refusals() == []


def test_boundaries_of_a_project_are_strict(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-b && touch CS-b/cs.lock && echo x > plain").ok()
    lab.run("ln CS-a/J2/job.log CS-b/link").refused("Invalid cross-device link")
    lab.run("ln plain CS-a/link").refused("Invalid cross-device link")
    with pytest.raises(OSError, match="cross-device"):
        os.rename(lab / "CS-a/J2/job.log", lab / "CS-b/moved")
    lab.run("mv CS-a/J2/job.log CS-b/moved && mv plain CS-a/plain").ok()
    assert (lab.backing / "CS-b/moved").exists()
    assert not (sample / "J2/job.log").exists()


def test_control_directory(sample: Path, lab: Lab) -> None:
    assert ".csfs" not in os.listdir(lab.mountpoint)
    assert sorted(os.listdir(lab / ".csfs")) == ["history", "metrics", "projects", "refusals", "status.json"]
    assert lab.status["mountpoint"] == str(lab.mountpoint)
    lab.run("touch CS-a/cs.lock").ok()
    lab.run("cat .csfs/projects/P1/J2/job.json | cmp - CS-a/J2/job.json").ok()
    lab.run("ls .csfs/projects/P1/directory/J2 > /dev/null && ls -laR .csfs > /dev/null").ok()
    for command in ("touch .csfs/x", "rm .csfs/refusals", "mkdir .csfs/d", "rm -rf .csfs", "mv .csfs x"):
        lab.run(command).refused("not permitted")
    lab.run("mv CS-a .csfs/").refused("not permitted")
    lab.run("touch .csfs-tmp.1").refused("not permitted")
    assert lab.attribute("CS-a", "state") == "attached"


def test_extended_attributes(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && setfattr -n user.mine -v x CS-a CS-a/J2/job.log").ok()
    told = lab.run("getfattr -d CS-a").ok().out
    assert 'user.csfs.instance="lab1"' in told.splitlines()
    for line in (
        'user.csfs.state="attached"',
        'user.csfs.uid="P1"',
        'user.csfs.owner="lab1"',
        'user.mine="x"',
    ):
        assert line in told.splitlines()
    assert lab.run("getfattr -d CS-a/J2/job.log").out.splitlines()[1] == 'user.mine="x"'
    lab.run("setfattr -n user.csfs.state -v free CS-a").refused("not supported")
    lab.run("setfattr -n user.csfs.x -v y CS-a/J2/job.log").refused("Operation not permitted")
    lab.run("setfattr -x user.mine CS-a").ok()
    assert os.listxattr(sample) == []


def test_a_listing_does_not_keep_a_lock_that_is_gone(sample: Path, labs: tuple[Lab, Lab]) -> None:
    """`ls -l` tells the kernel of every file: about those that make the state it is to ask again."""
    lab1, lab2 = labs
    lab1.run("touch CS-a/cs.lock").ok()
    assert "cs.lock" in [entry.name for entry in os.scandir(lab2 / "CS-a") if entry.stat()]
    (lab1 / "CS-a/cs.lock").unlink()
    assert not (lab2 / "CS-a/cs.lock").exists()
    (lab2 / "CS-a/cs.lock").touch()
    assert lab2.state_of("CS-a") == "attached"
