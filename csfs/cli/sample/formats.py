"""Files of the sample project in binary formats: .cs and .npy datasets, .mrc images, opaque bytes."""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from csfs.cli.sample import DATA

ROWS = 12
"""Particles in each particle dataset; real ones have up to millions."""

PIXEL_SIZE_A = 0.6575
MICROGRAPH_SHAPE = (1, 464, 480)
"""Sections, rows, columns: a sixteenth of the real 7420 x 7676, so that a copy of it stays quick."""
BOX = 64
"""Edge of maps and particles, pixels."""


class Field(NamedTuple):
    """One field of a .cs file."""

    name: str
    code: str
    """`<u8`, `<u4`, `<f4`, or `O` for text, which is stored as wide as its longest value."""
    length: int = 1
    """Numbers per row."""


class Exposure(NamedTuple):
    """One movie that was imported."""

    uid: int
    name: str
    """Of the movie, without its `.tif`."""

    @property
    def stem(self) -> str:
        """What each file made from this movie starts with."""
        return f"{self.uid:021d}_{self.name}"


_LETTERS = {"<u8": "Q", "<u4": "I", "<f4": "f"}

_PARTICLES = (
    Field("uid", "<u8"),
    Field("blob/path", "O"),
    Field("blob/idx", "<u4"),
    Field("blob/shape", "<u4", 2),
    Field("blob/psize_A", "<f4"),
    Field("blob/sign", "<f4"),
    Field("blob/import_sig", "<u8"),
    Field("ctf/df1_A", "<f4"),
    Field("ctf/df2_A", "<f4"),
    Field("ctf/df_angle_rad", "<f4"),
)
_LOCATIONS = (
    Field("uid", "<u8"),
    Field("location/micrograph_uid", "<u8"),
    Field("location/micrograph_path", "O"),
    Field("location/micrograph_shape", "<u4", 2),
    Field("location/center_x_frac", "<f4"),
    Field("location/center_y_frac", "<f4"),
)
_MICROGRAPHS = (
    Field("uid", "<u8"),
    Field("micrograph_blob/path", "O"),
    Field("micrograph_blob/shape", "<u4", 2),
    Field("micrograph_blob/psize_A", "<f4"),
)
_VOLUME = (
    Field("uid", "<u8"),
    Field("map/path", "O"),
    Field("map/shape", "<u4", 3),
    Field("map/psize_A", "<f4"),
)


# Datasets. The data of each starts at a multiple of `alignment` bytes.


def import_rows(movies: int) -> list[list[Any]]:
    """The rows of the import: the 20 of the T20S set, then the same again under new names."""
    known: list[list[Any]] = json.loads((DATA / "t20s_import_movies.json").read_bytes())["rows"]
    rows = []
    for number in range(movies):
        repeat, index = divmod(number, len(known))
        row = list(known[index])
        if repeat:
            _, _, name = row[1].partition("_")
            row[0] = stable_number(f"movie {number}")
            row[1] = f"J1/imported/{row[0]:021d}_r{repeat:04d}_{name}"
        rows.append(row)
    return rows


def import_dataset(rows: Sequence[Sequence[Any]]) -> bytes:
    """The dataset of the imported movies, from their rows."""
    described = json.loads((DATA / "t20s_import_movies.json").read_bytes())["fields"]
    fields = [Field(name, code, *(shape[0] if shape else ())) for name, code, *shape in described]
    return _dataset(fields, rows)


def exposure_of(row: Sequence[Any]) -> Exposure:
    """The movie that a row of the import describes."""
    _, _, name = row[1].partition("_")
    return Exposure(row[0], name.removesuffix(".tif"))


def stack_path(exposure: Exposure) -> str:
    """The particles that J12 extracted from one micrograph, relative to the project."""
    return f"J12/extract/{exposure.stem}_patch_aligned_doseweighted_particles.mrc"


def _corrected(exposure: Exposure) -> str:
    return f"J2/motioncorrected/{exposure.stem}_patch_aligned_doseweighted.mrc"


def micrograph_dataset(exposures: Iterable[Exposure]) -> bytes:
    """The motion-corrected micrographs, one per exposure."""
    shape = MICROGRAPH_SHAPE[1:]
    rows = [(item.uid, _corrected(item), shape, PIXEL_SIZE_A) for item in exposures]
    return _dataset(_MICROGRAPHS, rows)


def _picked(exposures: Sequence[Exposure]) -> list[tuple[int, int, Exposure]]:
    """Uid, number and exposure of each particle: none if there are no exposures."""
    if not exposures:
        return []
    return [
        (stable_number(f"particle {number}"), number, exposures[number % len(exposures)])
        for number in range(ROWS)
    ]


