"""Two instances do everything that users do, in random order, and are killed: it comes as the model says.

`CSFS_MODEL_STEPS` asks for more steps.
"""

import copy
import errno
import json
import os
import subprocess

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from csfs.domain import names
from csfs.domain.job import ACTIVE, TRANSITIONS, JobStatus
from tests.conftest import Points
from tests.crash.doer import Doer
from tests.crash.model import PROJECT, WORKSPACES, Content, Directory, World
from tests.crash.model_machine import CONTAINERS, PATHS, Effect, Machine
from tests.crash.model_site import INSTANCES
from tests.crash.zygote import Zygote

STEPS = int(os.environ.get("CSFS_MODEL_STEPS", "2000"))
STEPS_TOGETHER = 50
STEPS_AT_LEAST = 16
"""So many of these make a call, on average: not every rule has something to do."""

JOBS = ("J1", "J2")
FILES = ("a", "b")
_LAST_CALL = 30
"""Daemons are killed at one of the first so many calls of an action; most have no more."""

instances = st.sampled_from(INSTANCES)
paths = st.sampled_from(PATHS)
jobs = st.sampled_from(JOBS)
data_files = st.sampled_from(FILES)
kills = st.one_of(st.none(), st.none(), st.none(), st.tuples(st.integers(1, _LAST_CALL), st.booleans()))
"""At which call the daemon is killed, and whether after it; mostly it is not."""


def nothing(world: World) -> None:
    """The effect of what changes nothing."""


