"""`csfs mount` and `umount`, and the end of a daemon."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, alive, wait_for


def test_mount_serves_when_it_returns_and_umount_ends_the_daemon(make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    lab.try_mount().ok()
    assert (lab / ".csfs/status.json").exists()
    pid = lab.pid
    assert alive(pid)
    lab.umount().ok()
    assert not alive(pid)
    assert not lab.is_mounted()
    lab.umount().refused("is no csfs mount")


def test_the_daemon_holds_no_terminal(make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    words = ["mount", str(lab.backing), str(lab.mountpoint), "--instance", "lab1", "--state", str(lab.state)]
    done = subprocess.run(
        [sys.executable, "-m", "csfs", *words], capture_output=True, timeout=20, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_second_mount_of_an_instance_is_refused(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    again = lab.csfs("mount", lab.backing, tmp_path / "second", "--instance", "lab1", "--state", lab.state)
    again.refused("is mounted at", str(lab.mountpoint), "csfs umount")
    assert os.listdir(tmp_path / "second") == []


def test_what_cannot_be_mounted_says_why(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(mounted=False)
    state = ("--state", lab.state)
    for places in ((tmp_path / "none", lab.mountpoint), (lab.backing, tmp_path / "none")):
        lab.csfs("mount", *places, "--instance", "a", *state).refused("none", "No such file or directory")
    lab.csfs("mount", lab.backing, lab.mountpoint, "--instance", "a/b", *state).refused("is no name")
    lab.csfs("mount", lab.backing, lab.mountpoint, *state).refused("--instance")
    (tmp_path / "file").write_text("")
    lab.csfs("mount", lab.backing, lab.mountpoint, "--instance", "a", "--state", tmp_path / "file").refused(
        "state"
    )
    lab.csfs("mount", lab.backing, lab.mountpoint, "--instance", "a", *state, "-o", "nonsense").refused(
        "nonsense"
    )
    assert not lab.is_mounted()


def test_a_store_of_another_version_is_left_alone(make_lab: LabMaker) -> None:
    import lmdb
    import msgspec

    from csfs.store import records

    lab = make_lab()
    lab.umount().ok()
    environment = lmdb.open(str(lab.state / "lab1/store"), max_dbs=16, map_size=1 << 30)
    database = environment.open_db(b"instance")
    newer = records.Instance(format=99, uuid="u", name="lab1", created="")
    with environment.begin(write=True) as txn:
        txn.put(b"instance", msgspec.msgpack.encode(newer), db=database)
    environment.close()
    lab.try_mount().refused("format 99")


def test_plain_umount_and_fusermount_end_it_as_cleanly(make_lab: LabMaker) -> None:
    for tool in (["umount"], ["fusermount3", "-u"]):
        lab = make_lab()
        lab.run("mkdir d && touch d/cs.lock").ok()
        pid = lab.pid
        subprocess.run([*tool, str(lab.mountpoint)], check=True)
        wait_for(lambda pid=pid: not alive(pid), "the daemon ends")  # type: ignore[misc]
        assert lab.log.splitlines()[-1].endswith("is unmounted")
        lab.mount()
        assert lab.state_of("d") == "attached"
        lab.run("rm d/cs.lock && rm -r d").ok()
        lab.umount().ok()


def test_sigterm_unmounts(lab: Lab) -> None:
    pid = lab.pid
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not alive(pid), "the daemon ends")
    assert not lab.is_mounted()


def test_a_busy_mount_is_not_unmounted(lab: Lab) -> None:
    lab.run("echo x > f").ok()
    with (lab / "f").open():
        lab.umount().refused("busy", "fuser")
        assert (lab / "f").read_text() == "x\n"
    lab.umount().ok()


def test_mounting_again_after_a_crash_ends_the_dead_mount(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab()
    lab.run("touch CS-a/cs.lock").ok()
    lab.kill()
    lab.csfs("why", lab / "CS-a").refused("it is dead", "csfs umount")
    assert "was dead" in lab.try_mount().ok().err
    assert lab.state_of("CS-a") == "attached"
    lab.csfs("mount", lab.backing, lab.mountpoint, "--instance", "other", "--state", lab.state).refused(
        "is a csfs mount already", "lab1", "csfs umount"
    )
    lab.umount().ok()
    assert not lab.is_mounted()


def test_a_dead_mount_that_is_in_use_is_ended_all_the_same(make_lab: LabMaker) -> None:
    lab = make_lab()
    for end in (lab.try_mount, lab.umount):
        (lab / "f").write_text("x")
        with (lab / "f").open():
            lab.kill()
            end().ok()
    assert not lab.is_mounted()


def test_after_a_crash_in_place(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    lab.mountpoint = lab.backing
    lab.mount()
    lab.kill()
    lab.mount()
    lab.run("touch CS-a/cs.lock").ok()
    lab.umount().ok()
    assert (sample / "cs.lock").exists()


def test_a_killed_daemon_leaves_every_project_as_it_was(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab()
    lab.run("touch CS-a/cs.lock && cp -a CS-a CS-inert && mkdir CS-b CS-c CS-plain").ok()
    lab.run("touch CS-b/cs.lock CS-c/cs.lock && chmod a-w CS-b && rm CS-c/cs.lock").ok()
    names = ("CS-a", "CS-b", "CS-c", "CS-inert", "CS-plain")
    before = {name: lab.state_of(name) for name in names}
    assert list(before.values()) == ["attached", "archived", "detached", "detached", "plain"]
    documents = (lab / "CS-a/project.json").read_bytes()
    lab.kill()
    subprocess.run(["umount", str(lab.mountpoint)], check=True)
    lab.mount()
    assert {name: lab.state_of(name) for name in names} == before
    assert (lab / "CS-a/project.json").read_bytes() == documents
    lab.run("touch CS-a/new && chmod u+w CS-b && touch CS-c/cs.lock").ok()
    assert lab.attribute("CS-c", "uid") == "P4"


def test_mounted_over_the_backing_directory_itself(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    lab.mountpoint = lab.backing
    lab.mount()
    lab.run("ls && touch CS-a/cs.lock && cp -a CS-a CS-b && mv CS-a CS-c && chmod a-w CS-c").ok()
    assert lab.state_of("CS-c") == "archived"
    lab.run("rm -rf CS-c/J1").refused()
    lab.umount().ok()
    assert sorted(os.listdir(lab.backing)) == [".csfs", "CS-b", "CS-c"]
    assert json.loads((lab.backing / "CS-c/cs.lock").read_text())["state"] == "archived"


def test_a_project_directory_itself_can_be_mounted(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    lab.backing = sample
    lab.mount()
    lab.run("touch cs.lock").ok()
    assert lab.attribute(".", "state") == "attached"
    lab.run("touch J1/new && cat project.json .csfs/status.json").ok()
    lab.run("rm -rf J2").refused("Operation not permitted")
    lab.run("rm cs.lock").ok()
    assert not (sample / "cs.lock").exists()
