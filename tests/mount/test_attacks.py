"""What lies in the backing directory means harm: nothing leads out, blocks the daemon or makes it grow."""

import contextlib
import errno
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from csfs.backing.syscalls import RENAME_EXCHANGE, renameat2
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for
from tests.mount.watching import MEBIBYTE, canary, contents, descriptors, unharmed

HUGE = 10 << 30
SWAPPING_SECONDS = 2.5
AT_LEAST = 10
KINDS = ("symlink", "fifo", "directory", "socket", "huge", "loop")
PLACES = ("cs.lock", "project.json", "workspaces.json", "J2/job.json", "J2")


def project(directory: Path) -> Path:
    (directory / "J2").mkdir(parents=True)
    (directory / "project.json").write_text(json.dumps({"uid": "P9", "title": "honest"}))
    (directory / "workspaces.json").write_text("[]")
    (directory / "J2/job.json").write_text(json.dumps({"uid": "J2", "status": "completed"}))
    return directory


def put(kind: str, path: Path, outside: Path) -> None:
    """Puts something that is no document in the place of one."""
    if path.is_dir() and not path.is_symlink():
        (path / "job.json").unlink(missing_ok=True)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    match kind:
        case "symlink":
            path.symlink_to(outside if path.name == "J2" else outside / path.name)
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            with socket.socket(socket.AF_UNIX) as made:
                directory = os.open(path.parent, os.O_PATH)
                made.bind(f"/proc/self/fd/{directory}/{path.name}")
                os.close(directory)
        case "huge":
            with path.open("wb") as made_file:
                made_file.truncate(HUGE)
        case "loop":
            path.symlink_to(path.name)


def code_of(act: Callable[[], object]) -> int:
    """The errno that a call ends with; 0 if it succeeds."""
    try:
        act()
    except OSError as error:
        assert error.errno is not None
        return error.errno
    return 0


