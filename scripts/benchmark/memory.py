"""What the daemon keeps in memory for each file that the kernel remembers."""

import json
import os
import time
from pathlib import Path

from benchmark.filesystems import Csfs, mounted
from benchmark.measure import drop_caches

_IN_A_DIRECTORY = 1000
_PATIENCE_SECONDS = 120


def per_entry(place: Path, files: int) -> dict[str, float]:
    """Bytes of the daemon's anonymous memory for each entry, and what is left when the kernel forgot them."""
    backing, mountpoint = place / "many", place / "mnt"
    for number in range(files // _IN_A_DIRECTORY):
        directory = backing / f"{number:04}"
        directory.mkdir(parents=True)
        for each in range(_IN_A_DIRECTORY):
            os.close(os.open(directory / f"{each:03}", os.O_CREAT | os.O_WRONLY))
    with mounted(Csfs(place / "state-many"), backing, mountpoint):
        status = mountpoint / ".csfs/status.json"
        pid = json.loads(status.read_text())["pid"]
        before = _anonymous(pid)
        for directory in sorted(mountpoint.iterdir()):
            with os.scandir(directory) as entries:
                for entry in entries:
                    entry.stat(follow_symlinks=False)
        known = json.loads(status.read_text())["known_inodes"]
        full = _anonymous(pid)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while json.loads(status.read_text())["known_inodes"] > files // 100:
            drop_caches()
            if time.monotonic() > deadline:
                break
        return {
            "entries": known,
            "bytes_per_entry": (full - before) / max(known, 1),
            "bytes_kept_per_entry_after_forget": (_anonymous(pid) - before) / max(known, 1),
        }


def _anonymous(pid: int) -> int:
    """Bytes that are the process's own: the mapped store is not among them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"process {pid} does not tell its memory")
