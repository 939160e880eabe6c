"""README.md says what is true: its transcript is the story of the demo, and what it names exists."""

import importlib
import re
from pathlib import Path

from csfs.cli.transcript import transcript
from csfs.domain.state import State

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MARKS = re.compile(r"<!-- What follows is printed .*? -->\n\n(.*?)\n\n<!-- End of what is printed. -->", re.S)


def commands() -> set[str]:
    """Of csfs, as the command line lists them."""
    return set(importlib.import_module("csfs.cli.main").COMMANDS)


def test_transcript_is_that_of_the_demo() -> None:
    (printed,) = MARKS.findall(README)
    assert printed == transcript(), "put in README.md what `python -m csfs.cli.transcript` prints"


def test_commands_exist() -> None:
    named = set(re.findall(r"(?<![./\w])(?:scripts/)?csfs ([a-z]+)", README))
    assert named - commands() <= {"is", "knows"}, "prose aside, these are commands"
    assert {"demo", "mount", "umount", "status", "why"} <= named


def test_every_state_has_a_row() -> None:
    assert all(f"\n| {state.value} |" in README for state in State)


def test_every_errno_is_explained() -> None:
    source = (ROOT / "csfs" / "domain" / "refusals.py").read_text()
    raised = set(re.findall(r"errno\.(E[A-Z]+)", source))
    assert raised
    assert all(re.search(rf"\n\| .*`{name}`.* \|", README) for name in raised)


def test_files_exist() -> None:
    named = set(re.findall(r"(?<![./\w])(?:csfs|scripts|tests)/[\w./-]*", README))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
