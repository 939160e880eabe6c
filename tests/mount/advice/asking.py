"""What `csfs why` advises after a refusal, taken at its word: its commands are run as they are printed."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from csfs.domain.rule import Rule
from tests.mount.lab import PATIENCE_SECONDS, Done, Lab

Case = TypeVar("Case", bound=Callable[..., Any])

CASES: dict[Rule, list[str]] = {}
"""The tests that show where the advice of a rule leads."""

_COMMAND = re.compile(r"""`((?:[^`'"]|'[^']*'|"[^"]*")+)`""")
_TO_FILL_IN = re.compile(r"\b(?!J\d)[A-Z]{2,}\b(?=$|[ /])")
_PROCESS = re.compile(r"\((\d+)\)")


def leads_on(*rules: Rule) -> Callable[[Case], Case]:
    """Says of a test which rules' advices it follows."""

    def note(case: Case) -> Case:
        for rule in rules:
            CASES.setdefault(rule, []).append(case.__name__)
        return case

    return note


def _kind(command: str) -> str:
    """A command without the paths and ids in it, as it is in each advice of its kind."""
    return re.sub(r"""['"]*/.*""", "", re.sub(r"[0-9a-f-]{16,}", "ID", command))


@dataclass
class Advice:
    """What is printed after `next:`, and what is in it to run."""

    rule: Rule
    reason: str
    text: str
    commands: list[str]
    run: Callable[[str], Done]
    followed: set[tuple[Rule, str]]

    def follow(self, start: str, then: str = "", **filled_in: object) -> Done:
        """Runs the one command that begins so, with the words in capitals filled in; it succeeds."""
        done = self.attempt(start, then, **filled_in)
        return done.ok()

    def attempt(self, start: str, then: str = "", **filled_in: object) -> Done:
        """The same, however it ends. `then` is what a person adds of their own."""
        (command,) = [each for each in self.commands if each.startswith(start)]
        self.followed.add((self.rule, _kind(command)))
        open_words = set(_TO_FILL_IN.findall(re.sub(r"'[^']*'", "", command.replace("'\"'\"'", ""))))
        assert open_words == set(filled_in), command
        for word, value in filled_in.items():
            command = re.sub(rf"\b{word}\b", lambda _, value=value: shlex.quote(str(value)), command)
        return self.run(command + then)

    @property
    def process(self) -> int:
        """The number of the process that the reason names."""
        (found,) = set(_PROCESS.findall(self.reason))
        return int(found)


@dataclass
class Asking:
    """Asks `csfs why`, and keeps in mind what it has advised and what of that was followed."""

    bin: Path
    advised: set[tuple[Rule, str]] = field(default_factory=set)
    followed: set[tuple[Rule, str]] = field(default_factory=set)

    def run(self, command: str) -> Done:
        """As a person would who pastes a command somewhere else than in the mount."""
        path = f"{self.bin}:{os.environ['PATH']}"
        process = subprocess.run(
            ["bash", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env={**os.environ, "LC_ALL": "C.UTF-8", "PATH": path},
            cwd="/",
            timeout=PATIENCE_SECONDS,
        )
        return Done(command, process.returncode, process.stdout, process.stderr)

    def why(self, lab: Lab, path: str, rule: Rule) -> Advice:
        """The advice for what was refused there last, under this rule among others of the same process."""
        told = json.loads(self.run(f"csfs why --json {shlex.quote(str(lab / path))}").ok().out)
        last = told["refusals"][-1]
        found = [each for each in told["refusals"] if (each["rule"], each["pid"]) == (rule.name, last["pid"])]
        assert found, last
        entry = found[-1]
        commands = _COMMAND.findall(entry["advice"])
        assert entry["advice"].count("`") - sum(each.count("`") for each in commands) == 2 * len(commands)
        self.advised |= {(rule, _kind(command)) for command in commands}
        return Advice(rule, entry["reason"], entry["advice"], commands, self.run, self.followed)


def refused(lab: Lab, error: str, command: str, *names: str) -> None:
    """A command in the mount fails with this error; each {} in it is a name, quoted."""
    lab.run(command.format(*map(shlex.quote, names))).refused(error)


def works(lab: Lab, command: str, *names: str) -> None:
    lab.run(command.format(*map(shlex.quote, names))).ok()
