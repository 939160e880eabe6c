"""What the daemon takes: memory, descriptors, threads and inodes, sampled while it works."""

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from soaking.mounting import Mounted

MEBIBYTE = 1 << 20
DESCRIPTORS_MORE = 200
"""Directories that are kept open are among them: their number goes up and down with what is looked at."""
THREADS_MORE = 40
HEADER = f"{'seconds':>8} {'RssAnon MiB':>12} {'descriptors':>12} {'threads':>8} {'inodes':>8} {'open':>6}"


class Sample(NamedTuple):
    """The daemon at one moment."""

    seconds: float
    memory: int
    """Bytes that are its own."""
    descriptors: int
    threads: int
    inodes: int
    open_files: int

    def line(self) -> str:
        return (
            f"{self.seconds:8.0f} {self.memory / MEBIBYTE:12.1f} {self.descriptors:12} {self.threads:8}"
            f" {self.inodes:8} {self.open_files:6}"
        )


def take(mount: Mounted, pid: int, began: float) -> Sample:
    """Raises OSError if the daemon has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    status = mount.status
    return Sample(
        seconds=time.monotonic() - began,
        memory=int(fields["RssAnon"].split()[0]) * 1024,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(fields["Threads"]),
        inodes=status["known_inodes"],
        open_files=status["open_files"],
    )


def growth(samples: Sequence[Sample], bound: int) -> list[str]:
    """What grew in the second half that should not have; `bound` in bytes, for the memory.

    Medians of its first and of its last third are compared: one sample may meet a large attach.
    """
    half = samples[len(samples) // 2 :]
    third = max(len(half) // 3, 1)
    found = []
    for name, most in (("memory", bound), ("descriptors", DESCRIPTORS_MORE), ("threads", THREADS_MORE)):
        first, last = (
            statistics.median(getattr(sample, name) for sample in part)
            for part in (half[:third], half[-third:])
        )
        if last - first > most:
            found.append(f"the {name} of the daemon grew from {first:.0f} to {last:.0f} in the second half")
    return found
