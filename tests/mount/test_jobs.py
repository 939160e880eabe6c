"""Jobs: made, copied, taken through their statuses, seen by their attributes."""

import json
import mmap
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from csfs.cli.sample.project import build
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_mkdir_makes_a_job(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-a/J77 && ls CS-a/J77 | grep -x job.json").ok()
    for place in (lab / "CS-a", sample):
        made = document(place / "J77/job.json")
        assert (made["uid"], made["uid_num"], made["project_uid"]) == ("J77", 77, "P1")
        assert (made["status"], made["workspace_uids"], made["parents"]) == ("building", ["W1"], [])
    assert lab.attribute("CS-a/J77", "status") == "building"
    assert lab.attribute("CS-a", "jobs") == "9"
    lab.run("touch CS-a/J77/data && rm -rf CS-a/J77").refused("Operation not permitted")
    assert sorted(os.listdir(sample / "J77")) == ["data", "job.json"]
    lab.run("rm CS-a/J77/job.json && rm -rf CS-a/J77").ok()
    assert lab.attribute("CS-a", "jobs") == "8"
    lab.run("mkdir CS-a/notajob CS-a/J2/J5 && ls CS-a/notajob CS-a/J2/J5 | grep job.json").refused()


COPIES = {
    "cp": "cp -a CS-a/J3 CS-b/J50",
    "cp -r": "cp -r CS-a/J3 CS-b/J50",
    "rsync": "rsync -a CS-a/J3/ CS-b/J50/",
    "tar": "mkdir CS-b/J50 && tar -C CS-a/J3 -cf - . | tar -C CS-b/J50 -xf -",
    "cp into a new one": "mkdir CS-b/J50 && cp -r CS-a/J3/. CS-b/J50/",
    "aside and mv": "cp -a CS-a/J3 CS-b/tmp && mv CS-b/tmp CS-b/J50",
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copied_job_directory_is_a_job_of_its_new_project(
    sample: Path, lab: Lab, copy: str, tmp_path: Path
) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-b && touch CS-b/cs.lock && mkdir CS-b/J2").ok()
    before = document(lab / "CS-a/J3/job.json")
    assert before["parents"] == ["J2"]
    lab.run(copy).ok()
    for place in (lab / "CS-b", lab.backing / "CS-b"):
        after = document(place / "J50/job.json")
        assert (after["uid"], after["project_uid"], after["uid_num"]) == ("J50", "P2", 50)
        assert (after["title"], after["status"]) == (before["title"], before["status"])
        assert after["parents"] == ["J2"]
        assert after["children"] == []
    assert document(lab / "CS-a/J3/job.json") == before
    assert lab.attribute("CS-b/J50", "status") == "completed"
    lab.run("diff -r --no-dereference -x job.json CS-a/J3 CS-b/J50").ok()
    assert "J50" in os.listdir(lab / ".csfs/projects/P2")


def test_a_program_that_makes_a_job_sees_its_document_at_once(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    (lab / "CS-a/J77").mkdir()
    path = lab / "CS-a/J77/job.json"
    path.write_text(json.dumps({**document(path), "title": "mine"}))
    assert document(sample / "J77/job.json")["title"] == "mine"


def test_a_copy_that_is_broken_is_listed_and_left_alone(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-a/tmp && echo '{' > CS-a/tmp/job.json").ok()
    lab.run("mv CS-a/tmp CS-a/J60").ok()
    assert lab.attribute("CS-a/J60", "attach_status") == "failed"
    assert (lab / "CS-a/J60/job.json").read_text() == "{\n"


def test_a_job_whose_document_cannot_be_read_can_be_deleted_or_mended(sample: Path, lab: Lab) -> None:
    (sample / "J13/job.json").write_text("{broken")
    (sample / "J14/job.json").write_text("{broken")
    lab.run("touch CS-a/cs.lock && cp CS-a/J5/job.json ../mended").ok()
    assert lab.attribute("CS-a/J13", "attach_status") == "failed"
    lab.run("rm -rf CS-a/J13").refused("Operation not permitted")
    lab.run("rm CS-a/J13/job.json && rm -rf CS-a/J13").ok()
    lab.run("rm CS-a/J14/job.json && cp ../mended CS-a/J14/job.json").ok()
    assert lab.attribute("CS-a/J14", "attach_status") == "complete"
    assert document(sample / "J14/job.json")["uid"] == "J14"


def test_a_job_is_new_until_its_project_is_detached(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-a/J77 && rm CS-a/cs.lock && touch CS-a/cs.lock").ok()
    other = document(lab / "CS-a/J5/job.json")
    with pytest.raises(OSError, match="Invalid argument"):
        (lab / "CS-a/J77/job.json").write_text(json.dumps(other))
    assert lab.refusals()[-1]["rule"] == "IDENTITY_KEY"


def test_a_job_keeps_its_name(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run("mv CS-a/J3 CS-a/J99").refused("Operation not permitted")
    assert "keeps its name" in lab.why("CS-a/J3")


def test_statuses_by_attribute_and_by_command(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-a/J77").ok()
    for status in ("queued", "launched", "running", "waiting", "running", "failed"):
        lab.run(f"setfattr -n user.csfs.status -v {status} CS-a/J77").ok()
        assert document(lab / "CS-a/J77/job.json")["status"] == status
        assert lab.csfs("job", "status", lab / "CS-a/J77").ok().out == f"{status}\n"
        expected = "queued" if status != "queued" else status
        assert document(sample / "J77/job.json")["status"] == expected
    exported = "getfattr --only-values -n user.csfs.exported CS-a/J77/job.json"
    assert lab.run(exported).ok().out == "no"
    lab.csfs("job", "status", lab / "CS-a/J77", "completed").ok()
    assert document(sample / "J77/job.json")["status"] == "completed"
    assert lab.run(exported).ok().out == "yes"


@pytest.mark.parametrize(
    "change",
    [
        "setfattr -n user.csfs.status -v bogus CS-a/J3",
        "setfattr -n user.csfs.status -v running CS-a/J3",
        'sed -i \'s/"status": "completed"/"status": "waiting"/\' CS-a/J3/job.json',
    ],
)
def test_a_transition_that_cryosparc_does_not_know_is_refused(sample: Path, lab: Lab, change: str) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run(change).refused()
    assert lab.attribute("CS-a/J3", "status") == "completed"
    told = lab.why("CS-a/J3")
    assert "building" in told
    lab.csfs("job", "status", lab / "CS-a/J3", "nonsense").refused("queued", "csfs why")


def test_attributes_of_jobs(sample: Path, lab: Lab) -> None:
    (sample / "J2/job.json").write_text("{broken")
    lab.run("touch CS-a/cs.lock").ok()
    told = lab.run("getfattr -d CS-a/J12").ok().out.splitlines()
    for line in ('user.csfs.uid="J12"', 'user.csfs.status="completed"', 'user.csfs.attach_status="complete"'):
        assert line in told
    assert any(line.startswith('user.csfs.type="extract') for line in told)
    assert lab.attribute("CS-a/J2", "attach_status") == "failed"
    assert (lab / "CS-a/J2/job.json").read_text() == "{broken"
    assert (sample / "J2/job.json").read_text() == "{broken"
    lab.run("setfattr -n user.mine -v x CS-a/J12 && getfattr -d CS-a/J12 | grep user.mine").ok()


def test_a_document_can_be_mapped(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    path = lab / "CS-a/J3/job.json"
    before = path.read_bytes()
    at = before.index(b"Patch CTF") if b"Patch CTF" in before else before.index(b'"title"') + 10
    with path.open("r+b") as opened:
        try:
            mapped = mmap.mmap(opened.fileno(), 0)
        except OSError:
            pytest.skip("shared mappings of documents need Linux 6.6 and the C module")
        with mapped:
            assert mapped[:] == before
            mapped[at : at + 3] = b"abc"
    expected = before[:at] + b"abc" + before[at + 3 :]
    assert path.read_bytes() == expected
    assert (sample / "J3/job.json").read_bytes() == expected


def test_ten_times_there_and_back(sample: Path, make_lab: LabMaker) -> None:
    """Detached and attached in turn by two instances: only the identity of a document changes."""
    identity = {"uid", "uid_num", "project_uid", "project_uid_num", "project_dir", "archived", "detached"}
    labs = [make_lab("lab1"), make_lab("lab2")]
    paths = ["project.json", *sorted(str(p.relative_to(sample)) for p in sample.glob("J*/job.json"))]

    def numbers_as_written(text: str) -> Any:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)

    first = {path: numbers_as_written((sample / path).read_text()) for path in paths}
    for turn in range(10):
        lab = labs[turn % 2]
        lab.run("touch CS-a/cs.lock").ok()
        for place in (lab / "CS-a", sample):
            for path in paths:
                found = numbers_as_written((place / path).read_text())
                assert {k: v for k, v in found.items() if k not in identity} == {
                    k: v for k, v in first[path].items() if k not in identity
                }, (turn, place, path)
        lab.run("rm CS-a/cs.lock").ok()


def test_attach_command(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    assert lab.attribute("CS-a", "uid") == "P1"
    build(lab.backing / "CS-b")
    (lab.backing / "CS-b/project.json").write_text("{")
    lab.csfs("attach", lab / "CS-b").refused("Invalid argument", "csfs why")


def test_a_job_whose_directory_was_removed_below_is_the_same_in_a_new_one(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    document = (lab / "CS-a/J3/job.json").read_bytes()
    shutil.rmtree(sample / "J3")
    wait_for(lambda: not (lab / "CS-a/J3").exists(), "the removal is seen")
    lab.run("mkdir CS-a/J3").ok()
    assert (lab / "CS-a/J3/job.json").read_bytes() == document
    assert (sample / "J3/job.json").read_bytes() == document
    assert lab.attribute("CS-a/J3", "status") == "completed"
