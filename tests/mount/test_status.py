"""`csfs status`: what it shows, its exit statuses, and that no mount makes it hang."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from csfs.cli import mounts, status
from tests.mount.conftest import LabMaker
from tests.mount.lab import ORDINARY_USER, Lab, wait_for

ATTENTION = 3


def paths(*labs: Lab) -> list[str]:
    return [str(lab.mountpoint) for lab in labs]


def told(*labs: Lab) -> dict[str, Any]:
    """What `csfs status --json` says of these mounts, by mount point."""
    done = CliRunner().invoke(status.command, ["--json", *paths(*labs)])
    return {each["mountpoint"]: each for each in json.loads(done.output)}


def test_a_mount_tells_of_itself(sample: Path, make_lab: LabMaker) -> None:
    two, one = make_lab("lab2"), make_lab("lab1")
    one.run("touch CS-a/cs.lock && mkdir CS-b && touch CS-b/cs.lock && rm CS-b/cs.lock").ok()
    one.run("for each in 1 2 3 4 5 6; do mkdir .csfs/mine; done").refused()
    with pytest.raises(PermissionError):
        os.unlink(one / "CS-a/project.json")
    found = told(one, two)
    assert list(found) == [str(two.mountpoint), str(one.mountpoint)]
    shown = found[str(one.mountpoint)]
    (container,) = shown.pop("containers")
    assert [each["instance"] for each in container.pop("sessions")] == ["lab2"]
    assert container == {
        "name": "",
        "backing": str(one.backing),
        "away": "",
        "io": one.backing_status["io"],
        "passthrough": one.backing_status["passthrough"],
        "heartbeat": {"takeover_seconds": 300.0, "late": False, "problem": ""},
    }
    refused = shown.pop("last_refusals")
    assert [each["rule"] for each in refused] == ["CONTROL"] * 4 + ["DOCUMENT_STAYS"]
    assert (refused[4]["pid"], refused[4]["path"]) == (os.getpid(), "CS-a/project.json")
    assert shown.pop("store_bytes") > 0
    assert shown.pop("state_directory") == str(one.state / "lab1/store")
    assert shown == {
        "mountpoint": str(one.mountpoint),
        "backing": str(one.backing),
        "instance": "lab1",
        "pid": one.pid,
        "state": "ready",
        "version": one.status["version"],
        "since": one.status["since"],
        "strict": False,
        "projects": {"attached": 1, "detached": 1},
        "transitions": {},
        "unsettled": [],
        "store_problem": "",
        "exports_waiting": {"documents": 0, "oldest_seconds": 0.0, "first": [], "held_back": 0},
        "exports_failing": {},
        "backup": {"last": None, "failing": ""},
        "attention": [],
    }
    text = one.csfs("status", one.mountpoint).ok().out
    assert text.startswith(f"{one.mountpoint} over {one.backing}: lab1, ready, healthy\n")
    assert "1 attached, 1 detached" in text
    assert "lab1 shares its storage with lab2: " in text
    assert text.count("  refused ") == 5
    assert str(two.mountpoint) not in text


def test_a_lost_project_needs_attention(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab("lab1")
    lab.run("touch CS-a/cs.lock").ok()
    (sample / "cs.lock").unlink()
    wait_for(lambda: lab.state_of("CS-a") == "lost", "the loss is seen")
    assert lab.csfs("status", lab.mountpoint).refused("lost projects: 1", "csfs why").code == ATTENTION
    assert lab.status["projects"] == {"lost": 1}


def test_nothing_is_mounted(tmp_path: Path) -> None:
    shell = CliRunner()
    done = shell.invoke(status.command, [str(tmp_path)])
    assert (done.exit_code, done.output) == (1, "nothing is mounted there\n")
    done = shell.invoke(status.command, ["--json", str(tmp_path)])
    assert (done.exit_code, done.output) == (1, "[]\n")
    assert "0 all is well, 1 nothing is mounted" in shell.invoke(status.command, ["--help"]).output


def test_mounts_that_hang_or_are_dead_are_told_in_the_patience_of_one(
    make_lab: LabMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, dead, hanging, stuck = map(make_lab, ("well", "dead", "hanging", "stuck"))
    patience = 2
    monkeypatch.setattr(mounts, "_PATIENCE_SECONDS", patience)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    dead.kill()
    stopped = [hanging.pid, stuck.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = CliRunner().invoke(status.command, ["--json", *paths(well, dead, hanging, stuck)])
        assert time.monotonic() - began < 2 * patience
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert done.exit_code == ATTENTION
    found = {Path(each["mountpoint"]).name: each for each in json.loads(done.output)}
    states = {name: each["state"] for name, each in found.items()}
    assert states == {"well": "ready", "dead": "dead", "hanging": "hanging", "stuck": "hanging"}
    assert "csfs umount" in found["dead"]["attention"][0]
    assert "does not answer" in found["hanging"]["attention"][0]
    assert found["well"]["attention"] == []
    done = CliRunner().invoke(status.command, paths(dead))
    assert (done.exit_code, "dead, needs attention" in done.output) == (ATTENTION, True)
    done = CliRunner().invoke(status.command, paths(hanging, stuck))
    assert (done.exit_code, done.output.count("ready, healthy")) == (0, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"mountpoint": 3}', b"\xff", b"[" * 100_000],
    ids=["empty", "a list", "a number", "not UTF-8", "deep"],
)
def test_what_makes_no_sense_is_unreadable(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".csfs").mkdir()
    (tmp_path / ".csfs/status.json").write_bytes(content)
    monkeypatch.setattr(mounts, "places", lambda whole: [(str(tmp_path), "/somewhere")])
    (found,) = mounts.all_mounts()
    assert (found.mountpoint, found.backing, found.state) == (str(tmp_path), "/somewhere", "unreadable")


def test_what_does_not_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".csfs").mkdir()
    (tmp_path / ".csfs/status.json").symlink_to("/dev/zero")
    monkeypatch.setattr(mounts, "places", lambda whole: [(str(tmp_path), "/somewhere")])
    monkeypatch.setattr(mounts, "_MOST_BYTES", 1 << 20)
    (found,) = mounts.all_mounts()
    assert found.state == "unreadable"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_mount_of_another_user_is_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".csfs").mkdir(mode=0o700)
    (tmp_path / ".csfs/status.json").write_text("{}")
    monkeypatch.setattr(mounts, "places", lambda whole: [(str(tmp_path), "/somewhere")])
    os.seteuid(ORDINARY_USER)
    try:
        done = CliRunner().invoke(status.command)
    finally:
        os.seteuid(0)
    assert (done.exit_code, done.output) == (0, f"{tmp_path} over /somewhere: closed, not to be seen\n")


def test_a_bind_mount_of_a_directory_is_no_mount_of_its_own(lab: Lab, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes bind mounts")
    (lab / "dir").mkdir()
    (tmp_path / "bound").mkdir()
    subprocess.run(["mount", "--bind", lab / "dir", tmp_path / "bound"], check=True)
    try:
        assert list(told(lab)) == [str(lab.mountpoint)]
        assert CliRunner().invoke(status.command, [str(tmp_path / "bound")]).exit_code == 1
    finally:
        subprocess.run(["umount", tmp_path / "bound"], check=True)
