"""The sample project has the properties that the demo and the other tests rely on."""

import ast
import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csfs.cli.sample import project as sample
from csfs.domain import document, names

JOBS = {"J1", "J2", "J3", "J5", "J9", "J12", "J13", "J14", "J15"}
ITEM_BYTES = {"<u8": 8, "<u4": 4, "<f4": 4, "<f8": 8}
V2_KEYS = 74


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sample") / "CS-t20s"
    sample.build(directory)
    return directory


def everything(top: Path) -> Iterator[Path]:
    for directory, directories, files in os.walk(top):
        for name in sorted([*directories, *files]):
            yield Path(directory, name)


def tree_hash(top: Path) -> str:
    """Of every path, kind, size, modification time, link target and content."""
    found = hashlib.sha256()
    for path in sorted(everything(top)):
        status = path.lstat()
        size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        fact = (str(path.relative_to(top)), stat.S_IFMT(status.st_mode), size, status.st_mtime_ns)
        found.update(repr(fact).encode())
        if path.is_symlink():
            found.update(os.fsencode(os.readlink(path)))
        elif path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def npy(path: Path) -> tuple[Any, tuple[int, ...], int, int]:
    """Its descr and shape, where its data start, and how many bytes of data the header promises."""
    content = path.read_bytes()
    assert content.startswith(b"\x93NUMPY\x01\x00"), path
    (length,) = struct.unpack_from("<H", content, 8)
    header = content[10 : 10 + length]
    assert header.endswith(b"\n"), path
    described = ast.literal_eval(header.decode())
    assert set(described) == {"descr", "fortran_order", "shape"}
    assert described["fortran_order"] is False
    fields = described["descr"]
    if isinstance(fields, str):
        fields = [("", fields)]
    row = 0
    for _, code, *shape in fields:
        item = int(code[2:]) if code.startswith("|S") else ITEM_BYTES[code]
        row += item * (shape[0][0] if shape else 1)
    rows = 1
    for edge in described["shape"]:
        rows *= edge
    return described["descr"], described["shape"], 10 + length, row * rows


def load(path: Path) -> Any:
    return json.loads(path.read_bytes())


def metafiles(value: Any) -> Iterator[str]:
    """Every path in a `metafiles` list anywhere in a document."""
    if isinstance(value, dict):
        yield from value.get("metafiles", ())
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from metafiles(item)


def test_two_builds_are_equal_to_the_nanosecond(tmp_path: Path) -> None:
    (tmp_path / "existing").mkdir()
    sample.build(tmp_path / "existing")
    sample.build(tmp_path / "new" / "elsewhere")
    assert tree_hash(tmp_path / "existing") == tree_hash(tmp_path / "new" / "elsewhere")


def test_it_is_detached_and_has_no_lock(project: Path) -> None:
    assert not [path for path in everything(project) if path.name == names.LOCK]
    found = load(project / "project.json")
    assert (found["uid"], found["detached"], found["archived"]) == ("P9", True, False)
    assert found["title"] == sample.TITLE


def test_title_may_be_anything(tmp_path: Path) -> None:
    sample.build(tmp_path, title='β-Gal "ü" 細胞', movies=1)
    assert load(tmp_path / "project.json")["title"] == 'β-Gal "ü" 細胞'


def test_directory_that_holds_something_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(OSError, match="not empty"):
        sample.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_size(project: Path) -> None:
    files = [path for path in everything(project) if path.is_symlink() or not path.is_dir()]
    assert 200 <= len(files) <= 300
    assert sum(path.lstat().st_size for path in files) > 50_000_000


def test_real_size_where_the_filesystem_has_holes(project: Path, tmp_path: Path) -> None:
    hole = tmp_path / "hole"
    hole.touch()
    os.truncate(hole, 1 << 20)
    if hole.stat().st_blocks:
        pytest.skip("this filesystem has no holes")
    assert sum(path.lstat().st_blocks for path in everything(project)) * 512 < 2_000_000


