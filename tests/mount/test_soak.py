"""Short runs of what `scripts/soak` does for as long as is wanted, and whether it would see what is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mount.lab import Lab

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "scripts"))

from soaking import integrity, moving, project_model, samples  # noqa: E402
from soaking.samples import MEBIBYTE, Sample  # noqa: E402


@pytest.mark.parametrize(("what", "seconds", "seed"), [("data", 3, 1), ("load", 5, 1)], ids=["data", "load"])
def test_a_short_run(what: str, seconds: float, seed: int) -> None:
    words = ["--minutes", str(seconds / 60), "--seed", str(seed), "--only", what]
    done = subprocess.run(
        [sys.executable, "-m", "soaking", *words],
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": f"{TOP / 'scripts'}:{TOP}"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"SOUND, seed {seed}"
    if what == "data":
        assert sum(map(int, re.findall(r"data: (\d+) steps", done.stdout))) > 200
    else:
        assert len(re.findall(r"^ +\d+ +\d+\.\d", done.stdout, re.MULTILINE)) >= 5


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems of its own: needs root")
def test_a_move_is_killed_and_repeated(tmp_path: Path) -> None:
    said: list[str] = []
    assert moving.soak("containers", tmp_path / "site", 2 * MEBIBYTE, 4, 20262, said.append) == []
    assert sum(line.startswith("  killed") for line in said) == 4
    assert not (tmp_path / "site").exists()


def test_a_move_that_went_wrong_is_seen(tmp_path: Path) -> None:
    """A byte that differs, a file that is missing, one too many, a hard link that has become a copy."""
    project_model.make(tmp_path / "CS-a", MEBIBYTE, 1)
    model = project_model.model_of(tmp_path / "CS-a")
    assert project_model.differences(tmp_path / "CS-a", model) == []
    job = tmp_path / "CS-a/J101"
    image = job / "J101_005_volume_map.mrc"
    status = image.stat()
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    (job / "raw").unlink()
    (job / "new").touch()
    linked = (job / "final_2.mrc").read_bytes()
    (job / "final_2.mrc").unlink()
    (job / "final_2.mrc").write_bytes(linked)
    found = "\n".join(project_model.differences(tmp_path / "CS-a", model))
    for words in (
        "J101/J101_005_volume_map.mrc: content is",
        "J101/raw is missing",
        "J101/new is new",
        "J101/final_2.mrc: linked is ''",
    ):
        assert words in found


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    """A byte that differs, a name too few, a daemon that grows."""
    worker = integrity.Worker(tmp_path, 1)
    file = worker.create()
    worker.check(file)
    (name,) = file.names
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(integrity.Wrong, match="differs at"):
        worker.check(file)
    assert integrity.differences(tmp_path, {name: bytes(file.content)}) == [f"{tmp_path / name}: differs"]
    assert len(integrity.differences(tmp_path, {})) == 1
    file.names.add("zero")
    with pytest.raises(integrity.Wrong, match="names"):
        worker.check(file)
    steady = [Sample(n, 100 * MEBIBYTE, 100, 5, 1000, 1) for n in range(20)]
    assert samples.growth(steady, MEBIBYTE) == []
    grows = [each._replace(memory=each.memory + n * MEBIBYTE) for n, each in enumerate(steady)]
    assert samples.growth(grows, 20 * MEBIBYTE) == []
    assert "the memory of the daemon grew" in samples.growth(grows, 2 * MEBIBYTE)[0]


@pytest.mark.parametrize("state", ["plain", "attached"])
def test_one_of_several_names_is_renamed(lab: Lab, state: str) -> None:
    """The file is reached by each name that it has then, and by none that it had."""
    top = lab / "d"
    top.mkdir()
    if state == "attached":
        (top / "cs.lock").touch()
    (top / "sub").mkdir()
    (top / "one").write_text("content")
    for name in ("two", "three", "sub/four"):
        os.link(top / "one", top / name)
    (top / "two").rename(top / "sub/five")
    (top / "three").rename(top / "six")
    (top / "two").write_text("another file")
    for removed in ("one", "sub/four", "six"):
        (top / removed).unlink()
        assert (top / "sub/five").stat().st_size == 7
    os.truncate(top / "sub/five", 4)
    (top / "sub/five").chmod(0o600)
    assert (top / "two").read_text() == "another file"
    assert (top / "sub/five").read_text() == "cont"
    assert (top / "sub/five").stat().st_nlink == 1
    assert (top / "two").stat().st_mode & 0o777 == 0o644
