"""Who is putting a copy of a project in place: its closing chmod is part of that, and unarchives nothing.

`tar -x`, `cp -a`, rsync and `mv` from another filesystem write every file and then give the directory the
mode that it had. When the copy is that of an archived project this looks like `chmod u+w`; it is that
only if somebody else does it, or the same process once more.
"""

from dataclasses import dataclass

from csfs.lifecycle import processes


@dataclass(frozen=True)
class _Restorer:
    process: int
    began: float | None
    parent: int
    command: str
    """Of a process that may have ended when its parent goes on: rsync sets modes in the parent."""


class Restorers:
    """By directory (the number of its inode on the mount), who wrote the cs.lock that came with a copy."""

    def __init__(self) -> None:
        self._last: dict[int, _Restorer] = {}

    def restored(self, directory: int, thread: int) -> None:
        """Notes that a thread has put a copy's cs.lock into a directory."""
        process = processes.process_of(thread)
        self._last[directory] = _Restorer(
            process, processes.started(process), processes.parent(process), _command(process)
        )

    def is_closing(self, directory: int, thread: int) -> bool:
        """Whether a chmod of the directory by this thread is the end of that; true at most once."""
        last = self._last.get(directory)
        if last is None:
            return False
        process = processes.process_of(thread)
        same = process == last.process and processes.started(process) == last.began
        # A shell may have become another program since (`bash -c "tar ...; chmod ..."`): names decide.
        parent = process == last.parent and _command(process) == last.command != ""
        if not (same or parent):
            return False
        del self._last[directory]
        return True


def _command(process: int) -> str:
    try:
        return processes.command(process)
    except OSError:
        return ""
