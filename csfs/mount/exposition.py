"""The text format in which Prometheus reads metrics, version 0.0.4."""

from collections.abc import Iterable, Mapping
from typing import Literal

Kind = Literal["gauge", "counter"]
"""A gauge goes up and down, a counter only grows; its name ends in `_total`."""
Labels = Mapping[str, str]

_LABEL = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """A page of metrics, written one family after the other."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def one(self, kind: Kind, name: str, help: str, value: float | None) -> None:
        """A family of one number; without a sample if it is None."""
        self.family(kind, name, help, [] if value is None else [({}, value)])

    def family(self, kind: Kind, name: str, help: str, samples: Iterable[tuple[Labels, float]]) -> None:
        self._begin(kind, name, help)
        for labels, value in samples:
            self._sample(name, labels, value)

    def histogram(
        self,
        name: str,
        help: str,
        bounds: Iterable[float],
        samples: Iterable[tuple[Labels, Iterable[int], float]],
    ) -> None:
        """Of each sample how many lie in each bucket alone, those above the last bound too, and their sum."""
        self._begin("histogram", name, help)
        limits = [*map(str, bounds), "+Inf"]
        for labels, buckets, total in samples:
            count = 0
            for limit, bucket in zip(limits, buckets, strict=True):
                count += bucket
                self._sample(f"{name}_bucket", {**labels, "le": limit}, count)
            self._sample(f"{name}_sum", labels, total)
            self._sample(f"{name}_count", labels, count)

    def encode(self) -> bytes:
        return "".join(self._lines).encode()

    def _begin(self, kind: str, name: str, help: str) -> None:
        self._lines.append(f"# HELP {name} {help.translate(_HELP)}\n# TYPE {name} {kind}\n")

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        inside = ",".join(f'{label}="{text.translate(_LABEL)}"' for label, text in labels.items())
        shown = repr(value) if isinstance(value, float) else str(int(value))
        self._lines.append(f"{name}{{{inside}}} {shown}\n" if inside else f"{name} {shown}\n")
