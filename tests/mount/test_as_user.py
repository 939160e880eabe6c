"""An ordinary user's own mount, and root's mount for many users."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from csfs.cli.sample.project import build
from tests.mount.conftest import LabMaker
from tests.mount.lab import ORDINARY_USER, Lab

AS_USER = ["setpriv", f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups"]


def _can_be_run() -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    words = [*AS_USER, sys.executable, "-c", "import csfs, pyfuse3; open('/dev/fuse', 'r+b', buffering=0)"]
    return subprocess.run(words, capture_output=True, cwd=Path(__file__).parents[2]).returncode == 0


pytestmark = pytest.mark.skipif(
    not _can_be_run(), reason="needs root, and a Python and /dev/fuse that an ordinary user may use"
)


@pytest.fixture
def users_lab(make_lab: LabMaker, tmp_path: Path) -> Lab:
    """A mount of an ordinary user's own, over his own sample project CS-a."""
    (tmp_path / "backing").mkdir()
    build(tmp_path / "backing/CS-a")
    subprocess.run(["chown", "-R", f"{ORDINARY_USER}:{ORDINARY_USER}", tmp_path / "backing"], check=True)
    return make_lab(as_user=ORDINARY_USER)


def test_the_whole_life_of_a_project(users_lab: Lab) -> None:
    lab = users_lab
    lab.run("touch CS-a/cs.lock && cp -a CS-a ../state/copy").ok()
    lab.run("rm -rf CS-a").refused("Operation not permitted")
    lab.run("diff -r --no-dereference ../state/copy CS-a").ok()
    lab.run("mkdir sub && mv CS-a sub/CS-b && exec 9>sub/CS-b/J1/file && rm sub/CS-b/cs.lock").refused("busy")
    lab.run("chmod a-w sub/CS-b").ok()
    lab.run("touch sub/CS-b/x").refused("Read-only file system")
    lab.run("mv sub/CS-b . && tar -cf ../state/P.tar CS-b && rm -rf CS-b").ok()
    lab.run("mkdir new && tar -C new -xf ../state/P.tar && chmod u+w new/CS-b").ok()
    assert lab.attribute_of("new/CS-b", "uid") == "P1"
    lab.run("cp -a new/CS-b clone && rm clone/cs.lock && touch clone/cs.lock").ok()
    assert lab.attribute_of("clone", "uid") == "P2"
    lab.run('sed -i \'s/"title": "[^"]*"/"title": "mine"/\' clone/project.json').ok()
    assert lab.attribute_of("clone", "title") == "mine"
    lab.run("rm clone/cs.lock && rm -rf clone && rmdir .csfs/projects/P2").ok()
    document = json.loads((lab.backing / "new/CS-b/project.json").read_text())
    assert document["uid"] == "P1"
    assert (lab.backing / "new/CS-b/project.json").stat().st_uid == ORDINARY_USER


def test_files_made_in_roots_mount_belong_to_the_caller(lab: Lab) -> None:
    (lab / "open").mkdir()
    (lab / "open").chmod(0o777)
    shared = lab / "shared"
    shared.mkdir()
    os.chown(shared, 0, 4242)
    shared.chmod(0o2777)
    lab.as_user = ORDINARY_USER
    lab.run("umask 027; cd open && echo x > f && mkdir d && ln -s f l && mkfifo p").ok()
    lab.run("cd shared && echo x > f && mkdir d").ok()
    lab.run("cd open && mkdir CS-a && touch CS-a/cs.lock").ok()
    lab.as_user = None
    for name in ("f", "d", "l", "p", "CS-a", "CS-a/cs.lock", "CS-a/project.json"):
        found = (lab.backing / "open" / name).lstat()
        assert (found.st_uid, found.st_gid) == (ORDINARY_USER, ORDINARY_USER), name
    assert (lab.backing / "open/f").stat().st_mode & 0o777 == 0o640
    assert (lab.backing / "open/d").stat().st_mode & 0o777 == 0o750
    for name in ("f", "d"):
        assert (lab.backing / "shared" / name).stat().st_gid == 4242
    assert (lab.backing / "shared/d").stat().st_mode & stat.S_ISGID


def test_mode_bits_rule_in_roots_mount(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && chmod 700 CS-a/J2 && touch mine && chmod 600 mine").ok()
    lab.as_user = ORDINARY_USER
    lab.run("ls CS-a/J2").refused("Permission denied")
    lab.run("cat mine").refused("Permission denied")
    lab.run("rm CS-a/cs.lock").refused("Permission denied")
    lab.run("chmod a-w CS-a").refused("Operation not permitted")
    lab.run("echo {} > CS-a/project.json").refused("Permission denied")
    lab.run("mv CS-a CS-b").refused("Permission denied")
    lab.as_user = None
    assert lab.state_of("CS-a") == "attached"
