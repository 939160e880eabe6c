"""What is known of the processes that make requests, from /proc."""

import os
import time
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_TGID = "Tgid:"


def describe(pid: int) -> str:
    """`rm (1234)`; says so if the process has ended or is in another pid namespace."""
    if pid == 0:
        return "a process in another pid namespace"
    try:
        return f"{command(pid)} ({pid})"
    except OSError:
        return f"process {pid}, which has ended"


def command(pid: int) -> str:
    """The command name of a process. Raises OSError if it has ended."""
    return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()


def process_of(thread: int) -> int:
    """The process that this thread belongs to; `thread` itself if that cannot be found out."""
    try:
        for line in Path(f"/proc/{thread}/status").read_text(errors="replace").splitlines():
            if line.startswith(_TGID):
                return int(line[len(_TGID) :])
    except OSError:
        pass
    return thread


def threads(pid: int) -> list[int]:
    """The threads of a process; empty if it has ended."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def now() -> float:
    """Seconds since boot, the clock of `started`."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def started(pid: int) -> float | None:
    """When a process began, in seconds since boot, to a clock tick; None if it has ended."""
    fields = _stat(pid)
    return int(fields[19]) / _TICKS if fields else None


def parent(pid: int) -> int:
    """The parent of a process; 0 if it has ended."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command name; empty if the process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return stat[stat.rindex(")") + 2 :].split()


def arguments(pid: int) -> list[str]:
    """The absolute, normalised form of each argument of a process's command line.

    Empty if it cannot be read: the process has ended, or belongs to someone else.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:-1]
        directory = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return []
    return [
        os.path.normpath(os.path.join(directory, os.fsdecode(word)))
        for word in words
        if word and not word.startswith(b"-")
    ]
