"""The data stress: random operations on files, each checked against what they should hold."""

import contextlib
import mmap
import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

PROCESSES = 4
_FILES = 24
"""Names that a worker uses."""
_MOST = 384 * 1024
"""Bytes beyond which no file grows."""
_BLOCK = 4096
_KEPT_OPEN = 6


class File:
    """One file: what it should hold, and under how many names."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.names: set[str] = set()

    def put(self, offset: int, data: bytes) -> None:
        if offset > len(self.content):
            self.content.extend(bytes(offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def resize(self, size: int) -> None:
        del self.content[size:]
        self.content.extend(bytes(size - len(self.content)))


class Wrong(Exception):
    """A file is not what it should be."""


class Worker:
    """One process's own directory, its model of it, and the operations it does there."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.files: dict[str, File] = {}
        self.opened: list[tuple[int, File]] = []
        """Descriptors that stay open, whatever happens to the names of their files."""
        self.steps = 0
        self._acts: list[Callable[[], File | None]] = [
            *[self.write] * 4,
            *[self.append] * 2,
            *[self.truncate] * 2,
            *[self.write_mapped] * 2,
            *[self.write_direct] * 2,
            *[self.rename] * 2,
            self.create,
            self.link,
            self.unlink,
            self.keep_open,
            *[self.use_open] * 3,
            self.punch,
            self.copy,
        ]

    def run(self, until: float) -> None:
        """Raises Wrong, OSError."""
        try:
            while time.monotonic() < until:
                changed = self.random.choice(self._acts)()
                self.steps += 1
                if changed is not None:
                    self.check(changed)
            for file in set(self.files.values()):
                self.check(file)
        finally:
            for fd, _ in self.opened:
                os.close(fd)

    def check(self, file: File) -> None:
        """Reads a file anew, by one of its names and by one descriptor that is open. Raises Wrong."""
        for name in sorted(file.names)[:1]:
            path = self.directory / name
            found = path.stat()
            if (found.st_size, found.st_nlink) != (len(file.content), len(file.names)):
                raise Wrong(
                    f"{path}: {found.st_size} bytes, {found.st_nlink} names;"
                    f" {len(file.content)}, {len(file.names)} are right (step {self.steps})"
                )
            self._compare(path, path.read_bytes(), file.content)
            if file.content and self.random.random() < 0.3:
                with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                    self._compare(path, mapped[:], file.content)
        for fd, of in self.opened:
            if of is file:
                self._compare(f"descriptor of {file.names}", os.pread(fd, _MOST * 2, 0), file.content)
                return

    def _compare(self, what: object, found: bytes, expected: bytes | bytearray) -> None:
        if found == expected:
            return
        at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), "the end")
        raise Wrong(f"{what}: differs at {at} (step {self.steps}, {len(found)} and {len(expected)} bytes)")

    # -- what is picked ---------------------------------------------------------------------------------

    def _name(self) -> str:
        return f"f{self.random.randrange(_FILES)}"

    def _some(self) -> tuple[Path, File] | None:
        if not self.files:
            return None
        name = self.random.choice(sorted(self.files))
        return self.directory / name, self.files[name]

    def _data(self) -> bytes:
        return self.random.randbytes(self.random.choice((1, 100, _BLOCK, 10_000, 70_000)))

    def _forget(self, name: str) -> None:
        file = self.files.pop(name, None)
        if file is not None:
            file.names.discard(name)

    # -- operations: each returns the file that it changed -------------------------------------------------

    def create(self) -> File:
        name = self._name()
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = File()
            file.names.add(name)
        data = self._data()
        (self.directory / name).write_bytes(data)
        file.content[:] = data
        return file

    def write(self) -> File | None:
        found = self._some()
        if found is None:
            return None
        path, file = found
        data = self._data()
        offset = self.random.randrange(_MOST - len(data))
        with path.open("r+b", buffering=0) as opened:
            os.pwrite(opened.fileno(), data, offset)
            if self.random.random() < 0.1:
                os.fsync(opened.fileno())
            file.put(offset, data)
            self._compare(path, os.pread(opened.fileno(), len(data), offset), data)
        return file

    def append(self) -> File | None:
        found = self._some()
        if found is None or len(found[1].content) > _MOST - 100_000:
            return None
        path, file = found
        with path.open("ab", buffering=0) as opened:
            for _ in range(2):
                data = self._data()[:40_000]
                opened.write(data)
                file.content.extend(data)
        return file

    def truncate(self) -> File | None:
        found = self._some()
        if found is None:
            return None
        path, file = found
        size = self.random.randrange(_MOST)
        if self.random.random() < 0.5:
            os.truncate(path, size)
        else:
            with path.open("r+b") as opened:
                opened.truncate(size)
        file.resize(size)
        return file

    def write_mapped(self) -> File | None:
        found = self._some()
        if found is None or not found[1].content:
            return None
        path, file = found
        data = self._data()[: len(file.content)]
        offset = self.random.randrange(len(file.content) - len(data) + 1)
        with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
            self._compare(path, mapped[:], file.content)
            mapped[offset : offset + len(data)] = data
            mapped.flush()
        file.put(offset, data)
        return file

    def write_direct(self) -> File | None:
        """Past the page cache, which is to notice."""
        found = self._some()
        if found is None:
            return None
        path, file = found
        blocks = self.random.randrange(1, 8)
        offset = self.random.randrange(_MOST // _BLOCK - blocks) * _BLOCK
        try:
            fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:
            return None  # the backing filesystem cannot
        try:
            with mmap.mmap(-1, blocks * _BLOCK) as aligned:
                aligned[:] = self.random.randbytes(blocks * _BLOCK)
                os.pwrite(fd, aligned, offset)
                file.put(offset, aligned[:])
                with mmap.mmap(-1, blocks * _BLOCK) as read:
                    count = os.preadv(fd, [read], offset)
                    self._compare(path, read[:count], file.content[offset : offset + count])
        finally:
            os.close(fd)
        return file

    def rename(self) -> File | None:
        found = self._some()
        if found is None:
            return None
        path, file = found
        target = self._name()
        os.rename(path, self.directory / target)
        if self.files.get(target) is file:
            return file  # two names of one file: rename(2) does nothing
        self._forget(target)
        self._forget(path.name)
        self.files[target] = file
        file.names.add(target)
        return file

    def link(self) -> File | None:
        found, name = self._some(), self._name()
        if found is None or name in self.files:
            return None
        path, file = found
        os.link(path, self.directory / name)
        self.files[name] = file
        file.names.add(name)
        return file

    def unlink(self) -> File | None:
        found = self._some()
        if found is None:
            return None
        path, file = found
        path.unlink()
        self._forget(path.name)
        return file

    def keep_open(self) -> None:
        found = self._some()
        if len(self.opened) >= _KEPT_OPEN:
            fd, _ = self.opened.pop(self.random.randrange(len(self.opened)))
            os.close(fd)
        elif found is not None:
            self.opened.append((os.open(found[0], os.O_RDWR), found[1]))

    def use_open(self) -> File | None:
        if not self.opened:
            return None
        fd, file = self.random.choice(self.opened)
        data = self._data()
        offset = self.random.randrange(_MOST - len(data))
        os.pwrite(fd, data, offset)
        file.put(offset, data)
        return file

    def punch(self) -> File | None:
        """Zeros by fallocate, which makes the file as long as that reaches."""
        found = self._some()
        if found is None:
            return None
        path, file = found
        size = self.random.randrange(1, _MOST)
        with path.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, size)
        if size > len(file.content):
            file.resize(size)
        return file

    def copy(self) -> File | None:
        found, name = self._some(), self._name()
        if found is None or name in self.files:
            return None
        path, file = found
        made = self.files[name] = File()
        made.names.add(name)
        with path.open("rb") as source, (self.directory / name).open("wb") as target:
            left = len(file.content)
            while left > 0:
                left -= os.copy_file_range(source.fileno(), target.fileno(), left) or left
        made.content[:] = file.content
        return made


