"""docs/: what they show is run as it stands, and what they list is what there is."""

import re
import shutil
from pathlib import Path

import click
import pytest

from csfs.cli import demo
from csfs.cli.main import COMMANDS, main
from csfs.cli.sample import project
from csfs.cli.transcript import SAMPLE, Step
from csfs.domain.rule import Rule
from csfs.domain.state import State
from tests.domain.refusals_made import made, makers

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
RUN = [path for path in DOCS if "```console" in path.read_text()]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
FAILS = re.compile(r"(Error|rm|touch|mv|cp|mkdir|chmod): ")


def steps(text: str) -> list[Step]:
    """The commands in the blocks of a page, each with what it is to print."""
    found = []
    for block in BLOCK.findall(text):
        for part in block.split("$ ")[1:] if block.startswith("$ ") else []:
            command, _, output = part.partition("\n")
            output = output.rstrip("\n")
            found.append(Step("", command, output, fails=bool(FAILS.match(output)) and "|" not in command))
    return found


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_what_is_shown_happens(page: Path) -> None:
    if shutil.which("getfattr") is None:
        pytest.skip("getfattr is not there")
    shown = steps(page.read_text())
    assert len(shown) > 10
    with demo._directory(False) as directory:
        project.build(directory / SAMPLE)
        with demo.Shell(directory) as shell:
            for step in shown:
                outcome = shell.run(step.command)
                assert step.is_met_by(outcome.output, outcome.status), f"$ {step.command}\n{outcome.output}"


def test_commands_and_files_exist() -> None:
    for page in DOCS:
        text = page.read_text()
        named = set(re.findall(r"(?:`|^\$ |&& )csfs ([a-z]+)", text))
        assert named <= set(COMMANDS), page
        for path in re.findall(r"(?<![./\w])(?:csfs|scripts|tests)/[\w./@-]*", text):
            assert (ROOT / path).exists(), (page, path)
        for link in re.findall(r"\]\(([\w./-]+)\)", text):
            assert (page.parent / link).exists(), (page, link)


def rows(heading: str) -> list[list[str]]:
    text = (ROOT / "docs/reference.md").read_text()
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_the_reference_has_every_rule_with_its_errnos() -> None:
    import errno

    told: dict[str, set[str]] = {}
    for each in map(made, makers().values()):
        told.setdefault(each.rule.value, set()).add(errno.errorcode[each.errno])
    listed = {row[1]: set(row[0].replace("`", "").split(", ")) for row in rows("Refusals")}
    assert set(listed) == {rule.value for rule in Rule}
    for sentence, codes in told.items():
        assert codes <= listed[sentence], sentence


def test_the_reference_has_every_state_and_attribute() -> None:
    assert [row[0] for row in rows("States")] == [state.value for state in State]
    source = (ROOT / "csfs/mount/nodes/project.py").read_text() + (
        ROOT / "csfs/mount/nodes/job.py"
    ).read_text()
    written = set(re.findall(r'b"user\.csfs\.(\w+)"', source))
    assert written
    assert written <= {row[0] for row in rows("Attributes")}


def test_the_reference_has_every_file_of_the_control_directory() -> None:
    source = (ROOT / "csfs/mount/nodes/control.py").read_text()
    (listed,) = re.findall(r'return (\["history".*?\])', source)
    assert set(re.findall(r'"([\w.]+)"', listed)) <= {row[0].split("/")[0] for row in rows("Files in .csfs")}


def option_names(command: click.Command) -> set[str]:
    return {word for parameter in command.params for word in parameter.opts}


@pytest.mark.parametrize("name", makers())
def test_each_advice_names_a_next_step(name: str) -> None:
    """It begins with what to do, and a csfs command in it is one, with the options that it has."""
    advice = made(makers()[name]).advice
    first = re.split(r"[ ,:]", re.sub(r"^to [^,]+, ", "", advice))[0]
    assert first in NEXT_STEPS, advice
    for words in re.findall(r"csfs ((?:[a-z]+)(?: --[a-z-]+)*)", advice):
        command, *options = words.split()
        found = main.get_command(click.Context(main), command)
        assert found is not None, advice
        assert set(options) <= option_names(found), advice


def test_every_rule_is_among_them() -> None:
    assert {made(maker).rule for maker in makers().values()} == set(Rule)


NEXT_STEPS = frozenset(
    {
        "attach",
        "choose",
        "close",
        "copy",
        "create",
        "delete",
        "detach",
        "do",
        "edit",
        "give",
        "have",
        "keep",
        "let",
        "list",
        "look",
        "make",
        "mend",
        "move",
        "read",
        "remove",
        "restore",
        "run",
        "see",
        "take",
        "touch",
        "unarchive",
        "use",
        "wait",
        "write",
    }
)
