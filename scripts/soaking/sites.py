"""Mounts over two filesystems between which a project can move: one in the other, or two containers."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

_CSFS = (sys.executable, "-m", "csfs")
_PATIENCE_SECONDS = 120
_ROOM = 1.4
"""Room on the disk image for one project, its metadata and its journal."""

Kind = Literal["nested", "containers"]
KINDS: tuple[Kind, ...] = ("nested", "containers")


class Site:
    """One instance; `places` are two directories on its mount, on two filesystems."""

    def __init__(self, kind: Kind, top: Path) -> None:
        self.kind = kind
        self.top = top
        self.mountpoint = top / "mnt"
        self.state = top / "state"
        self.log = self.state / "soak/csfs.log"
        near, far = ("ssd", "hdd") if kind == "containers" else ("near", "far")
        self.places = (self.mountpoint / near, self.mountpoint / far)
        self._backing = top / "backing"
        self.disk = self._backing / far
        """A filesystem of its own."""
        for directory in (self.mountpoint, self.state, self._backing / near, self.disk):
            directory.mkdir(parents=True)

    def on_backing(self, path: Path) -> Path:
        return self._backing / path.relative_to(self.mountpoint)

    def mount(self) -> None:
        """Raises CalledProcessError."""
        words = [str(self._backing), str(self.mountpoint), "--instance", "soak", "--state", str(self.state)]
        if self.kind == "containers":
            config = self.top / "soak.toml"
            named = [f'{each.name} = "{self.on_backing(each)}"' for each in self.places]
            head = ["[instance]", 'name = "soak"', f'state = "{self.state}"', "[containers]"]
            config.write_text("\n".join([*head, *named]) + "\n")
            words = ["--config", str(config), str(self.mountpoint)]
        subprocess.run([*_CSFS, "mount", *words], check=True, timeout=_PATIENCE_SECONDS)

    def unmount(self) -> None:
        """Whatever state it is in."""
        if self.is_mounted():
            ended = subprocess.run([*_CSFS, "umount", str(self.mountpoint)], capture_output=True)
            if ended.returncode != 0:
                subprocess.run(["umount", "-l", str(self.mountpoint)], check=False)

    def is_mounted(self) -> bool:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return any(line.split()[4] == str(self.mountpoint) for line in lines)

    def kill(self) -> None:
        """kill -9 of the daemon; it is gone on return."""
        pid = json_of(self.state / "soak/mounted")["pid"]
        holder = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(holder, signal.SIGKILL)
            ended = select.poll()
            ended.register(holder, select.POLLIN)
            ended.poll(_PATIENCE_SECONDS * 1000)
        finally:
            os.close(holder)

    def records(self) -> list[dict[str, Any]]:
        """What the instance knows of its projects."""
        known = (self.mountpoint / ".csfs/projects").iterdir()
        return [json_of(each / "record.json") for each in known]


@contextmanager
def site(kind: Kind, top: Path, size: int) -> Iterator[Site]:
    """A mounted site with room for a project of `size` bytes, until the end. Raises CalledProcessError."""
    made = Site(kind, top)
    image = top / "image"
    with image.open("wb") as file:
        file.truncate(int(size * _ROOM) + (96 << 20))
    subprocess.run(["mkfs.ext4", "-q", "-N", str(20_000 + (size >> 19)), str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(made.disk)], check=True)
    try:
        (made.disk / "lost+found").rmdir()
        made.mount()
        yield made
    finally:
        made.unmount()
        subprocess.run(["umount", "-l", str(made.disk)], check=False)


def attribute(path: Path, name: str) -> str:
    """A user.csfs attribute; empty where there is none."""
    try:
        return os.getxattr(path, f"user.csfs.{name}").decode()
    except OSError:
        return ""


def json_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    return found
