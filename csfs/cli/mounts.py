"""The csfs mounts of this node, from the kernel's own list; each tells of itself in .csfs."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import msgspec

from csfs.domain import names
from csfs.domain.refusal_entry import RefusalEntry

_TYPE = "fuse.csfs"
_PATIENCE_SECONDS = 5
_DEATH_SECONDS = 0.2
_MOST_BYTES = 64 << 20
"""That are read of a file under .csfs: any user may mount what calls itself csfs, and tells without end."""
_MOST_AT_ONCE = 32
_REFUSALS_SHOWN = 5
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


class Waiting(msgspec.Struct, kw_only=True, frozen=True):
    """Documents that are not on the backing directory yet."""

    documents: int = 0
    """How many are to be exported."""
    oldest_seconds: float = 0
    """For how long the first of these has waited."""
    first: list[str] = []
    """`P7/J1/job.json`; the oldest first, and not all if they are many."""
    held_back: int = 0
    """Documents of jobs that are exported when these are completed."""


class Transition(msgspec.Struct, frozen=True):
    """A lifecycle action that is under way."""

    action: str
    done: int
    """Of an attach: jobs that were read so far; of checksums: bytes."""
    total: int = 0
    """Of checksums: bytes to be read."""


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
    io: str = ""
    """`threads` or `inline`."""
    passthrough: str = ""
    """`active`, or why it is not."""
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
    """One mount.

    `state` is `ready`, `dead` (its daemon has ended), `hanging`, `closed` (another user's, who alone may look
    into it; not even root may) or `unreadable`.
    """

    mountpoint: str
    backing: str
    instance: str | None = None
    pid: int | None = None
    state: str = "ready"
    version: str | None = None
    since: str | None = None
    strict: bool = False
    containers: list[Container] = []
    store_bytes: int | None = None
    projects: dict[str, int] = {}
    """State -> how many."""
    transitions: dict[str, Transition] = {}
    """Path of a project -> what is done with it."""
    unsettled: list[str] = []
    """Actions that failed half way and have to be finished or taken back."""
    state_directory: str = ""
    """Where the store lies."""
    store_problem: str = ""
    exports_waiting: Waiting = Waiting()
    exports_failing: dict[str, str] = {}
    """Documents that could not be written to the backing directory -> why."""
    backup: LastBackup | None = None
    last_refusals: list[RefusalEntry] = []
    """The newest that the caller may see, newest last; see `add_refusals`."""


def all_mounts(only: frozenset[str] = frozenset()) -> list[Mounted]:
    """Every csfs mount of this node, the later of two on one mount point last; no bind mounts of parts.

    `only`: not those at other absolute paths, unless it is empty.

    They are asked at the same time: those that hang take the patience of one.
    """
    found = [place for place in places(whole=True) if not only or place[0] in only]
    if not found:
        return []
    with ThreadPoolExecutor(min(len(found), _MOST_AT_ONCE)) as readers:
        return list(readers.map(lambda place: _described(*place), found))


def add_refusals(mounts: list[Mounted]) -> None:
    """Adds the newest refusals to those mounts that answer; the state of one that no longer does changes."""
    ready = [mount for mount in mounts if mount.state == "ready"]
    if not ready:
        return
    with ThreadPoolExecutor(min(len(ready), _MOST_AT_ONCE)) as readers:
        list(readers.map(_add_refusals, ready))


def _add_refusals(mount: Mounted) -> None:
    state, content = _read(os.path.join(mount.mountpoint, names.CONTROL, "refusals"))
    if content is None:
        mount.state = state
        return
    try:
        lines = content.splitlines()[-_REFUSALS_SHOWN:]
        mount.last_refusals = [msgspec.json.decode(line, type=RefusalEntry) for line in lines]
    except (msgspec.DecodeError, UnicodeDecodeError):
        mount.state = "unreadable"


def mount_at(mountpoint: str) -> Mounted | None:
    """The csfs mount at this absolute path. No other mount is asked anything: one may hang."""
    found = [place for place in places() if place[0] == mountpoint]
    return _described(*found[-1]) if found else None


def mount_of(path: str) -> Mounted:
    """The csfs mount that an absolute path lies in. Raises ClickException if there is none."""
    inside = [place for place in places() if is_below(path, place[0])]
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


def unmount(mountpoint: str, *, dead: bool = False) -> subprocess.CompletedProcess[str]:
    """Asks the kernel to end a mount, as root or as the user whose mount it is.

    `dead`: its daemon has ended, so that nothing is lost by those who still have something open on it.
    """
    tool = ["umount"] if os.geteuid() == 0 else ["fusermount3", "-u"]
    lazy = [("-l" if os.geteuid() == 0 else "-z")] if dead else []
    return subprocess.run([*tool, *lazy, mountpoint], capture_output=True, text=True)


def on_backing(mount: Mounted, path: str) -> str | None:
    """Where on its backing directory lies what is at an absolute path on a mount; None if on none."""
    for container in mount.containers:
        top = os.path.normpath(os.path.join(mount.mountpoint, container.name))
        if is_below(path, top):
            return os.path.normpath(os.path.join(container.backing, os.path.relpath(path, top)))
    return None


def on_mount(mount: Mounted, path: str) -> str | None:
    """Where on a mount is what lies at an absolute path of a backing directory; None if not there."""
    for container in mount.containers:
        backing = os.path.realpath(container.backing)
        if not container.away and is_below(path, backing):
            top = os.path.join(mount.mountpoint, container.name)
            return os.path.normpath(os.path.join(top, os.path.relpath(path, backing)))
    return None


def control_file(mount: Mounted, name: str) -> bytes:
    """What a file under .csfs says. Raises ClickException if the mount does not answer."""
    state, content = _read(os.path.join(mount.mountpoint, names.CONTROL, name))
    if content is None:
        advice = f"; end it: csfs umount {mount.mountpoint}, then mount again" if state == "dead" else ""
        raise click.ClickException(f"the mount at {mount.mountpoint} does not answer: it is {state}{advice}")
    return content


def places(*, whole: bool = False) -> list[tuple[str, str]]:
    """Mount point and backing directory of every csfs mount, without touching one.

    `whole`: not of those that show just a directory of another.
    """
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        kind, source = after.split(b" ")[:2]
        if kind == _TYPE.encode() and (not whole or before.split(b" ")[3] == b"/"):
            found.append((_unescaped(before.split(b" ")[4]), _unescaped(source)))
    return found


def _described(mountpoint: str, backing: str) -> Mounted:
    state, content = _read(os.path.join(mountpoint, names.CONTROL, "status.json"))
    if content is None:
        return Mounted(mountpoint=mountpoint, backing=backing, state=state)
    try:
        found = msgspec.json.decode(content, type=Mounted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Mounted(mountpoint=mountpoint, backing=backing, state="unreadable")
    found.mountpoint = mountpoint  # that the kernel knows; the mount only says so
    return found


def _read(path: str) -> tuple[str, bytes | None]:
    """Reads in a process of its own: a mount whose daemon hangs must not hang the reader.

    That process may not even die before its request is answered, so nobody waits long for that.
    """
    reader = subprocess.Popen(
        ["head", f"--bytes={_MOST_BYTES}", "--", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
    )
    try:
        out, err = reader.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        reader.kill()
        for pipe in (reader.stdout, reader.stderr):
            assert pipe is not None, "both are pipes"
            pipe.close()
        try:
            reader.wait(_DEATH_SECONDS)
        except subprocess.TimeoutExpired:
            pass  # the system buries it
        return "hanging", None
    if reader.returncode == 0:
        return "ready", out
    # The latter is said of a request that was under way when the daemon ended.
    if b"not connected" in err or b"connection abort" in err:
        return "dead", None
    return ("closed" if b"Permission denied" in err else "unreadable"), None


def _unescaped(text: bytes) -> str:
    return os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found.group(1), 8)]), text))
