"""`csfs backup` and `csfs recover` around real mounts: what is lost comes back."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from csfs.store import backup
from tests.lifecycle.world import tree
from tests.mount.conftest import LabMaker
from tests.mount.lab import Done, Lab, wait_for

STATES = {
    "CS-a": "attached",
    "CS-b": "archived",
    "CS-c": "detached",
    "CS-d": "attached",
    "CS-copy": "detached",
}


def populate(lab: Lab) -> None:
    """P1 with jobs of every kind, P2 archived, P3 detached, P4, a copy, and P5, which is away."""
    lab.run("cp -a CS-a CS-b && cp -a CS-a CS-c && cp -a CS-a CS-copy && cp -a CS-a CS-away").ok()
    lab.run("touch CS-a/cs.lock && touch CS-b/cs.lock && touch CS-c/cs.lock").ok()
    lab.run("chmod a-w CS-b && rm CS-c/cs.lock && mkdir CS-d && touch CS-d/cs.lock").ok()
    lab.run("touch CS-away/cs.lock && chmod a-w CS-away").ok()
    shutil.move(lab.backing / "CS-away", lab.backing.parent / "away")
    for uid, status in (("J20", "failed"), ("J21", "running"), ("J22", "completed"), ("J23", "building")):
        lab.run(f"mkdir CS-d/{uid} && echo data > CS-d/{uid}/data.mrc").ok()
        lab.csfs("job", "status", lab / f"CS-d/{uid}", status).ok()


def facts(lab: Lab) -> dict[str, dict[str, object]]:
    """The state of each project, and what the instance knows of those that it holds."""
    found: dict[str, dict[str, object]] = {}
    for name, state in STATES.items():
        assert lab.state_of(name) == state, name
        if state in ("attached", "archived"):
            uid = lab.attribute(name, "uid")
            known = lab / ".csfs/projects" / uid
            jobs = {
                path.name: (path / "job.json").read_bytes()
                for path in known.iterdir()
                if path.name.startswith("J")
            }
            documents = {path: (known / path).read_bytes() for path in ("project.json", "workspaces.json")}
            found[name] = {"uid": uid, **jobs, **documents}
    return found


def assert_same(before: dict[str, dict[str, object]], after: dict[str, dict[str, object]]) -> None:
    assert after.keys() == before.keys()
    for name, was in before.items():
        assert after[name].keys() == was.keys(), name
        for key, value in was.items():
            assert after[name][key] == value, f"{name} {key}"


def data(lab: Lab) -> dict[str, tuple[object, ...]]:
    return {path: each for path, each in tree(lab.backing).items() if not path.startswith(".csfs")}


def recover(lab: Lab, *more: str | Path) -> Done:
    return lab.csfs("recover", lab.backing, "--instance", lab.name, "--state", lab.state, *more)


def back_up(lab: Lab, *more: str | Path) -> Done:
    return lab.csfs("backup", *more, "--instance", lab.name, "--state", lab.state)


def store_of(lab: Lab) -> Path:
    return lab.state / lab.name / "store"


def test_a_deleted_state_directory_with_a_backup(sample: Path, make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab("lab1")
    populate(lab)
    saved = tmp_path / "saved.mdb"
    assert "5 projects" in back_up(lab, saved).ok().out
    before = facts(lab)
    lab.run("mkdir CS-e && touch CS-e/cs.lock").ok()
    lab.umount().ok()
    files = data(lab)
    shutil.rmtree(lab.state / lab.name)
    told = recover(lab, "--from", saved).ok().out
    assert "J21 was running in the backup" in told
    assert "J23 is building" in told
    assert "the next one gets P7" in told
    assert data(lab) == files
    lab.mount()
    after = facts(lab)
    killed = lab.attribute("CS-d/J21", "status")
    assert killed == "killed"
    for found in (before, after):
        found["CS-d"].pop("J21")
    assert_same(before, after)
    assert lab.attribute("CS-d/J20", "status") == "failed"
    assert lab.attribute("CS-e", "uid") == "P6", "which was made after the backup"
    lab.run("mkdir CS-f && touch CS-f/cs.lock").ok()
    assert lab.attribute("CS-f", "uid") == "P7"
    shutil.copytree(tmp_path / "away", lab.backing / "CS-away", symlinks=True)
    lab.run("chmod u+w CS-away").ok()
    assert lab.attribute("CS-away", "uid") == "P5"
    assert lab.state_of("CS-away") == "attached"
    lab.csfs("job", "status", lab / "CS-d/J20", "completed").ok()
    assert json.loads((lab.backing / "CS-d/J20/job.json").read_text())["status"] == "completed"


def test_a_deleted_store_is_not_begun_anew_where_there_is_a_backup(sample: Path, lab: Lab) -> None:
    """What is printed, run as it is printed, leads on."""
    lab.run("touch CS-a/cs.lock").ok()
    lab.csfs("backup", "--instance", lab.name, "--state", lab.state).ok()
    lab.umount().ok()
    shutil.rmtree(store_of(lab))
    refused = lab.try_mount().refused("is gone, but backups of it are there", "csfs recover")
    assert not store_of(lab).exists()
    (command,) = re.findall(r"csfs (recover .+)", refused.err)
    lab.csfs(*shlex.split(command)).ok()
    assert lab.mount().state_of("CS-a") == "attached"


@pytest.mark.parametrize("damage", ["deleted", "truncated", "overwritten"])
def test_a_lost_store_without_a_backup(sample: Path, make_lab: LabMaker, damage: str) -> None:
    lab = make_lab("lab1", options=("-o", "backup=off"))
    populate(lab)
    before = facts(lab)
    identity = lab.status["instance_uuid"]
    lab.umount().ok()
    files = data(lab)
    file = store_of(lab) / "data.mdb"
    if damage == "deleted":
        shutil.rmtree(store_of(lab))
    elif damage == "truncated":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(os.urandom(file.stat().st_size))
    if damage != "deleted":
        lab.try_mount().refused("is damaged", "csfs recover", str(lab.backing))
    report = json.loads(recover(lab, "--dry-run", "--json").ok().out)
    assert [each["uid"] for each in report["projects"]] == ["P1", "P2", "P4"]
    jobs = {each["job"]: each["why"] for each in report["projects"][2]["never_exported"]}
    assert jobs.keys() == {"J20", "J21", "J23"}
    assert [each["path"] for each in report["passed_over"]] == []
    told = recover(lab).ok().out
    assert "P1 CS-a: J15 has no job.json" in told
    kept = [path.name for path in (lab.state / "lab1").iterdir() if path.name.startswith("store.")]
    assert [name.partition("-")[0] for name in kept] == ([] if damage == "deleted" else ["store.damaged"])
    assert data(lab) == files
    lab.mount()
    assert lab.status["instance_uuid"] == identity
    after = facts(lab)
    for found in (before, after):
        for uid in ("J20", "J21"):
            found["CS-d"].pop(uid)
    assert_same(before, after)
    lab.run("mkdir CS-f && touch CS-f/cs.lock").ok()
    number = int(lab.attribute("CS-f", "uid")[1:])
    assert number >= 5, "P5 is away, and nothing on the directory tells of it"
    lab.run("chmod u+w CS-b && rm CS-d/J23/job.json && rm -r CS-d/J23").ok()
    assert lab.state_of("CS-b") == "attached"


def test_while_it_is_mounted_it_is_refused(sample: Path, make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab("lab1")
    lab.run("touch CS-a/cs.lock").ok()
    recover(lab, "--replace").refused("is mounted at", "csfs umount")
    elsewhere = ("--state", tmp_path / "elsewhere")
    lab.csfs("recover", lab.backing, "--instance", "lab1", *elsewhere).refused("is mounted at")
    assert lab.state_of("CS-a") == "attached"
    other = make_lab("lab2")
    lab.csfs("recover", other.mountpoint, "--instance", "lab1", *elsewhere).refused("lab2 is mounted at")
    lab.umount().ok()
    recover(lab).refused("--replace", "not damaged")
    recover(lab, "--replace").ok()
    lab.csfs("recover", lab.backing, "--instance", "none", "--state", lab.state).refused(
        "no project is held", "CS-a", "lab1"
    )
    lab.mount()
    assert lab.state_of("CS-a") == "attached"


_STOPS = """
import os, signal, sys
from csfs.lifecycle import recover

