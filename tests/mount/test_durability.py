"""What was acknowledged is there: after kill -9 of the daemon, and in a copy made at any instant."""

import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from csfs.cli.sample.project import build
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab

SIZE = 2_000_000
READS = 60

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
edits = st.tuples(
    st.sampled_from(["project.json", "J3/job.json", "J5/job.json"]),
    st.sampled_from(["rewrite", "rename", "in place", "fsync"]),
    st.dictionaries(st.sampled_from(["title", "note", "größe"]), values, min_size=1, max_size=3),
)


def write(path: Path, how: str, content: str) -> None:
    """Returns when the program that writes has been told that it is done."""
    if how == "rename":
        temporary = path.with_name(".tmp")
        temporary.write_text(content)
        temporary.rename(path)
    elif how == "in place":
        with path.open("r+") as opened:
            opened.write(content)
            opened.truncate()
    else:
        path.write_text(content)


def mounted_again(lab: Lab) -> None:
    lab.kill()
    subprocess.run(["umount", "-l", str(lab.mountpoint)], check=True)
    lab.mount()


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=st.lists(st.lists(edits, min_size=1, max_size=5), min_size=1, max_size=3))
def test_what_close_acknowledged_survives_kill(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[list[tuple[str, str, dict[str, Any]]]]
) -> None:
    place = tmp_path_factory.mktemp("durable")
    for name in ("backing", "lab1"):
        (place / name).mkdir()
    build(place / "backing/CS-a", movies=1)
    lab = Lab("lab1", place / "backing", place / "lab1", place / "state").mount()
    try:
        lab.run("touch CS-a/cs.lock").ok()
        expected: dict[str, Any] = {}
        for batch in rounds:
            for name, how, changes in batch:
                path = lab / "CS-a" / name
                document = {**json.loads(path.read_text()), **changes}
                if how == "fsync":
                    with path.open("r+") as opened:
                        opened.write(json.dumps(document))
                        opened.truncate()
                        opened.flush()
                        subprocess.run(["sync", "-d", str(path)], check=True)
                else:
                    write(path, how, json.dumps(document, ensure_ascii=False))
                expected[name] = json.loads(path.read_text())
                assert expected[name] == document
            mounted_again(lab)
            for name, document in expected.items():
                assert json.loads((lab / "CS-a" / name).read_text()) == document
    finally:
        lab.take_down()


def test_readers_of_a_large_job_document_see_one_version(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    path = lab / "CS-a/J3/job.json"
    base = json.loads(path.read_text())
    stop, problems, versions = threading.Event(), [], set()

    def rewrite() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            path.write_text(json.dumps({**base, "filler": chr(97 + n % 26) * SIZE}))

    def read() -> None:
        try:
            for _ in range(READS):
                filler = json.loads(path.read_bytes()).get("filler", "")
                assert len(set(filler)) <= 1
                assert len(filler) in (0, SIZE)
                versions.add(filler[:1])
        except (ValueError, AssertionError) as problem:
            problems.append(problem)

    writer = threading.Thread(target=rewrite)
    readers = [threading.Thread(target=read) for _ in range(4)]
    writer.start()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    stop.set()
    writer.join()
    assert not problems
    assert len(versions) > 2


def test_a_copy_made_at_any_instant_is_a_whole_project(
    sample: Path, make_lab: LabMaker, tmp_path: Path
) -> None:
    """A writer changes documents and completes jobs; the backing directory is copied meanwhile."""
    lab = make_lab("lab1")
    lab.run("touch CS-a/cs.lock && rm -f CS-a/J15/job.json").ok()
    stop, completed, lock = threading.Event(), set(), threading.Lock()

    def work() -> None:
        for n in range(100, 1000):
            if stop.is_set():
                return
            job = lab / f"CS-a/J{n}"
            job.mkdir()
            for status in ("queued", "launched", "running", "completed"):
                write_status(job, status)
            with lock:
                completed.add(f"J{n}")
            project = json.loads((lab / "CS-a/project.json").read_text())
            write(lab / "CS-a/project.json", "rename", json.dumps({**project, "title": f"after J{n}"}))

    worker = threading.Thread(target=work)
    worker.start()
    copies = []
    try:
        for n in range(4):
            stop.wait(random.uniform(0.2, 0.8))
            with lock:
                due = set(completed)
            copy = tmp_path / f"copy{n}"
            copy.mkdir()
            subprocess.run(["rsync", "-a", f"{sample}/", f"{copy}/CS-a"], check=False)
            copies.append((copy, due))
    finally:
        stop.set()
        worker.join()
    assert len(completed) > 3
    for n, (copy, due) in enumerate(copies):
        fresh = make_lab(f"fresh{n}", mounted=False)
        fresh.backing = copy
        fresh.mount()
        fresh.run("rm CS-a/cs.lock && touch CS-a/cs.lock").ok()
        for job in due:
            assert fresh.attribute(f"CS-a/{job}", "status") == "completed"
        listed = fresh.run("for j in CS-a/J*; do getfattr --only-values -n user.csfs.attach_status $j; done")
        assert "failed" not in listed.out


def write_status(job: Path, status: str) -> None:
    path = job / "job.json"
    write(path, "rename", json.dumps({**json.loads(path.read_text()), "status": status}))
