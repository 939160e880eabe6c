"""The csfs mounts of this node, from the kernel's own list; each tells of itself in .csfs."""

import os
import re
import subprocess
from pathlib import Path

import click
import msgspec

from csfs.domain import names

_TYPE = "fuse.csfs"
_PATIENCE_SECONDS = 5
_OCTAL = re.compile(rb"\\([0-7]{3})")


class Other(msgspec.Struct, kw_only=True, frozen=True):
    """Another instance on the same storage, as far as it was watched."""

    instance: str
    instance_uuid: str
    host: str
    pid: int
    since: str
    life: str
    """`alive`, `silent`, `dead` or `unmounted`."""
    silent_seconds: float


class Heartbeat(msgspec.Struct, kw_only=True, frozen=True):
    """Of the mount itself, on one storage."""

    takeover_seconds: float = 0
    late: bool = False
    problem: str = ""


class Container(msgspec.Struct, kw_only=True, frozen=True):
    """One backing directory of a mount."""

    name: str = ""
    """The directory at the top of the mount as which it appears; empty: it is the root of the mount."""
    backing: str = ""
    away: str = ""
    """Why it was not there when it was to be mounted."""
    sessions: list[Other] = []
    """The other instances on the same storage."""
    heartbeat: Heartbeat = Heartbeat()


class LastBackup(msgspec.Struct):
    """How the automatic backup of a mount goes."""

    last: str | None = None
    """When the newest was made; ISO 8601, UTC."""
    failing: str = ""
    """Why the last attempt failed."""


class Mounted(msgspec.Struct, kw_only=True):
    """One mount. `state` is `ready`, `dead` (its daemon has ended), `hanging` or `unreadable`."""

    mountpoint: str
    backing: str
    instance: str | None = None
    pid: int | None = None
    state: str = "ready"
    containers: list[Container] = []
    store_problem: str = ""
    exports_failing: dict[str, str] = {}
    """Documents that could not be written to the backing directory -> why."""
    backup: LastBackup | None = None


def all_mounts() -> list[Mounted]:
    """Every csfs mount of this node, the later of two on one mount point last."""
    return [_described(*place) for place in _places()]


def mount_at(mountpoint: str) -> Mounted | None:
    """The csfs mount at this absolute path. No other mount is asked anything: one may hang."""
    found = [place for place in _places() if place[0] == mountpoint]
    return _described(*found[-1]) if found else None


def mount_of(path: str) -> Mounted:
    """The csfs mount that an absolute path lies in. Raises ClickException if there is none."""
    inside = [place for place in _places() if is_below(path, place[0])]
    if not inside:
        raise click.ClickException(f"{path} does not lie in a csfs mount; `csfs status` lists them")
    return _described(*max(inside, key=lambda place: len(place[0])))


def devices() -> frozenset[int]:
    """The device numbers of all csfs mounts of this node, without touching one."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ")[0] == _TYPE:
            major, minor = before.split(" ")[2].split(":")
            found.append(os.makedev(int(major), int(minor)))
    return frozenset(found)


def is_below(path: str, directory: str) -> bool:
    """Whether an absolute path is a directory, or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def absolute(path: str) -> str:
    """The absolute form of a path, symlinks resolved but for the last component."""
    head, tail = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(head), tail)


def unmount(mountpoint: str) -> subprocess.CompletedProcess[str]:
    """Asks the kernel to end a mount, as root or as the user whose mount it is."""
    tool = ["umount", mountpoint] if os.geteuid() == 0 else ["fusermount3", "-u", mountpoint]
    return subprocess.run(tool, capture_output=True, text=True)


def control_file(mount: Mounted, name: str) -> bytes:
    """What a file under .csfs says. Raises ClickException if the mount does not answer."""
    state, content = _read(os.path.join(mount.mountpoint, names.CONTROL, name))
    if content is None:
        advice = f"; end it: csfs umount {mount.mountpoint}, then mount again" if state == "dead" else ""
        raise click.ClickException(f"the mount at {mount.mountpoint} does not answer: it is {state}{advice}")
    return content


def _places() -> list[tuple[str, str]]:
    """Mount point and backing directory of every csfs mount, without touching one."""
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        kind, source = after.split(b" ")[:2]
        if kind == _TYPE.encode():
            found.append((_unescaped(before.split(b" ")[4]), _unescaped(source)))
    return found


def _described(mountpoint: str, backing: str) -> Mounted:
    state, content = _read(os.path.join(mountpoint, names.CONTROL, "status.json"))
    if content is None:
        return Mounted(mountpoint=mountpoint, backing=backing, state=state)
    return msgspec.json.decode(content, type=Mounted)


def _read(path: str) -> tuple[str, bytes | None]:
    """Reads in a process of its own: a mount whose daemon hangs must not hang the reader.

    That process may not even die before its request is answered, so nobody waits for it.
    """
    reader = subprocess.Popen(
        ["cat", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = reader.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        reader.kill()
        return "hanging", None
    if reader.returncode == 0:
        return "ready", out
    return ("dead" if b"not connected" in err else "unreadable"), None


def _unescaped(text: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found.group(1), 8)]), text))
