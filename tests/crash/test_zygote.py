"""The harness itself: calls are seen, counted, failed and cut short, and daemons end as they should."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.control import Control, Kind
from tests.crash.zygote import Daemon, MountFailed, Zygote

Start = Callable[..., Daemon]


@pytest.fixture
def mount(zygote: Zygote, place: Path) -> Iterator[Start]:
    """Mounts the instance lab1 over `backing` on `mnt`."""
    for name in ("backing", "mnt", "state"):
        (place / name).mkdir()
    started: list[Daemon] = []

    def start(control: Control | None = None) -> Daemon:
        daemon = zygote.start("lab1", place / "backing", place / "mnt", place / "state", control=control)
        started.append(daemon)
        daemon.wait_ready()
        return daemon

    yield start
    for daemon in started:
        daemon.umount()


def kinds(daemon: Daemon, within: Path) -> list[str]:
    """The calls below a directory that were counted, in their order."""
    return [call.split()[0] for call in daemon.control.journal() if str(within) in call]


def test_a_daemon_serves_and_ends_with_its_mount(mount: Start, place: Path) -> None:
    daemon = mount()
    (place / "mnt/CS-x").mkdir()
    assert (place / "backing/CS-x").is_dir()
    daemon.umount()
    assert daemon.status == 0
    assert "is mounted" in daemon.log
    assert not os.path.ismount(place / "mnt")


def test_a_killed_daemon_is_followed_by_another(mount: Start, place: Path) -> None:
    daemon = mount()
    daemon.kill()
    assert daemon.status == -signal.SIGKILL
    with pytest.raises(OSError, match="Transport endpoint"):
        os.listdir(place / "mnt")
    daemon.umount()
    mount()
    assert os.listdir(place / "mnt") == []


def test_why_it_is_not_mounted(mount: Start, zygote: Zygote, place: Path) -> None:
    with pytest.raises(MountFailed, match="missing cannot be mounted"):
        zygote.mount("lab1", place / "missing", place / "mnt", place / "state")
    mount()


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (lambda at: (at / "made").mkdir(), ["MKDIR"]),
        (lambda at: os.rmdir(at / "directory"), ["RMDIR"]),
        (lambda at: os.unlink(at / "file"), ["UNLINK"]),
        (lambda at: os.rename(at / "file", at / "other"), ["RENAME"]),
        (lambda at: os.link(at / "file", at / "other"), ["LINK"]),
        (lambda at: os.symlink("file", at / "other"), ["SYMLINK"]),
        (lambda at: os.chmod(at / "file", 0o600), ["CHMOD"]),
        (lambda at: os.chown(at / "file", 1, 1), ["CHOWN"]),
        (lambda at: os.utime(at / "file", (1, 1)), ["UTIME"]),
        (lambda at: os.truncate(at / "file", 1), ["TRUNCATE"]),
        (lambda at: os.setxattr(at / "file", "user.note", b"1"), ["XATTR"]),
        (lambda at: os.mkfifo(at / "fifo"), ["MKNOD"]),
        (lambda at: os.listdir(at), []),
        (lambda at: (at / "file").read_bytes(), []),
    ],
)
def test_what_changes_a_file_is_counted(
    mount: Start, place: Path, operation: Callable[[Path], object], expected: list[str]
) -> None:
    (place / "backing/directory").mkdir()
    (place / "backing/file").write_bytes(b"content")
    daemon = mount()
    daemon.control.count()
    operation(place / "mnt")
    assert [kind for kind in kinds(daemon, place) if kind != "CHOWN" or expected == ["CHOWN"]] == expected
    if expected:
        assert str(place / "backing") in daemon.control.call(1)


def test_calls_by_way_of_ctypes_are_counted(mount: Start, place: Path) -> None:
    """renameat2, for a rename that must not replace, and syncfs, for many exports."""
    (place / "backing/file").write_bytes(b"")
    daemon = mount()
    daemon.control.count()
    os.system(f"mv --no-clobber {place}/mnt/file {place}/mnt/other")
    assert "RENAME" in kinds(daemon, place / "backing")
    project = place / "backing/CS-x"
    for n in range(1, 18):
        (project / f"J{n}").mkdir(parents=True)
        (project / f"J{n}/job.json").write_text(f'{{"uid": "J{n}", "status": "completed"}}')
    (project / "project.json").write_text('{"uid": "P1"}')
    daemon.control.count()
    (place / "mnt/CS-x/cs.lock").touch()
    assert f"SYNC {project}" in daemon.control.journal()


def test_the_store_is_counted_and_the_log_is_not(mount: Start, place: Path) -> None:
    daemon = mount()
    (place / "mnt/CS-x").mkdir()
    daemon.control.count()
    (place / "mnt/CS-x/cs.lock").touch()
    found = kinds(daemon, place / "state/lab1/store/data.mdb")
    assert found.count("SYNC") >= 3
    assert set(found) == {"SYNC", "WRITE"}
    assert kinds(daemon, place / "state/lab1/csfs.log") == []


@pytest.mark.parametrize("after", [False, True])
def test_killed_before_and_after_a_call(mount: Start, place: Path, after: bool) -> None:
    daemon = mount()
    daemon.control.kill(1, after=after)
    with pytest.raises(OSError) as refused:
        (place / "mnt/made").mkdir()
    assert refused.value.errno in (errno.ECONNABORTED, errno.ENOTCONN)
    assert daemon.wait_ended() == -signal.SIGKILL
    assert (place / "backing/made").is_dir() == after
    assert "MKDIR" in daemon.control.call(1)


def test_killed_while_mounting(mount: Start, zygote: Zygote, place: Path) -> None:
    control = zygote.control()
    control.kill(5, after=False)
    with pytest.raises(MountFailed):
        mount(control)
    assert control.calls == 5
    mount()


def test_failing_calls(mount: Start, place: Path) -> None:
    daemon = mount()
    at = place / "mnt"
    daemon.control.fail(errno.EDQUOT, [Kind.MKDIR], at=2)
    (at / "first").mkdir()
    with pytest.raises(OSError) as refused:
        (at / "second").mkdir()
    assert refused.value.errno == errno.EDQUOT
    (at / "third").mkdir()
    assert daemon.control.failable == 3
    daemon.control.fail(errno.EIO, always=True, within=place / "backing/third")
    (at / "fourth").mkdir()
    for name in ("a", "b"):
        with pytest.raises(OSError) as refused:
            (at / "third" / name).mkdir()
        assert refused.value.errno == errno.EIO
    daemon.control.disarm()
    (at / "third/a").mkdir()
    assert not (place / "backing/second").exists()
