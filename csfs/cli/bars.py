"""What a bar on a terminal is made of. Its imports take a while: only where one is shown."""

from rich.console import Console
from rich.markup import escape as escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


def bar(unit: str) -> Progress:
    """With rate and time left: of bytes, or of units with this name. It goes when it has ended."""
    if unit:
        amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TextColumn(unit), Rate())
    else:
        amount = (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


def activity() -> Progress:
    """For what can not be counted: how long it has taken."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)


class Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        return Text("?/s" if task.speed is None else f"{task.speed:.0f}/s")
