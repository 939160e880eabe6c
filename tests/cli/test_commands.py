"""What is true of every command: it explains itself, on the terminal, in a man page and to a shell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from csfs.cli import manual
from csfs.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[2]
SHELLS = ("bash", "zsh", "fish")


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words."""
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        below = getattr(command, "commands", None)
        yield from (
            [(f"{name} {each}", found) for each, found in below.items()] if below else [(name, command)]
        )


@pytest.mark.parametrize(("words", "command"), list(leaves()), ids=[words for words, _ in leaves()])
def test_help_has_examples_and_exit_statuses(words: str, command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=f"csfs {words}"))
    _, _, examples = text.partition("Examples:\n")
    first = examples.strip().splitlines()[0].strip()
    assert first.startswith(f"csfs {words}")
    assert "Exit status:" in text


def test_every_command_is_listed_with_what_it_does() -> None:
    modules = {path.stem for path in (ROOT / "csfs/cli").glob("*.py") if "command(" in path.read_text()}
    assert set(COMMANDS) <= modules
    assert all(says and not says.endswith(".") for says in COMMANDS.values())


@pytest.mark.parametrize("shell", SHELLS)
def test_completions_know_the_commands(shell: str, tmp_path: Path) -> None:
    script = csfs("completion", shell)
    assert f"_CSFS_COMPLETE={shell}_complete" in script
    words = {"COMP_WORDS": "csfs mo", "COMP_CWORD": "1" if shell != "fish" else "mo"}
    found = csfs(environment={**words, "_CSFS_COMPLETE": f"{shell}_complete"})
    assert "mount" in found
    assert "move" in found
    assert "attach" not in found


def test_each_command_has_a_man_page() -> None:
    pages = manual.pages()
    assert set(pages) == {"csfs.1", "mount.csfs.8", *(f"csfs-{name}.1" for name in COMMANDS)}
    for name, page in pages.items():
        for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"):
            assert f"\n.SH {heading}\n" in page, name
        if name.startswith("csfs-"):
            assert "\n.SH EXAMPLES\n" in page, name
            assert "\n.SH EXIT STATUS\n" in page, name
    assert "takeover=SECONDS" in pages["csfs-mount.1"]


def test_man_can_read_them(tmp_path: Path) -> None:
    manual.write(tmp_path)
    pages = sorted(tmp_path.glob("man?/*"))
    assert len(pages) == len(manual.pages())
    groff = ["groff", "-man", "-Tutf8", "-ww", "-z"]
    try:
        done = subprocess.run([*groff, *pages], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("groff is not there")
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_in_a_text_is_a_command_to_roff() -> None:
    assert manual.escaped(".csfs is\n'quoted' a\\b -x") == "\\&.csfs is\n\\&'quoted' a\\eb \\-x"


def csfs(*words: str, environment: dict[str, str] | None = None) -> str:
    code = "from csfs.cli.main import main; main(prog_name='csfs')"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
