"""A backing filesystem that answers late: waiting overlaps, and who waits keeps nobody else waiting."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

DELAY_SECONDS = 0.004
CLIENTS = 16
AT_LEAST = 8
FILES_EACH = 25


@pytest.fixture
def slow_lab(tmp_path: Path, make_lab: LabMaker) -> Iterator[Lab]:
    """A mount over a slow one; a project CS-a of many files in it is attached."""
    below, slow, state = tmp_path / "below", tmp_path / "slow", tmp_path / "slow-state"
    for directory in (below / "backing/CS-a/J1", slow, state):
        directory.mkdir(parents=True)
    (below / "backing/CS-a/project.json").write_text('{"uid": "P1", "title": "slow"}')
    for number in range(CLIENTS * FILES_EACH * 2):
        (below / f"backing/CS-a/J1/{number}").touch()
    (below / "backing/CS-a/J1/stuck").touch()
    words = [sys.executable, "-m", "tests.mount.slow", below, slow, state, str(DELAY_SECONDS)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    lab: Lab | None = None
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        lab = make_lab("lab1", mounted=False)
        lab.backing = slow / "backing"
        lab.mount()
        (lab / "CS-a/cs.lock").touch()
        yield lab
    finally:
        (state / "go").touch()
        if lab is not None:
            lab.take_down()
            lab.backing = below / "backing"
        subprocess.run(["umount", "-l", slow], check=True)
        process.wait(20)
        process.stdout.close()


def rate(lab: Lab, clients: int, first: int) -> float:
    """Stats of files that nobody has asked for yet, a second."""
    names = [f"{lab}/{number}" for number in range(first, first + clients * FILES_EACH)]
    paths = [lab / "CS-a/J1" / name.rpartition("/")[2] for name in names]

    def work(number: int) -> None:
        for path in paths[number::clients]:
            path.stat()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return len(paths) / (time.monotonic() - began)


@pytest.mark.alone
def test_waiting_overlaps(slow_lab: Lab) -> None:
    assert slow_lab.backing_status["io"] == "threads"
    (slow_lab / "CS-a/J1/0").stat()
    alone = rate(slow_lab, 1, 1)
    together = rate(slow_lab, CLIENTS, 1 + FILES_EACH)
    assert together > AT_LEAST * alone, f"{alone:.0f} a second alone, {together:.0f} together"


def test_one_that_is_stuck_keeps_nobody_waiting(slow_lab: Lab) -> None:
    """Not even in the same directory."""
    stuck = [
        threading.Thread(target=act, daemon=True)
        for act in (
            lambda: (slow_lab / "CS-a/J1/stuck").stat(),
            lambda: (slow_lab / "CS-a/J1/stuck").read_bytes(),
        )
    ]
    for each in stuck:
        each.start()
    acts: list[Callable[[], object]] = [
        lambda: (slow_lab / "CS-a/J1/7").stat(),
        lambda: (slow_lab / "CS-a/project.json").read_bytes(),
        lambda: (slow_lab / "CS-a/note").write_text("x"),
        lambda: slow_lab.status,
        lambda: os.listdir(slow_lab / "CS-a"),
    ]
    for act in acts:
        began = time.monotonic()
        act()
        assert time.monotonic() - began < 2
    assert all(each.is_alive() for each in stuck)
    (slow_lab.backing.parents[1] / "slow-state/go").touch()
    for each in stuck:
        each.join(20)
    wait_for(lambda: not any(each.is_alive() for each in stuck), "the stuck ones go on")


def test_the_option_says_where_calls_run(make_lab: LabMaker) -> None:
    for option in ("threads", "inline"):
        lab = make_lab(option, options=("-o", f"io={option}"))
        assert lab.backing_status["io"] == option
        (lab / "CS-x").mkdir()
        (lab / "CS-x/cs.lock").touch()
        (lab / "CS-x/note").write_text("x")
        assert lab.state_of("CS-x") == "attached"
        (lab / "CS-x/cs.lock").unlink()
        lab.run("rm -r CS-x").ok()
