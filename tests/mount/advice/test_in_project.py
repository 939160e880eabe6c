"""Refusals that concern jobs, documents and files: where their advice leads."""

import json
import os
import shlex
import subprocess

import pytest

from csfs.backing import broken_lock
from csfs.backing.broken_lock import Reservation
from csfs.backing.descriptor import Descriptor
from csfs.domain import document
from csfs.domain.rule import Rule
from tests.mount.advice.asking import Asking, leads_on, refused, works
from tests.mount.advice.conftest import Site
from tests.mount.lab import ORDINARY_USER, wait_for

BUSY, NOT_PERMITTED, INVALID = "Device or resource busy", "Operation not permitted", "Invalid argument"
ACROSS = "Invalid cross-device link"


@leads_on(Rule.IN_TRANSITION)
def test_in_transition(site: Site, ask: Asking) -> None:
    """Another instance is about to rescue the project: it has said so on the storage."""
    lab, name = site.two, site.project()
    lock_id = lab.attribute(name, "lock_id")
    here = Descriptor.root(str(lab.backing / name))
    other = Reservation("another", "lab1")
    assert broken_lock.reserve(here, lock_id, other, owner=(os.geteuid(), os.getegid())) is None
    refused(lab, BUSY, f"setfattr -n user.csfs.rescue -v {lock_id} {{}}", name)
    advice = ask.why(lab, name, Rule.IN_TRANSITION)
    assert "(rescue by lab1)" in advice.reason
    assert "lab2 shares its storage with lab1: " in advice.follow("csfs status").out
    broken_lock.release(here, lock_id, other)
    works(lab, f"setfattr -n user.csfs.rescue -v {lock_id} {{}}", name)
    assert lab.state_of(name) == "detached"


@leads_on(Rule.DOCUMENT_STAYS)
def test_document_stays(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, NOT_PERMITTED, "rm {}/project.json", name)
    ask.why(lab, f"{name}/project.json", Rule.DOCUMENT_STAYS).follow("rm")
    works(lab, "rm {}/project.json", name)


@leads_on(Rule.JOB_STAYS)
def test_job_stays(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1")
    works(lab, "touch {}/J1/data", name)
    refused(lab, NOT_PERMITTED, "mv {}/J1 {}/J7", name, name)
    advice = ask.why(lab, f"{name}/J1", Rule.JOB_STAYS)
    advice.follow("cp -a")
    assert sorted(os.listdir(lab / name / "J7")) == ["data", "job.json"]
    advice.follow("rm '")
    advice.follow("rm -r")
    assert not (lab / name / "J1").exists()


@leads_on(Rule.JOB_HAS_CHILDREN)
def test_job_has_children(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1", "J2")
    path = lab / name / "J2/job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parents": ["J1"]}))
    refused(lab, BUSY, "rm {}/J1/job.json", name)
    ask.why(lab, f"{name}/J1", Rule.JOB_HAS_CHILDREN).follow("rm")
    works(lab, "rm {}/J1/job.json", name)


