"""Refusals that concern a whole project, its lock, and who holds it: where their advice leads."""

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from csfs.backing.syscalls import renameat2
from csfs.domain.rule import Rule
from tests.mount.advice.asking import Asking, leads_on, refused, works
from tests.mount.advice.conftest import Site
from tests.mount.lab import Lab, wait_for

BUSY, READ_ONLY, NOT_PERMITTED = "Device or resource busy", "Read-only file system", "Operation not permitted"
INVALID, EXISTS = "Invalid argument", "File exists"
EXCHANGE = 2


@leads_on(Rule.OPEN_WRITER)
def test_open_writer(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    script = 'exec 9>>"$1"; echo open; read line'
    words = ["bash", "-c", script, "-", str(lab / name / "file")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        refused(lab, BUSY, "rm {}/cs.lock", name)
        advice = ask.why(lab, name, Rule.OPEN_WRITER)
        assert advice.process == writer.pid
        advice.follow("kill", PID=advice.process)
        writer.wait(20)
    wait_for(lambda: lab.run(f"rm {shlex.quote(name)}/cs.lock").code == 0, "the project is detached")


@leads_on(Rule.ACTIVE_JOB)
def test_active_job(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1", "J2")
    works(lab, "setfattr -n user.csfs.status -v running {}/J2", name)
    refused(lab, BUSY, "chmod a-w {}", name)
    ask.why(lab, name, Rule.ACTIVE_JOB).follow("csfs job status")
    works(lab, "chmod a-w {}", name)


@leads_on(Rule.ARCHIVED)
def test_archived(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    works(lab, "chmod a-w {}", name)
    refused(lab, READ_ONLY, "touch {}/new", name)
    ask.why(lab, f"{name}/new", Rule.ARCHIVED).follow("chmod u+w")
    works(lab, "touch {}/new", name)


@leads_on(Rule.FOREIGN)
def test_foreign(site: Site, ask: Asking) -> None:
    owner, lab, name = site.one, site.two, site.project()
    refused(lab, READ_ONLY, "touch {}/new", name)
    advice = ask.why(lab, name, Rule.FOREIGN)
    assert "is held by lab1 (P" in advice.follow("csfs rescue --dry-run").out
    advice.attempt("csfs rescue '").refused(
        "because the instance that holds the project is not known to be dead"
    )
    ask.why(lab, name, Rule.NOT_DEAD).follow("csfs detach", PROJECT=owner / name)
    advice.follow("csfs detach", PROJECT=owner / name)
    works(lab, "touch {}/new", name)
    again = site.project()
    refused(lab, NOT_PERMITTED, "rm {}/cs.lock", again)
    ask.why(lab, again, Rule.NOT_DEAD).follow("csfs rescue --lock-id")
    works(lab, "touch {}/cs.lock && touch {}/new", again, again)
    wait_for(lambda: owner.state_of(again) == "lost", "the loss is seen")


@leads_on(Rule.NOT_DEAD)
def test_not_dead(site: Site, ask: Asking) -> None:
    owner, lab, name = site.one, site.two, site.project()
    refused(lab, NOT_PERMITTED, "rm {}/cs.lock", name)
    ask.why(lab, name, Rule.NOT_DEAD).follow("csfs detach", PROJECT=owner / name)
    works(lab, "touch {}/cs.lock", name)
    other = site.project()
    refused(lab, NOT_PERMITTED, "rm {}/cs.lock", other)
    ask.why(lab, other, Rule.NOT_DEAD).follow("csfs rescue --lock-id")
    works(lab, "touch {}/cs.lock && touch {}/new", other, other)


@leads_on(Rule.WRONG_LOCK_ID)
def test_wrong_lock_id(site: Site, ask: Asking) -> None:
    lab, name = site.two, site.project()
    refused(lab, NOT_PERMITTED, "setfattr -n user.csfs.rescue -v 123 {}", name)
    advice = ask.why(lab, name, Rule.WRONG_LOCK_ID)
    assert "is held by lab1 (P" in advice.follow("csfs rescue --dry-run").out
    advice.follow("csfs rescue --lock-id")
    assert lab.state_of(name) == "detached"


@leads_on(Rule.NOTHING_TO_RESCUE)
def test_nothing_to_rescue(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, INVALID, "setfattr -n user.csfs.rescue -v 123 {}", name)
    told = ask.why(lab, name, Rule.NOTHING_TO_RESCUE).follow("csfs why").out
    assert "is a project directory, state attached P" in told
    assert "owner: lab1" in told


@leads_on(Rule.LOST)
def test_lost(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    (lab.backing / name / "cs.lock").unlink()
    wait_for(lambda: lab.state_of(name) == "lost", "the loss is seen")
    refused(lab, READ_ONLY, "touch {}/new", name)
    ask.why(lab, name, Rule.LOST).follow("rm")
    works(lab, "touch {}/new", name)


@leads_on(Rule.MOUNTED_TWICE)
def test_mounted_twice(site: Site, place: Path, ask: Asking) -> None:
    lab = Lab("lab5", site.one.backing, place / "lab5", place / "state", options=("-o", "takeover=3"))
    lab.mountpoint.mkdir()
    lab.mount()
    try:
        name = site.directory()
        works(lab, "touch {}/cs.lock", name)
        session = lab.backing / ".csfs/sessions" / f"{lab.status['instance_uuid']}.json"
        session.write_text(json.dumps({**json.loads(session.read_text()), "session": "another"}))
        wait_for(lambda: lab.state_of(name) == "lost", "the other mount is seen")
        refused(lab, READ_ONLY, "touch {}/new", name)
        ask.why(lab, name, Rule.MOUNTED_TWICE).follow("csfs umount")
        lab.mount()
        works(lab, "touch {}/new", name)
    finally:
        lab.take_down()


@leads_on(Rule.ATTACHED_DIRECTORY)
def test_attached_directory(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, NOT_PERMITTED, "rmdir {}", name)
    advice = ask.why(lab, name, Rule.ATTACHED_DIRECTORY)
    advice.follow("rm '")
    advice.follow("rm -r")
    assert not (lab / name).exists()


@leads_on(Rule.SWEEP)
def test_sweep_of_a_project(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1")
    refused(lab, NOT_PERMITTED, "rm -rf {}", name)
    advice = ask.why(lab, name, Rule.SWEEP)
    advice.follow("rm '")
    advice.follow("rm -r ")
    assert not (lab / name).exists()
    other = site.project("J1")
    away = lab.backing.parent / "away"
    away.mkdir()
    refused(lab, NOT_PERMITTED, f"mv {{}} {away}", other)
    ask.why(lab, other, Rule.SWEEP).follow("chmod a-w")
    shutil.rmtree(away / other)
    works(lab, f"mv {{}} {away}", other)
    assert (away / other / "J1/job.json").exists()


@leads_on(Rule.SWEEP)
def test_sweep_of_a_job(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project("J1", "J2")
    refused(lab, NOT_PERMITTED, "rm -rf {}/J2", name)
    advice = ask.why(lab, f"{name}/J2", Rule.SWEEP)
    advice.follow("rm '")
    advice.follow("rm -r ")
    assert sorted(os.listdir(lab / name)) == ["J1", "cs.lock", "file", "project.json", "workspaces.json"]


@leads_on(Rule.LOCK_AMONG_OTHERS)
def test_lock_among_others(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, NOT_PERMITTED, "rm {}/file {}/cs.lock", name, name)
    ask.why(lab, name, Rule.LOCK_AMONG_OTHERS).follow("rm")
    assert lab.state_of(name) == "detached"


@leads_on(Rule.ARCHIVE_LEAVES_WHOLE)
def test_archive_leaves_whole(site: Site, ask: Asking) -> None:
    lab, name, other = site.one, site.project(), site.project()
    for each in (name, other):
        works(lab, "chmod a-w {}", each)
        refused(lab, READ_ONLY, "rm {}/file", each)
    ask.why(lab, name, Rule.ARCHIVE_LEAVES_WHOLE).follow("rm -rf")
    assert not (lab / name).exists()
    ask.why(lab, other, Rule.ARCHIVE_LEAVES_WHOLE).follow("chmod u+w")
    works(lab, "rm {}/file", other)


@leads_on(Rule.FOREIGN_DIRECTORY)
def test_foreign_directory(site: Site, ask: Asking) -> None:
    """Its owner detaches one project; then it dies, and another is taken from it."""
    lab = site.one
    dying = Lab("lab3", lab.backing, lab.backing.parent / "lab3", lab.state, options=("-o", "takeover=1"))
    taking = Lab("lab4", lab.backing, lab.backing.parent / "lab4", lab.state, options=("-o", "takeover=1"))
    for each in (dying, taking):
        each.mountpoint.mkdir()
    names = [site.directory(), site.directory()]
    try:
        for each in (dying, taking):
            each.mount()
        for name in names:
            (dying / name / "cs.lock").touch()
            refused(taking, NOT_PERMITTED, "rmdir {}", name)
        advice = ask.why(taking, names[0], Rule.FOREIGN_DIRECTORY)
        assert "is held by lab3 (P1)" in advice.follow("csfs rescue --dry-run").out
        advice.follow("csfs detach", PROJECT=dying / names[0])
        works(taking, "mv {} {}", names[0], names[0] + ".moved")
        dying.kill()
        advice = ask.why(taking, names[1], Rule.FOREIGN_DIRECTORY)
        wait_for(lambda: advice.attempt("csfs rescue '").code == 0, "the owner counts as dead")
        works(taking, "rm -r {}", names[1])
    finally:
        dying.csfs("umount", dying.mountpoint).ok()
        taking.take_down()


@leads_on(Rule.LOCK_STAYS)
def test_lock_stays(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    refused(lab, NOT_PERMITTED, "mv {}/cs.lock {}/lock", name, name)
    advice = ask.why(lab, name, Rule.LOCK_STAYS)
    advice.follow("rm")
    assert lab.state_of(name) == "detached"
    advice.follow("touch")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.INERT_LOCK)
def test_inert_lock(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    works(lab, "cp -a {} {}", name, f"{name} copy")
    refused(lab, EXISTS, "touch {}/cs.lock", f"{name} copy")
    ask.why(lab, f"{name} copy", Rule.INERT_LOCK).follow("rm")
    assert lab.state_of(f"{name} copy") == "attached"
    number = lab.attribute(name, "uid")
    works(lab, "chmod a-w {} && tar -cf {} {} && rm -rf {}", name, f"{name}.tar", name, name)
    works(lab, "tar -xf {}", f"{name}.tar")
    refused(lab, EXISTS, "touch {}/cs.lock", name)
    ask.why(lab, name, Rule.INERT_LOCK).follow("chmod u+w")
    assert (lab.state_of(name), lab.attribute(name, "uid")) == ("attached", number)


@leads_on(Rule.FORGED_LOCK)
def test_forged_lock(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    works(lab, "cp {}/cs.lock {} && rm {}/cs.lock", name, f"{name}.lock", name)
    refused(lab, NOT_PERMITTED, "cp {} {}/cs.lock", f"{name}.lock", name)
    ask.why(lab, name, Rule.FORGED_LOCK).follow("touch")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.REUSED_LOCK)
def test_reused_lock(site: Site, ask: Asking) -> None:
    lab, other, name = site.one, site.two, site.directory()
    works(lab, "echo mine > own && cp own {}/cs.lock", name)
    refused(other, NOT_PERMITTED, "rm {}/cs.lock", name)
    other.csfs("rescue", "--lock-id", other.attribute(name, "lock_id"), other / name).ok()
    refused(lab, NOT_PERMITTED, "rm -f {}/cs.lock; cp own {}/cs.lock", name, name)
    ask.why(lab, name, Rule.REUSED_LOCK).follow("touch")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.NOT_A_PROJECT)
def test_not_a_project(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.directory()
    works(lab, "touch {}/file", name)
    refused(lab, INVALID, "touch {}/cs.lock", name)
    advice = ask.why(lab, name, Rule.NOT_A_PROJECT)
    made = advice.follow("csfs create", PLACE=lab.mountpoint, TITLE=f"Made for {name}").out.strip()
    works(lab, "mv {}/file {}/file", name, made)
    source = site.project()
    works(lab, "touch {}/file", name)
    advice.follow("cp -a", FILE=lab / source / "project.json")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.NESTED)
def test_nested(site: Site, ask: Asking) -> None:
    lab, inner, outer = site.one, site.project(), site.project()
    refused(lab, NOT_PERMITTED, "mv {} {}/", inner, outer)
    ask.why(lab, inner, Rule.NESTED).follow("mv", PLACE=lab / f"{inner} moved")
    assert lab.state_of(f"{inner} moved") == "attached"


@leads_on(Rule.NESTED)
def test_attach_around_another(site: Site, ask: Asking) -> None:
    lab, inner, outer = site.one, "inner 'one'", site.directory()
    for each in (lab.backing / outer, lab.backing / outer / "sub" / inner):
        each.mkdir(parents=True, exist_ok=True)
        (each / "project.json").write_text("{}")
    refused(lab, NOT_PERMITTED, "touch {}/cs.lock", outer)
    advice = ask.why(lab, outer, Rule.NESTED)
    advice.follow("mv", PLACE=lab.mountpoint)
    advice.follow("touch")
    assert (lab.state_of(outer), lab.state_of(inner)) == ("attached", "detached")


@leads_on(Rule.INCOMPLETE)
def test_incomplete(site: Site, ask: Asking) -> None:
    lab, name = site.one, site.project()
    works(lab, "chmod a-w {}", name)
    (lab.backing / name / "file").unlink()
    refused(lab, "Input/output error", "chmod u+w {}", name)
    ask.why(lab, name, Rule.INCOMPLETE).follow("csfs unarchive --accept-changes")
    assert lab.state_of(name) == "attached"


@leads_on(Rule.NOT_DETACHED)
@pytest.mark.parametrize("archived", [False, True])
def test_not_detached(site: Site, ask: Asking, archived: bool) -> None:
    lab, name = site.one, site.project()
    number = lab.attribute(name, "uid")
    if archived:
        works(lab, "chmod a-w {}", name)
    refused(lab, NOT_PERMITTED, f"rmdir .csfs/projects/{number}")
    advice = ask.why(lab, ".csfs", Rule.NOT_DETACHED)
    if archived:
        advice.follow("chmod u+w")
    advice.follow("rm")
    advice.follow("csfs forget")
    assert not (lab / f".csfs/projects/{number}").exists()


@leads_on(Rule.EXCHANGE)
def test_exchange(site: Site, ask: Asking) -> None:
    lab, one, other = site.one, site.project("J1"), site.project("J2")
    top = os.open(lab.mountpoint, os.O_PATH)
    try:
        with pytest.raises(OSError, match=INVALID):
            renameat2(top, one.encode(), top, other.encode(), EXCHANGE)
    finally:
        os.close(top)
    ask.why(lab, one, Rule.EXCHANGE).follow("mv")
    assert ((lab / one / "J2").exists(), (lab / other / "J1").exists()) == (True, True)
    assert lab.state_of(one) == lab.state_of(other) == "attached"