def claim(directory: Path) -> None:
    os.close(os.open(directory / "cs.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644))


@pytest.mark.parametrize("when", ["before the mount", "before the attach"])
def test_no_document_in_the_place_of_one(tmp_path: Path, make_lab: LabMaker, when: str) -> None:
    outside = canary(tmp_path / "outside")
    before = contents(outside)
    lab = make_lab(mounted=when == "before the attach")
    names = {}
    for kind in KINDS:
        for place in PLACES:
            name = f"CS-{kind}-{place.replace('/', '-')}"
            names[name] = kind, place
            put(kind, project(lab.backing / name) / place, outside)
    if not lab.is_mounted():
        lab.mount()
    with unharmed(lab):
        for name, (_, place) in names.items():
            if place == "cs.lock":
                assert lab.state_of(name) == "foreign", name
                assert code_of((lab / name / "note").touch) == errno.EROFS, name
                continue
            code = code_of(lambda name=name: claim(lab / name))  # type: ignore[misc]
            if place in ("project.json", "workspaces.json"):
                assert code == errno.EINVAL, name
                assert lab.state_of(name) == "detached", name
                assert not (lab.backing / name / "cs.lock").exists(), name
                continue
            assert (code, lab.state_of(name)) == (0, "attached"), name
            if place == "J2/job.json":
                assert lab.attribute(f"{name}/J2", "attach_status") == "failed", name
            else:
                assert lab.attribute(name, "jobs") == "0", name
    told = json.dumps(lab.refusals()) + lab.log
    assert "CANARY" not in told
    assert contents(outside) == before


def test_no_document_put_there_while_attached(tmp_path: Path, lab: Lab) -> None:
    """What is read comes from the store; what is written replaces it, or waits for it to go."""
    outside = canary(tmp_path / "outside")
    before = contents(outside)
    lab.expected_in_log += ["export of", "exports of", "lost"]
    for kind in KINDS:
        for place in PLACES:
            name = f"CS-{kind}-{place.replace('/', '-')}"
            project(lab.backing / name)
            claim(lab / name)
            path = f"{name}/{'J2/job.json' if place == 'J2' else place}"
            with unharmed(lab):
                put(kind, lab.backing / name / place, outside)
                if place == "cs.lock":
                    wait_for(lambda name=name: lab.state_of(name) == "lost", f"{name} is lost", 10)  # type: ignore[misc]
                    continue
                if place == "J2":
                    continue
                assert "CANARY" not in (lab / path).read_text()
                (lab / path).write_text((lab / path).read_text() + " ")
    assert contents(outside) == before
    for kind in KINDS:
        name = f"CS-{kind}-project.json"
        if kind != "directory":
            assert json.loads((lab.backing / name / "project.json").read_text())["title"] == "honest"
            assert not (lab.backing / name / "project.json").is_symlink()
    failing = lab.status["exports_failing"]
    assert isinstance(failing, dict)
    assert failing, "a directory in the place of a document cannot be replaced"
    for path in lab.backing.glob("CS-directory-*/*.json"):
        if path.is_dir():
            path.rmdir()
    for path in lab.backing.glob("CS-directory-*/J2/job.json"):
        if path.is_dir():
            path.rmdir()
    wait_for(lambda: not lab.status["exports_failing"], "the exports are done")


def test_symlinks_are_what_they_are(lab: Lab) -> None:
    targets = ("/etc/passwd", "..", "../../../../etc/passwd", "CS-b/J2/secret", "loop", "", "x" * 4000)
    for number, target in enumerate(target for target in targets if target):
        os.symlink(target, lab.backing / f"link{number}")
        assert os.readlink(lab / f"link{number}") == target
    os.symlink("loop", lab.backing / "loop")
    assert code_of(lambda: (lab / "loop").stat()) == errno.ELOOP


def test_a_directory_is_swapped_for_a_symlink(tmp_path: Path, lab: Lab) -> None:
    """Clients that follow no symlink themselves; so whoever ends up outside was led there by the daemon."""
    outside = canary(tmp_path / "outside")
    before = contents(outside)
    below = project(lab.backing / "CS-a")
    (below / "work").mkdir()
    (below / "work/f").write_text("honest")
    (below / "evil").symlink_to(outside)
    (below / "work/evil-f").symlink_to(outside / "f")
    claim(lab / "CS-a")
    stop, swaps, seen = threading.Event(), [0], [0]

    def swap() -> None:
        top = os.open(below, os.O_PATH)
        while not stop.is_set():
            renameat2(top, b"work", top, b"evil", RENAME_EXCHANGE)
            with contextlib.suppress(OSError):
                place = os.open("work", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    renameat2(place, b"f", place, b"evil-f", RENAME_EXCHANGE)
                finally:
                    os.close(place)
            swaps[0] += 1
            stop.wait(0.0005)
        os.close(top)

    problems: list[str] = []
    until = time.monotonic() + SWAPPING_SECONDS

    def use(number: int) -> None:
        for turn in itertools.count():
            now = time.monotonic()
            if now > until and (seen[0] > AT_LEAST or now > until + 30):
                return
            with contextlib.suppress(OSError):
                at = os.open(lab / "CS-a/work", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    _use_directory(at, f"{number}-{turn}", problems)
                    seen[0] += 1
                finally:
                    os.close(at)

    swapper = threading.Thread(target=swap)
    clients = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    with unharmed(lab):
        swapper.start()
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
        stop.set()
        swapper.join()
    assert not problems
    assert swaps[0] > 100
    assert seen[0] > AT_LEAST
    assert contents(outside) == before


def _use_directory(at: int, name: str, problems: list[str]) -> None:
    if "cs.lock" in os.listdir(at):
        problems.append("the outside was listed")
    acts: list[Callable[[], object]] = [
        lambda: os.open("f", os.O_RDWR | os.O_NOFOLLOW, dir_fd=at),
        lambda: os.open("f", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, dir_fd=at),
        lambda: os.open(name, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o4755, dir_fd=at),
        lambda: _chmod(at, "f", 0o4777),
        lambda: os.utime("f", (1, 1), dir_fd=at, follow_symlinks=False),
        lambda: os.mkdir(name + "d", 0o2755, dir_fd=at),
        lambda: os.rmdir(name + "d", dir_fd=at),
        lambda: os.rename(name, name + "r", src_dir_fd=at, dst_dir_fd=at),
        lambda: os.unlink(name + "r", dir_fd=at),
    ]
    for number, act in enumerate(acts):
        with contextlib.suppress(OSError):
            fd = act()
            if not isinstance(fd, int):
                continue
            try:
                if number == 0:
                    if b"CANARY" in os.pread(fd, 100, 0):
                        problems.append("the outside was read")
                    os.pwrite(fd, b"written", 0)
            finally:
                os.close(fd)


def _chmod(at: int, name: str, mode: int) -> None:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    finally:
        os.close(fd)


# -- .csfs itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["symlink", "fifo", "file", "socket"])
def test_csfs_own_directory_is_none(tmp_path: Path, make_lab: LabMaker, kind: str) -> None:
    outside = canary(tmp_path / "outside")
    before = contents(outside)
    lab = make_lab(mounted=False)
    own = lab.backing / ".csfs"
    if kind == "symlink":
        own.symlink_to(outside)
    elif kind == "file":
        own.write_text("x")
    else:
        put(kind, own, outside)
    lab.try_mount().refused(".csfs in it is no directory", "move it away, then mount again")
    assert contents(outside) == before
    own.unlink()
    lab.mount()
    assert lab.status["state"] == "ready"


def test_foreign_content_in_csfs_own_directory(tmp_path: Path, make_lab: LabMaker) -> None:
    outside = canary(tmp_path / "outside")
    before = contents(outside)
    lab = make_lab(mounted=False)
    lab.expected_in_log += [
        "the heartbeat",
        "the sessions",
        "the end of the session",
        "cannot be given a name",
    ]
    own = lab.backing / ".csfs"
    own.mkdir()
    (own / "sessions").symlink_to(outside)
    for number in range(100):
        (own / f"junk{number}").mkdir()
    (own / "storage").write_text("{" * 100_000)
    lab.mount()
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    heartbeat = lab.backing_status["heartbeat"]
    assert isinstance(heartbeat, dict)
    assert "Not a directory" in heartbeat["problem"]
    listed = os.listdir(lab / ".csfs")
    assert "status.json" in listed
    assert not [name for name in listed if name.startswith("junk") or name in ("sessions", "storage")]
    assert len(list(own.glob("junk*"))) == 100
    assert contents(outside) == before


def test_sessions_full_of_garbage(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(mounted=False, options=("-o", "takeover=3"))
    sessions = lab.backing / ".csfs/sessions"
    sessions.mkdir(parents=True)
    for number in range(10_000):
        path = sessions / f"{uuid.uuid4()}.json"
        match number % 5:
            case 0 if number < 1000:
                os.mkfifo(path)
            case 1 if number < 1000:
                with path.open("wb") as made:
                    made.truncate(HUGE)
            case 2:
                path.write_text("[" * 4000)
            case 3:
                path.symlink_to("/dev/zero")
            case _:
                path.write_bytes(b'{"session": "\xff\xfe')
    lab.mount()
    with unharmed(lab):
        for _ in range(3):
            assert lab.backing_status["sessions"] == []
            lab.run("mkdir CS-a && touch CS-a/cs.lock && rm CS-a/cs.lock && rm -r CS-a").ok()
    assert len(os.listdir(sessions)) == 10_002


def test_a_session_with_a_second_name_is_not_written(lab: Lab) -> None:
    lab.umount().ok()
    lab.options = ("-o", "takeover=3")
    lab.expected_in_log += ["the heartbeat cannot be written", "the end of the session"]
    (session,) = (lab.backing / ".csfs/sessions").glob("*.json")
    other = lab.backing.parent / "other"
    other.write_text("other")
    session.unlink()
    os.link(other, session)
    lab.mount()
    heartbeat = lab.backing_status["heartbeat"]
    assert isinstance(heartbeat, dict)
    assert "another name" in heartbeat["problem"]
    lab.umount().ok()
    assert other.read_text() == "other"


# -- depth ----------------------------------------------------------------------------------------------

DEEP = """
import os, sys
os.chdir(sys.argv[1])
for n in range(5000):
    os.mkdir('a-rather-long-name'); os.chdir('a-rather-long-name')
open('f', 'w').write('bottom')
assert os.listdir('.') == ['f'] and open('f').read() == 'bottom'
os.unlink('f')
for n in range(5000):
    os.chdir('..'); assert os.listdir('.') == ['a-rather-long-name']; os.rmdir('a-rather-long-name')
"""


def test_deeper_than_any_path(lab: Lab) -> None:
    """In a container, where each directory on the way may become a project at any time."""
    (lab / "d/work").mkdir(parents=True)
    before = descriptors(lab.pid)
    with unharmed(lab):
        subprocess.run([sys.executable, "-c", DEEP, lab / "d/work"], check=True, timeout=60)
    assert os.listdir(lab / "d/work") == []
    wait_for(lambda: descriptors(lab.pid) < before + 100, "descriptors of directories are closed")


def test_projects_in_projects(tmp_path: Path, lab: Lab) -> None:
    """On the backing directory anything can be made; through the mount none of it is attached twice."""
    outer = project(lab.backing / "CS-outer")
    project(outer / "inner")
    project(outer / "J2/deep/inner")
    with unharmed(lab, grows=8 * MEBIBYTE):
        assert code_of(lambda: claim(lab / "CS-outer")) == errno.EPERM
        assert code_of(lambda: claim(lab / "CS-outer/inner")) == 0
    assert not (outer / "cs.lock").exists()
    assert lab.status["projects"] == {} or "attached" not in lab.status["projects"]
