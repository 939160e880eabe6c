"""Documents that are none: refused as a whole, whoever writes them, and at no cost."""

import contextlib
import errno
import os
from collections.abc import Callable

import pytest

from tests.mount.lab import Lab
from tests.mount.test_attacks import claim, code_of, project
from tests.mount.watching import MEBIBYTE, unharmed

GIBIBYTE = 1 << 30
DEEP = 10_000


def with_value(value: bytes) -> bytes:
    return b'{"uid": "P9", "title": "honest", "x": ' + value + b"}"


NOT_VALID = {
    "deep lists": with_value(b"[" * DEEP + b"]" * DEEP),
    "deep objects": with_value(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "half of deep lists": b"[" * 1_000_000,
    "a key twice": b'{"uid": "P9", "title": "honest", "title": "other"}',
    "no UTF-8": with_value(b'"\xff\xfe"'),
    "a surrogate in UTF-8": with_value(b'"\xed\xa0\x80"'),
    "a mark of byte order": b"\xef\xbb\xbf" + with_value(b"1"),
    "more after it": with_value(b"1") + b"}",
    "two of them": with_value(b"1") * 2,
    "nothing": b"",
    "zeros": bytes(4096),
    "UTF-16": with_value(b"1").decode().encode("utf-16"),
    "a bare word": with_value(b"Undefined"),
    "a comment": with_value(b"1 // one"),
    "no object": b'"P9"',
}
VALID = {
    "NaN": with_value(b"NaN"),
    "infinity": with_value(b"-Infinity"),
    "half of a surrogate pair": with_value(b'"\\ud800"'),
    "a number of 10,000 digits": with_value(b"1" * 10_000),
    "a title of control characters": b'{"uid": "P9", "title": "\\u001b[31m\\n\\u202e\\u0000"}',
}


def fitting(content: bytes, name: str) -> bytes:
    """The content in the shape that the document of this name has."""
    return b"[" + content + b"]" if name == "workspaces.json" and content[:1] == b"{" else content


@pytest.mark.parametrize("name", ["project.json", "workspaces.json", "J2/job.json"])
def test_not_valid_at_attach(lab: Lab, name: str) -> None:
    with unharmed(lab, grows=48 * MEBIBYTE):
        for number, (what, content) in enumerate(NOT_VALID.items()):
            below, here = project(lab.backing / f"CS-{number}"), lab / f"CS-{number}"
            (below / name).write_bytes(fitting(content, name))
            code = code_of(lambda here=here: claim(here))  # type: ignore[misc]
            if name == "J2/job.json":
                assert code == 0, what
                assert os.getxattr(here / "J2", "user.csfs.attach_status") == b"failed", what
            else:
                assert code == errno.EINVAL, what
                assert not (below / "cs.lock").exists(), what
                assert name in lab.why(f"CS-{number}"), what
            assert (below / name).read_bytes() == fitting(content, name), what


@pytest.mark.parametrize("name", ["project.json", "workspaces.json", "J2/job.json"])
def test_not_valid_through_the_mount(lab: Lab, name: str) -> None:
    below = project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    path, before = lab / "CS-a" / name, (lab / "CS-a" / name).read_bytes()
    with unharmed(lab, grows=48 * MEBIBYTE):
        for what, content in NOT_VALID.items():
            assert (
                code_of(lambda content=content: path.write_bytes(fitting(content, name))) == errno.EINVAL
            ), what  # type: ignore[misc]
            (lab / "CS-a/new").write_bytes(fitting(content, name))
            assert code_of(lambda: (lab / "CS-a/new").replace(path)) == errno.EINVAL, what
            assert path.read_bytes() == before, what
    assert (below / name).read_bytes() == before


def test_odd_but_valid(lab: Lab) -> None:
    for number, (what, content) in enumerate(VALID.items()):
        below, here = project(lab.backing / f"CS-{number}"), lab / f"CS-{number}"
        (below / "project.json").write_bytes(content)
        claim(here)
        served = (here / "project.json").read_bytes()
        assert content.partition(b'"title"')[2] in served, what
        (here / "project.json").write_bytes(served + b"\n")
        assert (below / "project.json").read_bytes() == served + b"\n", what
        told = lab.run(f"getfattr --only-values -n user.csfs.title CS-{number}").ok().out
        assert "\x00" not in told or what.startswith("a title")
        assert "\x1b" not in lab.why(f"CS-{number}")


def test_one_of_a_gibibyte_is_not_read(lab: Lab) -> None:
    for number, name in enumerate(("cs.lock", "project.json", "workspaces.json", "J2/job.json")):
        below = project(lab.backing / f"CS-{number}")
        with (below / name).open("wb") as made:
            made.truncate(GIBIBYTE)
        with unharmed(lab, grows=16 * MEBIBYTE):
            code = code_of(lambda number=number: (lab / f"CS-{number}/note").touch())  # type: ignore[misc]
            assert code == (errno.EROFS if name == "cs.lock" else 0)
            if name != "cs.lock":
                code = code_of(lambda number=number: claim(lab / f"CS-{number}"))  # type: ignore[misc]
                assert code == (0 if name == "J2/job.json" else errno.EINVAL)


def test_one_of_a_gibibyte_is_not_written(lab: Lab) -> None:
    """Neither by one call far out nor by many, nor by setting its size; the old one stays."""
    project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    path = lab / "CS-a/project.json"
    before = path.read_bytes()

    def write_far_out() -> None:
        with path.open("r+b", buffering=0) as opened:
            opened.seek(1 << 40)
            opened.write(b"x")

    def write_much() -> None:
        fd = os.open(path, os.O_WRONLY)
        try:
            for _ in range(200):
                os.write(fd, bytes(MEBIBYTE))
        finally:
            os.ftruncate(fd, 0)
            os.pwrite(fd, before, 0)
            os.close(fd)

    def move_there() -> None:
        with (lab / "CS-a/new").open("wb") as made:
            made.truncate(GIBIBYTE)
        (lab / "CS-a/new").replace(path)

    acts: list[Callable[[], None]] = [
        write_far_out,
        write_much,
        lambda: os.truncate(path, GIBIBYTE),
        lambda: os.truncate(path, (1 << 63) - 1),
    ]
    with unharmed(lab, grows=80 * MEBIBYTE):
        for act in acts:
            assert code_of(act) == errno.EFBIG
            assert path.read_bytes() == before
        assert code_of(move_there) in (errno.EFBIG, errno.EINVAL)
        assert path.read_bytes() == before
    assert "larger than any may be" in lab.why("CS-a")


def test_long_values_of_csfs_attributes(lab: Lab) -> None:
    """They are refused, and the refusals that are kept of them stay short."""
    project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    longest = b"\xff" * 65536
    names = ("user.csfs." + "n" * 245, "user.csfs.", "user.csfs.x", "user.csfs.state", "user.csfs.rescue")
    with unharmed(lab, grows=64 * MEBIBYTE):
        for _ in range(200):
            for path, name in ((lab / "CS-a", "user.csfs.rescue"), (lab / "CS-a/J2", "user.csfs.status")):
                with pytest.raises(OSError):
                    os.setxattr(path, name, longest)
        for name in names:
            for path in (lab / "CS-a", lab / "CS-a/J2", lab / "CS-a/project.json", lab.mountpoint):
                code = code_of(lambda path=path, name=name: os.setxattr(path, name, longest))  # type: ignore[misc]
                assert code in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL), (path, name)
                with contextlib.suppress(OSError):
                    assert len(os.getxattr(path, name)) <= 4096
        assert code_of(lambda: os.setxattr(lab / "CS-a", "user." + "n" * 251, b"x")) == errno.ERANGE
    assert len((lab / ".csfs/refusals").read_bytes()) < 8 * MEBIBYTE
    assert os.listxattr(lab.backing / "CS-a") == []


def test_names_that_no_document_has(lab: Lab) -> None:
    project(lab.backing / "CS-a")
    claim(lab / "CS-a")
    odd = (b"\xff", b"n" * 255, b"J" + b"9" * 254, b"P" + b"9" * 254, b"\n", b"..P1", b"J01", b"P0")
    with unharmed(lab):
        for directory in (".csfs", ".csfs/projects", ".csfs/projects/P1", ".csfs/projects/P1/J2", "CS-a"):
            for name in odd:
                path = os.fsencode(lab / directory) + b"/" + name
                assert code_of(lambda path=path: os.stat(path)) == errno.ENOENT, path  # type: ignore[misc]