@leads_on(Rule.BAD_DOCUMENT)
def test_bad_document(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    before = (lab / name / "project.json").read_text()
    refused(lab, INVALID, "echo '{{' > bad.json; cp bad.json {}/project.json", name)
    advice = ask.why(lab, name, Rule.BAD_DOCUMENT)
    assert "line 2 column 1" in advice.reason
    assert advice.follow("cat").out == before
    (lab / name / "project.json").write_text(before.replace("{", '{"new": 1,', 1))
    assert json.loads((lab / name / "project.json").read_text())["new"] == 1


@leads_on(Rule.BAD_DOCUMENT)
def test_attach_with_a_bad_document(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.directory()
    works(lab, "echo '{{' > {}/project.json", name)
    refused(lab, INVALID, "touch {}/cs.lock", name)
    advice = ask.why(lab, name, Rule.BAD_DOCUMENT)
    assert advice.text.startswith("mend its project.json, ")
    works(lab, "echo '{{}}' > {}/project.json", name)
    advice.follow("touch")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.IDENTITY_KEY)
def test_identity_key(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    path = lab / name / "project.json"
    wanted = {**json.loads(path.read_text()), "title": "wanted", "uid": "P999"}
    with pytest.raises(OSError, match=INVALID):
        path.write_text(json.dumps(wanted))
    advice = ask.why(lab, name, Rule.IDENTITY_KEY)
    shown = json.loads(advice.follow("cat").out)
    kept = [key for key in advice.text.rpartition(": ")[2].split(", ") if key in shown]
    path.write_text(json.dumps({**wanted, **{key: shown[key] for key in kept}}))
    assert json.loads(path.read_text())["title"] == "wanted"


@leads_on(Rule.UNKNOWN_STATUS)
def test_unknown_status(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1")
    refused(lab, INVALID, "setfattr -n user.csfs.status -v done {}/J1", name)
    advice = ask.why(lab, f"{name}/J1", Rule.UNKNOWN_STATUS)
    assert " completed, " in advice.text
    advice.follow("csfs job status", STATUS="completed")
    assert lab.attribute(f"{name}/J1", "status") == "completed"


@leads_on(Rule.BAD_TRANSITION)
def test_bad_transition(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1")
    works(lab, "setfattr -n user.csfs.status -v completed {}/J1", name)
    refused(lab, INVALID, "setfattr -n user.csfs.status -v running {}/J1", name)
    advice = ask.why(lab, f"{name}/J1", Rule.BAD_TRANSITION)
    (following,) = advice.text.partition("one of ")[2].partition(":")[0].split(", ")
    advice.follow("csfs job status", STATUS=following)
    works(lab, "setfattr -n user.csfs.status -v running {}/J1", name)


@leads_on(Rule.BOUNDARY)
def test_boundary(site: Site, ask: Asking) -> None:
    lab, name, other = site.one, site.project(), site.project()
    refused(lab, ACROSS, "ln {}/file {}/linked", name, other)
    ask.why(lab, f"{name}/file", Rule.BOUNDARY).follow("cp -a")
    assert (lab / other / "linked").read_text() == "x"
    with pytest.raises(OSError, match=ACROSS):
        os.rename(lab / name / "file", lab / other / "renamed")
    ask.why(lab, f"{name}/file", Rule.BOUNDARY).follow("cp -a")
    assert (lab / other / "renamed").read_text() == "x"


@leads_on(Rule.RESERVED_NAME)
def test_reserved_name(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, NOT_PERMITTED, "touch {}/.csfs-tmp.1", name)
    advice = ask.why(lab, name, Rule.RESERVED_NAME)
    assert advice.text == "choose another name"
    works(lab, "touch {}/another", name)


@leads_on(Rule.CONTROL)
def test_control(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    number = lab.attribute(name, "uid")
    works(lab, "rm {}/cs.lock", name)
    refused(lab, NOT_PERMITTED, "touch .csfs/new")
    advice = ask.why(lab, ".csfs", Rule.CONTROL)
    assert "projects" in advice.follow("ls").out
    advice.follow("csfs forget", NUMBER=number)
    assert not (lab / f".csfs/projects/{number}").exists()


@leads_on(Rule.DOCUMENT_SIZE)
def test_document_size(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    before = (lab / name / "project.json").stat().st_size
    refused(lab, "File too large", f"truncate -s {document.MAX_BYTES + 1} {{}}/project.json", name)
    advice = ask.why(lab, name, Rule.DOCUMENT_SIZE)
    assert f" {before} " in advice.follow("ls -l").out
    works(lab, f"truncate -s {document.MAX_BYTES + 1} {{}}/data", name)


@leads_on(Rule.UNKNOWN_ATTRIBUTE)
def test_unknown_attribute(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1")
    refused(lab, NOT_PERMITTED, "setfattr -n user.csfs.state_ -v running {}/J1", name)
    advice = ask.why(lab, f"{name}/J1", Rule.UNKNOWN_ATTRIBUTE)
    assert 'user.csfs.status="building"' in advice.follow("getfattr").out
    works(lab, "setfattr -n user.csfs.status -v running {}/J1", name)
    works(lab, "setfattr -n user.state -v running {}/J1", name)


@leads_on(Rule.WRITTEN_BY_OTHERS)
@pytest.mark.skipif(os.geteuid() != 0, reason="acts as another user")
def test_written_by_others(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    if lab.backing_status["passthrough"] != "active":
        pytest.skip("without passthrough set-id bits can be given at any time")
    path = lab / name / "file"
    path.chmod(0o777)
    words = ["setpriv", f"--reuid={ORDINARY_USER}", f"--regid={ORDINARY_USER}", "--clear-groups", "bash"]
    script = 'exec 9>>"$1"; echo open; read line'
    with subprocess.Popen(
        [*words, "-c", script, "-", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        refused(lab, "Text file busy", "chmod u+s {}/file", name)
        advice = ask.why(lab, name, Rule.WRITTEN_BY_OTHERS)
        advice.follow("kill", PID=advice.process)
        writer.wait(20)
    wait_for(lambda: lab.run(f"chmod u+s {shlex.quote(name)}/file").code == 0, "the file was closed")
