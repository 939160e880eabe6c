"""Completions, typed into the shells themselves."""

import os
import pty
import re
import select
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.cli.completion import SHELLS
from tests.cli.test_commands import ROOT, csfs

_STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
_LOADS = {
    "bash": ". {place}/csfs",
    "zsh": "fpath=({place}/functions $fpath); autoload -Uz compinit; compinit -u -D",
    "fish": "source {place}/csfs",
}
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()>=][AB0]?")


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, words: list[str], place: Path, environment: dict[str, str]) -> None:
        self._said = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(place)
            os.execvpe(words[0], words, environment)

    def type(self, text: str) -> None:
        self._said = ""
        os.write(self._fd, text.encode())

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Returns when it has said that since something was typed, whatever of it is for the terminal."""
        deadline = time.monotonic() + seconds
        while text not in (said := _CONTROLS.sub("", self._said)):
            assert time.monotonic() < deadline, f"{text!r} is not in {said!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self._said += os.read(self._fd, 1 << 16).decode(errors="replace")

    def end(self) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    name = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    place = tmp_path / "files"
    for path in (place / "with space", tmp_path / "bin", tmp_path / "functions"):
        path.mkdir(parents=True)
    (place / "lab1.toml").touch()
    script = csfs("completion", name)
    (tmp_path / "csfs").write_text(script)
    (tmp_path / "functions/_csfs").write_text(script)
    program = tmp_path / "bin/csfs"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from csfs.cli.main import main; main(prog_name=\"csfs\")'"
        ' "$@"\n'
    )
    program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    made = Shell(_STARTS[name], place, environment)
    try:
        made.type(_LOADS[name].format(place=tmp_path) + "; echo loa''ded\n")
        made.wait_for("loaded\r\n")
        yield made
    finally:
        made.end()


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("csfs unar", "csfs unarchive "),
        ("csfs mount --inst", "csfs mount --instance "),
        ("csfs completion zs", "csfs completion zsh "),
        ("csfs mount lab", "csfs mount lab1.toml "),
        ("csfs mount lab1.toml wi", "csfs mount lab1.toml with\\ space/"),
        ("csfs why ./la", "csfs why ./lab1.toml "),
        ("csfs status --json wi", "csfs status --json with\\ space/"),
    ],
)
def test_a_tab_completes(shell: Shell, typed: str, completed: str) -> None:
    shell.type(typed + "\t")
    shell.wait_for(completed)
