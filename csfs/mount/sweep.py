"""The sweep guard: `rm -rf`, `find -delete`, `mv` to another filesystem and rmtree find nothing to take.

What they have in common: the process opened a root directory and has held at least one directory of
that tree open ever since. Roots are project directories and the directories of registered jobs. A
process that lists a directory, closes it and unlinks its own files is no sweep (design section 3).
"""

import os
from collections.abc import Callable, Iterable

from csfs.domain import names, refusals
from csfs.lifecycle import processes

_REMEMBERED = 4096
"""Threads remembered for what they removed, per table; the oldest are dropped first."""
_BELIEVED_SECONDS = 1.0
"""How long what a command line said is kept: a process number may go to another process."""
_UNSEEN_SECONDS = 10.0
"""Processes in another pid namespace all come as number 0: for this long they count as one process."""
_INDISPENSABLE = (names.LOCK, *names.PROJECT_DOCUMENTS)


class SweepGuard:
    """Who sweeps which tree, and who removed what. Directories go by their inode's number on the mount."""

    def __init__(self) -> None:
        self._sweeps: dict[int, dict[int, int]] = {}
        """Root -> process -> directories it holds open in it, since it opened the root."""
        self._made: dict[tuple[int, int], set[int]] = {}
        """(Root, process that holds it open) -> files (inode numbers) that it has made there since."""
        self._removed: dict[int, dict[int, float]] = {}
        """Project directory -> thread that removed something, or tried to -> when."""
        self._unlocked: dict[int, dict[int, float]] = {}
        """Project directory -> thread that removed its cs.lock -> when."""
        self._told: dict[tuple[int, int], tuple[float, list[str]]] = {}
        """(Project directory, thread) -> when its command line was read, what it names there."""

    def opened(self, directory: int, roots: Iterable[int], thread: int) -> list[tuple[int, int]]:
        """Notes that a directory was opened; what it returns is to be given to `closed`."""
        counted = []
        process = 0
        for root in roots:
            sweepers = self._sweeps.get(root)
            if directory != root and not sweepers:
                continue
            process = process or processes.process_of(thread)
            if sweepers is None:
                sweepers = self._sweeps[root] = {}
            if directory == root or process in sweepers:
                sweepers[process] = sweepers.get(process, 0) + 1
                counted.append((root, process))
        return counted

    def closed(self, counted: Iterable[tuple[int, int]]) -> None:
        """Notes that a directory was closed."""
        for root, process in counted:
            sweepers = self._sweeps[root]
            sweepers[process] -= 1
            if not sweepers[process]:
                del sweepers[process]
                self._made.pop((root, process), None)
                if not sweepers:
                    del self._sweeps[root]

    def is_sweeping(self, root: int, thread: int) -> bool:
        """Whether the process of this thread is on its way through the tree below `root`."""
        sweepers = self._sweeps.get(root)
        if not sweepers:
            return False
        return thread in sweepers or processes.process_of(thread) in sweepers

    def made(self, roots: Iterable[int], thread: int, inode: int) -> None:
        """Notes that a thread has made a file below these roots, if its process holds one of them open."""
        for root in roots:
            if self.is_sweeping(root, thread):
                self._made.setdefault((root, processes.process_of(thread)), set()).add(inode)

    def is_making(self, root: int, thread: int) -> bool:
        """Whether the process of a thread has made files below the root since it opened it."""
        return (root, processes.process_of(thread)) in self._made

    def was_made_by(self, root: int, thread: int, inode: int) -> bool:
        """Whether the process of a thread made this file itself, since it opened the root.

        `tar -C CS-x -x` holds the root open, and replaces placeholders of its own by symlinks.
        """
        return inode in self._made.get((root, processes.process_of(thread)), ())

    def refuse_after_unlocking(self, project: int, thread: int) -> None:
        """Passes unless the process of a thread has removed the project's cs.lock before (EPERM)."""
        if project in self._unlocked and self._among(self._unlocked[project], thread):
            raise refusals.lock_among_others()

    def removing(self, project: int, thread: int, path: Callable[[], str]) -> list[str]:
        """Notes that a thread removes something in the project at `path`, whether it may or not.

        What its process was told to remove there along with what a project cannot do without, as by
        `rm -rf CS-x/*`, is to be given to `refuse_what_was_named`.
        """
        _remember(self._removed, project, thread)
        now = processes.now()
        known = self._told.get((project, thread))
        if known is not None and known[0] > now - _BELIEVED_SECONDS:
            return known[1]
        return self._told_besides(project, thread, path(), now)

    def refuse_what_was_named(self, told: Iterable[str], removed: str) -> None:
        """Passes unless `removed` is among, or lies in, what a command line names (EPERM)."""
        if any(_is_in(removed, each) for each in told):
            raise refusals.sweep("all that lies in it was named")

    def unlocking(self, project: int, thread: int, path: str) -> None:
        """Notes that a thread removes the cs.lock of the project at `path`.

        Raises Refusal EPERM if its process has removed other things of the project, or was told to.
        """
        if project in self._removed and self._among(self._removed[project], thread):
            raise refusals.lock_among_others()
        if self.is_sweeping(project, thread):
            raise refusals.sweep(names.LOCK)
        lock = os.path.join(path, names.LOCK)
        if any(each != lock and _is_in(each, path) for each in _arguments(thread)):
            raise refusals.lock_among_others()
        _remember(self._unlocked, project, thread)

    def _told_besides(self, project: int, thread: int, path: str, now: float) -> list[str]:
        """What a command line names in a project, if it names lock or documents, and more; else nothing."""
        inside = [each for each in _arguments(thread) if each != path and _is_in(each, path)]
        indispensable = {os.path.join(path, name) for name in _INDISPENSABLE}
        told = inside if indispensable & set(inside) and set(inside) - indispensable else []
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[project, thread] = (now, told)
        return told

    def _among(self, table: dict[int, float], thread: int) -> bool:
        """Whether a thread of the same process is in the table, and not one that had its number before."""
        if not thread:
            return table.get(0, 0.0) > processes.now() - _UNSEEN_SECONDS
        process = processes.process_of(thread)
        began = processes.started(process)
        if began is None:
            return False
        return any(table.get(each, -1.0) >= began for each in processes.threads(process))


def _arguments(thread: int) -> list[str]:
    """What the process of a thread was told on its command line: the shell has expanded the stars."""
    return processes.arguments(processes.process_of(thread))


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + "/")


def _remember(tables: dict[int, dict[int, float]], project: int, thread: int) -> None:
    table = tables.setdefault(project, {})
    table[thread] = processes.now()
    if len(table) > _REMEMBERED:
        for oldest in sorted(table, key=table.__getitem__)[: _REMEMBERED // 2]:
            del table[oldest]
