"""Builds a project directory as CryoSPARC leaves one on disk, for `csfs demo` and for the tests.

Every image is a hole behind a true header, so a project of some 70 MB takes less than 2 MB. The
same arguments give the same names, bytes and modification times each time, wherever it is built.
Names, shapes and numbers are those of the T20S tutorial set (EMPIAR-10025) as the tests of
cryosparc-tools show them; `data/NOTICE` says where each data file comes from.
"""

import errno
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from csfs.cli.sample import DATA as DATA
from csfs.cli.sample.formats import (
    BOX,
    MICROGRAPH_SHAPE,
    PIXEL_SIZE_A,
    ROWS,
    Exposure,
    exposure_of,
    import_dataset,
    import_rows,
    location_dataset,
    micrograph_dataset,
    noise,
    particle_dataset,
    spline_array,
    stack_path,
    volume_dataset,
    write,
    write_image,
)
from csfs.cli.sample.job_documents import (
    PROJECT_UID,
    abinit_results,
    as_json,
    date_of,
    day_of,
    job_document,
    job_log,
    output_group,
    output_result,
    particle_input,
    write_job,
)
from csfs.domain import names

TITLE = "T20S proteasome (EMPIAR-10025 subset)"
DETACHED_DAY = 17
"""The day (counted so) when the project was detached: the time of everything outside the jobs."""

RAW = "/data/raw/14sep05c"
"""Where the movies were imported from: outside the project, and gone."""

LONG_NAME = (
    "012756078269171603280_14sep05c_c_00003gr_00014sq_00005hl_00005es"
    ".frames_patch_aligned_doseweighted_denoised.mrc"
)
"""111 bytes, like the longest file name known from a real project."""


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
    rows = import_rows(movies)
    exposures = [exposure_of(row) for row in rows]
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
    write(job / "job.json", job_document(100, "restack_particles", "Many small files"))
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
    write(project / "project.json", as_json(document))
    write(project / "workspaces.json", (DATA / "v5_workspaces.json").read_bytes())
    jobs = [f"J{number}" for number in (1, 2, 3, 5, 9, 12, 13, 14)]
    write(project / "job_manifest.json", as_json({"project_uid": PROJECT_UID, "jobs": jobs}))


def _write_import(job: Path, exposures: Sequence[Exposure], rows: Sequence[Sequence[Any]]) -> None:
    metafile = "J1/imported_movies.cs"
    document = job_document(
        1,
        "import_movies",
        "Import Movies",
        children=["J2"],
        params_spec={"blob_paths": {"value": f"{RAW}/*.tif"}, "psize_A": {"value": PIXEL_SIZE_A}},
        output_results=[output_result(1, "exposure.movie_blob", "imported_movies", metafile, len(rows))],
    )
    write_job(job, document)
    write(job / "imported_movies.cs", import_dataset(rows))
    movies = {"movie_blob": ("imported_movies.cs", len(rows), "exposure.movie_blob")}
    write(job / "J1_imported_movies.csg", output_group(1, "imported_movies", "exposure", movies))
    write_image(job / "imported" / "norm-amibox05-0.mrc", MICROGRAPH_SHAPE)
    for exposure in exposures:
        _link(job / "imported" / f"{exposure.stem}.tif", f"{RAW}/{exposure.name}.tif")


def _write_motion(job: Path, exposures: Sequence[Exposure]) -> None:
    metafile, count = "J2/micrographs_rigid_aligned.cs", len(exposures)
    document = job_document(
        2,
        "patch_motion_correction_multi",
        "Patch Motion Correction",
        parents=["J1"],
        children=["J3"],
        output_results=[output_result(1, "exposure.micrograph_blob", "micrographs", metafile, count)],
    )
    write_job(job, document)
    write(job / "micrographs_rigid_aligned.cs", micrograph_dataset(exposures))
    blobs = {"micrograph_blob": ("micrographs_rigid_aligned.cs", count, "exposure.micrograph_blob")}
    write(job / "J2_micrographs.csg", output_group(2, "micrographs", "exposure", blobs))
    for exposure in exposures:
        corrected = job / "motioncorrected"
        write_image(corrected / f"{exposure.stem}_patch_aligned_doseweighted.mrc", MICROGRAPH_SHAPE)
        write_image(corrected / f"{exposure.stem}_background.mrc", (1, 58, 60))
        thumbnail = job / "thumbnails" / f"{exposure.stem}_thumb_@1x.png"
        write(thumbnail, b"\x89PNG\r\n\x1a\n" + noise(thumbnail.name, 700))


