"""The data: a project with a large stack and many small files, and a tree outside of it to copy in."""

import json
import os
import shutil
from pathlib import Path

STACK = "stack.mrc"
_HEADER = 1024
_DIRECTORIES, _FILES = 200, 100
_CHUNK = 1 << 20


class Trees:
    """In `place`: `backing/CS-bench` is the project; `outside` is copied into it, `backing/free0` removed."""

    project = "CS-bench"
    outside_files = 2_000

    def __init__(self, place: Path, *, megabytes: int, links: int) -> None:
        self.backing, self.outside = place / "backing", place / "outside"
        self.stack_bytes, self.links = megabytes * _CHUNK, links
        self._aside = 0
        self.directories = [f"small/{number:03}" for number in range(_DIRECTORIES)]
        self.files = [f"{each}/{number:03}.txt" for each in self.directories for number in range(_FILES)]

    @property
    def root(self) -> Path:
        """The project, on the backing filesystem itself."""
        return self.backing / self.project

    def put_aside(self, directory: Path) -> None:
        """Takes a directory out of the project, on the backing filesystem."""
        self._aside += 1
        self.backing.with_name("aside").mkdir(exist_ok=True)
        directory.rename(self.backing.with_name("aside") / str(self._aside))

    def make(self) -> None:
        root = self.root
        root.mkdir(parents=True)
        head = {"uid": "P1", "uid_num": 1, "title": "bench", "project_dir": "", "detached": True}
        (root / "project.json").write_text(json.dumps(head))
        (root / "workspaces.json").write_text("[]")
        for directory in self.directories:
            (root / directory).mkdir(parents=True)
        for path in self.files:
            (root / path).write_bytes(b"x" * 200)
        with open(root / STACK, "wb") as stack:
            chunk = os.urandom(_CHUNK)
            for _ in range(self.stack_bytes // _CHUNK):
                stack.write(chunk)
        for number in range(self.outside_files):
            path = self.outside / f"{number // 100:02}" / f"{number:05}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 200)
        self.make_free()

    def make_free(self) -> None:
        target = self.backing / "free0"
        if not target.exists():
            shutil.copytree(self.outside, target)
