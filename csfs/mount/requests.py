"""How often the kernel asked for what, how that was answered, and how long it took."""

from bisect import bisect_left
from collections.abc import Iterable

from pyfuse3 import FUSEError

BOUNDS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
"""Upper bounds of the times that are told apart, in seconds."""


class Requests:
    """The requests of one kind, `lookup` for instance. Counting is a part of each: it must be quick."""

    __slots__ = ("begun", "errors", "seconds", "times")

    def __init__(self) -> None:
        self.begun = 0
        self.errors: dict[int, int] = {}
        """errno -> how often it was the answer."""
        self.seconds = 0.0
        """That all requests which were answered took together."""
        self.times = [0] * (len(BOUNDS) + 1)
        """How many took no longer than each bound and longer than the one before; the last are the others."""

    @classmethod
    def of(cls, kinds: Iterable[str]) -> dict[str, "Requests"]:
        return {kind: cls() for kind in kinds}

    def failed(self, errno: int) -> FUSEError:
        """Counts an answer that is an errno; what to raise."""
        self.errors[errno] = self.errors.get(errno, 0) + 1
        return FUSEError(errno)

    def took(self, seconds: float) -> None:
        """Counts an answer of either kind."""
        self.seconds += seconds
        self.times[bisect_left(BOUNDS, seconds)] += 1

    @property
    def answered(self) -> int:
        return sum(self.times)

    @property
    def succeeded(self) -> int:
        return self.answered - sum(self.errors.values())
