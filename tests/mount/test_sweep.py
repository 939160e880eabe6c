"""Nothing sweeps an attached project away; ordinary deletions in it go on."""

import os
from pathlib import Path

import pytest

from tests.mount.lab import Lab

SWEEPS = [
    "rm -rf CS-a",
    "rm -rf CS-a/*",
    "rm -rf CS-a/* CS-a/.[!.]*",
    "cd CS-a && rm -rf *",
    "cd CS-a && rm -rf ./*",
    "cd CS-a && ls | xargs rm -rf",
    "cd CS-a && LC_ALL=C ls | sort -r | xargs rm -rf",
    "find CS-a -delete",
    "find CS-a -mindepth 1 -delete",
    "find CS-a -depth -type f -delete",
    "mv CS-a ../moved-away",
    "python3 -c \"import shutil; shutil.rmtree('CS-a')\"",
    "rm -rf CS-a/J2",
    "rm -rf CS-a/J2 CS-a/J3",
    "mv CS-a/J2 ../job-away",
    "mv CS-a/J2 CS-a/J99",
    "mv CS-a/J2 .",
    "rmdir CS-a",
    "rm CS-a/project.json",
    "rm CS-a/workspaces.json",
    "mv CS-a/cs.lock CS-a/other",
    "rm CS-a/J2/job.log CS-a/cs.lock",
    "rm CS-a/cs.lock CS-a/J2/job.log",
    "python3 -c \"import os; os.remove('CS-a/J2/job.log'); os.remove('CS-a/cs.lock')\"",
]


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_takes_nothing(sample: Path, lab: Lab, tmp_path: Path, sweep: str) -> None:
    lab.run(f"touch CS-a/cs.lock && cp -a CS-a {tmp_path}/copy").ok()
    done = lab.run(sweep)
    assert done.code != 0, f"$ {sweep}\n{done.out}"
    kept = "-x job.log" if "job.log" in sweep else ""
    lab.run(f"diff -r --no-dereference {kept} {tmp_path}/copy CS-a").ok()
    lab.run(f"diff -r --no-dereference {kept} -x job.json {tmp_path}/copy {sample}").ok()
    assert len(list(sample.glob("J*/job.json"))) == len(list((tmp_path / "copy").glob("J*/job.json")))
    assert lab.state_of("CS-a") == "attached"
    assert lab.refusals() or "ls |" in sweep


@pytest.mark.parametrize("start", ["top", "top/mid", "top/mid/CS-a"])
def test_a_sweep_that_starts_above_takes_nothing(sample: Path, lab: Lab, tmp_path: Path, start: str) -> None:
    lab.run("mkdir -p top/mid && mv CS-a top/mid/ && touch top/mid/CS-a/cs.lock").ok()
    lab.run(f"cp -a top/mid/CS-a {tmp_path}/copy").ok()
    for sweep in (
        f"rm -rf {start}",
        f"find {start} -delete",
        f"python3 -c \"import shutil; shutil.rmtree('{start}')\"",
        f"mv {start} {tmp_path}/moved",
    ):
        lab.run(sweep).refused("Operation not permitted")
        lab.run(f"diff -r --no-dereference {tmp_path}/copy top/mid/CS-a").ok()


def test_a_process_that_took_the_lock_takes_nothing_else(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    script = "import os; os.remove('CS-a/cs.lock'); os.remove('CS-a/J2/job.log')"
    lab.run(f'python3 -c "{script}"').refused("PermissionError")
    assert (sample / "J2/job.log").exists()
    assert lab.state_of("CS-a") == "detached"
    lab.run("rm CS-a/J2/job.log").ok()


def test_threads_of_one_process_are_one_sweep(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    script = (
        "import os, threading\n"
        "fd = os.open('CS-a', os.O_RDONLY)\n"
        "caught = []\n"
        "def remove():\n"
        "    try: os.remove('CS-a/J2/job.log')\n"
        "    except PermissionError: caught.append(1)\n"
        "thread = threading.Thread(target=remove); thread.start(); thread.join()\n"
        "assert caught\n"
    )
    lab.run(f"python3 - <<'EOF'\n{script}EOF").ok()
    assert (sample / "J2/job.log").exists()


def test_a_worker_may_delete_its_own_files(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run("rm CS-a/J2/job.log && rm -r CS-a/J2/thumbnails && rm -rf CS-a/exports/groups").ok()
    script = (
        "import os\n"
        "for name in os.listdir('CS-a/J5'):\n"
        "    if name.endswith('.mrc'): os.remove('CS-a/J5/' + name)\n"
        "for name in os.listdir('CS-a'):\n"
        "    if name == 'job_manifest.json': os.remove('CS-a/' + name)\n"
    )
    lab.run(f"python3 - <<'EOF'\n{script}EOF").ok()
    assert not list(sample.glob("J5/*.mrc"))
    assert lab.refusals() == []


def test_a_document_that_is_renamed_stays_and_leaves_a_copy(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && cp CS-a/project.json ../before").ok()
    lab.run("mv CS-a/project.json CS-a/project.json~ && cmp CS-a/project.json~ ../before").ok()
    lab.run("cmp CS-a/project.json ../before && rm CS-a/project.json~").ok()
    lab.run("mv CS-a/J3/job.json CS-a/J5/job.json").refused("Operation not permitted")
    lab.run("mv CS-a/project.json CS-a/workspaces.json").refused("Operation not permitted")


def test_restoring_into_a_project_is_no_sweep(sample: Path, lab: Lab) -> None:
    """tar holds the directory open that it works in, and replaces placeholders by symlinks at the end."""
    lab.run("touch CS-a/cs.lock && mkdir ../out && ln -s /data/raw/x ../out/link && echo x > ../out/f").ok()
    lab.run("tar -C ../out -cf ../P.tar . && tar -C CS-a -xf ../P.tar && tar -C CS-a/J3 -xf ../P.tar").ok()
    for place in ("CS-a", "CS-a/J3"):
        assert os.readlink(lab / place / "link") == "/data/raw/x"
    assert lab.refusals() == []


def test_a_job_is_deleted_document_first(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run("rm CS-a/J2/job.json").refused("Device or resource busy")
    assert "J3" in lab.why("CS-a/J2")
    lab.run("rm CS-a/J13/job.json && rm -rf CS-a/J13").ok()
    assert not (sample / "J13").exists()
    assert "J13" not in lab.run("ls .csfs/projects/P1").ok().out.split()


def test_a_detached_project_can_be_removed_by_any_sweep(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && cp -a CS-a CS-b && cp -a CS-a CS-c").ok()
    lab.run("rm CS-a/cs.lock && rm -rf CS-a && find CS-b -delete").ok()
    lab.run("python3 -c \"import shutil; shutil.rmtree('CS-c')\"").ok()
    assert lab.run("ls").out == ""
