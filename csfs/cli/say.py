"""Lines for people: names of files, locks and titles may hold what a terminal would obey."""

import click

from csfs.domain.printable import printable


def say(line: str) -> None:
    """Prints one line, with everything in it escaped that is no ordinary character."""
    click.echo(printable(line))
