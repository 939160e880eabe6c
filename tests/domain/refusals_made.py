"""One refusal of each kind, for tests that look at all of them."""

import errno
import inspect
from collections.abc import Callable, Sequence

from csfs.domain import refusals
from csfs.domain.refusals import Refusal


def makers() -> dict[str, Callable[..., Refusal]]:
    """The functions that make refusals, by name."""
    return {
        name: function
        for name, function in inspect.getmembers(refusals, inspect.isfunction)
        if function.__annotations__.get("return") is Refusal
    }


def made(function: Callable[..., Refusal]) -> Refusal:
    """What one of them makes, of made-up particulars."""
    kinds = inspect.signature(function).parameters.values()
    values = {
        str: "something",
        bytes: b"something",
        int: errno.EIO,
        Sequence[tuple[str, str]]: [("one", "queued"), ("two", "running")],
    }
    return function(*(values.get(kind.annotation, ["one", "two"]) for kind in kinds))