def _write_ctf(job: Path, exposures: Sequence[Exposure]) -> None:
    metafile, count = "J3/exposures_ctf_estimated.cs", len(exposures)
    document = job_document(
        3,
        "patch_ctf_estimation_multi",
        "Patch CTF, Δz ≤ 2 µm",
        parents=["J2"],
        children=["J5", "J12"],
        output_results=[output_result(1, "exposure.ctf", "exposures", metafile, count)],
    )
    write_job(job, document)
    write(job / "exposures_ctf_estimated.cs", micrograph_dataset(exposures))
    ctf = {"ctf": ("exposures_ctf_estimated.cs", count, "exposure.ctf")}
    write(job / "J3_exposures.csg", output_group(3, "exposures", "exposure", ctf))
    for exposure in exposures:
        write(job / "ctfestimated" / f"{exposure.stem}_ctf_spline.npy", spline_array())
    _link(job / "thumbnails", "../J2/thumbnails")


def _write_abinit(job: Path, exposures: Sequence[Exposure]) -> None:
    """A v4 job: its document names each version of each result, and each is a file."""
    results = abinit_results()
    document = job_document(
        5,
        "homo_abinit",
        "New Job J5",
        parents=["J3"],
        children=["J9"],
        output_results=results,
        input_slot_groups=[particle_input()],
    )
    write_job(job, document)
    for metafile in sorted({path for result in results for path in result["metafiles"]}):
        path = job.parent / metafile
        if path.name.endswith("_volume.cs"):
            image = path.with_suffix(".mrc")
            write_image(image, (BOX, BOX, BOX))
            write(path, volume_dataset(f"J5/{image.name}"))
        elif "passthrough" in path.name:
            write(path, location_dataset(exposures))
        else:
            write(path, particle_dataset(exposures))
    _link(job / "J5_final_volume.mrc", "J5_class_00_final_volume.mrc")
    particles = {
        "blob": ("J5_class_00_final_particles.cs", ROWS, "particle.blob"),
        "ctf": ("J5_class_00_final_particles.cs", ROWS, "particle.ctf"),
        "location": ("J5_passthrough_particles_class_0.cs", ROWS, "particle.location"),
    }
    write(job / "J5_class_00_particles.csg", output_group(5, "particles_class_0", "particle", particles))
    volume = {"map": ("J5_class_00_final_volume.cs", 1, "volume.blob")}
    write(job / "J5_class_00_volume.csg", output_group(5, "volume_class_0", "volume", volume))


def _write_v2_refine(job: Path, exposures: Sequence[Exposure]) -> None:
    """A job from before v4: names with `cryosparc_P9_`, .npy headers in steps of 16 bytes."""
    write_job(job, (DATA / "v2_job_homo_refine.json").read_bytes())
    for iteration in ("000", "001"):
        stem = f"cryosparc_P9_J9_{iteration}"
        write(job / f"{stem}_particles.cs", particle_dataset(exposures, alignment=16))
        for volume in ("map", "map_half_A", "map_half_B"):
            image = job / f"{stem}_volume_{volume}.mrc"
            edge = 2 * BOX if volume == "map" else BOX
            write_image(image, (edge, edge, edge))
            write(image.with_suffix(".cs"), volume_dataset(f"J9/{image.name}", edge, alignment=16))
    write(job / "P9_J9_passthrough_particles.cs", location_dataset(exposures, alignment=16))
    particles = {
        "alignments3D": ("cryosparc_P9_J9_001_particles.cs", ROWS, "particle.alignments3D"),
        "blob": ("cryosparc_P9_J9_001_particles.cs", ROWS, "particle.blob"),
        "location": ("P9_J9_passthrough_particles.cs", ROWS, "particle.location"),
    }
    write(job / "P9_J9_particles.csg", output_group(9, "particles", "particle", particles, version="v2.15.0"))


