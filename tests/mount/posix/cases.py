"""All cases: functions that do file operations in the working directory, and say what came of them."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.mount.posix.observation import Observation


@dataclass(frozen=True)
class Case:
    """One case.

    `root`: it needs root, for devices, owners or other users; `large`: one mount and one state have to do.
    """

    name: str
    run: Callable[[], Observation]
    root: bool = False
    large: bool = False


CASES: dict[str, Case] = {}


def case(run: Callable[[], Observation]) -> Callable[[], Observation]:
    """Registers a case that anybody can run, under its name."""
    register(run.__name__, run)
    return run


def root_case(run: Callable[[], Observation]) -> Callable[[], Observation]:
    """Registers a case that root alone can run."""
    register(run.__name__, run, root=True)
    return run


def large_case(run: Callable[[], Observation]) -> Callable[[], Observation]:
    """Registers a case that takes long."""
    register(run.__name__, run, large=True)
    return run


def register(name: str, run: Callable[[], Observation], *, root: bool = False, large: bool = False) -> None:
    assert name not in CASES, f"two cases are called {name}"
    CASES[name] = Case(name, run, root, large)
