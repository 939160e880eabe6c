"""An instance is gone, or seems to be: who may take its projects, and what it may do when it comes back."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

TAKEOVER = ("-o", "takeover=1")
COMES_BACK = ["cut short", "the heartbeat"]


@pytest.fixture
def pair(sample: Path, make_lab: LabMaker) -> tuple[Lab, Lab]:
    """Two instances that wait for no more than a second; the first has CS-a."""
    labs = make_lab("lab1", options=TAKEOVER), make_lab("lab2", options=TAKEOVER)
    labs[0].run("touch CS-a/cs.lock").ok()
    return labs


def life(observer: Lab, name: str) -> str:
    sessions = observer.backing_status["sessions"]
    assert isinstance(sessions, list)
    return next((each["life"] for each in sessions if each["instance"] == name), "unknown")


def buried(owner: Lab, observer: Lab) -> None:
    """kill -9 of the owner's daemon, and the time after which it counts as dead."""
    owner.kill()
    subprocess.run(["umount", "-l", str(owner.mountpoint)], check=True)
    wait_for(lambda: life(observer, owner.name) == "dead", "the owner counts as dead")


def lock_id(lab: Lab) -> str:
    found = json.loads((lab.backing / "CS-a/cs.lock").read_text())["lock_id"]
    assert isinstance(found, str)
    return found


def rescued(lab: Lab) -> list[str]:
    return [name for name in os.listdir(lab.backing / "CS-a") if name.startswith("cs.lock.rescued-")]


def test_status_lists_who_else_is_there(pair: tuple[Lab, Lab]) -> None:
    lab1, lab2 = pair
    wait_for(lambda: life(lab2, "lab1") == "alive", "lab1 is seen to live")
    assert "lab2 shares its storage with lab1: alive on" in lab2.csfs("status", lab2.mountpoint).ok().out
    lab1.umount().ok()
    wait_for(lambda: life(lab2, "lab1") == "unmounted", "lab1 is seen to have ended")
    assert "lab2 shares its storage with lab1: unmounted on" in lab2.csfs("status", lab2.mountpoint).ok().out


def test_not_while_the_owner_lives(pair: tuple[Lab, Lab]) -> None:
    lab1, lab2 = pair
    wait_for(lambda: life(lab2, "lab1") == "alive", "lab1 is seen to live")
    lab2.run("rm -f CS-a/cs.lock").refused("Operation not permitted")
    assert f"csfs rescue --lock-id {lock_id(lab1)}" in lab2.why("CS-a")
    assert "it is alive on" in lab2.why("CS-a")
    done = lab2.csfs("rescue", lab2 / "CS-a").refused("Operation not permitted")
    assert "is held by lab1 (P1)" in done.out
    assert "it is alive on" in done.out
    assert "jobs that had not ended" in done.out
    lab2.csfs("rescue", "--lock-id", "wrong", lab2 / "CS-a").refused("Operation not permitted")
    assert lab1.state_of("CS-a") == "attached"
    assert rescued(lab1) == []


def test_an_instance_that_was_unmounted_is_not_dead(pair: tuple[Lab, Lab]) -> None:
    lab1, lab2 = pair
    lab1.umount().ok()
    wait_for(lambda: life(lab2, "lab1") == "unmounted", "lab1 is seen to have ended")
    lab2.csfs("rescue", lab2 / "CS-a").refused("it was unmounted on", "may come back")
    lab2.csfs("rescue", "--lock-id", lock_id(lab2), lab2 / "CS-a").ok()
    assert lab2.state_of("CS-a") == "detached"
    lab1.mount()
    assert lab1.state_of("CS-a") == "lost"


