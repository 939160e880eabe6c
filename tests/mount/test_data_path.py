"""Data through kernel passthrough and through the daemon: the same bytes, sizes and times."""

import mmap
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

STRESS_SECONDS = 4


@pytest.fixture(params=["passthrough", "daemon"])
def data_lab(request: pytest.FixtureRequest, make_lab: LabMaker) -> Lab:
    """A mount with each of the two ways that data can take; a project CS-a to write in."""
    options = () if request.param == "passthrough" else ("-o", "nopassthrough")
    lab = make_lab(options=options)
    lab.run("mkdir CS-a && touch CS-a/cs.lock && mkdir CS-a/J1").ok()
    (lab / "probe").write_bytes(b"x")
    said = str(lab.backing_status["passthrough"])
    if request.param == "daemon":
        assert "nopassthrough" in said
    elif said != "active":
        pytest.skip(f"no passthrough here: {said}")
    return lab


def test_size_and_time_are_right_at_once(data_lab: Lab) -> None:
    path, below = data_lab / "CS-a/J1/f", data_lab.backing / "CS-a/J1/f"
    with path.open("wb", buffering=0) as out:
        for n in range(1, 50):
            out.write(b"x" * 1000)
            assert os.fstat(out.fileno()).st_size == n * 1000
            assert path.stat().st_size == n * 1000
            assert below.stat().st_size == n * 1000
        assert int(data_lab.run("stat -c %s CS-a/J1/f").out) == 49_000
        out.truncate(10)
        assert path.stat().st_size == below.stat().st_size == 10
    assert path.stat().st_mtime_ns == below.stat().st_mtime_ns
    os.truncate(path, 5)
    assert path.read_bytes() == b"x" * 5


def test_opens_of_every_kind_side_by_side(data_lab: Lab) -> None:
    path = data_lab / "CS-a/J1/f"
    with path.open("w+b", buffering=0) as first, path.open("rb", buffering=0) as second:
        first.write(b"one")
        assert second.read() == b"one"
        with path.open("ab", buffering=0) as third:
            third.write(b" two")
        assert second.read() == b" two"
        with path.open("wb", buffering=0) as fourth:
            assert os.fstat(first.fileno()).st_size == 0
            fourth.write(b"new")
        assert path.read_bytes() == b"new"
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, 4096)
        assert os.readv(fd, [buffer]) == 3
        assert buffer[:3] == b"new"
        os.close(fd)
        path.rename(data_lab / "CS-a/J1/g")
        first.seek(0)
        first.write(b"NEW")
        (data_lab / "CS-a/J1/g").unlink()
        second.seek(0)
        assert second.read() == b"NEW"
    assert data_lab.status["open_files"] == 0


def test_writers_are_known_whatever_way_their_data_takes(data_lab: Lab) -> None:
    with (data_lab / "CS-a/J1/f").open("wb"):
        data_lab.run("rm CS-a/cs.lock").refused("Device or resource busy")
    (data_lab / "CS-a/J1/f").write_bytes(b"mapped")
    with (data_lab / "CS-a/J1/f").open("r+b") as opened:
        mapped = mmap.mmap(opened.fileno(), 6)
    with mapped:
        data_lab.run("mv CS-a CS-b").refused("Device or resource busy")
    data_lab.run("chmod a-w CS-a").ok()
    with pytest.raises(OSError, match="Read-only"):
        (data_lab / "CS-a/J1/f").open("r+b")
    assert (data_lab / "CS-a/J1/f").read_bytes() == b"mapped"


