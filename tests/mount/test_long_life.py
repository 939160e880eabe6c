"""A daemon that lives long: many files, many clients, signals, limits, and a mistake in a handler."""

import contextlib
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, alive, wait_for
from tests.mount.watching import MEBIBYTE, anonymous, descriptors, unharmed

FILES = 20_000
OPEN = 2_000
CLIENTS = 64
LIMIT = 1_000


def forget(lab: Lab, known: int) -> None:
    """Has the kernel forget what it does not use, until the daemon knows no more inodes than so."""

    def forgotten() -> bool:
        Path("/proc/sys/vm/drop_caches").write_text("2")
        found = lab.status["known_inodes"]
        assert isinstance(found, int)
        return found <= known

    wait_for(forgotten, f"the kernel forgets all but {known} inodes")


@pytest.fixture
def more_descriptors() -> Iterator[None]:
    """As many descriptors for the test itself as it may have."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the kernel's caches")
def test_listed_forgotten_and_listed_again(lab: Lab) -> None:
    (lab.backing / "many").mkdir()
    for number in range(FILES):
        os.close(os.open(lab.backing / f"many/{number}", os.O_CREAT | os.O_WRONLY))
    sizes = []
    for _ in range(3):
        with os.scandir(lab / "many") as entries:
            assert sum(entry.stat().st_size == 0 for entry in entries) == FILES
        known = lab.status["known_inodes"]
        assert isinstance(known, int)
        assert known > FILES // 2
        forget(lab, 100)
        sizes.append(anonymous(lab.pid))
    assert sizes[2] - sizes[0] < 4 * MEBIBYTE, sizes


def test_many_open_at_the_same_time(lab: Lab, more_descriptors: None) -> None:
    (lab / "CS-a").mkdir()
    (lab / "CS-a/cs.lock").touch()
    before = descriptors(lab.pid)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context((lab / f"CS-a/{number}").open("w+b")) for number in range(OPEN)]
        for number, each in enumerate(opened):
            each.write(b"%d" % number)
            each.flush()
        assert lab.status["open_files"] == OPEN
        with pytest.raises(OSError) as caught:
            (lab / "CS-a/cs.lock").unlink()
        assert caught.value.errno == errno.EBUSY
        for number, each in enumerate(opened):
            each.seek(0)
            assert each.read() == b"%d" % number
    wait_for(lambda: descriptors(lab.pid) <= before + 5, "their descriptors are closed")
    (lab / "CS-a/cs.lock").unlink()
    assert sum(int(path.read_bytes()) for path in lab.backing.glob("CS-a/[0-9]*")) == sum(range(OPEN))


def test_many_clients(lab: Lab) -> None:
    (lab / "CS-a").mkdir()
    (lab / "CS-a/cs.lock").touch()
    problems: list[str] = []

    def work(number: int) -> None:
        mine = lab / f"CS-a/client{number}"
        try:
            mine.mkdir()
            for turn in range(5):
                (mine / "f").write_text(f"{number} {turn}")
                (mine / "f").rename(mine / f"g{turn}")
                assert (mine / f"g{turn}").read_text() == f"{number} {turn}"
                json.loads((lab / "CS-a/project.json").read_bytes())
            assert len(os.listdir(mine)) == 5
        except (OSError, AssertionError, ValueError) as problem:
            problems.append(repr(problem))

    clients = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(60)
    assert not problems
    assert len(list(lab.backing.glob("CS-a/client*/g*"))) == CLIENTS * 5


def test_terminated_under_load(make_lab: LabMaker) -> None:
    """What was open ends with an error, nothing is half done, and the next mount is as ever."""
    lab = make_lab(options=("-o", "nopassthrough"))
    (lab / "CS-a").mkdir()
    (lab / "CS-a/cs.lock").touch()
    stop, done, ended = threading.Event(), [0] * 4, [0] * 4

    def work(number: int) -> None:
        while not stop.is_set():
            try:
                job = lab / f"CS-a/J{number * 10_000 + done[number] + 1}"
                job.mkdir()
                (job / "data").write_text("x" * 100_000)
                document = json.loads((lab / "CS-a/project.json").read_text())
                (lab / "CS-a/project.json").write_text(json.dumps({**document, "n": done[number]}))
                done[number] += 1
            except OSError as error:
                assert error.errno is not None
                ended[number] = error.errno
                return
            except ValueError:  # another worker is just writing it
                continue

    held = (lab / "CS-a/held").open("w")
    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    wait_for(lambda: sum(done) > 20, "they are at work")
    pid = lab.pid
    os.kill(pid, signal.SIGTERM)
    for worker in workers:
        worker.join(30)
    stop.set()
    assert all(code in (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.EINTR) for code in ended), (
        ended
    )
    held.write("x")
    with pytest.raises(OSError):
        held.close()
    wait_for(lambda: not alive(pid), "the daemon has ended")
    assert not lab.is_mounted()
    assert not (lab / "CS-a").exists()
    lab.mount()
    assert lab.state_of("CS-a") == "attached"
    assert json.loads((lab / "CS-a/project.json").read_text())["uid"] == "P1"
    for number in range(4):
        for turn in range(done[number]):
            assert lab.attribute(f"CS-a/J{number * 10_000 + turn + 1}", "status") == "building"
    checked = lab.csfs("check", lab.backing, "--instance", lab.name, "--state", lab.state)
    assert checked.code == 0, checked.out


def test_the_log_is_opened_again(lab: Lab) -> None:
    log, pid = lab.state / lab.name / "csfs.log", lab.pid
    log.rename(log.with_suffix(".1"))
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: log.exists() and "the log goes on here" in log.read_text(), "there is a new log")
    assert lab.status["pid"] == pid
    log.unlink()
    log.mkdir()
    lab.expected_in_log.append("the log cannot be opened again")
    os.kill(pid, signal.SIGHUP)
    assert lab.status["pid"] == pid
    log.rmdir()
    os.kill(pid, signal.SIGHUP)
    wait_for(lambda: log.exists() and "the log goes on here" in log.read_text(), "there is a new log again")


def test_umount_while_busy(lab: Lab) -> None:
    pid = lab.pid
    with (lab / "f").open("w") as opened:
        lab.umount().refused("busy", "close what is open on it")
        assert subprocess.run(["umount", lab.mountpoint], capture_output=True).returncode != 0
        opened.write("x")
        opened.flush()
        assert (lab / "f").read_text() == "x"
        assert lab.status["pid"] == pid
    lab.umount().ok()
    assert not alive(pid)


def test_a_mistake_in_a_handler(make_lab: LabMaker) -> None:
    """It is an EIO for that request and a traceback in the log, and nothing else."""
    lab = make_lab(mounted=False)
    words = [sys.executable, "-m", "tests.mount.broken", lab.backing, lab.mountpoint, lab.state]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (lab / "f").write_text("x")
        with unharmed(lab):
            for number in range(20):
                with pytest.raises(OSError) as caught:
                    (lab / f"broken{number}").stat()
                assert caught.value.errno == errno.EIO
        assert (lab / "f").read_text() == "x"
        assert lab.status["pid"] == process.pid
    finally:
        lab.take_down()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors.count("Traceback") == 20
    assert errors.count("ZeroDivisionError: a mistake in a handler") == 20


def test_more_open_than_the_limit(make_lab: LabMaker, more_descriptors: None) -> None:
    """ENFILE with a reason, for as long as it is so; all else goes on: actions, documents, the heartbeat."""
    lab = make_lab(mounted=False, options=("-o", "takeover=3"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    mount = ["prlimit", f"--nofile={LIMIT}:{LIMIT}", sys.executable, "-m", "csfs", "mount", lab.backing]
    subprocess.run([*mount, lab.mountpoint, "--instance", lab.name, "--state", lab.state], check=True)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
    for name in ("CS-a", "CS-b"):
        (lab / name).mkdir()
        (lab / name / "cs.lock").touch()
    (lab / "CS-a/there").write_text("x")
    with contextlib.ExitStack() as stack:
        codes = set()
        for number in range(LIMIT + 10):
            try:
                stack.enter_context((lab / f"CS-a/{number}").open("w"))
            except OSError as error:
                codes.add(error.errno)
        assert codes == {errno.ENFILE}
        with pytest.raises(OSError) as caught:
            (lab / "CS-a/there").open()
        assert caught.value.errno == errno.ENFILE
        (lab / "CS-b/cs.lock").unlink()
        (lab / "CS-c").mkdir()
        assert len(os.listdir(lab / "CS-a")) > 200
        assert lab.state_of("CS-b") == "detached"
        assert "as many files are open on the mount" in lab.why("CS-a")
        (lab / "CS-b/cs.lock").touch()
        started = time.monotonic()
        assert lab.state_of("CS-a") == "attached"
        assert time.monotonic() - started < 2
    wait_for(lambda: lab.status["open_files"] == 0, "all are closed")
    assert (lab / "CS-a/there").read_text() == "x"
    assert lab.status["pid"] == lab.pid
