"""An archived project is read as any directory is, and nothing in it changes: EROFS."""

import fcntl
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mount.posix.observation import (
    Observation,
    content,
    differing,
    look,
    opened,
    outcome,
    put,
    snapshot,
)
from tests.mount.posix.renaming import EXCHANGE, NOREPLACE, renameat2
from tests.mount.posix.site import ARCHIVED, IS_ROOT, MODES, Mode, Site

WORK = f"{ARCHIVED}/work"

CHANGES: dict[str, Callable[[], object]] = {
    "open to write": lambda: opened("f", os.O_WRONLY),
    "open to read and write": lambda: opened("f", os.O_RDWR),
    "open to append": lambda: opened("f", os.O_WRONLY | os.O_APPEND),
    "open with O_TRUNC": lambda: opened("f", os.O_WRONLY | os.O_TRUNC),
    "open with O_TRUNC to read": lambda: opened("f", os.O_RDONLY | os.O_TRUNC),
    "open with O_CREAT to write": lambda: opened("f", os.O_WRONLY | os.O_CREAT),
    "creat": lambda: opened("new", os.O_WRONLY | os.O_CREAT),
    "creat through a link": lambda: opened("dangling", os.O_WRONLY | os.O_CREAT),
    "mkdir": lambda: outcome(os.mkdir, "new"),
    "mknod": lambda: outcome(os.mknod, "new", stat.S_IFREG | 0o644),
    "mkfifo": lambda: outcome(os.mkfifo, "new"),
    "symlink": lambda: outcome(os.symlink, "x", "new"),
    "link": lambda: outcome(os.link, "f", "new"),
    "rename": lambda: outcome(os.rename, "f", "new"),
    "rename over": lambda: outcome(os.rename, "f", "g"),
    "rename of a directory": lambda: outcome(os.rename, "d", "new"),
    "rename without replacing": lambda: renameat2("f", "new", NOREPLACE),
    "exchange": lambda: renameat2("f", "g", EXCHANGE),
    "rename out": lambda: outcome(os.rename, "f", "../../plain/new"),
    "rename into": lambda: outcome(os.rename, "../../plain/outside", "new"),
    "link into": lambda: outcome(os.link, "../../plain/outside", "new"),
    "unlink": lambda: outcome(os.unlink, "f"),
    "rmdir": lambda: outcome(os.rmdir, "empty"),
    "truncate": lambda: outcome(os.truncate, "f", 3),
    "chmod": lambda: outcome(os.chmod, "f", 0o600),
    "chmod of a directory": lambda: outcome(os.chmod, "d", 0o700),
    "chown": lambda: outcome(os.chown, "f", os.getuid(), os.getgid()),
    "lchown": lambda: outcome(os.lchown, "dangling", os.getuid(), os.getgid()),
    "utime": lambda: outcome(os.utime, "f", ns=(1, 2)),
    "utime now": lambda: outcome(os.utime, "d"),
    "setxattr": lambda: outcome(os.setxattr, "f", "user.new", b"1"),
    "removexattr": lambda: outcome(os.removexattr, "f", "user.x"),
    "an access control list": lambda: outcome(os.removexattr, "f", "system.posix_acl_access"),
}

