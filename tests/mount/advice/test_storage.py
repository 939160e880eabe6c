"""Refusals that concern containers, the storage, the store and the daemon: where their advice leads."""

import contextlib
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.domain.rule import Rule
from tests.mount.advice.asking import Asking, leads_on, refused, works
from tests.mount.advice.conftest import Filesystems
from tests.mount.lab import ORDINARY_USER, Done, Lab, wait_for
from tests.mount.test_containers import ContainersLab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems of its own: needs root")

DENIED, NOT_PERMITTED, FULL = "Permission denied", "Operation not permitted", "No space left on device"
ACROSS = "Invalid cross-device link"
LIMIT = 1_000


class WeakLab(Lab):
    """Its daemon is root's, yet may read no more than the mode bits permit: as on a network filesystem."""

    def csfs(self, *arguments: str | Path) -> Done:
        weak = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        return self._run([*weak, sys.executable, "-m", "csfs", *map(str, arguments)])


@pytest.fixture
def containers(place: Path, request: pytest.FixtureRequest) -> Iterator[ContainersLab]:
    """An instance with two containers, and a third that is away."""
    top = place / "it's-here"
    backings = {name: top / name for name in ("ssd", "hdd", "away")}
    for directory in (top, top / "mount", backings["ssd"], backings["hdd"]):
        directory.mkdir()
    lab = ContainersLab("lab1", top, top / "mount", top / "state")
    lab.containers = dict(backings)
    lab.expected_in_log = ["away"]
    try:
        yield lab.mount()
    finally:
        lab.take_down()
        subprocess.run(["rm", "-r", top], check=True)


def mounted(place: Path, name: str, kind: type[Lab] = Lab) -> Lab:
    lab = kind(name, place / f"{name}-backing", place / name, place / f"{name}-state")
    for directory in (lab.backing, lab.mountpoint, lab.state):
        directory.mkdir(exist_ok=True)
    lab.mount()
    return lab


@leads_on(Rule.CONTAINERS)
def test_containers(containers: ContainersLab, ask: Asking) -> None:
    lab = containers
    refused(lab, NOT_PERMITTED, "mkdir new")
    advice = ask.why(lab, "", Rule.CONTAINERS)
    told = advice.attempt("csfs status").out
    assert f"{lab / 'hdd'} is {lab.backing / 'hdd'}" in told
    works(lab, "mkdir hdd/new")
    lab.containers["new"] = lab.backing / "new"
    lab.containers["new"].mkdir()
    lab.write_config()
    advice.follow("csfs umount", FILE=lab.config)
    works(lab, "touch new/file")


@leads_on(Rule.ACROSS_CONTAINERS)
def test_across_containers(containers: ContainersLab, ask: Asking) -> None:
    lab = containers
    works(lab, "touch ssd/file && mkdir ssd/CS-a && touch ssd/CS-a/cs.lock")
    refused(lab, ACROSS, "ln ssd/file hdd/file")
    advice = ask.why(lab, "ssd/file", Rule.ACROSS_CONTAINERS)
    advice.follow("cp -a")
    assert (lab / "hdd/file").exists()
    with pytest.raises(OSError, match=ACROSS):
        os.rename(lab / "ssd/CS-a", lab / "hdd/CS-b")
    ask.why(lab, "ssd/CS-a", Rule.ACROSS_CONTAINERS).follow("csfs move")
    assert lab.state_of("hdd/CS-b") == "attached"


@leads_on(Rule.AWAY)
def test_away(containers: ContainersLab, ask: Asking) -> None:
    lab = containers
    refused(lab, "No such device", "ls away/")
    lab.containers["away"].mkdir()
    ask.why(lab, "away", Rule.AWAY).follow("csfs umount", FILE=lab.config)
    works(lab, "touch away/file")


