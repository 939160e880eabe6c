"""Each use case of the guide twice, in two worlds alike: by ordinary commands, and by those of csfs.

Afterwards the worlds are compared whole: the backing directory, states, numbers and owners, the records and
the history of both instances. What differs on purpose is in ON_PURPOSE and PARTS_ON_PURPOSE.
"""

import json
import os
import re
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from csfs.cli import ls, show
from csfs.cli.sample.project import build
from tests.mount.lab import Lab, wait_for

IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIMES = re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)?")
LONGEST = 1 << 16
OF_THIS_WORLD = frozenset({"inode", "born", "epoch", "size", "pid"})
"""Keys of locks, records and deeds whose values are of one world alone."""

ON_PURPOSE: dict[str, str] = {
    "program": "the history names the program that has done it",
}
"""Keys that differ, and why they may."""
PARTS_ON_PURPOSE: dict[tuple[str, str], str] = {
    ("transfer", "deeds of lab2"): "csfs move attaches the project where it lies, and renames it after that",
}
"""What of an end differs, and why it may."""

NUMBER = "$(getfattr --only-values -n user.csfs.uid {})"


@dataclass(frozen=True)
class UseCase:
    """`before` makes what both ways begin with. The commands run in a directory of the first mount."""

    name: str
    before: str
    ordinary: str
    csfs: str

    def __str__(self) -> str:
        return self.name


ATTACHED = "touch CS-a/cs.lock"
P = NUMBER.format("CS-a")
CASES = [
    UseCase(
        "create",
        "rm -r CS-a",
        "mkdir CS-my-protein && touch CS-my-protein/cs.lock"
        """ && sed -i 's/"title": ".*"/"title": "My protein"/' CS-my-protein/project.json""",
        'csfs create . "My protein"',
    ),
    UseCase("attach", "true", "touch CS-a/cs.lock", "csfs attach CS-a"),
    UseCase("detach", ATTACHED, "rm CS-a/cs.lock", "csfs detach CS-a"),
    UseCase("archive", ATTACHED, "chmod a-w CS-a", "csfs archive CS-a"),
    UseCase("unarchive", f"{ATTACHED} && chmod a-w CS-a", "chmod u+w CS-a", "csfs unarchive CS-a"),
    UseCase("move", f"{ATTACHED} && mkdir slow", "mv CS-a slow/", "csfs move CS-a slow"),
    UseCase(
        "move out and back",
        ATTACHED,
        "chmod a-w CS-a && mv CS-a $OUT/moved && cp -a $OUT/moved CS-b && chmod u+w CS-b",
        "csfs archive CS-a && mv CS-a $OUT/moved && cp -a $OUT/moved CS-b && csfs unarchive CS-b",
    ),
    UseCase("rename", ATTACHED, "mv CS-a CS-b", "csfs move CS-a CS-b"),
    UseCase(
        "transfer",
        f"{ATTACHED} && echo {P} > $OUT/number",
        "rm CS-a/cs.lock && mv CS-a CS-b && touch $THERE/CS-b/cs.lock"
        " && rmdir $HERE/.csfs/projects/$(cat $OUT/number)",
        "csfs move CS-a $THERE/CS-b && csfs forget --mount $HERE $(cat $OUT/number)",
    ),
    UseCase(
        "consolidate an archived project",
        ATTACHED,
        "chmod a-w CS-a && tar -cf $OUT/a.tar CS-a && rm -rf CS-a && tar -xf $OUT/a.tar && chmod u+w CS-a",
        "csfs archive CS-a && tar -cf $OUT/a.tar CS-a && rm -rf CS-a && tar -xf $OUT/a.tar"
        " && csfs unarchive CS-a",
    ),
    UseCase(
        "consolidate a detached project",
        ATTACHED,
        "rm CS-a/cs.lock && tar -cf $OUT/d CS-a && rm -rf CS-a && tar -xf $OUT/d && touch CS-a/cs.lock",
        "csfs detach CS-a && tar -cf $OUT/d CS-a && rm -rf CS-a && tar -xf $OUT/d && csfs attach CS-a",
    ),
    UseCase(
        "clone",
        ATTACHED,
        "cp -a CS-a CS-b && rm CS-b/cs.lock && touch CS-b/cs.lock",
        "csfs clone --attach CS-a CS-b",
    ),
    UseCase(
        "delete",
        f"{ATTACHED} && echo {P} > $OUT/number",
        "rm CS-a/cs.lock && rm -rf CS-a && rmdir $HERE/.csfs/projects/$(cat $OUT/number)",
        "csfs detach CS-a && rm -rf CS-a && csfs forget --mount $HERE $(cat $OUT/number)",
    ),
    UseCase(
        "forget",
        f"{ATTACHED} && echo {P} > $OUT/number && rm CS-a/cs.lock",
        "rmdir $HERE/.csfs/projects/$(cat $OUT/number)",
        "csfs forget --mount $HERE $(cat $OUT/number)",
    ),
    UseCase(
        "jobs",
        f"{ATTACHED} && mkdir CS-a/J90 CS-a/J91",
        "setfattr -n user.csfs.status -v running CS-a/J90 && setfattr -n user.csfs.status -v failed CS-a/J90"
        " && setfattr -n user.csfs.status -v completed CS-a/J91",
        "csfs job status CS-a/J90 running && csfs job status CS-a/J90 failed"
        " && csfs job status CS-a/J91 completed",
    ),
]


