"""`csfs move` and `csfs clone`: across filesystems and instances, interrupted anywhere and repeated."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from csfs.cli import clone, move, relocation
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

ROOT = Path(__file__).parents[2]
TITLE = "Kept whole"
SEED = 20260
KILLED_AT = """
import os, signal, sys
left = int(sys.argv.pop(1))
from csfs.cli import main, move
def count(event, arguments):
    global left
    if any(str(each).startswith(sys.argv[2]) or event.startswith("os.") for each in arguments[:1]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
main.main.get_command(None, "move")
sys.addaudithook(count)
main.main()
"""


@pytest.fixture
def two_storages(tmp_path: Path, make_lab: LabMaker) -> Iterator[Lab]:
    """An instance whose backing directory has another filesystem in it, as `slow`."""
    if os.geteuid() != 0:
        pytest.skip("mounts a tmpfs: for root")
    slow = tmp_path / "backing/slow"
    slow.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", slow], check=True)
    lab = make_lab()
    try:
        yield lab
    finally:
        lab.take_down()
        subprocess.run(["umount", "-l", slow], check=True)


@pytest.fixture
def apart(tmp_path: Path, make_lab: LabMaker) -> tuple[Lab, Lab]:
    """Two instances, each over a backing directory of its own."""
    lab, other = make_lab(), make_lab("lab2", mounted=False)
    other.backing = tmp_path / "backing2"
    other.backing.mkdir()
    return lab, other.mount()


def project(lab: Lab, name: str = "CS-a") -> dict[str, bytes]:
    """Makes a small project with what copies lose easily; what is in it but lock and documents."""
    lab.run(f"mkdir {name} && touch {name}/cs.lock && mkdir {name}/J1 {name}/J1/sub").ok()
    lab.run(
        f"cd {name}/J1 && head -c 300000 /dev/urandom > data.mrc && ln data.mrc sub/same.mrc"
        " && truncate -s 5M sparse && ln -s /raw/movies/1.tif link && echo x > 'a  b' && chmod 640 data.mrc"
        " && mkfifo pipe && touch -d 2020-01-01 data.mrc sub"
    ).ok()
    return contents(lab / name)


def contents(directory: Path) -> dict[str, bytes]:
    """Of every file but lock and documents: what it is, how old, and what is in it."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.name in ("cs.lock", "project.json", "workspaces.json", "job.json"):
            continue
        status = path.lstat()
        head = (
            f"{status.st_mode:o} {status.st_uid} {int(status.st_mtime) if path.is_file() else ''} ".encode()
        )
        if path.is_symlink():
            head += os.fsencode(os.readlink(path))
        elif path.is_file():
            head += path.read_bytes()
        found[name] = head
    return found


def nothing_is_left(*labs: Lab) -> None:
    for lab in labs:
        assert [
            p for p in lab.backing.rglob(".*") if p.name not in (".csfs",) and p.parent.name != ".csfs"
        ] == []


def test_within_one_filesystem_it_is_a_rename(lab: Lab) -> None:
    before = project(lab)
    inode = (lab / "CS-a").stat().st_ino
    lab.run("mkdir done").ok()
    lab.csfs("move", lab / "CS-a", lab / "done").ok()
    assert (lab / "done/CS-a").stat().st_ino == inode
    lab.csfs("move", lab / "done/CS-a", lab.backing / "CS-b").ok()
    assert contents(lab / "CS-b") == before
    assert lab.attribute("CS-b", "uid") == "P1"
    with (lab / "CS-b/J1/data.mrc").open("ab"):
        lab.csfs("move", lab / "CS-b", lab / "CS-c").refused("J1/data.mrc is open in", "next: close")
    assert "moved already" in lab.csfs("move", lab / "CS-a", lab / "CS-b").ok().err
    lab.csfs("move", lab / "CS-x", lab / "CS-b").refused("csfs ls")
    lab.csfs("move", lab / "CS-x", lab / "CS-c").refused("csfs ls")
    lab.csfs("move", lab / "CS-b", "/nowhere/else").refused("csfs archive", "csfs unarchive")
    lab.csfs("move", lab / "CS-b", lab / "none/CS-b").refused("make it first")


def test_to_another_filesystem_it_keeps_its_number(two_storages: Lab) -> None:
    lab = two_storages
    before = project(lab)
    lab.csfs("move", lab / "CS-a", lab / "slow").ok()
    assert not (lab / "CS-a").exists()
    assert contents(lab / "slow/CS-a") == before
    assert (lab.attribute("slow/CS-a", "uid"), lab.state_of("slow/CS-a")) == ("P1", "attached")
    same = [(lab / "slow/CS-a/J1" / name).stat().st_ino for name in ("data.mrc", "sub/same.mrc")]
    assert same[0] == same[1]
    assert (lab.backing / "slow/CS-a/J1/sparse").stat().st_blocks < 100
    lab.csfs("archive", lab / "slow/CS-a").ok()
    lab.csfs("move", lab / "slow/CS-a", lab / "CS-b").ok()
    assert lab.state_of("CS-b") == "archived"
    lab.csfs("unarchive", lab / "CS-b").ok()
    assert contents(lab / "CS-b") == before
    nothing_is_left(lab)


def test_to_another_instance_it_is_handed_over(apart: tuple[Lab, Lab]) -> None:
    lab, other = apart
    before = project(lab)
    other.run("mkdir CS-first && touch CS-first/cs.lock").ok()
    lab.csfs("move", lab / "CS-a", other.mountpoint).ok()
    assert not (lab / "CS-a").exists()
    assert contents(other / "CS-a") == before
    assert (other.attribute("CS-a", "uid"), other.state_of("CS-a")) == ("P2", "attached")
    assert json.loads((lab / ".csfs/projects/P1/record.json").read_text())["state"] == "detached"
    other.csfs("detach", other / "CS-a").ok()
    lab.csfs("move", other / "CS-a", lab.backing / "CS-b").ok()
    assert lab.state_of("CS-b") == "detached"
    assert contents(lab / "CS-b") == before
    nothing_is_left(lab, other)


def test_between_two_views_of_one_directory_it_changes_hands(labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    before = project(lab)
    inode = (lab / "CS-a").stat().st_ino
    lab.csfs("move", lab / "CS-a", other / "CS-b").ok()
    assert other.state_of("CS-b") == "attached"
    assert (other / "CS-b").stat().st_ino == inode
    assert contents(other / "CS-b") == before


def test_handed_over_it_can_be_killed_anywhere(labs: tuple[Lab, Lab]) -> None:
    """Also between the two instances: repeated, it is attached to the one that was meant."""
    lab, other = labs
    before = project(lab)
    inode = (lab / "CS-a").stat().st_ino
    places = [(lab, "CS-a"), (other, "CS-b")]
    kills = 0
    for steps in ([1, 4], [6, 2], [8, 3], [10, 5], [12], [14], [16], [18]):
        (owner, name), (taker, new) = places
        kills += interrupted_and_repeated(
            lab, owner / name, taker / new, lambda at: at.exists() and contents(at) == before, steps
        )
        assert (taker / new).stat().st_ino == inode
        assert taker.state_of(new) == "attached"
        assert contents(taker / new) == before
        nothing_is_left(lab, other)
        wait_for(lambda gone=owner / name: not gone.exists(), "its owner before sees that it has gone")
        places.reverse()
    assert kills >= 6


def killed_at(lab: Lab, step: int, source: Path, target: Path) -> bool:
    """Runs the command, and kills it at a step of it; whether it came so far."""
    words = [sys.executable, "-c", KILLED_AT, str(step), "move", str(source), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def interrupted_and_repeated(
    lab: Lab, source: Path, target: Path, is_whole: Callable[[Path], bool], steps: list[int]
) -> int:
    kills = 0
    for step in steps:
        if not killed_at(lab, step, source, target):
            break
        kills += 1
        assert is_whole(source) or is_whole(target), f"no whole copy is left, killed at {step} (seed {SEED})"
    else:
        lab.csfs("move", source, target).ok()
    return kills


def test_killed_anywhere_and_repeated_within_an_instance(two_storages: Lab) -> None:
    lab = two_storages
    before = project(lab)
    choose = random.Random(SEED)
    kills = 0
    there, back = lab / "CS-a", lab / "slow/CS-a"
    for _ in range(8):
        steps = [choose.randrange(1, 140), choose.randrange(1, 70)]
        kills += interrupted_and_repeated(lab, there, back, lambda at: contents(at) == before, steps)
        assert contents(back) == before
        assert not there.exists()
        assert lab.attribute(str(back.relative_to(lab.mountpoint)), "uid") == "P1"
        assert lab.state_of(str(back.relative_to(lab.mountpoint))) == "attached"
        nothing_is_left(lab)
        there, back = back, there
    assert kills >= 8


def test_killed_anywhere_and_repeated_between_instances(apart: tuple[Lab, Lab]) -> None:
    lab, other = apart
    before = project(lab)
    choose = random.Random(SEED)
    kills = 0
    places = [(lab, "CS-a"), (other, "CS-a")]
    for _ in range(6):
        (owner, name), (taker, new) = places
        source, target = owner / name, taker / new
        steps = [choose.randrange(1, 140), choose.randrange(1, 70)]
        kills += interrupted_and_repeated(lab, source, target, lambda at: contents(at) == before, steps)
        assert contents(target) == before
        assert not source.exists()
        assert taker.state_of(new) == "attached"
        nothing_is_left(lab, other)
        places.reverse()
    assert kills >= 6


def test_interrupted_it_says_how_to_go_on(two_storages: Lab, tmp_path: Path) -> None:
    lab = two_storages
    project(lab)
    (lab / "CS-a/J1/large").write_bytes(os.urandom(1 << 20) * 192)
    words = [sys.executable, "-m", "csfs", "move", str(lab / "CS-a"), str(lab / "slow")]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    part = lab.backing / "slow/.CS-a.moving/.csfs-part"
    try:
        wait_for(lambda: part.exists() and part.stat().st_size > 1 << 20, "the large file is being copied")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert f"{lab / 'CS-a'} is archived" in said
    assert f"to go on: csfs move {lab / 'CS-a'} {lab / 'slow'}" in said
    assert "to give it up: rm -r" in said
    lab.csfs("move", lab / "CS-a", lab / "slow").ok()
    assert lab.state_of("slow/CS-a") == "attached"


def test_a_source_that_changed_is_not_removed(two_storages: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is in its place, then the move is interrupted, and the old place goes on being used."""
    lab = two_storages
    project(lab)

    def interrupt(self: relocation.Relocation) -> None:
        raise KeyboardInterrupt

    words = [str(lab / "CS-a"), str(lab / "slow")]
    with monkeypatch.context() as patched:
        patched.setattr(relocation.Relocation, "_remove", interrupt)
        assert CliRunner().invoke(move.command, words).exit_code == 130
    assert (lab / "slow/CS-a").exists()
    lab.csfs("unarchive", lab / "CS-a").ok()
    (lab / "CS-a/new").write_text("of today")
    lab.csfs("move", *words).refused("new", "nothing of that was removed")
    lab.csfs("archive", lab / "CS-a").ok()
    lab.csfs("move", *words).refused("new", f"rm -rf {lab / 'slow/CS-a'}")
    assert (lab / "CS-a/new").read_text() == "of today"
    lab.run("rm -rf slow/CS-a").ok()
    lab.csfs("move", *words).ok()
    assert (lab / "slow/CS-a/new").read_text() == "of today"
    assert lab.attribute("slow/CS-a", "uid") == "P1"


def test_the_age_of_the_lock_is_no_difference(two_storages: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount tells a time of its own for cs.lock, which changes while the source is removed."""
    lab = two_storages
    before = project(lab)
    words = [str(lab / "CS-a"), str(lab / "slow")]

    def interrupt(self: relocation.Relocation) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(relocation.Relocation, "_remove", interrupt)
        assert CliRunner().invoke(move.command, words).exit_code == 130
    os.utime(lab.backing / "slow/CS-a/cs.lock", (10**9, 10**9))
    lab.csfs("move", *words).ok()
    assert contents(lab / "slow/CS-a") == before
    assert not (lab / "CS-a").exists()
    assert lab.attribute("slow/CS-a", "uid") == "P1"


def test_a_clone_belongs_to_nobody(lab: Lab) -> None:
    before = project(lab)
    said = lab.csfs("clone", lab / "CS-a", lab / "CS-b").ok().out
    assert f"csfs attach {lab / 'CS-b'}" in said
    assert lab.state_of("CS-b") == "detached"
    assert not (lab / "CS-b/cs.lock").exists()
    assert contents(lab / "CS-b") == before
    for name in ("project.json", "workspaces.json", "J1/job.json"):
        assert (lab / "CS-a" / name).read_bytes() == (lab / "CS-b" / name).read_bytes()
    assert "is attached as P2" in lab.csfs("clone", "--attach", lab / "CS-a", lab / "CS-c").ok().out
    assert lab.attribute("CS-a", "uid") == "P1"
    lab.csfs("clone", lab / "CS-a", lab / "CS-c").refused("is there already")
    lab.csfs("clone", lab / "CS-a", lab / "CS-a/inner").refused("outside of any")
    lab.csfs("move", lab / "CS-a", lab / "CS-a/inner").refused("outside of any")
    nothing_is_left(lab)


def test_a_clone_shares_its_blocks_where_it_can(tmp_path: Path, make_lab: LabMaker) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts an xfs: for root")
    image, backing = tmp_path / "image", tmp_path / "backing"
    image.touch()
    os.truncate(image, 400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    backing.mkdir()
    subprocess.run(["mount", "-o", "loop", image, backing], check=True)
    lab = make_lab()
    try:
        before = project(lab)
        (lab / "CS-a/J1/large").write_bytes(os.urandom(1 << 20) * 100)
        os.sync()
        room = os.statvfs(backing).f_bfree
        lab.csfs("clone", lab / "CS-a", lab / "CS-b").ok()
        taken = (room - os.statvfs(backing).f_bfree) * os.statvfs(backing).f_bsize
        assert taken < 20 << 20
        assert (lab / "CS-b/J1/large").read_bytes() == (lab / "CS-a/J1/large").read_bytes()
        (lab / "CS-b/J1/large").unlink()
        assert contents(lab / "CS-b") == before
    finally:
        lab.take_down()
        subprocess.run(["umount", "-l", backing], check=True)


def test_the_documents_of_a_clone_are_of_one_moment(tmp_path: Path) -> None:
    """A change in between is noticed, and all are read again."""
    for name in ("project.json", "workspaces.json"):
        (tmp_path / name).write_text("before")
    looks = 0

    def look(directory: str) -> list[str]:
        nonlocal looks
        looks += 1
        if looks == 2:
            (tmp_path / "project.json").write_text("afterwards")
        return os.listdir(directory)

    found = clone.snapshot(str(tmp_path), look)
    assert found == {"project.json": b"afterwards", "workspaces.json": b"before"}
    assert looks == 4
