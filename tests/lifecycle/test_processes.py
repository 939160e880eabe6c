"""What is known of the processes that make requests."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.lifecycle import processes


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits in `tmp_path`, with an argument of each kind."""
    script = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, "relative/../name", "/absolute//path", "-option", "", "ä\udcff"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding=None
    ) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started


def ended() -> int:
    """The number of a process that is gone."""
    with subprocess.Popen(["true"]) as process:
        pass
    return process.pid


def test_describe(child: subprocess.Popen[bytes]) -> None:
    name = Path(f"/proc/{child.pid}/comm").read_text().strip()
    assert processes.command(child.pid) == name
    assert processes.describe(child.pid) == f"{name} ({child.pid})"
    assert processes.describe(0) == "a process in another pid namespace"


def test_a_process_that_has_ended() -> None:
    pid = ended()
    assert processes.describe(pid) == f"process {pid}, which has ended"
    assert processes.threads(pid) == []
    assert processes.started(pid) is None
    assert processes.arguments(pid) == []
    assert processes.process_of(pid) == pid
    with pytest.raises(OSError):
        processes.command(pid)


def test_threads_and_their_process() -> None:
    numbers: list[int] = []
    told, go = threading.Event(), threading.Event()

    def run() -> None:
        numbers.append(threading.get_native_id())
        told.set()
        go.wait()

    thread = threading.Thread(target=run)
    thread.start()
    told.wait()
    try:
        assert numbers[0] != os.getpid()
        assert processes.process_of(numbers[0]) == os.getpid()
        assert numbers[0] in processes.threads(os.getpid())
        assert os.getpid() in processes.threads(os.getpid())
    finally:
        go.set()
        thread.join()


def test_when_it_began() -> None:
    before = processes.now()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        begun = processes.started(process.pid)
    after = processes.now()
    assert begun is not None
    assert before - 0.02 <= begun <= after


def test_arguments(child: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = processes.arguments(child.pid)
    assert found[-3:] == [f"{tmp_path}/name", "/absolute/path", f"{tmp_path}/ä\udcff"]
    assert not any("option" in argument for argument in found)
    assert all(os.path.isabs(argument) for argument in found)
