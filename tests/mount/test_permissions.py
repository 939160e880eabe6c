"""Permissions that are taken away from an ordinary user's mount, and given back."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.cli.sample.project import build
from tests.mount.conftest import LabMaker
from tests.mount.lab import ORDINARY_USER, Lab, wait_for
from tests.mount.test_as_user import pytestmark  # noqa: F401  (the same conditions)


@pytest.fixture
def lab(make_lab: LabMaker, tmp_path: Path) -> Iterator[Lab]:
    """An ordinary user's mount with CS-a attached."""
    backing = tmp_path / "backing"
    backing.mkdir()
    build(backing / "CS-a")
    subprocess.run(["chown", "-R", f"{ORDINARY_USER}:{ORDINARY_USER}", backing], check=True)
    made = make_lab(as_user=ORDINARY_USER)
    made.expected_in_log += [
        "export of",
        "exports of",
        "the heartbeat",
        "failed half way",
        "cannot be looked at",
    ]
    made.expected_in_log += ["cut short", "the sessions"]
    made.run("touch CS-a/cs.lock").ok()
    yield made
    backing.chmod(0o755)


def names_in(project: Path) -> list[str]:
    """All files of a project, but temporary ones that could not be removed."""
    return sorted(path.name for path in project.rglob("*") if not path.name.startswith(".csfs-tmp."))


ACTIONS = (
    "rm CS-a/cs.lock",
    "chmod a-w CS-a",
    "mv CS-a CS-b",
    "mkdir CS-a/J30",
    "echo x > CS-a/note",
    "mkdir CS-new && touch CS-new/cs.lock",
)


@pytest.mark.parametrize("mode", [0o555, 0o000])
@pytest.mark.parametrize("name", ["", "CS-a"])
def test_taken_away_and_given_back(lab: Lab, name: str, mode: int) -> None:
    """Each action is done, or refused with EACCES; nothing is lost, and all can be done afterwards."""
    directory = lab.backing / name
    lock = (lab.backing / "CS-a/cs.lock").read_bytes()
    files = names_in(lab.backing / "CS-a")
    directory.chmod(mode)
    for action in ACTIONS:
        if not name and action.startswith(("rm", "chmod", "mkdir CS-a", "echo")):
            continue  # the project itself is as before
        if name and action.startswith(("mv", "mkdir CS-new")):
            continue
        done = lab.run(action)
        assert done.code != 0, action
        assert "Permission denied" in done.err, done.err
    directory.chmod(0o755)
    assert (lab.backing / "CS-a/cs.lock").read_bytes() == lock
    assert names_in(lab.backing / "CS-a") == files

    def settled() -> bool:
        return lab.run("cat .csfs/status.json").out.count('"transitions": {}') == 1

    wait_for(settled, "what failed half way is taken back")
    lab.run("mkdir CS-a/J30 && echo x > CS-a/note && mv CS-a CS-b").ok()
    assert lab.attribute_of("CS-b", "state") == "attached"
    lab.run("chmod a-w CS-b && chmod u+w CS-b && rm CS-b/cs.lock").ok()
    assert lab.attribute_of("CS-b", "state") == "detached"
    assert "the backing filesystem does not permit it" in lab.run("cat .csfs/refusals").out or mode == 0o555


def test_no_access_to_csfs_own_directory(lab: Lab) -> None:
    """The heartbeat fails, and says so; a mount is refused with the reason."""
    lab.umount().ok()
    own = lab.backing / ".csfs"
    mode = own.stat().st_mode & 0o7777
    os.chmod(own, 0)
    lab.try_mount().refused("Permission denied")
    os.chmod(own, mode)
    lab.mount()
    assert lab.attribute_of("CS-a", "state") == "attached"
