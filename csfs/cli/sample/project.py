"""Builds a project directory as CryoSPARC leaves one on disk, for `csfs demo` and for the tests.

Every image is a hole behind a true header, so a project of some 70 MB takes less than 2 MB. The
same arguments give the same names, bytes and modification times each time, wherever it is built.
Names, shapes and numbers are those of the T20S tutorial set (EMPIAR-10025) as the tests of
cryosparc-tools show them; `data/NOTICE` says where each data file comes from.
"""

import errno
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from csfs.domain import names

DATA = Path(__file__).with_name("data")

TITLE = "T20S proteasome (EMPIAR-10025 subset)"
PROJECT_UID = "P9"
"""The number that the project had where it was detached."""

ROWS = 12
"""Particles in each particle dataset; real ones have up to millions."""

PIXEL_SIZE_A = 0.6575
MICROGRAPH_SHAPE = (1, 464, 480)
"""Sections, rows, columns: a sixteenth of the real 7420 x 7676, so that a copy of it stays quick."""
BOX = 64
"""Edge of maps and particles, pixels."""

FIRST_DAY = datetime(2024, 5, 15, tzinfo=UTC)
"""Job J<n> was made n days later: its dates and the modification times of its files say so."""
DETACHED_DAY = 17
"""The day (counted so) when the project was detached: the time of everything outside the jobs."""

RAW = "/data/raw/14sep05c"
"""Where the movies were imported from: outside the project, and gone."""

LONG_NAME = (
    "012756078269171603280_14sep05c_c_00003gr_00014sq_00005hl_00005es"
    ".frames_patch_aligned_doseweighted_denoised.mrc"
)
"""111 bytes, like the longest file name known from a real project."""


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