@pytest.mark.parametrize("how", ["csfs rescue", "csfs rescue --attach", "rm cs.lock"])
def test_from_a_dead_owner_that_comes_back(pair: tuple[Lab, Lab], how: str) -> None:
    lab1, lab2 = pair
    lab1.csfs("job", "status", lab1 / "CS-a/J5", "queued")
    lab1.run("mkdir CS-a/J30 && setfattr -n user.csfs.status -v queued CS-a/J30").ok()
    lab1.run("setfattr -n user.csfs.status -v launched CS-a/J30").ok()
    lock = (lab1.backing / "CS-a/cs.lock").read_bytes()
    buried(lab1, lab2)
    assert "counts as dead" in lab2.why("CS-a")
    if how == "rm cs.lock":
        lab2.run("rm -f CS-a/cs.lock").ok()
    else:
        done = lab2.csfs(*how.split()[1:], lab2 / "CS-a").ok()
        assert "J30 (queued)" in done.out
    [name] = rescued(lab2)
    assert (lab2.backing / "CS-a" / name).read_bytes() == lock
    if how != "csfs rescue --attach":
        assert lab2.state_of("CS-a") == "detached"
        lab2.run("touch CS-a/cs.lock").ok()
    assert lab2.state_of("CS-a") == "attached"
    assert lab2.attribute("CS-a/J30", "status") == "killed"

    lab1.expected_in_log += COMES_BACK
    lab1.mount()
    assert lab1.state_of("CS-a") == "lost"
    lab1.run("touch CS-a/note").refused("Read-only file system")
    lab1.run("setfattr -n user.csfs.status -v failed CS-a/J30").refused("Read-only file system")
    why = lab1.why("CS-a")
    assert "another instance has taken it" in why
    assert "never exported: J13/job.json J14/job.json J30/job.json" in why
    assert f"{lab1.mountpoint}/.csfs/projects/P1" in why
    assert json.loads((lab1 / ".csfs/projects/P1/J30/job.json").read_text())["status"] == "launched"
    lab1.run("rm -f CS-a/cs.lock").ok()
    assert lab1.state_of("CS-a") == "foreign"
    assert json.loads((lab1 / ".csfs/projects/P1/J30/job.json").read_text())["status"] == "launched"
    assert lab2.state_of("CS-a") == "attached"
    lab2.run("echo x > CS-a/note").ok()


def test_rm_rf_of_a_dead_owners_project_takes_nothing(pair: tuple[Lab, Lab]) -> None:
    lab1, lab2 = pair
    before = sorted(path.name for path in (lab1.backing / "CS-a").rglob("*"))
    buried(lab1, lab2)
    lab2.run("rm -rf CS-a").refused("Operation not permitted")
    lab2.run("rm -rf CS-a/*").refused("Operation not permitted")
    assert sorted(path.name for path in (lab1.backing / "CS-a").rglob("*")) == before
    assert lab2.state_of("CS-a") == "foreign"


def test_two_rescuers_at_once(pair: tuple[Lab, Lab], make_lab: LabMaker) -> None:
    lab1, lab2 = pair
    lab3 = make_lab("lab3", options=TAKEOVER)
    wait_for(lambda: life(lab3, "lab1") == "alive", "lab1 is seen to live")
    buried(lab1, lab2)
    wait_for(lambda: life(lab3, "lab1") == "dead", "lab1 counts as dead there too")
    script = (
        "import os, sys; os.unlink(sys.argv[1]); os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY))"
    )
    rescuers = [
        subprocess.Popen(["python3", "-c", script, str(lab / "CS-a/cs.lock")], stderr=subprocess.PIPE)
        for lab in (lab2, lab3)
        for _ in range(4)
    ]
    ends = [rescuer.communicate(timeout=60)[1] for rescuer in rescuers]
    assert len(rescued(lab2)) >= 1

    def agreed() -> bool:
        states = sorted(lab.state_of("CS-a") for lab in (lab2, lab3))
        return states in (["attached", "foreign"], ["detached", "detached"])

    wait_for(agreed, f"both see the same; the rescuers said {ends}")
    for owner in [lab for lab in (lab2, lab3) if lab.state_of("CS-a") == "attached"]:
        found = json.loads((owner.backing / "CS-a/cs.lock").read_text())
        assert found["instance_name"] == owner.name