@dataclass
class World:
    """Two instances over one backing directory, and a third that is gone."""

    top: Path
    here: Lab
    there: Lab
    dying: Lab

    def run(self, at: str, command: str) -> None:
        variables = {"OUT": self.top / "out", "HERE": self.here.mountpoint, "THERE": self.there / at}
        given = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
        path = f"export PATH={shlex.quote(str(self.top / 'bin'))}:$PATH"
        self.here.run(f"export {given} && {path} && cd {shlex.quote(at)} && {command}").ok()

    def state(self, at: str) -> dict[str, Any]:
        """All that is known of a directory and what lies in it."""
        return {
            "tree": self._tree(at),
            **{
                f"{key} of {lab.name}": value
                for lab in (self.here, self.there)
                for key, value in self._known(lab, at).items()
            },
        }

    def _tree(self, at: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for place, below, names in os.walk(self.here.backing / at):
            for path in (Path(place, name) for name in (*below, *names)):
                info = path.lstat()
                content: object = ""
                if stat.S_ISLNK(info.st_mode):
                    content = os.readlink(path)
                elif stat.S_ISREG(info.st_mode):
                    content = self._normal(path.read_bytes())
                name = TIMES.sub(
                    "TIME", re.sub(r"rescued-.*", "rescued-TIME", str(path.relative_to(self.here.backing)))
                )
                found[name] = (oct(info.st_mode), content)
        return found

    def _known(self, lab: Lab, at: str) -> dict[str, object]:
        listed = _told(ls.command, "--all", lab.mountpoint)
        listed = [each for each in listed if f"/{at}/" in each["path"]]
        shown = [_told(show.command, each["path"]) for each in listed if not each["away"]]
        records = []
        for name in sorted(os.listdir(lab / ".csfs/projects")):
            record = json.loads((lab / ".csfs/projects" / name / "record.json").read_text())
            if record["path"].startswith(f"{at}/"):
                records.append({**record, "lock_content": self._normal(record["lock_content"].encode())})
        history = [json.loads(line) for line in (lab / ".csfs/history").read_text().splitlines()]
        deeds = [each for each in history if each["path"].startswith(f"{at}/")]
        return {
            key: self._without_particulars(value)
            for key, value in {"listed": listed, "shown": shown, "records": records, "deeds": deeds}.items()
        }

    def _normal(self, content: bytes) -> object:
        """Documents and locks by what they say; data as they are."""
        try:
            return self._without_particulars(json.loads(content))
        except ValueError:
            return content

    def _without_particulars(self, value: Any) -> Any:
        if isinstance(value, dict):
            kept = {key: each for key, each in value.items() if key not in OF_THIS_WORLD | set(ON_PURPOSE)}
            return {key: self._without_particulars(each) for key, each in kept.items()}
        if isinstance(value, list):
            return [self._without_particulars(each) for each in value]
        if isinstance(value, str):
            return TIMES.sub("TIME", IDS.sub("ID", value.replace(str(self.top), "TOP")))
        return value


def _told(command: click.Command, *arguments: object) -> Any:
    done = CliRunner().invoke(command, ["--json", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


@pytest.fixture(scope="module")
def worlds() -> Iterator[tuple[World, World]]:
    top = Path(tempfile.mkdtemp(prefix="csfs-test-")).resolve()
    made = []
    try:
        _sample(top / "sample")
        for number in ("1", "2"):
            made.append(_world(top, number))
        yield made[0], made[1]
    finally:
        for world in made:
            for lab in (world.here, world.there, world.dying):
                lab.take_down()
        shutil.rmtree(top, ignore_errors=True)
    for world in made:
        world.here.check_traces()


def _sample(directory: Path) -> None:
    """A project with all that one has, but for the pixels of its images."""
    build(directory)
    for path in directory.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size > LONGEST:
            os.truncate(path, LONGEST)


def _world(top: Path, number: str) -> World:
    place = top / number
    for name in ("backing", "lab1", "lab2", "lab3", "out", "bin"):
        (place / name).mkdir(parents=True)
    program = place / "bin/csfs"
    root = shlex.quote(str(Path(__file__).parents[2]))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {shlex.quote(sys.executable)} -m csfs "$@"\n')
    program.chmod(0o755)
    for case in (*map(str, CASES), "rescue"):
        at = place / "backing" / case.replace(" ", "-")
        at.mkdir()
        shutil.copytree(top / "sample", at / "CS-a", symlinks=True)
    options = ("-o", "takeover=2")
    labs = [
        Lab(name, place / "backing", place / name, place / "state", options=options)
        for name in ("lab1", "lab2", "lab3")
    ]
    world = World(place, *labs)
    for lab in labs:
        lab.mount()
    return world


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_end(worlds: tuple[World, World], case: UseCase) -> None:
    at = case.name.replace(" ", "-")
    for world, command in zip(worlds, (case.ordinary, case.csfs), strict=True):
        world.run(at, case.before)
        world.run(at, command)
    by_ordinary, by_csfs = (world.state(at) for world in worlds)
    for part, value in by_ordinary.items():
        if (case.name, part) in PARTS_ON_PURPOSE:
            assert by_csfs[part] != value, f"{part} is no longer different"
        else:
            assert by_csfs[part] == value, part
    assert by_ordinary["deeds of lab1"], "something was done, and noted"


def test_rescue_ends_the_same(worlds: tuple[World, World]) -> None:
    """Its owner was killed in both worlds."""
    for world in worlds:
        (world.dying / "rescue/CS-a/cs.lock").touch()
        world.dying.kill()
    ordinary, other = worlds

    def is_rescued(world: World, command: str) -> bool:
        return world.here.run(f"export PATH={world.top}/bin:$PATH && cd rescue && {command}").code == 0

    wait_for(lambda: is_rescued(ordinary, "rm -f CS-a/cs.lock"), "the owner counts as dead")
    ordinary.run("rescue", "touch CS-a/cs.lock")
    wait_for(lambda: is_rescued(other, "csfs rescue --attach CS-a"), "the owner counts as dead")
    assert other.state("rescue") == ordinary.state("rescue")
