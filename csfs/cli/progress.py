"""How far a long command is, with rate and time left, on standard error if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What it yields is told of each number of bytes that is done, of `total` in all."""
    done = 0
    with counted(what) as told:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            told(done, total)

        yield advance


@contextmanager
def counted(what: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """What it yields is told how many units, or bytes, are done by now, and of how many; 0: nobody knows."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from csfs.cli.bars import bar, escape

    with bar(unit) as progress:
        task = progress.add_task(escape(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


@contextmanager
def active(what: str) -> Iterator[None]:
    """Shows that something goes on that tells nothing of itself."""
    if not sys.stderr.isatty():
        yield
        return
    from csfs.cli.bars import activity, escape

    with activity() as progress:
        progress.add_task(escape(what), total=None)
        yield