def differences(directory: Path, expected: dict[str, bytes]) -> list[str]:
    """What in a directory is not as it should be."""
    found = {path.name: path.read_bytes() for path in directory.iterdir()}
    names = sorted(found.keys() ^ expected.keys())
    wrong = [f"{directory / name}: {'is there' if name in found else 'is missing'}" for name in names]
    both = sorted(found.keys() & expected.keys())
    return wrong + [f"{directory / name}: differs" for name in both if found[name] != expected[name]]


def stress(mountpoint: Path, backing: Path, below: str, seconds: float, seed: int) -> tuple[int, list[str]]:
    """Lets some processes work in a directory of the mount for a while: their steps, and what was wrong."""
    forking = multiprocessing.get_context("fork")
    results = forking.SimpleQueue()
    until = time.monotonic() + seconds

    def work(number: int) -> None:
        directory = mountpoint / below / f"stress{number}"
        directory.mkdir()
        worker, wrong = Worker(directory, seed * PROCESSES + number), []
        try:
            worker.run(until)
        except (Wrong, OSError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
        expected = {name: bytes(file.content) for name, file in worker.files.items()}
        if not wrong:
            for top in (mountpoint, backing):
                wrong += differences(top / below / directory.name, expected)
        results.put((worker.steps, wrong))

    workers = [forking.Process(target=work, args=(number,)) for number in range(PROCESSES)]
    for worker in workers:
        worker.start()
    steps, wrong = 0, list[str]()
    for worker in workers:
        with contextlib.suppress(EOFError):
            worker.join(seconds + 120)
        if worker.exitcode != 0:
            wrong.append(f"a worker ended with {worker.exitcode}")
            worker.kill()
            worker.join()
            continue
        more, found = results.get()
        steps, wrong = steps + more, wrong + found
    return steps, wrong
