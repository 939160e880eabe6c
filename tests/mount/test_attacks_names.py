"""Names that a terminal or a log would obey, and users who are not to see."""

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.lab import ORDINARY_USER, Lab, as_user
from tests.mount.test_as_user import pytestmark  # noqa: F401  (the same conditions)
from tests.mount.test_attacks import claim, project
from tests.mount.watching import unharmed

NAMES = {
    b"CS-\n2026-01-01 00:00:00 ERROR forged": "CS-\\x0a2026-01-01 00:00:00 ERROR forged",
    b"CS-\x1b[2J\x1b]0;owned\x07": "CS-\\x1b[2J\\x1b]0;owned\\x07",
    b"CS-\xff\xfe\x80": "CS-\\xff\\xfe\\x80",
    "CS-\u202egnp.exe\u2028".encode(): "CS-\\u202egnp.exe\\u2028",
    b"CS-\xc2\x9b31m\x7f": "CS-\\x9b31m\\x7f",
    b"CS-" + b"n" * 252: "CS-" + "n" * 252,
    b"-rf --no-preserve-root": "-rf --no-preserve-root",
}


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))  # type: ignore[arg-type]
def test_a_project_directory_of_an_odd_name(lab: Lab, name: bytes) -> None:
    """Its whole life; and wherever csfs tells of it, the name is text on one line."""
    here, below = (
        Path(os.fsdecode(os.fsencode(lab.mountpoint) + b"/" + name)),
        lab.backing / os.fsdecode(name),
    )
    below.mkdir()
    claim(here)
    (here / "J1").mkdir()
    lab.expected_in_log.append("ERROR forged/")  # on a line of another level
    with (here / "note").open("w"), pytest.raises(OSError):
        (here / "cs.lock").unlink()
    told = lab.csfs("why", here).ok().out
    assert is_harmless(told)
    assert NAMES[name] in told
    assert "note is open in" in told
    for line in (lab / ".csfs/refusals").read_bytes().splitlines():
        assert is_harmless(json.loads(line)["path"])
        assert is_harmless(json.loads(line)["reason"])
    record = json.loads((lab / ".csfs/projects/P1/record.json").read_text())
    assert record["number"] == 1
    link = os.readlink(os.fsencode(lab / ".csfs/projects/P1/directory"))
    assert link == b"../../../" + name
    assert (lab / ".csfs/projects/P1/directory/project.json").read_bytes()
    assert is_harmless(lab.csfs("status", lab.mountpoint).ok().out)
    assert not any(line.startswith("2026-01-01") for line in lab.log.splitlines()), "a line was forged"
    lab.csfs("check", lab.backing, "--instance", lab.name, "--state", lab.state)
    here.chmod(0o555)
    assert lab.csfs("rescue", here).refused().out == ""
    here.chmod(0o755)
    (here / "cs.lock").unlink()
    assert lab.attribute(os.fsdecode(name), "state") == "detached"
    assert is_harmless(lab.log)
    assert "ERROR forged" not in "".join(line[:60] for line in lab.log.splitlines() if line[:1] != "2")


def test_what_others_wrote_is_text(lab: Lab) -> None:
    """The title of a project and the owner in the lock of another instance come from elsewhere."""
    below = project(lab.backing / "CS-a")
    found = os.stat(below)
    foreign = {
        "csfs_lock": 1,
        "lock_id": "x\x1b[31m",
        "instance_uuid": "y",
        "instance_name": "evil\x1b]0;owned\x07\nnext: rm -rf /",
        "project_uuid": "z",
        "project_uid": "P1",
        "state": "attached",
        "epoch": 1,
        "inode": found.st_ino,
        "path": "CS-a",
        "host": "h\r\n",
        "since": "s" * 20_000,
    }
    (below / "cs.lock").write_text(json.dumps(foreign))
    assert lab.state_of("CS-a") == "foreign"
    lab.run("echo x > CS-a/note").refused("Read-only")
    for words in (["why", lab / "CS-a"], ["rescue", "--dry-run", lab / "CS-a"]):
        told = lab.csfs(*words)
        assert is_harmless(told.out + told.err), words
        assert "evil" in told.out + told.err
    assert "\nnext: rm -rf /" not in lab.why("CS-a")


