"""Filesystems that are full, read-only, gone, stopped, or older than the store."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.actions import ACTIONS, Action, rewrite
from tests.crash.site import Site, files
from tests.crash.test_faults import made_up_for
from tests.crash.test_kill import check_outcome
from tests.crash.zygote import MountFailed, Zygote
from tests.mount.lab import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems of its own: needs root")

Disk = Callable[..., None]
BY_NAME = {action.name: action for action in ACTIONS}


@pytest.fixture
def disk(place: Path) -> Iterator[Disk]:
    """Mounts a small tmpfs on a directory of the site; to be asked for before the site."""
    mounted: list[Path] = []

    def mount(name: str, options: str = "size=4m,nr_inodes=400") -> None:
        path = place / name
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=755", "tmpfs", path], check=True)
        mounted.append(path)

    yield mount
    for path in reversed(mounted):
        subprocess.run(["umount", "-l", path], check=False, capture_output=True)


@pytest.fixture
def site(disk: Disk, zygote: Zygote, place: Path) -> Iterator[Site]:
    """Not mounted yet."""
    made = Site(zygote, place)
    yield made
    made.crash()


def fill(directory: Path) -> None:
    """Leaves no room in a filesystem, not for a byte."""
    with (directory / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC


def use_up_inodes(directory: Path) -> None:
    (directory / "filler").mkdir()
    try:
        for number in range(10_000):
            (directory / "filler" / str(number)).touch()
    except OSError as error:
        assert error.errno == errno.ENOSPC


def free(directory: Path) -> None:
    filler = directory / "filler"
    shutil.rmtree(filler) if filler.is_dir() else filler.unlink()


def remount(directory: Path, how: str) -> None:
    # An export or a heartbeat may have a file open at this moment.
    words = ["mount", "-o", f"remount,{how}", directory]
    wait_for(lambda: subprocess.run(words, capture_output=True).returncode == 0, f"remounted {how}")


def attempt(site: Site, action: Action) -> OSError | None:
    try:
        action.act(site)
    except OSError as error:
        return error
    return None


def rules(site: Site) -> set[str]:
    """Under which requests were refused since the mount."""
    return {json.loads(line)["rule"] for line in (site / ".csfs/refusals").read_text().splitlines()}


def begin(site: Site, action: Action) -> None:
    site.mount()
    action.prepare(site)
    assert site.settle()
    site.remember(data=not action.removes_data)
    site.left_overs_stay = True


def end(site: Site, action: Action, failure: OSError | None) -> None:
    """The cause is gone: what was outstanding is done, and the action can be repeated."""
    made_up_for(site)
    check_outcome(site, action, acknowledged=failure is None)
    action.act(site)
    check_outcome(site, action, acknowledged=True)
    site.umount()
    site.left_overs_stay = False
    site.mount()
    check_outcome(site, action, acknowledged=True)


@pytest.mark.parametrize("use_up", [fill, use_up_inodes])
@pytest.mark.parametrize("where", ["backing", "state"])
@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_full(disk: Disk, site: Site, action: Action, where: str, use_up: Callable[[Path], None]) -> None:
    disk(where)
    begin(site, action)
    use_up(site.place / where)
    failure = attempt(site, action)
    if failure is not None:
        assert failure.errno in (errno.ENOSPC, None)
        # What the kernel writes with passthrough it fails by itself.
        assert rules(site) <= {"STORAGE_FULL" if where == "backing" else "STORE_FAILED"}
    free(site.place / where)
    end(site, action, failure)


@pytest.mark.parametrize(
    "action",
    # A filesystem with a removed directory that is still open cannot be made read-only.
    [action for action in ACTIONS if action.name != "unarchive a copy"],
    ids=str,
)
def test_read_only_backing(disk: Disk, site: Site, action: Action) -> None:
    """Said to be the filesystem's doing: not that the project is archived, or another instance's."""
    disk("backing")
    begin(site, action)
    remount(site.backing, "ro")
    failure = attempt(site, action)
    if failure is not None:
        assert failure.errno in (errno.EROFS, None)
        # rm -rf goes on, and then has no reason to be given the lock either.
        assert rules(site) - {"ARCHIVE_LEAVES_WHOLE"} == {"STORAGE_READ_ONLY"}
    remount(site.backing, "rw")
    end(site, action, failure)


def test_what_is_edited_on_a_read_only_backing_is_exported_later(disk: Disk, site: Site) -> None:
    disk("backing")
    site.mount()
    site.attached("CS-x")
    remount(site.backing, "ro")
    BY_NAME["edit in place"].act(site)
    assert site.attribute("CS-x", "export_failed") == "project.json: Read-only file system"
    with pytest.raises(OSError, match="Read-only"):
        (site / "CS-x/note").write_text("x")
    [entry] = [json.loads(line) for line in (site / ".csfs/refusals").read_text().splitlines()]
    assert entry["reason"] == "the backing filesystem is mounted read-only (Read-only file system)"
    assert "remount,rw" in entry["advice"]
    assert site.state_of("CS-x") == "attached"
    remount(site.backing, "rw")
    made_up_for(site)
    site.check()


@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_backing_unmounted_under_the_mount(disk: Disk, site: Site, action: Action) -> None:
    """The mount goes on with the filesystem that it has; nothing ends up in the bare mount point."""
    disk("backing")
    keeps = site.place / "keeps"
    keeps.mkdir()
    begin(site, action)
    subprocess.run(["mount", "--bind", site.backing, keeps], check=True)
    try:
        subprocess.run(["umount", "-l", site.backing], check=True)
        action.act(site)
        assert site.settle()
        assert os.listdir(site.backing) == []
        site.umount()
        assert os.listdir(site.backing) == []
        if any(record.state != "detached" for record in site.records().values()):
            with pytest.raises(MountFailed, match="is the filesystem of the backing directory mounted"):
                try:
                    site.mount()
                finally:
                    site.umount()
            assert os.listdir(site.backing) == []
        subprocess.run(["mount", "--bind", keeps, site.backing], check=True)
        site.left_overs_stay = False
        site.mount()
        check_outcome(site, action, acknowledged=True)
        site.umount()
    finally:
        site.crash()
        for path in (site.backing, keeps):
            subprocess.run(["umount", "-l", path], check=False, capture_output=True)


def test_mounting_with_a_full_state_directory(disk: Disk, site: Site) -> None:
    disk("state")
    site.mount()
    site.attached("CS-x")
    site.umount()
    fill(site.state)
    site.mount()
    assert site.state_of("CS-x") == "attached"
    before = (site / "CS-x/project.json").read_bytes()
    large = json.dumps({**json.loads(before), "notes": "x" * 2_000_000}).encode()
    with pytest.raises(OSError, match="No space left"):
        rewrite(site / "CS-x/project.json", large)
    assert (site / "CS-x/project.json").read_bytes() == before
    free(site.state)
    rewrite(site / "CS-x/project.json", large)
    BY_NAME["edit in place"].act(site)
    site.check()


@pytest.mark.parametrize(
    ("how", "words"), [("full", "No space left on device"), ("read-only", "Read-only file system")]
)
def test_a_new_instance_without_room_for_its_store(disk: Disk, site: Site, how: str, words: str) -> None:
    disk("state")
    if how == "full":
        use_up_inodes(site.state)
    else:
        remount(site.state, "ro")
    command = [sys.executable, "-m", "csfs", "mount", site.backing, site.mnt]
    done = subprocess.run(
        [*command, "--instance", "lab1", "--state", site.state], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert f"{site.state}/lab1 cannot be used: {words}; choose another with --state" in done.stderr
    remount(site.state, "rw")
    if how == "full":
        free(site.state)
    site.mount()
    site.attached("CS-x")
    site.check()


def test_store_deleted_under_the_mount(site: Site) -> None:
    """The daemon goes on with the files that it has open; the next mount takes nothing over."""
    site.mount()
    site.attached("CS-x")
    shutil.rmtree(site.state / "lab1/store")
    shown = json.loads((site / ".csfs/status.json").read_text())
    assert "its files were deleted" in shown["store_problem"]
    assert site.state_of("CS-x") == "attached"
    BY_NAME["edit in place"].act(site)
    BY_NAME["edit in place"].holds(site)
    before = sorted(files(site.backing))
    site.umount()
    site.mount()
    assert site.state_of("CS-x") == "foreign"
    assert site.attribute("CS-x", "owner").startswith("lab1 (P1) on ")
    assert sorted(files(site.backing)) == before


def snapshot(site: Site) -> Path:
    """A copy of the backing directory as it is, as a backup makes one."""
    copy = site.place / "snapshot"
    subprocess.run(["cp", "-a", site.backing, copy], check=True)
    return copy


def test_an_older_snapshot_put_in_the_place_of_the_backing_directory(site: Site) -> None:
    """Locks in it name other directories, and what was archived, detached and edited since is not in it."""
    site.mount()
    for name in ("CS-edited", "CS-archived", "CS-detached"):
        site.attached(name)
    assert site.settle()
    copy = snapshot(site)
    document = json.loads((site / "CS-edited/project.json").read_text())
    (site / "CS-edited/project.json").write_text(json.dumps({**document, "title": "since"}))
    (site / "CS-edited/J7").mkdir()
    os.chmod(site / "CS-archived", 0o555)
    (site / "CS-detached/cs.lock").unlink()
    site.attached("CS-new")
    site.umount()
    site.backing.rename(site.place / "newer")
    copy.rename(site.backing)
    site.mount()
    states = site.states("CS-edited", "CS-archived", "CS-detached", "CS-new")
    assert states == {
        "CS-edited": "attached",
        "CS-archived": "detached",
        "CS-detached": "detached",
        "CS-new": "missing",
    }
    assert site.settle()
    for top in (site.mnt, site.backing):
        assert json.loads((top / "CS-edited/project.json").read_text())["title"] == "since"
        assert json.loads((top / "CS-edited/J7/job.json").read_text())["uid"] == "J7"
    for number, title in ((2, "CS-archived"), (3, "CS-detached"), (4, "CS-new")):
        kept = json.loads((site / f".csfs/projects/P{number}/project.json").read_text())
        assert kept["title"] == title
    assert "came with a copy and is inert: lab1 (P2)" in site.attribute("CS-archived", "reason")
    assert site.records()["P2"].state == "archived"


def test_a_storage_that_hangs(site: Site) -> None:
    """A passthrough filesystem that is stopped: others are served, and all goes on when it wakes up."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    real = site.place / "real"
    real.mkdir()
    bindfs = subprocess.Popen(["bindfs", "-f", real, site.backing])
    try:
        wait_for(lambda: os.path.ismount(site.backing), "bindfs is mounted")
        site.mount()
        site.attached("CS-x")
        assert site.settle()
        os.kill(bindfs.pid, signal.SIGSTOP)
        waiting = subprocess.Popen(["touch", site / "CS-x/late"])
        words = [sys.executable, "-m", "csfs", "status", "--json", str(site.mnt)]
        told = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert [each["state"] for each in json.loads(told.stdout)] == ["hanging"]
        assert told.returncode == 3, "it needs attention"
        assert waiting.poll() is None
        os.kill(bindfs.pid, signal.SIGCONT)
        assert waiting.wait(30) == 0
        assert (real / "CS-x/late").exists()
        site.check()
        site.umount()
    finally:
        os.kill(bindfs.pid, signal.SIGCONT)
        site.crash()
        subprocess.run(["umount", "-l", site.backing], check=False, capture_output=True)
        bindfs.terminate()
        bindfs.wait(30)
