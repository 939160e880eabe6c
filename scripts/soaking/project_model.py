"""A project as real ones look, of any size, and what every file of it has to be wherever it lies."""

import json
import os
import random
import stat
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from csfs.cli.sample.formats import write
from csfs.cli.sample.job_documents import job_document
from csfs.cli.sample.project import build, many_files
from csfs.domain import names
from csfs.domain.document import IDENTITY_KEYS

MEBIBYTE = 1 << 20
_BLOCK = 4 * MEBIBYTE
_LARGE = "J101"
_PARTS = 12
"""Large files into which most of the bytes go."""


class Held(NamedTuple):
    """What one file is: equal for two that are the same in all that a move has to keep."""

    mode: int
    owner: tuple[int, int]
    mtime_ns: int
    """0 for a directory, whose time changes with the documents in it, and for a document."""
    content: str
    """Hash of a file, target of a symlink, keys and values of a document but those of the instance."""
    linked: str
    """The first name of the same file in the project, if it has several."""


Model = dict[str, Held]


def make(directory: Path, size: int, seed: int) -> int:
    """Makes a detached project of about `size` bytes; how many files it has. Raises OSError.

    Jobs of three eras with their small files, some large images of random data, sparse ones, hard links,
    symlinks that lead nowhere, names with spaces, a pipe.
    """
    chosen = random.Random(seed)
    build(directory, title="Moved again and again")
    many_files(directory, max(40, size // MEBIBYTE))
    job = directory / _LARGE
    job.mkdir()
    write(job / names.JOB_DOCUMENT, job_document(101, "nonuniform_refine_new", "Large images"))
    block = chosen.randbytes(min(_BLOCK, max(4096, size // _PARTS)))
    for part in range(_PARTS):
        image = job / f"{_LARGE}_{part:03d}_volume_map.mrc"
        with image.open("wb") as file:
            for number in range(max(1, size // _PARTS // len(block))):
                file.write(chosen.randbytes(64) + block[64:])
                if number % 7 == 6:
                    file.write(b"odd end")
        os.utime(image, ns=(1_700_000_000_123_456_789, 1_700_000_000_123_456_789 + part))
    with (job / "particles with a  hole.mrc").open("wb") as file:
        file.write(b"head")
        file.truncate(max(5 * MEBIBYTE, size // 8))
        file.seek(0, os.SEEK_END)
        file.write(b"tail")
    for part in range(3):
        os.link(job / f"{_LARGE}_{part:03d}_volume_map.mrc", job / f"final_{part}.mrc")
    os.link(job / f"{_LARGE}_003_volume_map.mrc", directory / "exports/same.mrc")
    (job / "raw").symlink_to("/data/raw/14sep05c")
    (job / "mask.mrc").symlink_to(f"../{_LARGE}/final_0.mrc")
    os.mkfifo(job / "pipe")
    (job / "closed").mkdir(mode=0o500)
    (job / "final_1.mrc").chmod(0o440)
    return sum(len(found) for _, _, found in os.walk(directory))


def model_of(directory: Path) -> Model:
    """What is in a directory, each file read. Raises OSError."""
    first: dict[tuple[int, int], str] = {}
    found: Model = {}
    for place, below, here in os.walk(directory):
        below.sort()
        for name in sorted((*below, *here)):
            path = Path(place, name)
            shown = str(path.relative_to(directory))
            if shown != names.LOCK:
                found[shown] = _held(path, shown, first)
    return found


def differences(directory: Path, model: Model) -> list[str]:
    """What in a directory is not as the model has it, or has gone while it was looked at."""
    try:
        found = model_of(directory)
    except FileNotFoundError as error:
        return [f"{error.filename} is missing"]
    wrong = [
        f"{name} {'is new' if name in found else 'is missing'}"
        for name in sorted(found.keys() ^ model.keys())
    ]
    for name in sorted(found.keys() & model.keys()):
        wrong += [
            f"{name}: {field} is {now!r}, was {before!r}"
            for field, now, before in zip(Held._fields, found[name], model[name], strict=True)
            if now != before
        ]
    return wrong


def _held(path: Path, shown: str, first: dict[tuple[int, int], str]) -> Held:
    status = path.lstat()
    content, linked, mtime_ns = "", "", 0
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        if status.st_nlink > 1:
            linked = first.setdefault((status.st_dev, status.st_ino), shown)
        if _is_document(shown):
            content = json.dumps(_own(json.loads(path.read_bytes())), sort_keys=True)
        else:
            content, mtime_ns = _hash(path), status.st_mtime_ns
    return Held(status.st_mode, (status.st_uid, status.st_gid), mtime_ns, content, linked)


def _is_document(shown: str) -> bool:
    job, _, name = shown.partition("/")
    return shown in names.PROJECT_DOCUMENTS or (names.is_job(job) and name == names.JOB_DOCUMENT)


def _own(value: Any) -> Any:
    """Without what an instance sets in it."""
    if isinstance(value, list):
        return [_own(each) for each in value]
    if isinstance(value, dict):
        return {key: of for key, of in value.items() if key not in IDENTITY_KEYS}
    return value


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
