"""How a step is made on two instances and in their model: see test_model.py for the steps."""

import copy
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis.stateful import RuleBasedStateMachine, initialize

from csfs.domain import names
from tests.crash.doer import Doer
from tests.crash.model import PROJECT, WORKSPACES, Content, Directory, World
from tests.crash.model_site import INSTANCES, TwoInstances
from tests.crash.site import job
from tests.crash.zygote import Zygote

PATHS = ("CS-1", "CS-2", "box/CS-3")
CONTAINERS = ("box", "crate")

Effect = Callable[[World], None]


class Machine(RuleBasedStateMachine):
    """Two instances and their model; after each step what the mounts show is compared with it."""

    zygote: Zygote
    doer: Doer
    steps = 0
    killed = 0
    """Of all machines together."""

    @initialize()
    def begin(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="csfs-model-")).resolve()
        self.place.chmod(0o755)
        self.site = TwoInstances(self.zygote, self.doer, self.place)
        self.world = World(records={name: {} for name in INSTANCES}, highest=dict.fromkeys(INSTANCES, 0))
        self.container = CONTAINERS[0]
        (self.site.backing / self.container).mkdir()
        for path in PATHS:
            self._make(path)
        self.writer: tuple[int, str, str] | None = None
        """A file that is open for writing: descriptor, instance, path of its directory."""

    def _make(self, path: str) -> None:
        """A detached project, as another program would leave it: with a job and a file."""
        at = self.site.backing / path
        (at / "J1").mkdir(parents=True)
        head = {"uid": "P9", "uid_num": 9, "title": path, "project_dir": "/old", "archived": False}
        (at / PROJECT).write_text(json.dumps({**head, "detached": True}))
        workspace = {"uid": "W1", "uid_num": 1, "project_uid": "P9", "project_uid_num": 9, "title": "one"}
        (at / WORKSPACES).write_text(json.dumps([workspace]))
        (at / "J1/job.json").write_text(json.dumps(job("J1", "completed")))
        (at / "a").write_bytes(b"data")
        self.world.directories[path] = Directory(
            self.world.new(),
            documents={
                PROJECT: Content(path),
                WORKSPACES: Content("one"),
                "J1/job.json": Content("J1", "completed"),
            },
            data={"a": b"data"},
        )

    def teardown(self) -> None:
        if hasattr(self, "site"):
            try:
                self.close_open_file()
                self.settle(all_of_it=True)
            finally:
                self.site.close()
                shutil.rmtree(self.place, ignore_errors=True)

    # -- how a step is made --------------------------------------------------------------------------

    def at(self, path: str) -> str:
        """A path by the present name of the container."""
        return path.replace(CONTAINERS[0] + "/", self.container + "/")

    def settle(self, *worlds: World, touched: list[str] | None = None, all_of_it: bool = False) -> None:
        looked_at = [self.at(path) for path in PATHS] if touched is None or all_of_it else touched
        self.world = self.site.settle(list(worlds) or [self.world], looked_at, all_of_it=all_of_it)

    def step(
        self,
        name: str,
        touched: list[str],
        expected: set[int],
        effect: Effect,
        verb: str,
        *arguments: object,
        kill: tuple[int, bool] | None = None,
    ) -> None:
        """Makes one call on the mount of an instance. `effect` is what it does if it gives 0."""
        type(self).steps += 1
        daemon = self.site.daemons[name]
        if kill is not None:
            daemon.control.kill(kill[0], after=kill[1])
        code = self.site.doer.do(verb, *arguments)
        before, after = self.world, copy.deepcopy(self.world)
        daemon.control.disarm()
        if kill is not None and code in expected and self.site.lives(name):
            kill = None
        if kill is not None:
            type(self).killed += 1
            self.close_open_file(of=name)
            self.site.crash(name)
            worlds = [before]
            if 0 in expected:
                effect(after)
                worlds = [after] if code == 0 else [after, before]
            self.settle(*worlds, all_of_it=True)
            return
        shown = {errno.errorcode.get(each, "0") for each in expected}
        assert code in expected, f"{errno.errorcode.get(code, code)} instead of {shown}\n{daemon.log}"
        if code == 0:
            effect(after)
        self.settle(after, touched=touched)

    def exists(self, path: str) -> bool:
        return path in self.world.directories

    def changing(self, name: str, path: str) -> set[int]:
        """What a change of a file gives."""
        return {0} if self.world.state(name, path) in ("plain", "detached", "attached") else {errno.EROFS}

    def in_use(self, path: str) -> bool:
        return self.world.active(path) or self.has_writer(path)

    def has_writer(self, path: str) -> bool:
        return self.writer is not None and self.at(self.writer[2]) == path

    def number(self, name: str, path: str) -> int:
        """The number that an instance has given to the project in a directory, as it shows it."""
        uid = self.site.attribute(name, path, "uid")
        return names.project_number(uid) or 0

    def close_open_file(self, of: str | None = None) -> None:
        if self.writer is None or of not in (None, self.writer[1]):
            return
        fd, name, _ = self.writer
        self.writer = None
        try:
            os.close(fd)
        except OSError as error:
            if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
            return
        if not self.site.daemons[name].ended:
            self.site.wait_released(name)
