"""What was measured, as a table, as JSON and as a plot."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmark.measure import Measured

_OWN, _BASE = "csfs", "native"


def medians(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """By row and filesystem."""
    rates: dict[str, dict[str, list[float]]] = {}
    for each in measured:
        rates.setdefault(each.row, {}).setdefault(each.filesystem, []).append(each.rate)
    return {row: {name: statistics.median(found) for name, found in of.items()} for row, of in rates.items()}


def table(measured: Sequence[Measured], filesystems: Sequence[str]) -> Table:
    """Medians; then csfs as a share of native, and of the best peer."""
    units = {each.row: each.unit for each in measured}
    others = [name for name in filesystems if name not in (_OWN, _BASE)]
    made = Table("row", "unit", *filesystems, "of native", "of the best peer", box=None, pad_edge=False)
    for column in made.columns[2:]:
        column.justify = "right"
    for row, rates in medians(measured).items():
        own = rates.get(_OWN)
        best = max(
            (rates[name] for name in others if name in rates and not name.startswith(_OWN)), default=None
        )
        cells = [_number(rates.get(name)) for name in filesystems]
        made.add_row(row, units[row], *cells, _ratio(own, rates.get(_BASE)), _ratio(own, best))
    return made


def _number(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def _ratio(own: float | None, other: float | None) -> str:
    return f"{own / other:.2f}" if own is not None and other else "-"


def markdown(made: Table) -> str:
    """The same table for a README."""
    columns = [list(column.cells) for column in made.columns]
    lines = ["| " + " | ".join(str(column.header) for column in made.columns) + " |"]
    lines.append("| " + " | ".join("---" for _ in columns) + " |")
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in zip(*columns, strict=True)]
    return "\n".join(lines) + "\n"


def save(out: Path, measured: Sequence[Measured], made: Table, more: dict[str, Any]) -> None:
    """Writes bench.json, bench.md and bench.png."""
    out.mkdir(parents=True, exist_ok=True)
    report = {**more, "medians": medians(measured), "measured": [each._asdict() for each in measured]}
    (out / "bench.json").write_text(json.dumps(report, indent=2) + "\n")
    (out / "bench.md").write_text(markdown(made))
    _plot(out / "bench.png", measured)


def _plot(path: Path, measured: Sequence[Measured]) -> None:
    """Each filesystem's share of native, row by row, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {row: rates for row, rates in medians(measured).items() if _BASE in rates}
    if not found:
        return
    names = list(dict.fromkeys(name for rates in found.values() for name in rates if name != _BASE))
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.34 * len(found)))
    height = 0.8 / max(len(names), 1)
    for number, name in enumerate(names):
        places = [index + number * height for index in range(len(found))]
        shares = [rates.get(name, float("nan")) / rates[_BASE] for rates in found.values()]
        axes.barh(places, shares, height=height, label=name)
    axes.set_yticks([index + 0.4 - height / 2 for index in range(len(found))], list(found))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("rate relative to the backing filesystem itself")
    axes.legend(loc="best", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def show(made: Table) -> None:
    console = Console()
    console.width = max(console.width, 200)
    console.print(made)
