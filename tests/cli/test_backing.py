"""How a command is told what it works on: a directory, or a file that names several."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from csfs.cli.instance_options import BackingCommand, instance_options


@click.command(cls=BackingCommand)
@instance_options
@click.argument("rest", nargs=-1)
def told(backing: str, rest: tuple[str, ...], instance: str | None, state: Path | None) -> None:
    """Says what it was told."""
    click.echo([backing, *rest, instance])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["file", "a", "b"], ["file", "a", "b", None]),
        (["--config", "file", "a", "b"], ["file", "a", "b", None]),
        (["--config=file", "a"], ["file", "a", None]),
        (["a", "--instance", "lab1", "--config", "file"], ["file", "a", "lab1"]),
        (["--config", "file", "--", "--config"], ["file", "--config", None]),
        (["--", "--config", "a"], ["--config", "a", None]),
    ],
)
def test_backing_is_the_first_word_or_that_of_config(words: list[str], said: list[str | None]) -> None:
    assert CliRunner().invoke(told, words).output == f"{said}\n"


def test_config_wants_a_file() -> None:
    result = CliRunner().invoke(told, ["--config"])
    assert result.exit_code == 2
    assert "--config wants the FILE" in result.output
