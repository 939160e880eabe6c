"""`csfs check` beside a mount and after it: nothing is found that is only a moment of an action."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from tests.lifecycle.world import tree
from tests.mount.conftest import LabMaker
from tests.mount.lab import Done, Lab

ROUNDS = 150
CHECKS = 4


def check(lab: Lab, *arguments: str) -> Done:
    return lab.csfs("check", lab.backing, "--instance", lab.name, "--state", lab.state, *arguments)


def report(lab: Lab, *arguments: str) -> Any:
    return json.loads(check(lab, "--json", *arguments).out)


def projects(lab: Lab) -> dict[str, tuple[object, ...]]:
    """All but what the mount itself writes there."""
    return {path: facts for path, facts in tree(lab.backing).items() if not path.startswith(".csfs")}


def failures(found: Any) -> list[tuple[str, str]]:
    return [
        (each["kind"], each["path"])
        for each in found["findings"]
        if each["severity"] != "note" and not each["repaired"]
    ]


def test_beside_a_mount_and_after_it(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-b && touch CS-b/cs.lock && chmod a-w CS-b").ok()
    before = projects(lab)
    done = check(lab).ok()
    assert "note: dangling-import P1 CS-a/J1" in done.out.splitlines()
    assert done.out.splitlines()[-1].startswith("2 projects, ")
    assert done.err == ""
    assert failures(report(lab)) == []
    lab.umount().ok()
    assert failures(report(lab)) == []
    check(lab, "--repair").ok()
    assert projects(lab) == before


def write(path: Path, content: bytes) -> None:
    temporary = path.with_name(".new")
    temporary.write_bytes(content)
    temporary.rename(path)


def test_no_moment_of_an_action_is_a_finding(sample: Path, lab: Lab) -> None:
    """Two writers edit documents, and create, complete and delete jobs, for some hundred rounds."""
    lab.run("touch CS-a/cs.lock").ok()
    stop, problems = threading.Event(), []
    done = {"edits": 0, "jobs": 0}

    def edit() -> None:
        while not stop.is_set() or done["edits"] < ROUNDS:
            done["edits"] += 1
            for name in ("project.json", "J3/job.json"):
                path = lab / "CS-a" / name
                found = {**json.loads(path.read_bytes()), "title": f"edit {done['edits']}"}
                if done["edits"] % 2:
                    write(path, json.dumps(found).encode())
                else:
                    path.write_text(json.dumps(found))

    def work() -> None:
        while not stop.is_set() or done["jobs"] < ROUNDS:
            done["jobs"] += 1
            job = lab / f"CS-a/J{100 + done['jobs']}"
            job.mkdir()
            for status in ("queued", "launched", "running", "completed"):
                os.setxattr(job, "user.csfs.status", status.encode())
            (job / "data.mrc").write_bytes(b"data")
            if done["jobs"] % 3 == 0:
                (job / "job.json").unlink()
                (job / "data.mrc").unlink()
                job.rmdir()

    def kept(function: Any) -> None:
        try:
            function()
        except Exception as problem:
            problems.append(problem)

    writers = [threading.Thread(target=kept, args=(each,)) for each in (edit, work)]
    for writer in writers:
        writer.start()
    try:
        found = [failures(report(lab)) for _ in range(CHECKS)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not problems
    assert min(done.values()) >= ROUNDS
    assert found == [[]] * CHECKS
    lab.umount().ok()
    assert failures(report(lab)) == []


def test_lifecycle_actions_meanwhile(sample: Path, lab: Lab) -> None:
    lab.run("mkdir CS-b && touch CS-b/cs.lock").ok()
    stop, problems, rounds = threading.Event(), [], [0]

    def work() -> None:
        commands = (
            "touch CS-a/cs.lock",
            "mv CS-a CS-c",
            "chmod a-w CS-c && chmod u+w CS-c",
            "mv CS-c CS-a",
            "rm CS-a/cs.lock",
        )
        while not stop.is_set():
            for command in commands:
                done = lab.run(command)
                if done.code != 0:
                    problems.append(done)
                    return
            rounds[0] += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        found = [failures(report(lab)) for _ in range(2 * CHECKS)]
    finally:
        stop.set()
        worker.join()
    assert not problems
    assert rounds[0] > 0
    assert found == [[]] * (2 * CHECKS)


def test_repair(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    expected = (sample / "J3/job.json").read_bytes()
    (sample / "J3/job.json").write_bytes(b"edited behind the back")
    done = check(lab)
    assert done.code == 1
    assert "error: document-differs P1 CS-a/J3/job.json" in done.out.splitlines()
    refused = check(lab, "--repair").refused(f"is mounted at {lab.mountpoint} already", "csfs umount")
    assert refused.code == 2
    lab.umount().ok()
    done = check(lab, "--repair").ok()
    assert "repaired: written anew" in done.out
    assert done.out.splitlines()[-1].endswith("1 repaired")
    assert (sample / "J3/job.json").read_bytes() == expected
    (kept,) = sample.glob("J3/job.json.before-repair-*")
    assert kept.read_bytes() == b"edited behind the back"
    assert failures(report(lab)) == []
    lab.mount()
    assert (lab / "CS-a/J3/job.json").read_bytes() == expected


def test_a_job_directory_gets_its_job_as_advised(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    shutil.copytree(sample / "J3", sample / "J50", symlinks=True)
    found = report(lab, "P1")
    assert failures(found) == [("directory-without-job", "J50")]
    (advice,) = [
        each["advice"] for each in found["findings"] if each["path"] == "J50" and each["severity"] != "note"
    ]
    lab.run(f"cd CS-a && {advice.partition(': ')[2]}").ok()
    assert failures(report(lab, "P1")) == []


def test_after_a_crash(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.kill()
    subprocess.run(["umount", "-l", str(lab.mountpoint)], check=True)
    assert failures(report(lab)) == []
    check(lab, "--repair").ok()
    lab.mount()


def test_what_is_checked(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir -p group/CS-b && touch group/CS-b/cs.lock").ok()
    assert report(lab)["projects"] == 2
    for one in ("P1", "CS-a", str(sample), "group/CS-b", "P2"):
        assert report(lab, one)["projects"] == 1
    assert report(lab, "P1", "P2", "CS-a")["projects"] == 2
    for wrong in ("P9", "CS-none", "../elsewhere", "/etc"):
        assert check(lab, wrong).code == 2


def test_what_cannot_be_checked(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab("lab1")
    other = make_lab("lab2", mounted=False)
    assert check(other).refused("there is no instance lab2", "--state").code == 2
    assert not (other.state / "lab2").exists()
    covered = lab.csfs("check", lab.mountpoint, "--instance", "lab1", "--state", lab.state)
    assert covered.refused("csfs mount", "csfs umount").code == 2
    assert lab.csfs("check", tmp_path / "none", "--instance", "lab1").code == 2
    lab.umount().ok()
    (lab.state / "lab1/store/data.mdb").write_bytes(b"no store" * 1000)
    assert check(lab).refused("the store").code == 2


def test_a_mount_below_the_backing_directory_is_not_entered(lab: Lab, make_lab: LabMaker) -> None:
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    inner = Lab("lab2", lab.backing, lab.backing / "inner", lab.state)
    inner.mountpoint.mkdir()
    inner.mount()
    try:
        assert report(lab)["projects"] == 1
    finally:
        inner.take_down()


def test_a_repair_is_named_to_who_would_mount(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab("lab1")
    lab.run("touch CS-a/cs.lock").ok()
    lab.umount().ok()
    script = (
        "import sys; from csfs.mount.daemon import holding; from csfs.mount.options import MountOptions\n"
        "from pathlib import Path\n"
        "with holding(MountOptions(sys.argv[1], '', 'lab1', Path(sys.argv[2]))):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", script, str(lab.backing), str(lab.state)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        lab.try_mount().refused("is being repaired", f"by process {holder.pid}")
        assert check(lab).code == 0
        holder.stdin.close()
    lab.mount()


def test_control_characters_in_names_are_escaped(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    (sample / "J3/\x1b[31m\nerror: lost").symlink_to("gone")
    out = check(lab).out
    assert "\\x1b[31m\\x0aerror: lost -> gone" in out
    assert "\x1b" not in out