def _write_v5_extract(job: Path, exposures: Sequence[Exposure]) -> None:
    write_job(job, (DATA / "v5_job_extract.json").read_bytes())
    for name in ("picked_micrographs.cs", "J12_passthrough_micrographs.cs"):
        write(job / name, micrograph_dataset(exposures))
    for name in ("incomplete_micrographs.cs", "J12_passthrough_micrographs_incomplete.cs"):
        write(job / name, micrograph_dataset([]))
    write(job / "extracted_particles.cs", particle_dataset(exposures))
    write(job / "J12_passthrough_particles.cs", location_dataset(exposures))
    micrographs = {"micrograph_blob": ("picked_micrographs.cs", len(exposures), "micrograph_blob")}
    group = output_group(12, "micrographs", "exposure", micrographs, version="v5.0.1")
    write(job / "J12_micrographs.csg", group)
    particles = {
        "blob": ("extracted_particles.cs", ROWS, "blob"),
        "location": ("J12_passthrough_particles.cs", ROWS, "location"),
    }
    write(job / "J12_particles.csg", output_group(12, "particles", "particle", particles, version="v5.0.1"))
    for exposure in exposures:
        write_image(job.parent / stack_path(exposure), (30, BOX, BOX), volume=False)


def _write_killed(job: Path) -> None:
    document = job_document(
        13, "homo_abinit", "Ab-initio, 3 classes", "killed", parents=["J12"], killed_at=date_of(13, 900)
    )
    write_job(job, document)
    write(job / "J13_class_00_00000_particles.cs", (DATA / "4k_dataset.cs").read_bytes())


def _write_failed(job: Path) -> None:
    document = job_document(
        14,
        "class_2D_new",
        "2D Classification (NEW)",
        "failed",
        parents=["J12"],
        failed_at=date_of(14, 431),
        errors_run=[{"message": "cuMemAlloc failed: out of memory", "warning": False}],
    )
    write_job(job, document)
    write_image(job / "J14_020_class_averages.mrc", (10, BOX, BOX), volume=False)


def _write_without_document(job: Path) -> None:
    """A job that ended without a document being exported, and that left its deepest file behind."""
    write(job / "job.log", job_log("J15"))
    write_image(job / "denoised" / LONG_NAME, MICROGRAPH_SHAPE)
    bottom = job.joinpath("tmp", *(f"level_{level}" for level in range(3, 9)))
    write(bottom / "bottom.txt", b"eight directories below the project\n")


def _write_session(session: Path, exposures: Sequence[Exposure]) -> None:
    write(session / "exposures.bson", noise("S1/exposures.bson", 18_213))
    write(session / "gridfs_data" / "gridfsdata_0", noise("S1/gridfsdata_0", 7_001))
    (session / "pick").mkdir()
    for exposure in exposures:
        _link(session / "import_movies" / f"{exposure.stem}.tif", f"{RAW}/{exposure.name}.tif")
        micrograph = f"{exposure.stem}_patch_aligned_doseweighted"
        write_image(session / "motioncorrected" / f"{micrograph}.mrc", MICROGRAPH_SHAPE)
        stack = session / "extract" / "blob" / "exp_group_1" / f"{micrograph}_particles.mrc"
        write_image(stack, (30, BOX, BOX), volume=False)


def _write_export(group: Path, exposures: Sequence[Exposure]) -> None:
    """An exported output group: one dataset, and links to the data beside it (its `>` paths)."""
    some = exposures[:4]
    write(group / "J5_particles_exported.cs", particle_dataset(some, prefix=">"))
    exported = "J5_particles_exported.cs"
    results = {name: (exported, ROWS, f"particle.{name}") for name in ("blob", "ctf", "location")}
    write(group / "J5_particles_exported.csg", output_group(5, "particles", "particle", results))
    for exposure in some:
        _link(group / stack_path(exposure), "../" * 5 + stack_path(exposure))


def _write_user_files(project: Path) -> None:
    (project / "imports").mkdir()
    write(project / "notes" / "figure 2 (draft).txt", b"J9, contour 0.35, D7\n")
    write(project / "notes" / "Größe und Auflösung, β7.txt", "2,8 Å\n".encode())


# Links and times.


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


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
    day = day_of(int(job[1:]) if names.is_job(job) else DETACHED_DAY)
    spread = zlib.crc32(os.fsencode(relative))
    seconds = int(day.timestamp()) + spread % 86_400
    nanoseconds = seconds * 10**9 + spread % 999_999_999 + 1
    os.utime(path, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