def build(directory: Path, *, title: str = TITLE, movies: int = 20) -> None:
    """Fills the (existing or new, empty) `directory` with a realistic *detached* project: no cs.lock.

    It has jobs of three eras (v2.15, v4, v5) with gaps in their numbers, one of them killed, one
    failed and one that left no document, a Live session, an export, and names of every sort.
    `movies` is how many were imported; most of the files are per movie. Raises OSError ENOTEMPTY if
    there is something in the directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(directory))
    rows = _import_rows(movies)
    exposures = [_exposure(row) for row in rows]
    _write_project_documents(directory, title)
    _write_import(directory / "J1", exposures, rows)
    _write_motion(directory / "J2", exposures)
    _write_ctf(directory / "J3", exposures)
    _write_abinit(directory / "J5", exposures)
    _write_v2_refine(directory / "J9", exposures)
    _write_v5_extract(directory / "J12", exposures)
    _write_killed(directory / "J13")
    _write_failed(directory / "J14")
    _write_without_document(directory / "J15")
    _write_session(directory / "S1", exposures[:6])
    _write_export(directory / "exports" / "groups" / "J5_particles", exposures)
    _write_user_files(directory)
    _set_times(directory, directory)


def many_files(directory: Path, count: int) -> None:
    """Adds a completed job J100 with `count` files of 64 bytes in its `extract`, and a job.json.

    `directory` is a project directory that is not attached and has no J100.
    """
    job = directory / "J100"
    stacks = job / "extract"
    stacks.mkdir(parents=True)
    _write(job / "job.json", _job_document(100, "restack_particles", "Many small files"))
    opened = os.open(stacks, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in range(count):
            name = f"batch_{number:06d}_restacked.dat"
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=opened)
            try:
                os.write(file, f"{number:063d}\n".encode())
            finally:
                os.close(file)
    finally:
        os.close(opened)
    _set_times(directory, job)
    _set_time(directory, directory)


# What is in the project.


def _write_project_documents(project: Path, title: str) -> None:
    document = json.loads((DATA / "v5_project.json").read_bytes())
    document["title"] = title
    _write(project / "project.json", _json(document))
    _copy("v5_workspaces.json", project / "workspaces.json")
    jobs = [f"J{number}" for number in (1, 2, 3, 5, 9, 12, 13, 14)]
    _write(project / "job_manifest.json", _json({"project_uid": PROJECT_UID, "jobs": jobs}))


def _write_import(job: Path, exposures: Sequence[Exposure], rows: Sequence[Sequence[Any]]) -> None:
    metafile = "J1/imported_movies.cs"
    document = _job_document(
        1,
        "import_movies",
        "Import Movies",
        children=["J2"],
        params_spec={"blob_paths": {"value": f"{RAW}/*.tif"}, "psize_A": {"value": PIXEL_SIZE_A}},
        output_results=[_result(1, "exposure.movie_blob", "imported_movies", metafile, len(rows))],
    )
    _write_job(job, document)
    _write(job / "imported_movies.cs", _dataset(_import_fields(), rows))
    movies = {"movie_blob": ("imported_movies.cs", len(rows), "exposure.movie_blob")}
    _write(job / "J1_imported_movies.csg", _group(1, "imported_movies", "exposure", movies))
    _write_image(job / "imported" / "norm-amibox05-0.mrc", MICROGRAPH_SHAPE)
    for exposure in exposures:
        _link(job / "imported" / f"{exposure.stem}.tif", f"{RAW}/{exposure.name}.tif")


def _write_motion(job: Path, exposures: Sequence[Exposure]) -> None:
    metafile, count = "J2/micrographs_rigid_aligned.cs", len(exposures)
    document = _job_document(
        2,
        "patch_motion_correction_multi",
        "Patch Motion Correction",
        parents=["J1"],
        children=["J3"],
        output_results=[_result(1, "exposure.micrograph_blob", "micrographs", metafile, count)],
    )
    _write_job(job, document)
    _write(job / "micrographs_rigid_aligned.cs", _micrographs(exposures))
    blobs = {"micrograph_blob": ("micrographs_rigid_aligned.cs", count, "exposure.micrograph_blob")}
    _write(job / "J2_micrographs.csg", _group(2, "micrographs", "exposure", blobs))
    for exposure in exposures:
        corrected = job / "motioncorrected"
        _write_image(corrected / f"{exposure.stem}_patch_aligned_doseweighted.mrc", MICROGRAPH_SHAPE)
        _write_image(corrected / f"{exposure.stem}_background.mrc", (1, 58, 60))
        thumbnail = job / "thumbnails" / f"{exposure.stem}_thumb_@1x.png"
        _write(thumbnail, b"\x89PNG\r\n\x1a\n" + _noise(thumbnail.name, 700))


def _write_ctf(job: Path, exposures: Sequence[Exposure]) -> None:
    metafile, count = "J3/exposures_ctf_estimated.cs", len(exposures)
    document = _job_document(
        3,
        "patch_ctf_estimation_multi",
        "Patch CTF, Δz ≤ 2 µm",
        parents=["J2"],
        children=["J5", "J12"],
        output_results=[_result(1, "exposure.ctf", "exposures", metafile, count)],
    )
    _write_job(job, document)
    _write(job / "exposures_ctf_estimated.cs", _micrographs(exposures))
    ctf = {"ctf": ("exposures_ctf_estimated.cs", count, "exposure.ctf")}
    _write(job / "J3_exposures.csg", _group(3, "exposures", "exposure", ctf))
    for exposure in exposures:
        spline = struct.pack("<18d", *(i / 8 for i in range(18)))
        path = job / "ctfestimated" / f"{exposure.stem}_ctf_spline.npy"
        _write(path, _npy("'<f8'", (1, 3, 6), spline))
    _link(job / "thumbnails", "../J2/thumbnails")


def _write_abinit(job: Path, exposures: Sequence[Exposure]) -> None:
    """A v4 job: its document names each version of each result, and each is a file."""
    fragment = json.loads((DATA / "v4_job_homo_abinit.json").read_text().replace("J1", "J5"))
    results: list[dict[str, Any]] = fragment["output_results"]
    for result in results:
        result["num_items"] = [min(items, ROWS) for items in result["num_items"]]
    document = _job_document(
        5,
        "homo_abinit",
        "New Job J5",
        parents=["J3"],
        children=["J9"],
        output_results=results,
        input_slot_groups=[
            {
                "type": "particle",
                "name": "particles",
                "title": "Particle stacks",
                "count_min": 1,
                "count_max": float("inf"),
                "repeat_allowed": False,
                "slots": [],
                "connections": [],
            }
        ],
    )
    _write_job(job, document)
    for metafile in sorted({path for result in results for path in result["metafiles"]}):
        path = job.parent / metafile
        if path.name.endswith("_volume.cs"):
            image = path.with_suffix(".mrc")
            _write_image(image, (BOX, BOX, BOX))
            _write(path, _volume(f"J5/{image.name}"))
        elif "passthrough" in path.name:
            _write(path, _locations(exposures))
        else:
            _write(path, _particles(exposures))
    _link(job / "J5_final_volume.mrc", "J5_class_00_final_volume.mrc")
    particles = {
        "blob": ("J5_class_00_final_particles.cs", ROWS, "particle.blob"),
        "ctf": ("J5_class_00_final_particles.cs", ROWS, "particle.ctf"),
        "location": ("J5_passthrough_particles_class_0.cs", ROWS, "particle.location"),
    }
    _write(job / "J5_class_00_particles.csg", _group(5, "particles_class_0", "particle", particles))
    volume = {"map": ("J5_class_00_final_volume.cs", 1, "volume.blob")}
    _write(job / "J5_class_00_volume.csg", _group(5, "volume_class_0", "volume", volume))


def _write_v2_refine(job: Path, exposures: Sequence[Exposure]) -> None:
    """A job from before v4: names with `cryosparc_P9_`, .npy headers in steps of 16 bytes."""
    _write_job(job, (DATA / "v2_job_homo_refine.json").read_bytes())
    for iteration in ("000", "001"):
        stem = f"cryosparc_P9_J9_{iteration}"
        _write(job / f"{stem}_particles.cs", _particles(exposures, alignment=16))
        for volume in ("map", "map_half_A", "map_half_B"):
            image = job / f"{stem}_volume_{volume}.mrc"
            edge = 2 * BOX if volume == "map" else BOX
            _write_image(image, (edge, edge, edge))
            _write(image.with_suffix(".cs"), _volume(f"J9/{image.name}", edge, alignment=16))
    _write(job / "P9_J9_passthrough_particles.cs", _locations(exposures, alignment=16))
    particles = {
        "alignments3D": ("cryosparc_P9_J9_001_particles.cs", ROWS, "particle.alignments3D"),
        "blob": ("cryosparc_P9_J9_001_particles.cs", ROWS, "particle.blob"),
        "location": ("P9_J9_passthrough_particles.cs", ROWS, "particle.location"),
    }
    group = _group(9, "particles", "particle", particles, version="v2.15.0")
    _write(job / "P9_J9_particles.csg", group)


def _write_v5_extract(job: Path, exposures: Sequence[Exposure]) -> None:
    _write_job(job, (DATA / "v5_job_extract.json").read_bytes())
    for name in ("picked_micrographs.cs", "J12_passthrough_micrographs.cs"):
        _write(job / name, _micrographs(exposures))
    for name in ("incomplete_micrographs.cs", "J12_passthrough_micrographs_incomplete.cs"):
        _write(job / name, _micrographs([]))
    _write(job / "extracted_particles.cs", _particles(exposures))
    _write(job / "J12_passthrough_particles.cs", _locations(exposures))
    micrographs = {"micrograph_blob": ("picked_micrographs.cs", len(exposures), "micrograph_blob")}
    group = _group(12, "micrographs", "exposure", micrographs, version="v5.0.1")
    _write(job / "J12_micrographs.csg", group)
    particles = {
        "blob": ("extracted_particles.cs", ROWS, "blob"),
        "location": ("J12_passthrough_particles.cs", ROWS, "location"),
    }
    group = _group(12, "particles", "particle", particles, version="v5.0.1")
    _write(job / "J12_particles.csg", group)
    for exposure in exposures:
        _write_image(job.parent / _stack(exposure), (30, BOX, BOX), volume=False)


def _write_killed(job: Path) -> None:
    document = _job_document(
        13, "homo_abinit", "Ab-initio, 3 classes", "killed", parents=["J12"], killed_at=_date(13, 900)
    )
    _write_job(job, document)
    _copy("4k_dataset.cs", job / "J13_class_00_00000_particles.cs")


def _write_failed(job: Path) -> None:
    document = _job_document(
        14,
        "class_2D_new",
        "2D Classification (NEW)",
        "failed",
        parents=["J12"],
        failed_at=_date(14, 431),
        errors_run=[{"message": "cuMemAlloc failed: out of memory", "warning": False}],
    )
    _write_job(job, document)
    _write_image(job / "J14_020_class_averages.mrc", (10, BOX, BOX), volume=False)


def _write_without_document(job: Path) -> None:
    """A job that ended without a document being exported, and that left its deepest file behind."""
    _write(job / "job.log", _log("J15"))
    _write_image(job / "denoised" / LONG_NAME, MICROGRAPH_SHAPE)
    bottom = job.joinpath("tmp", *(f"level_{level}" for level in range(3, 9)))
    _write(bottom / "bottom.txt", b"eight directories below the project\n")


def _write_session(session: Path, exposures: Sequence[Exposure]) -> None:
    _write(session / "exposures.bson", _noise("S1/exposures.bson", 18_213))
    _write(session / "gridfs_data" / "gridfsdata_0", _noise("S1/gridfsdata_0", 7_001))
    (session / "pick").mkdir()
    for exposure in exposures:
        _link(session / "import_movies" / f"{exposure.stem}.tif", f"{RAW}/{exposure.name}.tif")
        micrograph = f"{exposure.stem}_patch_aligned_doseweighted"
        _write_image(session / "motioncorrected" / f"{micrograph}.mrc", MICROGRAPH_SHAPE)
        stack = session / "extract" / "blob" / "exp_group_1" / f"{micrograph}_particles.mrc"
        _write_image(stack, (30, BOX, BOX), volume=False)


def _write_export(group: Path, exposures: Sequence[Exposure]) -> None:
    """An exported output group: one dataset, and links to the data beside it (its `>` paths)."""
    some = exposures[:4]
    _write(group / "J5_particles_exported.cs", _particles(some, prefix=">"))
    exported = "J5_particles_exported.cs"
    results = {name: (exported, ROWS, f"particle.{name}") for name in ("blob", "ctf", "location")}
    _write(group / "J5_particles_exported.csg", _group(5, "particles", "particle", results))
    for exposure in some:
        _link(group / _stack(exposure), "../" * 5 + _stack(exposure))


def _write_user_files(project: Path) -> None:
    (project / "imports").mkdir()
    _write(project / "notes" / "figure 2 (draft).txt", b"J9, contour 0.35, D7\n")
    _write(project / "notes" / "Größe und Auflösung, β7.txt", "2,8 Å\n".encode())


def _write_job(job: Path, document: bytes) -> None:
    """What every job has. Only job.json and job.log are text; the rest is opaque to csfs."""
    _write(job / "job.json", document)
    _write(job / "job.log", _log(job.name))
    _write(job / "events.bson", _noise(f"{job.name}/events.bson", 9_000 + 977 * len(job.name)))
    _write(job / "gridfs_data" / "gridfsdata_0", _noise(f"{job.name}/gridfsdata_0", 11_337))


# Documents and other text.


def _job_document(
    number: int,
    kind: str,
    title: str,
    status: str = "completed",
    *,
    parents: Sequence[str] = (),
    children: Sequence[str] = (),
    **more: Any,
) -> bytes:
    """A v4 job.json: the keys of the transcribed document, and `more`."""
    document = json.loads((DATA / "v4_job_external_building.json").read_bytes())
    document.update(
        _id=hashlib.sha256(f"J{number}".encode()).hexdigest()[:24],
        uid=f"J{number}",
        uid_num=number,
        project_uid=PROJECT_UID,
        project_uid_num=int(PROJECT_UID[1:]),
        type=kind,
        job_type=kind,
        title=title,
        status=status,
        created_at=_date(number, 0),
        queued_at=_date(number, 60),
        completed_at=_date(number, 1_277) if status == "completed" else None,
        queued_job_hash=_number(f"J{number}") - 2**63,
        job_dir=f"J{number}",
        version="v4.4.1",
        parents=list(parents),
        children=list(children),
    )
    document.update(more)
    return _json(document)


def _result(number: int, kind: str, group: str, metafile: str, items: int) -> dict[str, Any]:
    """One entry of a v4 `output_results`, with a single version."""
    return {
        "uid": f"{metafile.partition('/')[0]}-R{number}",
        "type": kind,
        "group_name": group,
        "name": kind.partition(".")[2],
        "title": kind,
        "description": "",
        "min_fields": [["path", "O"]],
        "versions": [0],
        "metafiles": [metafile],
        "num_items": [items],
        "passthrough": False,
    }


def _group(
    number: int,
    name: str,
    kind: str,
    results: Mapping[str, tuple[str, int, str]],
    *,
    version: str = "v4.4.1",
) -> bytes:
    """A .csg: for each result its metafile (relative to the .csg), its number of items, its type."""
    lines = [
        f"created: {_day(number):%Y-%m-%d} 00:21:17.000402",
        "group:",
        f"  description: {name.replace('_', ' ')}",
        f"  name: {name}",
        f"  title: {name.replace('_', ' ').capitalize()}",
        f"  type: {kind}",
        "results:",
    ]
    for result, (metafile, items, result_type) in sorted(results.items()):
        lines += [
            f"  {result}:",
            f"    metafile: '>{metafile}'",
            f"    num_items: {items}",
            f"    type: {result_type}",
        ]
    return "\n".join([*lines, f"version: {version}", ""]).encode()


def _log(job: str) -> bytes:
    start = _day(int(job[1:]))
    lines = [
        "",
        "",
        f"================= CRYOSPARCW =======  {start:%Y-%m-%d %H:%M:%S}.000000  =========",
        f"Project {PROJECT_UID} Job {job}",
        "Master cryo-master.example.org Port 39002",
        "=" * 75,
        "MAIN PROCESS PID 41877",
    ]
    for beat in range(48):
        lines.append(f"========= sending heartbeat at {start + timedelta(seconds=10 * beat):%Y-%m-%d %X}")
    return "\n".join([*lines, "========= main process now complete.", ""]).encode()


def _json(document: Any) -> bytes:
    return json.dumps(document, indent=4, ensure_ascii=False).encode()


def _day(number: int) -> datetime:
    return FIRST_DAY + timedelta(days=number)


def _date(number: int, seconds: int) -> dict[str, str]:
    """A date as documents since v4 write it: so long after the start of the day of job J<number>."""
    return {"$date": f"{_day(number) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.673Z"}


# Datasets.


def _import_rows(movies: int) -> list[list[Any]]:
    """The rows of the import: the 20 of the T20S set, then the same again under new names."""
    known: list[list[Any]] = json.loads((DATA / "t20s_import_movies.json").read_bytes())["rows"]
    rows = []
    for number in range(movies):
        repeat, index = divmod(number, len(known))
        row = list(known[index])
        if repeat:
            _, _, name = row[1].partition("_")
            row[0] = _number(f"movie {number}")
            row[1] = f"J1/imported/{row[0]:021d}_r{repeat:04d}_{name}"
        rows.append(row)
    return rows


def _import_fields() -> list[Field]:
    described = json.loads((DATA / "t20s_import_movies.json").read_bytes())["fields"]
    return [Field(name, code, *(shape[0] if shape else ())) for name, code, *shape in described]


def _exposure(row: Sequence[Any]) -> Exposure:
    _, _, name = row[1].partition("_")
    return Exposure(row[0], name.removesuffix(".tif"))


def _stack(exposure: Exposure) -> str:
    return f"J12/extract/{exposure.stem}_patch_aligned_doseweighted_particles.mrc"


def _corrected(exposure: Exposure) -> str:
    return f"J2/motioncorrected/{exposure.stem}_patch_aligned_doseweighted.mrc"


def _micrographs(exposures: Iterable[Exposure]) -> bytes:
    shape = MICROGRAPH_SHAPE[1:]
    rows = [(item.uid, _corrected(item), shape, PIXEL_SIZE_A) for item in exposures]
    return _dataset(_MICROGRAPHS, rows)


def _picked(exposures: Sequence[Exposure]) -> list[tuple[int, int, Exposure]]:
    """Uid, number and exposure of each particle: none if there are no exposures."""
    if not exposures:
        return []
    return [
        (_number(f"particle {number}"), number, exposures[number % len(exposures)]) for number in range(ROWS)
    ]


def _particles(exposures: Sequence[Exposure], *, prefix: str = "", alignment: int = 64) -> bytes:
    rows = [
        (
            *(uid, prefix + _stack(item), number % 30, (BOX, BOX), PIXEL_SIZE_A, -1.0, 0),
            *(16_400.2 + number, 16_232.468 - number, 4.6313896),
        )
        for uid, number, item in _picked(exposures)
    ]
    return _dataset(_PARTICLES, rows, alignment)


def _locations(exposures: Sequence[Exposure], *, alignment: int = 64) -> bytes:
    shape = MICROGRAPH_SHAPE[1:]
    rows = [
        (uid, item.uid, _corrected(item), shape, number / ROWS, 1 - number / ROWS)
        for uid, number, item in _picked(exposures)
    ]
    return _dataset(_LOCATIONS, rows, alignment)


def _volume(path: str, edge: int = BOX, *, alignment: int = 64) -> bytes:
    row = (0, path, (edge, edge, edge), PIXEL_SIZE_A)
    return _dataset(_VOLUME, [row], alignment)


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


# Files.


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _copy(name: str, path: Path) -> None:
    _write(path, (DATA / name).read_bytes())


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def _write_image(path: Path, shape: tuple[int, int, int], *, volume: bool = True) -> None:
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
    _write(path, header)
    os.truncate(path, len(header) + 4 * sections * rows * columns)


def _noise(label: str, size: int) -> bytes:
    """`size` bytes that look random, and depend on `label` alone."""
    return hashlib.shake_128(label.encode()).digest(size)


def _number(label: str) -> int:
    """An unsigned 64-bit number that depends on `label` alone."""
    return int.from_bytes(_noise(label, 8), "little")


def _set_times(project: Path, top: Path) -> None:
    """Gives everything at and below `top` its fixed time, contents before their directory."""
    for directory, directories, files in os.walk(top, topdown=False):
        for name in [*directories, *files]:
            _set_time(project, Path(directory, name))
    _set_time(project, top)


def _set_time(project: Path, path: Path) -> None:
    """Sets the modification time: on the day of its job, with nanoseconds, from its path alone."""
    relative = path.relative_to(project)
    job = relative.parts[0] if relative.parts else ""
    day = _day(int(job[1:]) if names.is_job(job) else DETACHED_DAY)
    spread = zlib.crc32(os.fsencode(relative))
    seconds = int(day.timestamp()) + spread % 86_400
    nanoseconds = seconds * 10**9 + spread % 999_999_999 + 1
    os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