READS: dict[str, Callable[[], object]] = {
    "content": lambda: (content("f"), content("link"), content("d/inner")),
    "lstat": lambda: [look(name) for name in sorted(os.listdir())],
    "times": lambda: [os.lstat(name).st_mtime_ns for name in ("f", "d", "dangling")],
    "listing": lambda: (sorted(os.listdir()), sorted(os.listdir("d"))),
    "readlink": lambda: (os.readlink("dangling"), os.readlink("link")),
    "missing": lambda: (look("none"), opened("none", os.O_RDONLY), look("f/x")),
    "access": lambda: [os.access("f", how) for how in (os.F_OK, os.R_OK, os.X_OK)],
    "attributes": lambda: (
        os.listxattr("f"),
        os.getxattr("f", "user.x"),
        outcome(os.getxattr, "f", "user.y"),
    ),
    "by descriptor": lambda: os.pread(os.open("f", os.O_RDONLY), 3, 2),
    "mapped": lambda: mmap.mmap(os.open("f", os.O_RDONLY), 0, prot=mmap.PROT_READ)[:7],
    "flock": lambda: outcome(fcntl.flock, os.open("f", os.O_RDONLY), fcntl.LOCK_EX),
    "fifo": lambda: os.write(os.open("p", os.O_RDWR | os.O_NONBLOCK), b"through"),
    "fsync": lambda: outcome(os.fsync, os.open("f", os.O_RDONLY)),
    "write to a reader": lambda: outcome(os.write, os.open("f", os.O_RDONLY), b"x"),
    "truncate a reader": lambda: outcome(os.ftruncate, os.open("f", os.O_RDONLY), 0),
    "mkdir of what is there": lambda: outcome(os.mkdir, "d"),
    "creat exclusively of what is there": lambda: opened("f", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "open with O_CREAT to read": lambda: opened("f", os.O_RDONLY | os.O_CREAT),
    "symlink of what is there": lambda: outcome(os.symlink, "x", "f"),
    "link of what is there": lambda: outcome(os.link, "f", "g"),
    "unlink of what is not": lambda: outcome(os.unlink, "none"),
    "rmdir of a file": lambda: outcome(os.rmdir, "f"),
    "unlink of a directory": lambda: outcome(os.unlink, "d"),
    "rename of what is not": lambda: outcome(os.rename, "none", "new"),
    "rename into itself": lambda: outcome(os.rename, "d", "d/x"),
    "open of a directory to write": lambda: opened("d", os.O_WRONLY),
    "sendfile": lambda: os.sendfile(os.open(os.devnull, os.O_WRONLY), os.open("f", os.O_RDONLY), 0, 100),
}


def _build() -> None:
    """One file of each kind in the working directory."""
    put("f", b"content")
    put("g", b"another")
    os.setxattr("f", "user.x", b"1")
    os.mkdir("empty")
    os.mkdir("d")
    put("d/inner", b"inner")
    os.symlink("f", "link")
    os.symlink("nowhere", "dangling")
    os.mkfifo("p")
    for name in sorted(os.listdir()):
        os.utime(name, ns=(10**18, 10**18 + 7), follow_symlinks=False)


def _modes() -> list[Mode]:
    return [mode for mode in MODES if (IS_ROOT and not mode.users_caller) or mode.users_mount]


@pytest.fixture(scope="module", params=_modes(), ids=lambda mode: mode.name)
def mode(request: pytest.FixtureRequest, archive: Callable[[Mode], Mode]) -> Mode:
    found = request.param
    assert isinstance(found, Mode)
    return archive(found)


@pytest.fixture(scope="module")
def archive(site: Site) -> Iterator[Callable[[Mode], Mode]]:
    """Makes the archived project of a mount, and the same as a plain directory; checks that it stays."""
    before: dict[Mode, Observation] = {}

    def make(mode: Mode) -> Mode:
        lab = site.lab(mode)

        def build() -> None:
            os.umask(0o022)
            for place in (lab / "plain/same", lab / WORK):
                place.mkdir(exist_ok=True)
                os.chdir(place)
                _build()
            put(os.fspath(lab / "plain/outside"))
            os.chmod(lab / ARCHIVED, 0o555)

        site.as_owner(mode, build)
        assert lab.attribute_of(ARCHIVED, "state") == "archived"
        before[mode] = snapshot_of(lab.backing / WORK)
        return mode

    yield make
    for mode, found in before.items():
        assert not differing(found, snapshot_of(site.lab(mode).backing / WORK))


def snapshot_of(path: Path) -> Observation:
    fd = os.open(path, os.O_PATH)
    try:
        return snapshot(fd)
    finally:
        os.close(fd)


def _in(path: Path, call: Callable[[], object]) -> Callable[[], object]:
    def work() -> object:
        os.chdir(path)
        return call()

    return work


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_changes(site: Site, mode: Mode, change: str) -> None:
    place = site.lab(mode) / WORK
    assert site.as_owner(mode, _in(place, CHANGES[change])) == "EROFS"


@pytest.mark.parametrize("read", READS)
def test_reading_is_as_elsewhere(site: Site, mode: Mode, read: str) -> None:
    lab = site.lab(mode)
    expected = site.as_owner(mode, _in(lab.backing / "plain/same", READS[read]))
    assert site.as_owner(mode, _in(lab / WORK, READS[read])) == expected
