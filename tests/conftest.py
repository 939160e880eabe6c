"""What some tests count is told at the end of the run, also if several processes share the work."""

import signal
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter


class Points:
    """How many system calls of each action a daemon was killed at."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.steps = 0
        """How many the test against the model has made."""

    def add(self, action: str, count: int) -> None:
        self.counts[action] = self.counts.get(action, 0) + count


_points = Points()


@pytest.fixture
def points() -> Points:
    return _points


def pytest_sessionstart() -> None:
    """Ctrl-C ends what the tests start, also if a shell runs them in the background and so ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    told = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["counts"], told["steps"] = _points.counts, _points.steps


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of the processes has ended."""
    told = getattr(node, "workeroutput", {})
    for action, count in told.get("counts", {}).items():
        _points.add(action, count)
    _points.steps += told.get("steps", 0)


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    if _points.counts:
        told = ", ".join(f"{action} {count}" for action, count in _points.counts.items())
        terminalreporter.write_line(f"killed at {sum(_points.counts.values())} calls: {told}")
    if _points.steps:
        terminalreporter.write_line(f"{_points.steps} steps agree with the model")