# -- users ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", ["CS-a", "container"])
def test_what_a_user_may_not_see(lab: Lab, hidden: str) -> None:
    """The mode of a project's directory, or of one above it, hides it also where csfs tells of it."""
    path = "container/CS-a" if hidden == "container" else "CS-a"
    below = project(lab.backing / path)
    (below / "project.json").write_text(json.dumps({"uid": "P9", "title": "SECRET"}))
    claim(lab / path)
    (lab / hidden).chmod(0o700)
    lab.run(f"exec 9>{path}/SECRET-file; rm {path}/cs.lock").refused("busy")
    records = lab / ".csfs/projects/P1"
    acts: dict[str, Callable[[], object]] = {
        "list": lambda: os.listdir(lab / path),
        "document": lambda: (lab / path / "project.json").read_bytes(),
        "attribute": lambda: os.getxattr(lab / path, "user.csfs.title"),
        "attributes": lambda: os.listxattr(lab / path / "J2"),
        "records": lambda: os.listdir(records),
        "record": lambda: (records / "record.json").read_bytes(),
        "record of the document": lambda: (records / "project.json").read_bytes(),
        "record of a job": lambda: (records / "J2/job.json").read_bytes(),
        "where it is": lambda: os.readlink(records / "directory"),
        "attach": lambda: claim(lab / path),
        "detach": lambda: (lab / path / "cs.lock").unlink(),
        "archive": lambda: (lab / path).chmod(0o500),
        "rescue": lambda: os.setxattr(lab / path, "user.csfs.rescue", b""),
        "status": lambda: os.setxattr(lab / path / "J2", "user.csfs.status", b"killed"),
        "move": lambda: (lab / path).rename(lab / "CS-stolen"),
        "forget": lambda: records.rmdir(),
    }
    with unharmed(lab):
        for what, act in acts.items():
            assert as_user(act) in (errno.EACCES, errno.EPERM), what
            # What the kernel has learnt from root's own look is not the user's.
            assert (records / "project.json").read_bytes()
            assert as_user(act) in (errno.EACCES, errno.EPERM), what
    lab.as_user = ORDINARY_USER
    assert "SECRET" not in lab.run("cat .csfs/refusals .csfs/status.json; ls -lR .csfs").out
    told = lab.csfs("why", lab / path)
    assert "SECRET" not in told.out + told.err
    lab.as_user = None
    assert "SECRET" in lab.why(path)
    assert lab.state_of(path) == "attached"


def test_what_a_user_may_see(lab: Lab) -> None:
    """What all may read in its directory, all may read under .csfs; and a file of mode 600 there is not."""
    project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    (lab / "CS-a/J2").chmod(0o700)
    records = lab / ".csfs/projects/P1"
    lab.run("exec 9>CS-a/open-file; rm CS-a/cs.lock").refused("busy")
    lab.as_user = ORDINARY_USER
    assert "honest" in lab.run("cat .csfs/projects/P1/project.json").ok().out
    lab.run("cat .csfs/projects/P1/record.json && readlink .csfs/projects/P1/directory").ok()
    assert "open-file" in lab.csfs("why", lab / "CS-a").ok().out
    lab.as_user = None
    assert as_user(lambda: (records / "J2/job.json").read_bytes()) == errno.EACCES
    (lab / "CS-a/project.json").chmod(0o600)
    assert as_user(lambda: (lab / "CS-a/project.json").read_bytes()) == errno.EACCES
    assert as_user(lambda: (records / "project.json").read_bytes()) == errno.EACCES
    (lab / "CS-a/cs.lock").unlink()
    subprocess.run(["mv", lab.backing / "CS-a", lab.backing.parent / "away"], check=True)
    project(lab.backing / "CS-a")  # another, at the same place
    assert as_user(lambda: (records / "record.json").read_bytes()) == errno.EACCES
    assert (records / "record.json").read_bytes()


def test_groups_count(lab: Lab) -> None:
    project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    os.chown(lab / "CS-a", 0, 4242)
    (lab / "CS-a").chmod(0o750)
    path = lab / ".csfs/projects/P1/project.json"

    def cat(*groups: str) -> int:
        words = ["setpriv", f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", *groups, "cat", path]
        return subprocess.run(words, capture_output=True).returncode

    assert cat("--clear-groups") == 1
    assert cat("--groups=4242") == 0
    assert cat("--groups=4243") == 1


def test_what_a_user_may_not_do(lab: Lab) -> None:
    """All may read the project; what changes its state takes the permission to write, or to be its owner."""
    project(lab.backing / "CS-a")
    project(lab.backing / "CS-detached")
    claim(lab / "CS-a")
    acts: list[Callable[[], object]] = [
        lambda: claim(lab / "CS-detached"),
        lambda: (lab / "CS-a/cs.lock").unlink(),
        lambda: (lab / "CS-a").chmod(0o555),
        lambda: os.setxattr(lab / "CS-a", "user.csfs.rescue", b""),
        lambda: os.setxattr(lab / "CS-a", "user.csfs.unarchive", b"accept-changes"),
        lambda: os.setxattr(lab / "CS-a/J2", "user.csfs.status", b"killed"),
        lambda: (lab / "CS-a/project.json").write_text("{}"),
        lambda: (lab / "CS-a/J2/job.json").unlink(),
        lambda: os.mkdir(lab / "CS-a/J3"),
    ]
    for number, act in enumerate(acts):
        assert as_user(act) in (errno.EACCES, errno.EPERM), number
    assert (lab.state_of("CS-a"), lab.state_of("CS-detached")) == ("attached", "detached")
    (lab / "CS-a").chmod(0o555)
    assert lab.state_of("CS-a") == "archived"
    assert as_user(lambda: (lab / "CS-a").chmod(0o755)) == errno.EPERM
    assert as_user(acts[4]) == errno.EACCES
    assert lab.state_of("CS-a") == "archived"
