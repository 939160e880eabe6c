"""Tables on the terminal; in a pipe one line for each row, whatever its length."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from csfs.domain.printable import printable


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Prints rows under headings on standard output; nothing is cut off or wrapped in a pipe.

    What a terminal would obey is escaped in what is given as str.
    """
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console()
    if not console.is_terminal:
        unbounded = console.options.update(width=1 << 16)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)
