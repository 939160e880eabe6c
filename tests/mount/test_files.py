"""The tree: everything a backing filesystem does for data files, done through the mount."""

import contextlib
import errno
import mmap
import os
import stat
import sys
from pathlib import Path

import pytest

from csfs.backing.syscalls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.mount.lab import Lab, wait_for

AT_FDCWD = -100


def rename(source: Path, target: Path, flags: int) -> None:
    renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags)


@pytest.fixture(params=["plain", "attached", "detached"])
def place(request: pytest.FixtureRequest, lab: Lab) -> Path:
    """A directory to work in: outside of projects, in an attached one, in a detached one."""
    lab.run("mkdir d").ok()
    if request.param != "plain":
        lab.run("touch d/cs.lock").ok()
    if request.param == "detached":
        lab.run("rm d/cs.lock").ok()
    (lab / "d/work").mkdir()
    return lab / "d/work"


def test_a_renamed_directory_takes_its_files_along(place: Path) -> None:
    (place / "a/b/c").mkdir(parents=True)
    (place / "a/b/c/f").write_text("content")
    with (place / "a/b/c/f").open() as opened:
        (place / "a").rename(place / "z")
        assert opened.read() == "content"
    assert (place / "z/b/c/f").read_text() == "content"
    (place / "z/b/c/f").write_text("again")
    (place / "z/b").rename(place / "b")
    assert (place / "b/c/f").read_text() == "again"
    os.system(f"tar -cf /dev/null -C {place} .")


def test_hard_links_are_one_file(place: Path) -> None:
    one, two, three = place / "one", place / "two", place / "three"
    one.write_text("x")
    os.link(one, two)
    assert one.stat().st_ino == two.stat().st_ino
    assert two.stat().st_nlink == 2
    two.write_text("longer")
    assert one.read_text() == "longer"
    one.rename(three)
    two.unlink()
    wait_for(lambda: three.stat().st_nlink == 1, "the link count follows")
    assert three.read_text() == "longer"
    assert os.listdir(place) == ["three"]


def test_an_unlinked_file_lives_while_it_is_open(place: Path) -> None:
    path = place / "f"
    with path.open("w+b") as opened:
        opened.write(b"before")
        opened.flush()
        path.unlink()
        assert not path.exists()
        opened.write(b" after")
        opened.flush()
        os.ftruncate(opened.fileno(), 8)
        os.fchmod(opened.fileno(), 0o600)
        found = os.fstat(opened.fileno())
        assert (found.st_size, found.st_nlink, found.st_mode & 0o777) == (8, 0, 0o600)
        opened.seek(0)
        assert opened.read() == b"before a"
        path.write_text("another file of that name")
        assert os.fstat(opened.fileno()).st_size == 8


def test_replaced_files_and_reused_inode_numbers(place: Path) -> None:
    for n in range(200):
        new = place / f"new{n % 3}"
        new.write_text(str(n) * 10)
        new.replace(place / "f")
        assert (place / "f").read_text() == str(n) * 10
        (place / "g").write_text("g")
        assert (place / "g").read_text() == "g"
        (place / "g").unlink()


def test_rename_flags(place: Path) -> None:
    one, two = place / "one", place / "two"
    one.write_text("1")
    two.write_text("2")
    with pytest.raises(FileExistsError):
        rename(one, two, RENAME_NOREPLACE)
    rename(one, two, RENAME_EXCHANGE)
    assert (one.read_text(), two.read_text()) == ("2", "1")
    rename(one, place / "three", RENAME_NOREPLACE)
    assert (place / "three").read_text() == "2"
    (place / "d").mkdir()
    (place / "d/f").write_text("in d")
    rename(place / "d", two, RENAME_EXCHANGE)
    assert (two / "f").read_text() == "in d"
    assert (place / "d").read_text() == "1"


def test_symlinks_are_not_followed(place: Path, lab: Lab) -> None:
    outside = lab.backing.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (place / "link").symlink_to(outside)
    (place / "dangling").symlink_to("nowhere")
    assert os.readlink(place / "link") == str(outside)
    assert stat.S_ISLNK((place / "dangling").lstat().st_mode)
    os.chown(place / "dangling", os.getuid(), os.getgid(), follow_symlinks=False)
    os.utime(place / "dangling", ns=(1, 2), follow_symlinks=False)
    assert (place / "dangling").lstat().st_mtime_ns == 2
    # Swapped on the backing directory, below the mount's feet: it leads nowhere.
    below = lab.backing / place.relative_to(lab.mountpoint)
    (place / "dir").mkdir()
    (place / "dir/f").write_text("x")
    os.rename(below / "dir", below / "was")
    (below / "dir").symlink_to(outside)
    # By the kernel's knowledge it is still a directory: the answer must not come from outside.
    for name in os.listdir(place / "was"):
        assert name == "f"
    assert (place / "was/f").read_text() == "x"


