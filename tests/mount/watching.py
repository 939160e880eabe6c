"""Watching a daemon while something bad goes on: whether it answers others, and what it takes."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.mount.lab import Lab, wait_for

MEBIBYTE = 1 << 20


def anonymous(pid: int) -> int:
    """Bytes of memory that are a process's own: the mapped store is not among them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} does not tell its memory")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def unharmed(lab: Lab, *, seconds: float = 3.0, grows: int = 24 * MEBIBYTE) -> Iterator[None]:
    """While the block runs others are answered, each within `seconds`; then no more is kept than `grows`."""
    before, stop, slowest, asked = anonymous(lab.pid), threading.Event(), [0.0], [0]

    def ask() -> None:
        while not stop.is_set():
            began = time.monotonic()
            with contextlib.suppress(FileNotFoundError):
                os.lstat(lab / f"nothing-{asked[0]}")  # a name that the kernel cannot know of
            slowest[0] = max(slowest[0], time.monotonic() - began)
            asked[0] += 1
            stop.wait(0.01)

    bystander = threading.Thread(target=ask)
    bystander.start()
    try:
        yield
    finally:
        stop.set()
        bystander.join(30)
    assert not bystander.is_alive(), "the daemon does not answer"
    assert asked[0] > 0
    assert slowest[0] < seconds, f"somebody else waited for {slowest[0]:.1f} s"
    wait_for(
        lambda: anonymous(lab.pid) - before < grows,
        f"the daemon is not larger by {grows} bytes (it had {before})",
        10,
    )


def canary(directory: Path) -> Path:
    """A directory outside, with documents in it that nobody is to read or write."""
    directory.mkdir()
    (directory / "project.json").write_text(json.dumps({"uid": "P9", "title": "CANARY"}))
    (directory / "workspaces.json").write_text("[]")
    (directory / "job.json").write_text(json.dumps({"uid": "J2", "status": "completed", "title": "CANARY"}))
    (directory / "cs.lock").write_text("CANARY")
    (directory / "f").write_text("CANARY")
    return directory


def contents(directory: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """All that can be seen to have changed in a flat directory of files."""
    found = {}
    for path in sorted(directory.iterdir()):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[path.name] = (content, status.st_mode, status.st_uid, status.st_mtime_ns)
    return found
