"""Two instances on one backing directory, and how what they show is compared with the model."""

import errno
import json
import os
import time
from pathlib import Path

from csfs.domain import lock, names
from tests.crash.doer import Doer
from tests.crash.model import Content, World
from tests.crash.site import DOCUMENTS
from tests.crash.zygote import Daemon, Zygote
from tests.mount.lab import wait_for

INSTANCES = ("lab1", "lab2")
_PATIENCE_SECONDS = 5
_UNMOUNTED_MEANWHILE = "fuse_release(): fuse_reply_* failed"


class TwoInstances:
    """A backing directory, a daemon for each instance, and a process that makes calls."""

    def __init__(self, zygote: Zygote, doer: Doer, place: Path) -> None:
        self._zygote = zygote
        self.doer = doer
        self.backing, self._state = place / "backing", place / "state"
        self._mounts = {name: place / name for name in INSTANCES}
        for directory in (self.backing, self._state, *self._mounts.values()):
            directory.mkdir()
        self.daemons: dict[str, Daemon] = {}
        for name in INSTANCES:
            self.mount(name)

    def mount(self, name: str) -> None:
        mounted = self._zygote.mount(name, self.backing, self._mounts[name], self._state)
        self.daemons[name] = mounted

    def crash(self, name: str) -> None:
        """kill -9, and mounted again."""
        self.daemons[name].kill()
        self.daemons[name].umount()
        self.mount(name)

    def remount(self, name: str) -> None:
        self.daemons[name].umount()
        self.mount(name)

    def close(self) -> None:
        for daemon in self.daemons.values():
            daemon.umount()

    def path(self, name: str, path: str) -> Path:
        return self._mounts[name] / path

    def lives(self, name: str) -> bool:
        """Whether the daemon answers."""
        try:
            self.path(name, ".csfs/status.json").read_bytes()
        except OSError as error:
            assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
            return False
        return True

    def wait_released(self, name: str) -> None:
        """Returns once the daemon has been told of each close(2), or has died."""
        status = self.path(name, ".csfs/status.json")

        def told() -> bool:
            try:
                open_files: int = json.loads(status.read_text())["open_files"]
            except OSError as error:
                assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
                return True
            return open_files <= 1

        wait_for(told, "the daemon knows of the close")

    def wait_gone(self, name: str, path: str) -> None:
        """Returns once the kernel does not believe any more in a directory that another has removed."""
        wait_for(lambda: not self.path(name, path).exists(), f"{path} is gone for {name}")

    # -- what is shown -------------------------------------------------------------------------------

    def attribute(self, name: str, path: str, attribute: str) -> str:
        try:
            return os.getxattr(self.path(name, path), f"user.csfs.{attribute}").decode()
        except OSError:
            return ""

    def state(self, name: str, path: str) -> str:
        at = self.path(name, path)
        # The kernel may believe for a second in a name that is gone. A listing is not kept.
        if at.parent.name not in os.listdir(at.parents[1]) or at.name not in os.listdir(at.parent):
            return "missing"
        try:
            os.removexattr(at, "user.none")  # what others did a moment ago is looked at then
        except OSError:
            pass
        return self.attribute(name, path, "state") or "plain"

    def content(self, at: Path) -> Content | None:
        """What is looked at in a document; None if there is none."""
        try:
            found = json.loads(at.read_bytes())
        except FileNotFoundError:
            return None
        if isinstance(found, list):
            found = found[0]
        return Content(found.get("title") or "", found.get("status") or "")

    def lock_id(self, path: str) -> str:
        found = lock.parse((self.backing / path / names.LOCK).read_bytes())
        return found.lock_id

    # -- compared with the model -----------------------------------------------------------------------

    def differs(self, world: World, paths: list[str]) -> list[str]:
        """In what these directories are otherwise than the model says; empty if in nothing."""
        found = []
        for path in paths:
            for name in INSTANCES:
                found += self._differs_on(name, world, path)
            if path in world.directories:
                found += self._differs_on_backing(world, path)
        return found

    def _differs_on(self, name: str, world: World, path: str) -> list[str]:
        shown, expected = self.state(name, path), world.state(name, path)
        if shown != expected:
            return [f"{path} is {shown} for {name}, not {expected}"]
        if expected == "missing":
            return []
        found = []
        directory = world.directories[path]
        if expected in ("attached", "archived"):
            assert directory.owner is not None
            uid = self.attribute(name, path, "uid")
            if uid != f"P{directory.owner[1]}":
                found.append(f"{path} is {uid} of {name}, not P{directory.owner[1]}")
        for document, content in world.documents(name, path).items():
            there = self.content(self.path(name, path) / document)
            if there != content:
                found.append(f"{name} shows {there} for {path}/{document}, not {content}")
        for file, data in directory.data.items():
            if (read := _bytes(self.path(name, path) / file)) != data:
                found.append(f"{name} shows {read!r} for {path}/{file}, not {data!r}")
        return found

    def _differs_on_backing(self, world: World, path: str) -> list[str]:
        directory, at = world.directories[path], self.backing / path
        if not at.is_dir():
            return [f"{path} is missing"]
        found = []
        data = {
            file.name: file.read_bytes()
            for file in at.iterdir()
            if file.is_file()
            and file.name not in (names.LOCK, *DOCUMENTS)
            and not file.name.startswith((names.RESCUED_PREFIX, names.TEMPORARY_PREFIX))
        }
        if data != directory.data:
            found.append(f"{path} holds {data}, not {directory.data}")
        for document, content in directory.documents.items():
            if (there := self.content(at / document)) != content:
                found.append(f"{there} is exported for {path}/{document}, not {content}")
        jobs = {f"{job.parent.name}/{job.name}" for job in at.glob("J*/job.json")}
        if extra := jobs - directory.documents.keys():
            found.append(f"{path} holds {extra}, too")
        has_lock = (at / names.LOCK).exists()
        if has_lock != (directory.owner is not None or bool(directory.inert)):
            found.append(f"{path} has {'a' if has_lock else 'no'} lock")
        return found

    def differs_in_records(self, world: World) -> list[str]:
        """In what the instances know otherwise than the model says."""
        found = []
        for name in INSTANCES:
            at = self.path(name, ".csfs/projects")
            shown = {
                uid: json.loads((at / uid / "record.json").read_text())["state"] for uid in os.listdir(at)
            }
            expected = {f"P{number}": record.state for number, record in world.records[name].items()}
            if shown != expected:
                found.append(f"{name} knows {shown}, not {expected}")
        return found

    def healthy(self) -> list[str]:
        """What is wrong with the daemons, whatever the model says."""
        found = []
        for name in INSTANCES:
            status = json.loads(self.path(name, ".csfs/status.json").read_text())
            if (status["state"], status["transitions"], status["exports_failing"]) != ("ready", {}, {}):
                found.append(f"the status of {name} is {status}")
            for line in self.daemons[name].log.splitlines():
                suspicious = any(word in line for word in ("ERROR", "Traceback", "Exception"))
                if suspicious and _UNMOUNTED_MEANWHILE not in line:
                    found.append(f"in the log of {name}: {line}")
        left = [str(path) for path in self.backing.rglob(f"{names.TEMPORARY_PREFIX}*")]
        return found + [f"is left: {path}" for path in left]

    def settle(self, worlds: list[World], paths: list[str], *, all_of_it: bool) -> World:
        """Waits until it is as one of these models says, and returns that."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            differences = []
            for world in worlds:
                found = self.differs(world, paths)
                if all_of_it:
                    found += self.differs_in_records(world) + self.healthy()
                if not found:
                    return world
                differences.append(found)
            logs = "\n".join(daemon.log for daemon in self.daemons.values())
            assert time.monotonic() < deadline, f"{differences}\n{logs}"
            time.sleep(0.005)


def _bytes(path: Path) -> bytes | None:
    """None for a file that is missing: the kernel may believe that for a second when another has made it."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