@leads_on(Rule.STORAGE_FULL, Rule.STORAGE_READ_ONLY)
def test_full_and_read_only(place: Path, ask: Asking, filesystem: Filesystems) -> None:
    filesystem.mount(place / "lab6-backing")
    lab = mounted(place, "lab6")
    try:
        works(lab, "mkdir CS-a")
        lab.backing.joinpath("filler").write_bytes(b"")
        subprocess.run(["dd", "if=/dev/zero", "bs=4k", f"of={lab.backing}/filler"], capture_output=True)
        refused(lab, FULL, "touch CS-a/cs.lock")
        advice = ask.why(lab, "CS-a", Rule.STORAGE_FULL)
        assert " 100% " in advice.follow("df -h").out
        advice.follow("df -i")
        (lab.backing / "filler").unlink()
        works(lab, "touch CS-a/cs.lock")

        words = ["mount", "-o", "remount,ro", lab.backing]
        wait_for(lambda: subprocess.run(words, capture_output=True).returncode == 0, "it is read-only")
        refused(lab, "Read-only file system", "touch CS-a/new")
        ask.why(lab, "CS-a/new", Rule.STORAGE_READ_ONLY).follow("mount")
        works(lab, "touch CS-a/new")
    finally:
        lab.take_down()


@leads_on(Rule.STORE_FAILED)
def test_store_failed(place: Path, ask: Asking, filesystem: Filesystems) -> None:
    filesystem.mount(place / "lab7-state")
    lab = mounted(place, "lab7")
    try:
        works(lab, "mkdir CS-a")
        subprocess.run(["dd", "if=/dev/zero", "bs=4k", f"of={lab.state}/filler"], capture_output=True)
        refused(lab, FULL, "touch CS-a/cs.lock")
        told = ask.why(lab, "CS-a", Rule.STORE_FAILED).follow("df").out
        assert str(lab.state) in told
        (lab.state / "filler").unlink()
        wait_for(lambda: lab.run("touch CS-a/cs.lock").code == 0, "the store can be written again")
    finally:
        lab.take_down()


@leads_on(Rule.STORAGE_DENIED)
def test_storage_denied(place: Path, ask: Asking) -> None:
    lab = mounted(place, "lab8", WeakLab)
    try:
        closed = lab.backing / "closed 'for' \"us\""
        closed.mkdir(0o700)
        os.chown(closed, ORDINARY_USER, ORDINARY_USER)
        refused(lab, DENIED, "ls {}/file", closed.name)
        told = ask.why(lab, closed.name, Rule.STORAGE_DENIED).attempt("namei").out
        assert "drwx------ nobody" in told
        closed.chmod(0o777)
        works(lab, "touch {}/file", closed.name)
    finally:
        lab.take_down()


@leads_on(Rule.STORAGE_FAILED)
def test_storage_failed(place: Path, ask: Asking) -> None:
    lab = Lab("lab1", place / "lab9-backing", place / "lab9", place / "lab9-state")
    for directory in (lab.backing, lab.mountpoint, lab.state):
        directory.mkdir()
    words = [sys.executable, "-m", "tests.mount.broken", lab.backing, lab.mountpoint, lab.state]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            (lab.backing / "there").touch()
            (lab.state / "failing").touch()
            refused(lab, "Input/output error", "touch failing")
            assert ask.why(lab, "failing", Rule.STORAGE_FAILED).follow("ls").out == "there\n"
            (lab.state / "failing").unlink()
            works(lab, "touch failing")
        finally:
            lab.take_down()
            process.wait(20)


@leads_on(Rule.TOO_MANY_FILES)
def test_too_many_files(place: Path, ask: Asking) -> None:
    lab = Lab("lab10", place / "lab10-backing", place / "lab10", place / "lab10-state")
    for directory in (lab.backing, lab.mountpoint, lab.state):
        directory.mkdir()
    again = ["csfs", "mount", lab.backing, lab.mountpoint, "--instance", lab.name, "--state", lab.state]
    mount = shlex.join(map(str, again))
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        ask.run(f"ulimit -n {LIMIT} && {mount}").ok()
        with contextlib.ExitStack() as stack:
            opened = []
            with pytest.raises(OSError, match="Too many open files in system"):
                for number in range(LIMIT):
                    opened.append(stack.enter_context((lab / str(number)).open("w")))
            advice = ask.why(lab, "", Rule.TOO_MANY_FILES)
            opened[0].close()
            wait_for(lambda: lab.run("touch again").code == 0, "a file that was closed gives room")
        advice.follow("csfs umount")
        advice.follow("ulimit", then=f" && {mount}", NUMBER=LIMIT * 4)
        with contextlib.ExitStack() as stack:
            for number in range(LIMIT):
                stack.enter_context((lab / str(number)).open("w"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))
        lab.take_down()