def particle_dataset(exposures: Sequence[Exposure], *, prefix: str = "", alignment: int = 64) -> bytes:
    """The `ROWS` particles in their stacks. `prefix` goes before each path."""
    rows = [
        (
            *(uid, prefix + stack_path(item), number % 30, (BOX, BOX), PIXEL_SIZE_A, -1.0, 0),
            *(16_400.2 + number, 16_232.468 - number, 4.6313896),
        )
        for uid, number, item in _picked(exposures)
    ]
    return _dataset(_PARTICLES, rows, alignment)


def location_dataset(exposures: Sequence[Exposure], *, alignment: int = 64) -> bytes:
    """The `ROWS` particles in their micrographs."""
    shape = MICROGRAPH_SHAPE[1:]
    rows = [
        (uid, item.uid, _corrected(item), shape, number / ROWS, 1 - number / ROWS)
        for uid, number, item in _picked(exposures)
    ]
    return _dataset(_LOCATIONS, rows, alignment)


def volume_dataset(path: str, edge: int = BOX, *, alignment: int = 64) -> bytes:
    """The one map at `path`, a cube with this edge in pixels."""
    row = (0, path, (edge, edge, edge), PIXEL_SIZE_A)
    return _dataset(_VOLUME, [row], alignment)


def spline_array() -> bytes:
    """The .npy file of one micrograph's CTF: the coefficients of a spline."""
    return _npy("'<f8'", (1, 3, 6), struct.pack("<18d", *(i / 8 for i in range(18))))


def _dataset(fields: Sequence[Field], rows: Sequence[Sequence[Any]], alignment: int = 64) -> bytes:
    """A .cs file: a one-dimensional structured array, one value (or list of values) per field."""
    described: list[tuple[Any, ...]] = []
    layout = "<"
    for index, field in enumerate(fields):
        if field.code == "O":
            width = max((len(row[index].encode()) for row in rows), default=0) or 1
            described.append((field.name, f"|S{width}"))
            layout += f"{width}s"
        else:
            shape = () if field.length == 1 else ((field.length,),)
            described.append((field.name, field.code, *shape))
            layout += f"{field.length}{_LETTERS[field.code]}"
    body = b"".join(struct.pack(layout, *_flat(row)) for row in rows)
    return _npy(repr(described), (len(rows),), body, alignment)


def _flat(row: Sequence[Any]) -> Iterable[Any]:
    for value in row:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value.encode() if isinstance(value, str) else value


def _npy(descr: str, shape: tuple[int, ...], body: bytes, alignment: int = 64) -> bytes:
    """A .npy file, version 1.0: its data starts at a multiple of `alignment` bytes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"
    before = len(b"\x93NUMPY\x01\x00") + 2
    length = -(-(before + len(header) + 1) // alignment) * alignment - before
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + f"{header:<{length - 1}}\n".encode() + body


# Images and other bytes.


def write(path: Path, content: bytes) -> None:
    """Writes a file, and makes the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def write_image(path: Path, shape: tuple[int, int, int], *, volume: bool = True) -> None:
    """An MRC2014 file of 32-bit floats, all zero: its header and a hole.

    `shape` is sections, rows, columns. Many sections are a volume, or else a stack of images.
    """
    sections, rows, columns = shape
    is_volume = volume and sections > 1
    header = struct.pack(
        "<10i6f3i3f2i8s4si84s3f4s4sfi800s",
        *(columns, rows, sections),
        2,  # mode: 32-bit float
        *(0, 0, 0),
        *(columns, rows, sections if is_volume else 1),
        *(columns * PIXEL_SIZE_A, rows * PIXEL_SIZE_A, sections * PIXEL_SIZE_A),
        *(90.0, 90.0, 90.0),
        *(1, 2, 3),  # axes
        *(0.0, 0.0, 0.0),  # least, greatest and mean value
        1 if is_volume else 0,  # space group
        0,  # no extended header
        b"",
        b"",
        20_140,  # format version
        b"",
        *(0.0, 0.0, 0.0),
        b"MAP ",
        b"\x44\x44\x00\x00",  # little-endian
        0.0,
        1,
        b"Made by csfs: no data",
    )
    write(path, header)
    os.truncate(path, len(header) + 4 * sections * rows * columns)


def noise(label: str, size: int) -> bytes:
    """`size` bytes that look random, and depend on `label` alone."""
    return hashlib.shake_128(label.encode()).digest(size)


def stable_number(label: str) -> int:
    """An unsigned 64-bit number that depends on `label` alone."""
    return int.from_bytes(noise(label, 8), "little")