def test_an_owner_that_was_stopped_writes_nothing_afterwards(pair: tuple[Lab, Lab]) -> None:
    """SIGSTOP for longer than the takeover time: it wakes up with requests in the queue."""
    lab1, lab2 = pair
    lab1.expected_in_log += ["export of"]
    document = json.loads((lab1 / "CS-a/project.json").read_text())
    wait_for(lambda: life(lab2, "lab1") == "alive", "lab1 is seen to live")
    os.kill(lab1.pid, signal.SIGSTOP)
    try:
        script = (
            "import sys, os\n"
            "for path in sys.argv[1:]:\n"
            "    try:\n"
            "        open(path, 'w').write('late')\n"
            "    except OSError as error:\n"
            "        print(os.strerror(error.errno))\n"
        )
        writers = [
            subprocess.Popen(["python3", "-c", script, path], stdout=subprocess.PIPE, text=True)
            for path in (str(lab1 / "CS-a/J1/late"), str(lab1 / "CS-a/project.json"))
        ]
        wait_for(lambda: life(lab2, "lab1") == "dead", "lab1 counts as dead")
        lab2.run("rm -f CS-a/cs.lock && touch CS-a/cs.lock").ok()
    finally:
        os.kill(lab1.pid, signal.SIGCONT)
    for writer in writers:
        out, _ = writer.communicate(timeout=60)
        assert out.strip() in ("Read-only file system", "Invalid argument"), out
    assert not (lab2.backing / "CS-a/J1/late").exists()
    exported = json.loads((lab2.backing / "CS-a/project.json").read_text())
    assert exported["title"] == document["title"]
    assert lab1.state_of("CS-a") == "lost"
    assert lab2.state_of("CS-a") == "attached"


@pytest.mark.parametrize("option", ["nopassthrough", "strict"])
def test_a_file_that_was_open_is_not_written_once_the_project_is_lost(
    sample: Path, make_lab: LabMaker, option: str
) -> None:
    lab1 = make_lab("lab1", options=("-o", option))
    lab2 = make_lab("lab2")
    lab1.run("touch CS-a/cs.lock").ok()
    path = lab1 / "CS-a/J1/file"
    with path.open("wb", buffering=0) as out, path.open("rb", buffering=0) as reader:
        out.write(b"one")
        assert reader.read() == b"one"
        lab2.csfs("rescue", "--attach", "--lock-id", lock_id(lab1), lab2 / "CS-a").ok()
        deadline = time.monotonic() + 20
        with pytest.raises(OSError, match="Read-only file system"):
            while time.monotonic() < deadline:
                out.write(b"x")
        size = (lab1.backing / "CS-a/J1/file").stat().st_size
        with pytest.raises(OSError, match="Read-only file system"):
            out.write(b"more")
        assert (lab1.backing / "CS-a/J1/file").stat().st_size == size
        assert reader.read(1) in (b"", b"x")


def test_strict_leaves_reading_to_the_kernel(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab("lab1", options=("-o", "strict"))
    lab.run("touch CS-a/cs.lock").ok()
    assert lab.status["strict"] is True
    path = lab / "CS-a/J1/file"
    path.write_bytes(b"x" * 1_000_000)
    with path.open("rb", buffering=0) as reader, path.open("r+b", buffering=0) as writer:
        assert reader.read() == b"x" * 1_000_000
        writer.write(b"y" * 10)
        os.lseek(reader.fileno(), 0, os.SEEK_SET)
        assert reader.read(11) == b"y" * 10 + b"x"
        with path.open("ab", buffering=0) as appender:
            appender.write(b"z")
        assert os.fstat(reader.fileno()).st_size == 1_000_001
    assert (lab.backing / "CS-a/J1/file").read_bytes() == path.read_bytes()


def test_a_storage_that_is_not_mounted_is_not_taken_for_an_empty_one(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.umount().ok()
    away = lab.backing.with_name("away")
    lab.backing.rename(away)
    lab.backing.mkdir()
    lab.try_mount().refused("is the filesystem of the backing directory mounted?", "accept_storage")
    assert os.listdir(lab.backing) == []
    lab.backing.rmdir()
    away.rename(lab.backing)
    assert lab.mount().state_of("CS-a") == "attached"


@pytest.mark.parametrize("word", ["takeover=", "takeover=soon", "takeover=0", "takeover=-1", "takeover=nan"])
def test_a_takeover_time_that_is_none(make_lab: LabMaker, word: str) -> None:
    lab = make_lab("lab1", mounted=False, options=("-o", word))
    lab.try_mount().refused(word, "a number of seconds")


def test_what_is_not_held_by_another_is_not_rescued(sample: Path, lab: Lab) -> None:
    """Each time it is said what to do instead."""
    lab.csfs("rescue", lab.mountpoint).refused("is no project directory")
    lab.csfs("rescue", lab / "CS-a").refused("is detached", f"touch {lab / 'CS-a/cs.lock'}")
    lab.run("touch CS-a/cs.lock").ok()
    lab.csfs("rescue", lab / "CS-a").refused("is attached", "csfs why")
    lab.csfs("rescue", lab.backing).refused("does not lie in a csfs mount")