def test_large_and_sparse_files_and_tools(data_lab: Lab, tmp_path: Path) -> None:
    data_lab.run("truncate -s 5G CS-a/J1/sparse && printf end >> CS-a/J1/sparse").ok()
    assert (data_lab / "CS-a/J1/sparse").stat().st_size == 5 * 2**30 + 3
    assert (data_lab.backing / "CS-a/J1/sparse").stat().st_blocks < 1000
    data_lab.run("tail -c 3 CS-a/J1/sparse | grep -qx end").ok()
    data_lab.run("head -c 40000000 /dev/urandom > CS-a/J1/big && cp CS-a/J1/big CS-a/J1/copy").ok()
    data_lab.run(f"cmp CS-a/J1/big CS-a/J1/copy && cp CS-a/J1/big {tmp_path}/out").ok()
    data_lab.run(f"cmp {tmp_path}/out {data_lab.backing}/CS-a/J1/copy").ok()
    data_lab.run(
        "rsync --inplace --no-whole-file CS-a/J1/big CS-a/J1/copy && dd if=CS-a/J1/big bs=1M"
        " of=CS-a/J1/dd conv=fsync 2>/dev/null && cmp CS-a/J1/big CS-a/J1/dd"
    ).ok()


def test_backing_ids_are_given_back(data_lab: Lab) -> None:
    for n in range(300):
        path = data_lab / f"CS-a/J1/{n}"
        path.write_bytes(b"x")
        assert path.read_bytes() == b"x"
    wait_for(lambda: data_lab.status["open_files"] == 0, "all handles are released")
    before = open_by(data_lab.pid)
    for n in range(300):
        (data_lab / f"CS-a/J1/{n}").unlink()
    try:
        wait_for(lambda: open_by(data_lab.pid).total() <= before.total(), "no descriptor is left")
    except AssertionError:
        assert not open_by(data_lab.pid) - before
        raise


def open_by(pid: int) -> Counter[str]:
    """What the descriptors of a process lead to, and how many lead there."""
    found = Counter[str]()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[os.readlink(descriptor)] += 1
        except FileNotFoundError:
            continue
    return found


WORKER = """
import mmap, os, random, sys, time
directory, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rnd = random.Random(seed)
end, rounds = time.monotonic() + seconds, 0
model = {}
while time.monotonic() < end:
    rounds += 1
    name = f"{directory}/{seed}-{rnd.randrange(6)}"
    data = model.get(name)
    what = rnd.choice(["write", "read", "append", "truncate", "mmap", "rename", "unlink", "replace"])
    if what == "replace" or data is None:
        data = rnd.randbytes(rnd.randrange(1, 200_000))
        with open(name + ".tmp", "wb") as f: f.write(data)
        os.rename(name + ".tmp", name)
        model[name] = bytearray(data)
    elif what == "write":
        at, new = rnd.randrange(len(data) + 1), rnd.randbytes(rnd.randrange(1, 5000))
        with open(name, "r+b", buffering=0) as f:
            f.seek(at); f.write(new)
        data[at:at + len(new)] = new
    elif what == "append":
        new = rnd.randbytes(rnd.randrange(1, 5000))
        with open(name, "ab") as f: f.write(new)
        data += new
    elif what == "truncate":
        size = rnd.randrange(300_000)
        os.truncate(name, size)
        if size < len(data): del data[size:]
        else: data += bytes(size - len(data))
    elif what == "mmap" and len(data) > 10:
        at = rnd.randrange(len(data) - 5)
        with open(name, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            assert m[:] == bytes(data), ("mmap", name)
            m[at:at + 4] = b"mmap"
        data[at:at + 4] = b"mmap"
    elif what == "rename":
        other = f"{directory}/{seed}-{rnd.randrange(6)}"
        os.rename(name, other)
        del model[name]
        model[other] = data
    elif what == "unlink":
        with open(name, "rb") as f:
            os.unlink(name)
            assert f.read() == bytes(data), ("unlinked", name)
        del model[name]
    for each in rnd.sample(sorted(model), min(2, len(model))):
        assert os.stat(each).st_size == len(model[each]), (what, each, len(model[each]))
        with open(each, "rb") as f: assert f.read() == bytes(model[each]), (what, each)
print(rounds)
"""


def test_contents_under_random_operations(data_lab: Lab) -> None:
    """Four processes work on files of their own; each checks every content against its model."""
    directory = str(data_lab / "CS-a/J1")
    seed = random.randrange(10**6)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, directory, str(seed + n), str(STRESS_SECONDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, f"seed {seed}: {err}"
        assert int(out) > 50
