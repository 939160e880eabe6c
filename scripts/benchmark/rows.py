"""What is measured: each row does the same things on every filesystem, and says how many they were."""

import mmap
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.trees import STACK, Trees

CHUNK = 1 << 20
READS = 20_000
WRITES = 20_000
FILES = 2_000
OPENS = 5_000


@dataclass(frozen=True)
class Row:
    """`run` works below the root and returns how much it did, in `unit`.

    A cold row begins with empty caches and a fresh mount; the others have run once before, untimed. `share`
    is which of how many clients this one is: a row for several clients divides the work among them.
    """

    name: str
    unit: str
    run: Callable[[Path, Trees, tuple[int, int]], float]
    cold: bool = False
    clients: tuple[int, ...] = (1,)
    undo: Callable[[Path, Trees], None] = lambda root, trees: None


def _mine(items: list[str], share: tuple[int, int]) -> list[str]:
    return items[share[0] :: share[1]]


def read(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    buffer, done = bytearray(CHUNK), 0
    with open(root / STACK, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            done += count
    return done / 1e6


def write(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    content = os.urandom(CHUNK)
    with open(root / f"written{share[0]}", "wb", buffering=0) as file:
        for _ in range(trees.stack_bytes // CHUNK):
            file.write(content)
    return trees.stack_bytes / 1e6


def write_small(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    """As a program does that writes through a buffer of C's or Python's."""
    content = os.urandom(4096)
    with open(root / f"written{share[0]}", "wb", buffering=0) as file:
        for _ in range(WRITES):
            file.write(content)
    return WRITES / 1e3


def rewritten(root: Path, trees: Trees) -> None:
    for path in root.glob("written*"):
        path.unlink()


def random_read(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    rng = random.Random(share[0])
    fd = os.open(root / STACK, os.O_RDONLY)
    try:
        for _ in range(READS):
            os.pread(fd, 4096, rng.randrange(trees.stack_bytes // 4096) * 4096)
    finally:
        os.close(fd)
    return READS / 1e3


def mapped(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    """Every page of a memory-mapped stack is touched, as numpy.memmap does it."""
    with open(root / STACK, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        total = 0
        for start in range(0, len(view), CHUNK):
            total += len(view[start : start + CHUNK])
    return total / 1e6


def create(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    directory = root / f"created{share[0]}"
    directory.mkdir()
    count = FILES // share[1]
    for number in range(count):
        with open(directory / str(number), "wb") as file:
            file.write(b"x")
    return count / 1e3


def symlink(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    """An import job: links to raw movies."""
    directory = root / f"created{share[0]}"
    directory.mkdir()
    for number in range(trees.links):
        os.symlink(f"/data/raw/movie_{number:06}.tif", directory / f"{number:021}_movie.tif")
    return trees.links / 1e3


def put_aside(root: Path, trees: Trees) -> None:
    """What was made is deleted when all is measured: ext4 makes files slowly where some were just deleted."""
    for made in [*trees.root.glob("created*"), *trees.root.glob("copied*")]:
        trees.put_aside(made)


def stat(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    paths = _mine(trees.files, share)
    top = os.fspath(root) + "/"
    for path in paths:
        os.lstat(top + path)
    return len(paths) / 1e3


def open_close(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    paths = _mine(trees.files[:OPENS], share)
    top = os.fspath(root) + "/"
    for path in paths:
        os.close(os.open(top + path, os.O_RDONLY))
    return len(paths) / 1e3


def scan(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    count = 0
    pending = [os.fspath(root / each) for each in _mine(trees.directories, share)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                entry.stat(follow_symlinks=False)
                count += 1
    return count / 1e3


def tar(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    words = f"tar -c --exclude={STACK} -C '{root}' small | cat > /dev/null"
    subprocess.run(["bash", "-o", "pipefail", "-c", words], check=True)
    return len(trees.files) / 1e3


def copy_in(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    target = root / f"copied{share[0]}"
    subprocess.run(["cp", "-r", trees.outside, target], check=True)
    return trees.outside_files / 1e3


def rename(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    """There and back again, so that the tree stays what it is."""
    paths = _mine(trees.files[:OPENS], share)
    for path in paths:
        os.rename(root / path, root / (path + "~"))
    for path in paths:
        os.rename(root / (path + "~"), root / path)
    return 2 * len(paths) / 1e3


def rmtree(root: Path, trees: Trees, share: tuple[int, int]) -> float:
    """Beside the project: what is attached is not to be swept away."""
    target = root.parent / f"free{share[0]}"
    shutil.rmtree(target)
    return trees.outside_files / 1e3


def free_again(root: Path, trees: Trees) -> None:
    trees.make_free()


MANY = (1, 4, 8)
ROWS = (
    Row("sequential read, cold", "MB/s", read, cold=True),
    Row("sequential read, hot", "MB/s", read),
    Row("sequential write", "MB/s", write, undo=rewritten),
    Row("write in pieces of 4 KiB", "k/s", write_small, undo=rewritten),
    Row("random read 4 KiB, hot", "k/s", random_read),
    Row("mmap read, cold", "MB/s", mapped, cold=True),
    Row("mmap read, hot", "MB/s", mapped),
    Row("create small files", "k/s", create, cold=True, clients=MANY, undo=put_aside),
    Row("create symlinks", "k/s", symlink, cold=True, undo=put_aside),
    Row("stat, cold", "k/s", stat, cold=True, clients=MANY),
    Row("stat, hot", "k/s", stat, clients=(1, 4)),
    Row("open and close", "k/s", open_close, clients=MANY),
    Row("scandir and stat, cold", "k/s", scan, cold=True, clients=MANY),
    Row("scandir and stat, hot", "k/s", scan),
    Row("tar", "k/s", tar, cold=True),
    Row("copy in", "k/s", copy_in, cold=True, undo=put_aside),
    Row("rename", "k/s", rename),
    Row("rmtree of a free tree", "k/s", rmtree, cold=True, undo=free_again),
)