def test_special_files(place: Path) -> None:
    os.mkfifo(place / "fifo")
    assert stat.S_ISFIFO((place / "fifo").stat().st_mode)
    os.mknod(place / "socket", stat.S_IFSOCK | 0o644)
    assert stat.S_ISSOCK((place / "socket").stat().st_mode)


def test_data_is_what_was_written(place: Path) -> None:
    path = place / "data"
    block = os.urandom(1 << 20)
    with path.open("wb") as out:
        for _ in range(8):
            out.write(block)
        out.seek(100 << 20)
        out.write(b"end")
    assert path.stat().st_size == (100 << 20) + 3
    assert path.stat().st_blocks * 512 < 20 << 20
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 8 << 20) as mapped:
        assert mapped[: 1 << 20] == block
        mapped[5:10] = b"mmap!"
        mapped.flush()
    with path.open("rb") as opened:
        assert opened.read(12)[5:10] == b"mmap!"
    with path.open("ab") as one, path.open("ab") as two:
        one.write(b"1")
        one.flush()
        two.write(b"2")
    with path.open("rb") as opened:
        opened.seek(-5, os.SEEK_END)
        assert opened.read() == b"end12"
    os.truncate(path, 10)
    assert path.read_bytes()[5:] == b"mmap!"
    with path.open("wb"):
        pass
    assert path.stat().st_size == 0


def test_names_and_errors(place: Path) -> None:
    longest = place / ("n" * 255)
    longest.write_text("x")
    assert os.listdir(place) == [longest.name]
    longest.unlink()
    raw = os.fsencode(place) + b"/caf\xe9 \n\x01"
    with open(raw, "wb") as out:
        out.write(b"x")
    assert os.listdir(os.fsencode(place)) == [b"caf\xe9 \n\x01"]
    os.unlink(raw)
    for call, code in (
        (lambda: (place / "none").stat(), errno.ENOENT),
        (lambda: (place / "none/f").stat(), errno.ENOENT),
        (lambda: (place / ("n" * 256)).stat(), errno.ENAMETOOLONG),
        (lambda: place.rmdir(), None),
        (lambda: place.rmdir(), errno.ENOENT),
    ):
        if code is None:
            call()
            continue
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == code


def test_deep_directories(place: Path) -> None:
    script = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "for n in range(1500):\n"
        "    os.mkdir('deep'); os.chdir('deep')\n"
        "open('f', 'w').write('bottom')\n"
        "assert open('f').read() == 'bottom'\n"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script, str(place)]) == 0
    (place / "deep").rename(place / "moved")
    assert os.system(f"find {place}/moved | wc -l | grep -qx 1501") == 0
    assert os.system(f"rm -rf {place}/moved") == 0


def test_many_entries_are_all_listed(place: Path) -> None:
    expected = {f"file{n:05}" for n in range(5000)}
    for name in expected:
        (place / name).touch()
    listed = os.listdir(place)
    assert len(listed) == len(expected)
    assert set(listed) == expected
    assert {e.name for e in os.scandir(place) if e.stat().st_size == 0} == expected


def test_statfs_is_that_of_the_backing_directory(lab: Lab) -> None:
    mine, theirs = os.statvfs(lab.mountpoint), os.statvfs(lab.backing)
    for field in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax"):
        assert getattr(mine, field) == getattr(theirs, field)


def test_changes_on_the_backing_directory_are_seen(place: Path, lab: Lab) -> None:
    below = lab.backing / place.relative_to(lab.mountpoint)
    (below / "f").write_text("one")
    assert (place / "f").read_text() == "one"
    (below / "f").write_text("another")
    wait_for(lambda: (place / "f").read_text() == "another", "the new content is seen", 3)
    (below / "f").unlink()
    wait_for(lambda: not (place / "f").exists(), "the removal is seen", 3)


def test_more_directories_than_descriptors(lab: Lab) -> None:
    lab.run("for a in $(seq 80); do mkdir -p d$a; (cd d$a; mkdir $(seq 90)); done").ok()
    lab.run("for a in $(seq 80); do for b in $(seq 90); do echo $a > d$a/$b/f; done; done").ok()
    assert lab.run("cat d*/*/f | wc -l").ok().out.strip() == "7200"
    lab.run("find . -type f | xargs cat > /dev/null && rm -rf d*").ok()


def test_no_descriptor_is_leaked(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && cp -a CS-a CS-b && rm -rf CS-b").ok()
    directory = Path(f"/proc/{lab.pid}/fd")

    def files() -> int:
        found = 0
        for fd in directory.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found += "(deleted)" in os.readlink(fd)
        return found

    wait_for(lambda: files() == 0, "descriptors of removed files are closed")
    before = len(list(directory.iterdir()))
    for _ in range(3):
        lab.run("cp -a CS-a CS-b && rm -rf CS-b && rm CS-a/cs.lock && touch CS-a/cs.lock").ok()
    wait_for(lambda: len(list(directory.iterdir())) <= before + 3, "descriptors do not pile up")