@pytest.mark.parametrize("movies", [0, 1, 20, 45])
def test_one_link_and_one_row_per_movie(tmp_path: Path, movies: int) -> None:
    sample.build(tmp_path, movies=movies)
    links = [path for path in (tmp_path / "J1" / "imported").iterdir() if path.is_symlink()]
    assert len(links) == movies
    for link in links:
        assert re.fullmatch(r"[0-9]{21}_.+\.frames\.tif", link.name)
        assert os.readlink(link).startswith("/data/raw/")
        assert not link.exists(), "it leads out of the project, to nowhere"
    _, shape, start, size = npy(tmp_path / "J1" / "imported_movies.cs")
    assert shape == (movies,)
    content = (tmp_path / "J1" / "imported_movies.cs").read_bytes()[start:]
    uids = {struct.unpack_from("<Q", content, i * size // movies)[0] for i in range(movies)}
    assert uids == {int(link.name[:21]) for link in links}


def test_other_links_are_relative_and_stay_inside(project: Path) -> None:
    inside = [
        path
        for path in everything(project)
        if path.is_symlink() and path.parent.name not in {"imported", "import_movies"}
    ]
    assert len(inside) >= 5
    for path in inside:
        assert not os.readlink(path).startswith("/")
        assert path.resolve(strict=True).is_relative_to(project.resolve())


def test_every_dataset_is_as_long_as_its_header_says(project: Path) -> None:
    paths = [path for path in everything(project) if path.suffix in {".cs", ".npy"}]
    assert len(paths) > 50
    for path in paths:
        descr, _, start, size = npy(path)
        assert path.stat().st_size == start + size, path
        assert start % (16 if path.parent.name == "J9" else 64) == 0
        if path.suffix == ".cs":
            assert descr[0] == ("uid", "<u8")


def test_dataset_without_rows_fills_exactly_one_page(project: Path) -> None:
    path = project / "J13" / "J13_class_00_00000_particles.cs"
    descr, shape, start, _ = npy(path)
    assert (len(descr), shape, start, path.stat().st_size) == (106, (0,), 4096, 4096)


def test_exported_paths_carry_their_mark(project: Path) -> None:
    group = project / "exports" / "groups" / "J5_particles"
    assert b">J12/extract/" in (group / "J5_particles_exported.cs").read_bytes()
    assert b"metafile: '>J5_particles_exported.cs'\n" in (group / "J5_particles_exported.csg").read_bytes()


def test_groups_name_files_beside_them(project: Path) -> None:
    groups = [path for path in everything(project) if path.suffix == ".csg"]
    assert len(groups) >= 8
    for group in groups:
        named = re.findall(r"metafile: '>(.+)'", group.read_text())
        assert named
        assert all((group.parent / name).is_file() for name in named), group


def test_images_are_as_long_as_their_header_says(project: Path) -> None:
    images = [path for path in everything(project) if path.suffix == ".mrc" and not path.is_symlink()]
    assert len(images) > 50
    for image in images:
        with image.open("rb") as file:
            header = file.read(1024)
        columns, rows, sections, mode = struct.unpack_from("<4i", header)
        assert (mode, header[208:212]) == (2, b"MAP ")
        assert image.stat().st_size == 1024 + 4 * columns * rows * sections


def test_every_document_is_valid_and_lies_where_it_says(project: Path) -> None:
    head = document.parse((project / "project.json").read_bytes(), document.Kind.PROJECT).head
    assert head.text("uid") == "P9"
    document.parse((project / "workspaces.json").read_bytes(), document.Kind.WORKSPACES)
    for path in project.glob("J*/job.json"):
        head = document.parse(path.read_bytes(), document.Kind.JOB).head
        assert (head.text("uid"), head.text("project_uid")) == (path.parent.name, "P9")


def test_jobs(project: Path) -> None:
    assert {path.name for path in project.iterdir() if names.is_job(path.name)} == JOBS
    found = {path.parent.name: load(path) for path in project.glob("J*/job.json")}
    assert set(found) == JOBS - {"J15"}
    status = {uid: job["status"] for uid, job in found.items()}
    assert (status.pop("J13"), status.pop("J14")) == ("killed", "failed")
    assert set(status.values()) == {"completed"}
    for uid, job in found.items():
        assert all(uid in found[parent]["children"] for parent in job["parents"])
        assert all(uid in found[child]["parents"] for child in job["children"])


def test_files_that_every_job_has(project: Path) -> None:
    for job in JOBS - {"J15"}:
        assert 2_000 < (project / job / "job.log").stat().st_size < 8_000
        assert (project / job / "events.bson").stat().st_size > 5_000
        assert (project / job / "gridfs_data" / "gridfsdata_0").stat().st_size > 5_000


def test_every_metafile_exists(project: Path) -> None:
    named = {name for path in project.glob("J*/job.json") for name in metafiles(load(path))}
    assert len(named) > 30
    assert all((project / name).is_file() for name in named)


def test_v2_document_has_the_bytes_of_its_time(project: Path) -> None:
    content = (project / "J9" / "job.json").read_bytes()
    lines = content.split(b"\n")
    assert content.endswith(b"\n}"), "no final newline"
    assert content.isascii()
    assert b'"count_max": Infinity, \n' in content
    assert not [line for line in lines if line.endswith(b",")]
    assert len([line for line in lines if line.endswith(b", ")]) > 300
    assert lines[1].startswith(b'    "')
    assert re.search(rb'"job_sig": "[0-9]{616}"', content)
    assert b'"queued_to_gpu": false' in content
    assert re.search(rb'"created_at": \{\n {8}"\$date": [0-9]{13}\n {4}\}', content)
    assert re.search(rb'"tokens_acquired_at": [0-9]{10}\.[0-9]+, \n', content)
    found = json.loads(content)
    assert len(found) == V2_KEYS
    assert list(found) != sorted(found)
    assert abs(found["queued_job_hash"]) > 2**53
    again = json.dumps(found, indent=4).encode()
    assert again != content, "a rewrite by a JSON library is not what was there"


def test_v2_files_carry_the_prefix_of_their_time(project: Path) -> None:
    found = [path.name for path in (project / "J9").iterdir()]
    assert len([name for name in found if name.startswith("cryosparc_P9_J9_")]) >= 8


def test_v5_document_has_the_shape_of_its_time(project: Path) -> None:
    found = load(project / "J12" / "job.json")
    assert found["spec"]["type"] == "extract_micrographs_multi"
    assert found["spec"]["inputs"]["micrographs"]["count_max"] == "inf"
    assert not {"type", "params_spec", "output_result_groups"} & set(found)
    stats = found["spec"]["outputs"]["micrographs"]["latest_summary_stats"]
    assert stats["first_uid"] > 2**63
    assert "α₇β₇β₇α₇".encode() in (project / "J12" / "job.json").read_bytes()


def test_v4_documents(project: Path) -> None:
    found = load(project / "J5" / "job.json")
    assert found["output_results"][0]["versions"] == [*range(0, 900, 100), 863]
    assert found["input_slot_groups"][0]["count_max"] == float("inf")
    assert "Δz" in load(project / "J3" / "job.json")["title"]


def test_workspaces_and_session(project: Path) -> None:
    found = load(project / "workspaces.json")
    assert [(item["uid"], item["workspace_type"]) for item in found] == [
        ("W1", "base"),
        ("W2", "base"),
        ("W3", "live"),
    ]
    assert (found[2]["session_uid"], found[2]["session_dir"]) == ("S1", "S1")
    assert b"\\u00e9" in (project / "workspaces.json").read_bytes()
    assert (project / "S1" / "exposures.bson").is_file()
    assert any((project / "S1" / "import_movies").iterdir())
    assert any((project / "S1" / "extract" / "blob").rglob("*.mrc"))


def test_names_of_every_sort(project: Path) -> None:
    found = list(everything(project))
    assert any(len(os.fsencode(path.name)) == 111 for path in found)
    assert any(" " in path.name for path in found)
    assert any(not path.name.isascii() for path in found)
    assert any("_thumb_@1x.png" in path.name for path in found)
    assert any(len(path.relative_to(project).parents) == 9 for path in found if path.is_file())
    assert any(path.is_dir() and not any(path.iterdir()) for path in found)


def test_times_are_in_2024_and_not_whole_seconds(project: Path) -> None:
    for path in everything(project):
        mtime = path.lstat().st_mtime_ns
        assert 1_704_067_200 < mtime // 10**9 < 1_735_689_600
        assert mtime % 10**9


def test_many_files(tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        directory = tmp_path / name
        sample.build(directory, movies=1)
        sample.many_files(directory, 300)
        trees.append(tree_hash(directory))
    files = list((tmp_path / "a" / "J100" / "extract").iterdir())
    assert len(files) == 300
    assert {path.stat().st_size for path in files} == {64}
    found = load(tmp_path / "a" / "J100" / "job.json")
    assert (found["uid"], found["uid_num"], found["status"]) == ("J100", 100, "completed")
    assert trees[0] == trees[1]
