"""Set-id bits and capabilities end when a file is written, as on the backing filesystem."""

import errno
import functools
import os
import select
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csfs.mount import kernel
from tests.mount.conftest import LabMaker
from tests.mount.lab import ORDINARY_USER, Lab, as_user
from tests.mount.test_as_user import pytestmark  # noqa: F401  (the same conditions)

SET_ID = stat.S_ISUID | stat.S_ISGID
CAPABILITY = "security.capability"
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


@pytest.fixture(params=["passthrough", "nopassthrough"])
def lab(request: pytest.FixtureRequest, make_lab: LabMaker, sample: Path) -> Lab:
    made = make_lab(options=("-o", "nopassthrough") if request.param == "nopassthrough" else ())
    made.run("touch CS-a/cs.lock").ok()
    return made


def append(path: Path) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(b"x")


def truncate(path: Path) -> None:
    os.truncate(path, 1)


def overwrite(path: Path) -> None:
    path.write_bytes(b"y")


def open_only(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY))


def both(lab: Lab, act: Callable[[Path], None], mode: int, *, user: bool) -> tuple[int, int]:
    """The mode after the same was done on the mount and on the backing directory."""
    found = []
    for number, root in enumerate((lab.mountpoint, lab.backing)):
        path = root / f"CS-a/J1/tool{number}"
        path.write_bytes(b"content")
        path.chmod(mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode

        def work(path: Path = path) -> None:
            act(path)

        assert (as_user(work) if user else work()) in (None, 0)
        found.append(stat.S_IMODE(path.stat().st_mode))
        assert stat.S_IMODE((lab.backing / f"CS-a/J1/tool{number}").stat().st_mode) == found[-1]
    return found[0], found[1]


def test_as_on_the_backing_filesystem(lab: Lab) -> None:
    differing = []
    for act in (append, truncate, overwrite, open_only):
        for mode in (0o4777, 0o2777, 0o6777, 0o2767, 0o777):
            for user in (True, False):
                if mode == 0o2767 and user and act is not open_only:
                    continue  # without execution by its group the bit is no privilege, and kernels differ
                here, there = both(lab, act, mode, user=user)
                kept = not user or act is open_only
                if here != there or bool(here & SET_ID) != (kept and bool(mode & SET_ID)):
                    differing.append((act.__name__, oct(mode), user, oct(here), oct(there)))
    assert differing == []


def test_capabilities_end(lab: Lab) -> None:
    path = lab / "CS-a/J1/tool"
    for act in (append, truncate, overwrite):
        for user in (True, False):
            path.write_bytes(b"content")
            path.chmod(0o777)
            os.setxattr(path, CAPABILITY, NET_RAW)
            assert os.getxattr(path, CAPABILITY)
            assert (as_user(functools.partial(act, path)) if user else act(path)) in (None, 0)
            assert CAPABILITY not in os.listxattr(path), (act.__name__, user)
            assert CAPABILITY not in os.listxattr(lab.backing / "CS-a/J1/tool"), (act.__name__, user)


def test_what_is_made_with_them_loses_them_when_it_is_written(lab: Lab) -> None:
    place = lab / "CS-a/J1"
    place.chmod(0o777)

    def work() -> None:
        os.umask(0)
        fd = os.open(place / "tool", os.O_CREAT | os.O_WRONLY, 0o4755)
        assert os.fstat(fd).st_mode & stat.S_ISUID
        os.write(fd, b"x")
        os.close(fd)

    assert as_user(work) == 0
    assert stat.S_IMODE((place / "tool").stat().st_mode) == 0o755
    assert (lab.backing / "CS-a/J1/tool").read_bytes() == b"x"


def test_chown_ends_them(lab: Lab) -> None:
    path = lab / "CS-a/J1/tool"
    path.write_bytes(b"content")
    path.chmod(0o6755)
    os.chown(path, ORDINARY_USER, ORDINARY_USER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.fixture
def foreign_writer(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """An ordinary user's process that has root's file open, and writes a byte for each line it is sent."""
    path = lab / "CS-a/J1/tool"
    path.write_bytes(b"content")
    path.chmod(0o777)
    script = (
        "import os, sys\n"
        f"fd = os.open({os.fspath(path)!r}, os.O_WRONLY)\n"
        "print('open', flush=True)\n"
        "for line in sys.stdin:\n"
        "    os.write(fd, b'x')\n"
        "    print('written', flush=True)\n"
    )
    words = ["setpriv", f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups"]
    with subprocess.Popen(
        [*words, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


def one_write(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "written\n"


@pytest.mark.parametrize("what", ["set-id", "capability"])
def test_nobody_writes_what_is_given_to_a_file_that_is_open(
    lab: Lab, foreign_writer: subprocess.Popen[str], what: str
) -> None:
    """Either the next write ends it, or it is not given: never is it kept with what another user writes."""
    path = lab / "CS-a/J1/tool"

    def give() -> None:
        if what == "set-id":
            path.chmod(0o4777)
        else:
            os.setxattr(path, CAPABILITY, NET_RAW)

    def is_given() -> bool:
        if what == "set-id":
            return bool(path.stat().st_mode & stat.S_ISUID)
        return CAPABILITY in os.listxattr(path)

    if lab.backing_status["passthrough"] == "active":
        with pytest.raises(OSError, match="Text file busy") as refused:
            give()
        assert refused.value.errno == errno.ETXTBSY
        assert "another user has the file open for writing" in lab.why("CS-a")
    else:
        give()
        assert is_given()
    one_write(foreign_writer)
    assert not is_given()
    assert foreign_writer.stdin is not None
    foreign_writer.stdin.close()
    foreign_writer.wait(10)
    give()
    assert is_given()


def test_a_copy_keeps_them(lab: Lab) -> None:
    """`cp -p` gives them to a file that it has open itself."""
    lab.run("cp /bin/true CS-a/J1/tool && chmod 4755 CS-a/J1/tool && cp -p CS-a/J1/tool CS-a/J1/copy").ok()
    assert stat.S_IMODE((lab / "CS-a/J1/copy").stat().st_mode) == 0o4755
    lab.run(
        "tar -C CS-a/J1 -cpf ../state/t.tar tool && rm CS-a/J1/tool && tar -C CS-a/J1 -xpf ../state/t.tar"
    ).ok()
    assert stat.S_IMODE((lab / "CS-a/J1/tool").stat().st_mode) == 0o4755


@pytest.mark.skipif(kernel._module is None, reason="needs the C module")
def test_what_is_written_through_passthrough_asks_the_daemon_nothing(
    sample: Path, make_lab: LabMaker
) -> None:
    """Shown with a daemon that is stopped: each write would wait for it."""
    lab = make_lab()
    if lab.backing_status["passthrough"] != "active":
        pytest.skip(f"passthrough is off: {lab.backing_status['passthrough']}")
    lab.run("touch CS-a/cs.lock").ok()
    says, said = os.pipe()
    with (lab / "CS-a/J1/file").open("wb", buffering=0) as file:
        file.write(b"x")
        os.kill(lab.pid, signal.SIGSTOP)
        writer = os.fork()
        if writer == 0:
            for _ in range(1000):
                os.write(file.fileno(), b"y")
            os.write(said, b"done")
            os._exit(0)
        ready, _, _ = select.select([says], [], [], 20)
        os.kill(lab.pid, signal.SIGCONT)
        os.waitpid(writer, 0)
    assert ready, "the daemon was waited for"
    os.close(says)
    os.close(said)
    assert (lab.backing / "CS-a/J1/file").read_bytes() == b"x" + b"y" * 1000
