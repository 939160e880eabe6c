"""`csfs demo`: every outcome is the expected one, and nothing stays behind, however it ends."""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from csfs.cli import demo
from csfs.cli.transcript import ENDING, MOUNTPOINTS, STORY, Chapter, Step

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, "-m", "csfs", "demo"]
NOBODY = 65534
PATIENCE_SECONDS = 60

MOUNT = STORY[0].steps[0]


def environment(directory: Path) -> Mapping[str, str]:
    return {**os.environ, "TMPDIR": str(directory), "HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}


def mounts_below(directory: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{directory}/")]


def daemons(directory: Path) -> list[int]:
    """Processes whose command line has to do with the directory, or that work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            files = [os.readlink(fd) for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if os.fsencode(directory) in words or any(file.startswith(f"{directory}/") for file in files):
            found.append(int(process.name))
    return found


def check_nothing_is_left(directory: Path) -> None:
    assert mounts_below(directory) == []
    assert daemons(directory) == []
    assert list(directory.iterdir()) == []


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where a demo makes its temporary directory; whatever it leaves mounted ends with the test."""
    yield tmp_path
    for point in mounts_below(tmp_path):
        subprocess.run(["fusermount3", "-u", "-z", point], check=False)
    for pid in daemons(tmp_path):
        os.kill(pid, signal.SIGKILL)


def check_played(printed: str) -> None:
    for chapter in (*STORY, ENDING):
        assert chapter.title in printed
        for step in chapter.steps:
            assert f"$ {step.command}\n" in printed
    assert printed.endswith("\nEvery outcome was the expected one.\n")


def test_every_outcome_is_the_expected_one(place: Path) -> None:
    played = subprocess.run(
        DEMO, cwd=ROOT, env=environment(place), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert played.returncode == 0, played.stdout + played.stderr
    check_played(played.stdout)
    check_nothing_is_left(place)


def test_ordinary_user(place: Path) -> None:
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env"]
    if os.geteuid() != 0:
        pytest.skip("the other test has played it as an ordinary user")
    if subprocess.run([*become, sys.executable, "-c", ""], cwd=ROOT, capture_output=True).returncode:
        pytest.skip("an ordinary user cannot reach this Python")
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, NOBODY, NOBODY)
        played = subprocess.run(
            [*become, *DEMO],
            cwd=ROOT,
            env=environment(Path(home)),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert played.returncode == 0, played.stdout + played.stderr
        check_played(played.stdout)
        check_nothing_is_left(Path(home))


def test_keep_says_how_to_end_it(place: Path) -> None:
    played = subprocess.run(
        [*DEMO, "--keep"],
        cwd=ROOT,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    (directory,) = place.iterdir()
    assert sorted(mounts_below(place)) == [str(directory / name) for name in MOUNTPOINTS]
    assert (directory / "lab2" / "CS-proteasome" / "project.json").is_file()

    said = played.stdout.rpartition("To end it:")[2]
    csfs = f'csfs() {{ {sys.executable} -m csfs "$@"; }}\n'
    ended = subprocess.run(
        ["bash", "-c", csfs + said], cwd=ROOT, capture_output=True, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 0, ended.stderr
    check_nothing_is_left(place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seen", [MOUNT.command, "rm -rf lab1/CS-t20s"])
def test_interrupted(place: Path, number: signal.Signals, seen: str) -> None:
    with subprocess.Popen(
        DEMO,
        cwd=ROOT,
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # The demo keeps ignoring what it was told to ignore, as by nohup: the tests may have been.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as playing:
        assert playing.stdout is not None
        printed = b""
        until = time.monotonic() + PATIENCE_SECONDS
        while f"$ {seen}\n".encode() not in printed:
            assert select.select([playing.stdout], [], [], until - time.monotonic())[0]
            printed += (heard := os.read(playing.stdout.fileno(), 1 << 16))
            assert heard, printed.decode()
        playing.send_signal(number)
        playing.send_signal(number)
        printed += playing.stdout.read()
        assert playing.wait(PATIENCE_SECONDS) == 1, printed.decode()
    check_nothing_is_left(place)


def play(monkeypatch: pytest.MonkeyPatch, place: Path, *steps: Step) -> tuple[int, str]:
    """Exit status and output of a demo of other steps than the usual ones."""
    monkeypatch.setattr(demo, "STORY", (Chapter("Other steps", steps),))
    monkeypatch.setattr(demo, "ENDING", Chapter("No more", ()))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    result = CliRunner().invoke(demo.command)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step("", "false"), "exit status 1\nexpected: exit status 0, and no output"),
        (Step("", "true", fails=True), "exit status 0\nexpected: an exit status other than 0, and no output"),
        (Step("", "echo b", "a"), "exit status 0\nexpected: exit status 0, and this output:\na\n"),
        (Step("", "exit 3"), "the shell has ended"),
    ],
)
def test_unexpected_outcome(monkeypatch: pytest.MonkeyPatch, place: Path, step: Step, expected: str) -> None:
    status, printed = play(monkeypatch, place, MOUNT, step, Step("", "echo not reached"))
    assert status == 1
    assert expected in printed
    assert "not reached" not in printed
    check_nothing_is_left(place)


def test_command_that_does_not_end(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(demo, "_PATIENCE_SECONDS", 1)
    status, printed = play(monkeypatch, place, Step("", "sleep 1000"))
    assert (status, "has not ended in 1 s" in printed) == (1, True)
    check_nothing_is_left(place)


def test_mount_that_stays_busy_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    holding = Step("", "setsid sleep 1000 9>lab1/held >lab1/out 2>&1 & echo $!", "...")
    status, printed = play(monkeypatch, place, MOUNT, holding)
    (holder,) = re.findall(r"^([0-9]+)$", printed, re.M)
    try:
        assert status == 0, printed
        assert mounts_below(place) == []
        assert list(place.iterdir()) == []
        assert daemons(place) in ([], [int(holder)])
    finally:
        os.kill(int(holder), signal.SIGKILL)


@pytest.mark.parametrize(
    ("output", "fails", "printed", "status", "met"),
    [
        ("", False, "", 0, True),
        ("", False, "", 1, False),
        ("", True, "", 2, True),
        ("", False, "x\n", 0, False),
        ("a\n...\nz", False, "a\nb\nc\nz\n", 0, True),
        ("a\n...\nz", False, "a\nz and more\n", 0, False),
        ("a ... z", False, "a  z   \n", 0, True),
        ("a", False, "a\nb\n", 0, False),
    ],
)
def test_what_meets_a_step(output: str, fails: bool, printed: str, status: int, met: bool) -> None:
    assert Step("", "", output, fails).is_met_by(printed, status) is met