class Instances(Machine):
    """Each rule makes a call and knows what it must give."""

    # -- create, attach, detach ------------------------------------------------------------------------

    @rule(path=paths, name=instances)
    def mkdir(self, path: str, name: str) -> None:
        path = self.at(path)

        def effect(world: World) -> None:
            world.directories[path] = Directory(world.new())

        expected = {errno.EEXIST}
        if not self.exists(path):
            self.site.wait_gone(name, path)
            expected = {0}
        self.step(name, [path], expected, effect, "mkdir", self.site.path(name, path))

    @rule(path=paths, name=instances, own_bytes=st.booleans(), kill=kills)
    def touch_lock(self, path: str, name: str, own_bytes: bool, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path):
            return

        def effect(world: World) -> None:
            number = self.number(name, path)
            if world.state(name, path) != "attached":
                assert number == 0 or number > world.highest[name], "a number was given again"
                world.attach(name, path, number, opaque=own_bytes)

        directory = self.world.directories[path]
        match self.world.state(name, path):
            case "attached":
                expected = {errno.EPERM} if own_bytes else {0}
            case "archived" | "foreign" | "lost":
                expected = {errno.EROFS}
            case _ if directory.inert:
                expected = {errno.EEXIST}
            case "plain" if directory.data:
                expected = {errno.EINVAL}
            case _ if own_bytes and name in directory.broken:
                expected = {errno.EPERM}
            case _:
                expected = {0}
        lock = self.site.path(name, path) / names.LOCK
        content = f"mine, says {name}" if own_bytes else ""
        self.step(name, [path], expected, effect, "claim", lock, content, kill=kill)

    @rule(path=paths, name=instances, kill=kills)
    def remove_lock(self, path: str, name: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path):
            return
        state = self.world.state(name, path)

        def effect(world: World) -> None:
            if state == "attached":
                world.detach(path)
            elif state == "lost":
                world.let_go(name, path)
            else:
                world.directories[path].inert = 0

        match state:
            case "attached" if self.in_use(path):
                expected = {errno.EBUSY}
            case "attached" | "lost":
                expected = {0}
            case "archived":
                expected = {errno.EROFS}
            case "foreign":
                expected = {errno.EPERM}
            case _:
                expected = {0} if self.world.directories[path].inert else {errno.ENOENT}
        lock = self.site.path(name, path) / names.LOCK
        self.step(name, [path], expected, effect, "unlink", lock, kill=kill)

    # -- archive and its end -----------------------------------------------------------------------------

    @rule(path=paths, name=instances, kill=kills)
    def archive(self, path: str, name: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path) or self.world.is_free(name, path):
            return
        match self.world.state(name, path):
            case "attached":
                expected = {errno.EBUSY} if self.in_use(path) else {0}
                effect: Effect = lambda world: world.archive(path)  # noqa: E731
            case "archived":
                expected, effect = {0}, nothing
            case _:
                expected, effect = {errno.EROFS}, nothing
        self.step(name, [path], expected, effect, "chmod", self.site.path(name, path), 0o555, kill=kill)

    @rule(path=paths, name=instances, kill=kills)
    def unarchive(self, path: str, name: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path):
            return
        state, expected = self.world.state(name, path), {0}
        effect: Effect = nothing
        if state == "archived":
            owner = self.world.directories[path].owner
            assert owner is not None
            number = owner[1]
            effect = lambda world: world.unarchive(name, path, number)  # noqa: E731
        elif state in ("foreign", "lost"):
            expected = {errno.EROFS}
        elif number := self.world.returning(name, path):
            effect = lambda world: world.unarchive(name, path, number)  # noqa: E731
        self.step(name, [path], expected, effect, "chmod", self.site.path(name, path), 0o755, kill=kill)

    # -- whole directories -------------------------------------------------------------------------------

    @rule(old=paths, new=paths, name=instances, kill=kills)
    def move(self, old: str, new: str, name: str, kill: tuple[int, bool] | None) -> None:
        old, new = self.at(old), self.at(new)
        if not self.exists(old) or self.exists(new):
            return
        match self.world.state(name, old):
            case "foreign" | "lost":
                expected = {errno.EPERM}
            case "attached" if self.in_use(old):
                expected = {errno.EBUSY}
            case "plain" | "detached" if self.has_writer(old):
                return  # nobody forbids it, and the model would have to follow the file
            case _:
                expected = {0}
        source, target = self.site.path(name, old), self.site.path(name, new)
        self.step(name, [old, new], expected, lambda w: w.move(old, new), "rename", source, target, kill=kill)

    @rule(name=instances, kill=kills)
    def move_container(self, name: str, kill: tuple[int, bool] | None) -> None:
        old = self.container
        new = CONTAINERS[1 - CONTAINERS.index(old)]
        inside = [path for path in self.world.directories if path.startswith(old + "/")]
        if any(self.has_writer(path) for path in inside):
            return
        expected = {0}
        for path in inside:
            if self.world.state(name, path) in ("foreign", "lost"):
                expected = {errno.EPERM}
            elif self.world.state(name, path) == "attached" and self.in_use(path):
                expected = {errno.EBUSY}
        self.site.wait_gone(name, new)
        source, target = self.site.path(name, old), self.site.path(name, new)
        touched = [f"{each}/CS-3" for each in CONTAINERS]
        self.step(name, touched, expected, lambda w: w.move(old, new), "rename", source, target, kill=kill)
        self.container = new if (self.site.backing / new).exists() else old

    @rule(old=paths, new=paths, name=instances)
    def clone(self, old: str, new: str, name: str) -> None:
        old, new = self.at(old), self.at(new)
        if not self.exists(old) or self.exists(new) or self.world.state(name, old) in ("lost", "plain"):
            return
        directory = self.world.directories[old]
        if directory.owner is not None and directory.opaque:
            return  # what is no lock of csfs's claims the copy
        type(self).steps += 1
        self.site.wait_gone(name, new)
        source, target = self.site.path(name, old), self.site.path(name, new)
        done = subprocess.run(["cp", "-a", source, target], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        after = copy.deepcopy(self.world)
        after.clone(name, old, new)
        self.settle(after, touched=[old, new])

    @rule(path=paths, name=instances)
    def remove_all(self, path: str, name: str) -> None:
        path = self.at(path)
        if not self.exists(path) or self.has_writer(path):
            return
        expected = {
            "attached": {errno.EPERM},
            "foreign": {errno.EPERM, errno.EROFS},
            "lost": {errno.EPERM, errno.EROFS},
        }.get(self.world.state(name, path), {0})

        def effect(world: World) -> None:
            del world.directories[path]

        self.step(name, [path], expected, effect, "rmtree", self.site.path(name, path))

    @rule(name=instances, number=st.integers(1, 6), kill=kills)
    def forget(self, name: str, number: int, kill: tuple[int, bool] | None) -> None:
        record = self.world.records[name].get(number)

        def effect(world: World) -> None:
            del world.records[name][number]

        expected = {errno.ENOENT}
        if record is not None:
            expected = {0} if record.state == "detached" else {errno.EPERM}
        at = self.site.path(name, f".csfs/projects/P{number}")
        self.step(name, [], expected, effect, "rmdir", at, kill=kill)

    # -- jobs --------------------------------------------------------------------------------------------

    @rule(path=paths, name=instances, job=jobs, kill=kills)
    def make_job(self, path: str, name: str, job: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path) or self.world.is_free(name, path):
            return
        document = f"{job}/job.json"

        def effect(world: World) -> None:
            world.edit(path, document, Content(f"New Job {job}", JobStatus.BUILDING.value))

        expected = self.changing(name, path)
        if document in self.world.documents(name, path):
            if expected != {0}:
                return
            expected = {errno.EEXIST}
        self.step(name, [path], expected, effect, "mkdir", self.site.path(name, path) / job, kill=kill)

    @rule(path=paths, name=instances, job=jobs, status=st.sampled_from(list(JobStatus)), kill=kills)
    def set_status(
        self, path: str, name: str, job: str, status: JobStatus, kill: tuple[int, bool] | None
    ) -> None:
        path = self.at(path)
        document = f"{job}/job.json"
        if not self.exists(path) or document not in self.world.documents(name, path):
            return
        state = self.world.state(name, path)
        before = self.world.documents(name, path)[document].status
        if state == "attached":
            legal = status == before or status in TRANSITIONS[JobStatus(before)]
            expected = {0} if legal else {errno.EINVAL}
        else:
            expected = {errno.EROFS} if state in ("archived", "lost") else {errno.EOPNOTSUPP}
        at = self.site.path(name, path) / job
        effect: Effect = lambda world: world.set_status(path, document, status.value)  # noqa: E731
        self.step(name, [path], expected, effect, "setxattr", at, "user.csfs.status", status.value, kill=kill)

    @rule(path=paths, name=instances, job=jobs, kill=kills)
    def delete_job(self, path: str, name: str, job: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        document = f"{job}/job.json"
        if not self.exists(path) or document not in self.world.documents(name, path):
            return
        if self.world.is_free(name, path):
            return
        expected = self.changing(name, path)
        if expected == {0} and self.world.documents(name, path)[document].status in ACTIVE:
            expected = {errno.EBUSY}
        at = self.site.path(name, path) / job
        self.step(
            name, [path], expected, lambda w: w.drop(path, document), "unlink", at / "job.json", kill=kill
        )
        if document not in self.world.documents(name, path):
            assert self.site.doer.do("rmtree", at) == 0

    # -- documents and data --------------------------------------------------------------------------------

    @rule(
        path=paths,
        name=instances,
        document=st.sampled_from([PROJECT, WORKSPACES, *(f"{job}/job.json" for job in JOBS)]),
        what=st.sampled_from(["title", "title", "title", "no JSON", "identity"]),
        kill=kills,
    )
    def edit(self, path: str, name: str, document: str, what: str, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path) or document not in self.world.documents(name, path):
            return
        free = self.world.is_free(name, path)
        if free and (what != "title" or self.world.directories[path].inert):
            return  # a plain file is not checked
        title = f"title {self.steps}"
        at = self.site.path(name, path) / document
        found = json.loads(at.read_bytes())
        head = found[0] if isinstance(found, list) else found
        if what == "identity":
            head["project_uid" if document != PROJECT else "uid"] = "P999"
        else:
            head["title"] = title
        content = "{" if what == "no JSON" else json.dumps(found)
        expected = self.changing(name, path)
        if expected == {0} and what != "title":
            expected = {errno.EINVAL}

        def effect(world: World) -> None:
            world.edit(path, document, world.documents(name, path)[document]._replace(title=title))

        if free:
            kill = None  # a plain file may be cut short
        self.step(name, [path], expected, effect, "rewrite", at, content, kill=kill)

    @rule(path=paths, name=instances, file=data_files, verb=st.sampled_from(["write", "append", "truncate"]))
    def change_data(self, path: str, name: str, file: str, verb: str) -> None:
        path = self.at(path)
        if not self.exists(path) or self.world.directories[path].inert:
            return
        expected = self.changing(name, path)
        if verb != "write" and file not in self.world.directories[path].data:
            return
        content = f"{name} {self.steps} "

        def effect(world: World) -> None:
            data = world.directories[path].data
            if verb == "truncate":
                data[file] = data[file][:3].ljust(3, b"\0")
            else:
                data[file] = (data[file] if verb == "append" else b"") + content.encode()

        at = self.site.path(name, path) / file
        self.step(name, [path], expected, effect, verb, at, 3 if verb == "truncate" else content)

    @rule(path=paths, name=instances, file=data_files)
    def remove_data(self, path: str, name: str, file: str) -> None:
        path = self.at(path)
        if not self.exists(path) or file not in self.world.directories[path].data:
            return
        if self.world.directories[path].inert or self.has_writer(path):
            return

        def effect(world: World) -> None:
            del world.directories[path].data[file]

        at = self.site.path(name, path) / file
        self.step(name, [path], self.changing(name, path), effect, "unlink", at)

    @rule(old=paths, new=paths, name=instances, verb=st.sampled_from(["link", "rename"]))
    def across(self, old: str, new: str, name: str, verb: str) -> None:
        """A file does not leave a project, or get into one, but by a copy."""
        old, new = self.at(old), self.at(new)
        if old == new or not self.exists(old) or not self.exists(new):
            return
        if "a" not in self.world.directories[old].data or "a-too" in self.world.directories[new].data:
            return
        if all(self.world.is_free(name, path) for path in (old, new)):
            return
        unchangeable = {errno.EROFS} in (self.changing(name, old), self.changing(name, new))
        source, target = self.site.path(name, old) / "a", self.site.path(name, new) / "a-too"
        expected = {errno.EROFS} if unchangeable else {errno.EXDEV}
        self.step(name, [old, new], expected, nothing, verb, source, target)

    @rule(path=paths, name=instances)
    def open_writer(self, path: str, name: str) -> None:
        """The file stays open until it is closed, or its daemon is gone."""
        at = self.at(path)
        if self.writer is not None or not self.exists(at) or self.world.state(name, at) != "attached":
            return
        if "a" in self.world.directories[at].data:
            fd = os.open(self.site.path(name, at) / "a", os.O_WRONLY | os.O_APPEND)
            self.writer = fd, name, path

    @rule()
    def close_writer(self) -> None:
        self.close_open_file()

    # -- ends and losses ---------------------------------------------------------------------------------

    @rule(name=instances, how=st.sampled_from(["kill", "umount"]))
    def end(self, name: str, how: str) -> None:
        type(self).steps += 1
        if how == "umount":
            self.close_open_file(of=name)
            self.site.remount(name)
        else:
            type(self).killed += 1
            self.site.daemons[name].kill()
            self.close_open_file(of=name)
            self.site.crash(name)
        self.settle(all_of_it=True)

    @rule(path=paths, name=instances, right=st.booleans(), kill=kills)
    def rescue(self, path: str, name: str, right: bool, kill: tuple[int, bool] | None) -> None:
        path = self.at(path)
        if not self.exists(path) or self.has_writer(path):
            return
        state = self.world.state(name, path)
        if state == "plain":
            return
        lock_id = "wrong"
        if right and self.world.directories[path].owner is not None:
            lock_id = self.site.lock_id(path)
        expected = {errno.EINVAL}
        if state == "foreign":
            expected = {0} if right else {errno.EPERM}
        at = self.site.path(name, path)
        self.step(
            name,
            [path],
            expected,
            lambda w: w.rescue(path),
            "setxattr",
            at,
            "user.csfs.rescue",
            lock_id,
            kill=kill,
        )

    @rule(path=paths)
    def remove_lock_behind_their_back(self, path: str) -> None:
        path = self.at(path)
        if not self.exists(path) or self.world.directories[path].owner is None or self.has_writer(path):
            return
        type(self).steps += 1
        (self.site.backing / path / names.LOCK).unlink()
        self.world.unlock(path)
        self.settle(touched=[path])


@pytest.mark.timeout(120 + STEPS // 10)
def test_two_instances_against_the_model(zygote: Zygote, points: Points) -> None:
    with Doer() as doer:
        Instances.zygote, Instances.doer = zygote, doer
        Instances.steps = Instances.killed = 0
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Instances,
            settings=settings(
                max_examples=STEPS // STEPS_AT_LEAST,
                stateful_step_count=STEPS_TOGETHER,
                deadline=None,
                derandomize=True,
                database=None,
                # A step costs a system call on a real mount: a failure is told as it was found.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert Instances.steps >= STEPS
    assert Instances.killed > STEPS // 40
    points.steps = Instances.steps
