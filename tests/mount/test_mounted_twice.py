"""One instance, two mounts: a state directory that was copied, and a mount whose place another has taken."""

import json
import os
import shutil
import signal
from pathlib import Path

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for


def copied(lab: Lab, make_lab: LabMaker) -> Lab:
    """The same instance over the same storage, with a copy of its state directory. Not mounted yet."""
    twin = make_lab("twin", mounted=False)
    twin.name = lab.name
    twin.state = lab.state.with_name("copied")
    shutil.copytree(lab.state, twin.state)
    return twin


def session_of(lab: Lab) -> Path:
    (path,) = (lab.backing / ".csfs/sessions").glob("*.json")
    return path


def take_the_place(lab: Lab) -> None:
    """What a mount of the instance on another node leaves on the storage."""
    path = session_of(lab)
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "session": "another", "host": "node7", "pid": 4711}))


def test_a_copy_of_the_state_directory_is_not_mounted_beside_it(lab: Lab, make_lab: LabMaker) -> None:
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    pid = lab.pid
    twin = copied(lab, make_lab)
    twin.try_mount().refused(f"lab1 is mounted by process {pid} on", "csfs umount", "--instance")
    words = (lab.backing, "--instance", "lab1", "--state", twin.state)
    twin.csfs("check", "--repair", *words).refused(f"lab1 is mounted by process {pid} on")
    twin.csfs("check", *words).ok()
    lab.run("echo still mine >CS-a/note").ok()
    lab.kill()
    twin.mount()
    assert twin.state_of("CS-a") == "attached"
    lab.csfs("umount", lab.mountpoint)
    lab.try_mount().refused("lab1 is mounted by process")


def test_a_mount_whose_place_was_taken_is_read_only_and_says_so(make_lab: LabMaker) -> None:
    lab = make_lab("lab1", options=("-o", "takeover=3"))
    lab.expected_in_log = ["mounted a second time"]
    lab.run("mkdir CS-a CS-b && touch CS-a/cs.lock").ok()
    take_the_place(lab)
    wait_for(lambda: lab.state_of("CS-a") == "lost", "the next beat notices it")
    for refused in ("touch CS-a/new", "rm CS-a/cs.lock", "chmod a-w CS-a", "mv CS-a CS-c"):
        lab.run(refused).refused("Read-only file system")
    lab.run("touch CS-b/cs.lock").refused("Read-only file system")
    assert sorted(os.listdir(lab.backing / "CS-a")) == ["cs.lock", "project.json", "workspaces.json"]
    why = lab.why("CS-a")
    assert "mounted a second time" in why, why
    assert "process 4711 on node7" in why
    assert "csfs umount" in why
    status = lab.csfs("status", lab.mountpoint)
    assert status.code == 3
    assert "mounted a second time, by process 4711 on node7" in status.out + status.err


def test_one_that_was_stopped_meanwhile_looks_before_it_writes(make_lab: LabMaker) -> None:
    lab = make_lab("lab1", options=("-o", "takeover=3"))
    lab.expected_in_log = ["mounted a second time"]
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    interval = json.loads(session_of(lab).read_text())["interval"]
    os.kill(lab.pid, signal.SIGSTOP)
    try:
        stopped = os.times().elapsed
        take_the_place(lab)
        wait_for(lambda: os.times().elapsed > stopped + 3 * interval, "its last beat is old")
    finally:
        os.kill(lab.pid, signal.SIGCONT)
    lab.run("rm CS-a/cs.lock").refused("Read-only file system")
    assert (lab.backing / "CS-a/cs.lock").exists()
