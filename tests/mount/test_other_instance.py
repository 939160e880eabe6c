"""What another instance has done a moment ago counts, whatever was seen before that."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.lab import Lab, wait_for


@pytest.fixture
def attached_a_moment_ago(sample: Path, labs: tuple[Lab, Lab]) -> Lab:
    """A mount that has just seen CS-a and the file J1/job.log detached; the other has taken it since."""
    other, lab = labs
    assert lab.state_of("CS-a") == "detached"
    (lab / "CS-a/J1/job.log").stat()
    (other / "CS-a/cs.lock").touch()
    return lab


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(lambda at: os.unlink(at / "cs.lock"), errno.EPERM, id="rm cs.lock"),
        pytest.param(lambda at: os.rename(at, at.with_name("CS-b")), errno.EPERM, id="mv"),
        pytest.param(lambda at: os.unlink(at / "J1/job.log"), errno.EROFS, id="rm"),
        pytest.param(lambda at: os.rename(at / "J1/job.log", at / "J1/log"), errno.EROFS, id="mv of a file"),
        pytest.param(lambda at: os.link(at / "J1/job.log", at / "J1/log"), errno.EROFS, id="ln"),
        pytest.param(lambda at: os.symlink("job.log", at / "J1/log"), errno.EROFS, id="ln -s"),
        pytest.param(lambda at: os.mkdir(at / "J77"), errno.EROFS, id="mkdir"),
        pytest.param(lambda at: os.truncate(at / "J1/job.log", 0), errno.EROFS, id="truncate"),
        pytest.param(lambda at: os.chmod(at / "J1/job.log", 0o600), errno.EROFS, id="chmod"),
        pytest.param(lambda at: (at / "note").write_text("x"), errno.EROFS, id="a new file"),
        pytest.param(lambda at: (at / "J1/job.log").open("a").close(), errno.EROFS, id="open for writing"),
        pytest.param(lambda at: os.setxattr(at, "user.mine", b"x"), errno.EROFS, id="setfattr"),
    ],
)
def test_what_was_nobodys_a_moment_ago_is_not_changed(
    attached_a_moment_ago: Lab, change: Callable[[Path], None], code: int
) -> None:
    lab = attached_a_moment_ago
    before = (lab.backing / "CS-a/J1/job.log").read_bytes()
    with pytest.raises(OSError) as refused:
        change(lab / "CS-a")
    assert refused.value.errno == code
    assert (lab.backing / "CS-a/cs.lock").exists()
    assert (lab.backing / "CS-a/J1/job.log").read_bytes() == before


def test_a_directory_that_was_empty_a_moment_ago(labs: tuple[Lab, Lab]) -> None:
    other, lab = labs
    (lab / "CS-x").mkdir()
    assert os.listdir(lab / "CS-x") == []
    (other / "CS-x/cs.lock").touch()
    with pytest.raises(OSError) as refused:
        (lab / "CS-x/note").write_text("x")
    assert refused.value.errno == errno.EROFS
    with pytest.raises(OSError) as refused:
        (lab / "CS-x/cs.lock").unlink()
    assert refused.value.errno == errno.EPERM
    assert other.state_of("CS-x") == "attached"


def test_a_project_that_was_moved_is_where_it_is_now(sample: Path, labs: tuple[Lab, Lab]) -> None:
    """Although it is asked for again and again: what is refused looks at the directory, not at its place."""
    lab, other = labs
    (lab.backing / "box").mkdir()
    (lab.backing / "CS-a").rename(lab.backing / "box/CS-a")
    (lab / "box/CS-a/cs.lock").touch()
    (lab.backing / "box/CS-a/cs.lock").unlink()
    wait_for(lambda: lab.state_of("box/CS-a") == "lost", "it is lost in its old place")
    (other / "box").rename(other / "crate")

    def is_seen() -> bool:
        try:
            os.setxattr(lab / "crate/CS-a", "user.mine", b"x")
        except OSError as error:
            assert error.errno == errno.EROFS
            return False
        return lab.state_of("crate/CS-a") == "detached"

    wait_for(is_seen, "it is in its new place what it is", 5)


def test_the_number_of_a_file_that_another_removed(labs: tuple[Lab, Lab]) -> None:
    """The backing filesystem gives it to the next file: that must not be read under the old name."""
    lab, other = labs
    for round_number in range(20):
        old, new = f"old{round_number}", f"new{round_number}"
        (lab / old).write_text("the old one")
        number = (lab / old).stat().st_ino
        (other / old).unlink()
        (lab / new).write_text("the new one")
        if (lab.backing / new).stat().st_ino != number:
            continue
        with pytest.raises(FileNotFoundError):
            (lab / old).read_text()
        assert (lab / new).read_text() == "the new one"
        return
    pytest.skip("the backing filesystem gives no number again at once")


def test_a_file_that_another_removed_a_moment_ago(labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    (lab / "file").write_text("the old one")
    (other / "file").unlink()
    with pytest.raises(FileNotFoundError):
        (lab / "file").read_text()
    (lab / "file").write_text("x")
    assert (lab / "file").stat().st_size == 1
    (other / "file").unlink()
    (lab / "file").write_text("the new one")
    assert (other / "file").read_text() == "the new one"


def test_a_file_that_another_replaced_a_moment_ago(labs: tuple[Lab, Lab]) -> None:
    """It is opened as what it is now, and not for the one whose number the next new file gets."""
    lab, other = labs
    for round_number in range(20):
        old, new = f"old{round_number}", f"new{round_number}"
        (lab / old).write_text("the old one")
        (other / "next").write_text("the next one")
        number = (lab / old).stat().st_ino
        (other / "next").rename(other / old)
        with (lab / old).open() as opened:
            (lab / new).write_text("the new one")
            assert (lab / old).read_text() == "the next one"
            assert (lab / new).read_text() == "the new one"
            assert opened.read() == "the next one"
        if (lab.backing / new).stat().st_ino == number:
            return
    pytest.skip("the backing filesystem gives no number again at once")