def stop(*arguments):
    print("here", flush=True)
    signal.pause()

if sys.argv[1] == "while it is built":
    recover.take = stop
elif sys.argv[1] == "before the old one is moved":
    recover._put_in_place = stop
else:
    rename = os.rename
    def stop_at_second(source, target):
        if os.path.basename(source) == recover.RECOVERING:
            stop()
        rename(source, target)
    os.rename = stop_at_second
sys.argv = ["csfs", *sys.argv[2:]]
from csfs.cli.main import main
main()
"""


@pytest.mark.parametrize("where", ["while it is built", "before the old one is moved", "between the renames"])
def test_killed_in_the_middle_it_is_repeated(sample: Path, make_lab: LabMaker, where: str) -> None:
    lab = make_lab("lab1", options=("-o", "backup=off"))
    populate(lab)
    lab.csfs("job", "status", lab / "CS-d/J21", "completed").ok()
    lab.csfs("job", "status", lab / "CS-d/J20", "completed").ok()
    before = facts(lab)
    lab.umount().ok()
    file = store_of(lab) / "data.mdb"
    file.write_bytes(os.urandom(file.stat().st_size))
    damaged = file.read_bytes()
    words = ["recover", lab.backing, "--instance", "lab1", "--state", lab.state]
    with subprocess.Popen(
        [sys.executable, "-c", _STOPS, where, *map(str, words)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        lab.try_mount().refused("or its store rebuilt")
        recover(lab).refused("or its store rebuilt")
        process.send_signal(signal.SIGKILL)
    lab.try_mount().refused("csfs recover", "cut short" if where == "between the renames" else "is damaged")
    recover(lab).ok()
    assert damaged in [path.read_bytes() for path in lab.state.glob("lab1/store.damaged-*/data.mdb")]
    lab.mount()
    assert_same(before, facts(lab))


def test_a_mount_backs_up_by_itself(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab("lab1")
    lab.run("touch CS-a/cs.lock").ok()
    lab.umount().ok()
    lab.mount()
    place = lab.state / "lab1" / "backups"
    wait_for(lambda: len(backup.listed(place)) == 1, "the backup of the mount")
    wait_for(lambda: lab.status["backup"]["last"] is not None, "the status tells of it")  # type: ignore[index]
    last = lab.status["backup"]["last"]  # type: ignore[index]
    assert last in lab.csfs("status", lab.mountpoint).ok().out
    lab.umount().ok()
    lab.mount()
    assert lab.status["backup"]["every_hours"] == 24  # type: ignore[index]
    back_up(lab).ok()
    listed = json.loads(back_up(lab, "--list", "--json").ok().out)
    assert [each["projects"] for each in listed] == [1, 1]
    back_up(lab, "--keep", "1").ok()
    (left,) = backup.listed(place)
    assert str(left) in back_up(lab, "--list").ok().out
    lab.umount().ok()
    file = store_of(lab) / "data.mdb"
    os.truncate(file, 4096)
    lab.try_mount().refused(f"--from {left}")
    recover(lab, "--from", left).ok()
    lab.mount()
    assert lab.state_of("CS-a") == "attached"


def test_a_backup_that_fails_is_shown(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab("lab1", expected_in_log=["the backup to"])
    lab.run("touch CS-a/cs.lock").ok()
    lab.umount().ok()
    (lab.state / "lab1" / "backups").write_text("in the way")
    lab.mount()
    wait_for(lambda: bool(lab.status["backup"]["failing"]), "the failure")  # type: ignore[index]
    assert lab.csfs("status", lab.mountpoint).refused("the backup fails").code == 3
    assert lab.state_of("CS-a") == "attached"


def test_what_cannot_be_backed_up_says_why(lab: Lab, tmp_path: Path) -> None:
    lab.csfs("backup", "--instance", "none", "--state", lab.state).refused("no instance none", "--state")
    (tmp_path / "precious").write_text("mine")
    back_up(lab, tmp_path / "precious").refused("is there already")
    assert (tmp_path / "precious").read_text() == "mine"
    back_up(lab, tmp_path / "none" / "file").refused("No such file or directory")
    back_up(lab, "--list", tmp_path / "x").refused("--list")
    back_up(lab, "--json").refused("--list")
    assert "there is no backup" in back_up(lab, "--list").ok().out
    (tmp_path / "place").mkdir()
    back_up(lab, tmp_path / "place").ok()
    (made,) = (tmp_path / "place").iterdir()
    assert made.name.startswith("lab1-")
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("option", ["backup=", "backup=often", "backup=-1"])
def test_an_interval_that_is_none_is_refused(make_lab: LabMaker, option: str) -> None:
    lab = make_lab("lab1", mounted=False, options=("-o", option))
    lab.try_mount().refused(option, "hours")
    lab.options = ("-o", "backup=6,nopassthrough")
    lab.mount()
    assert lab.status["backup"]["every_hours"] == 6  # type: ignore[index]
    assert lab.backing_status["passthrough"] != "active"
