"""`csfs log`: each lifecycle action that was done is in it once, with who did it; what was refused is not."""

import json
import os
import socket
from pathlib import Path

from tests.mount.conftest import LabMaker
from tests.mount.lab import ORDINARY_USER, Lab, wait_for


def actions(lab: Lab, *about: str) -> list[tuple[object, object, object]]:
    words = about or ("--mount", str(lab.mountpoint))
    found = json.loads(lab.csfs("log", "--json", *words).ok().out)
    return [(deed["action"], deed["number"], deed["path"]) for deed in found]


def test_the_whole_life_of_a_project(sample: Path, lab: Lab) -> None:
    assert "nothing was done yet" in lab.csfs("log", "--mount", lab.mountpoint).ok().out
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a && touch CS-a/x; mkdir sub; chmod u+w CS-a").ok()
    with (lab / "CS-a/J1/job.log").open("ab"):
        lab.run("rm CS-a/cs.lock").refused("busy")
    lab.run("mv CS-a sub/CS-z && mkdir CS-b && touch CS-b/cs.lock").ok()
    lab.run("rm sub/CS-z/cs.lock && rmdir .csfs/projects/P1").ok()
    done = [
        ("attach", 1, "CS-a"),
        ("archive", 1, "CS-a"),
        ("unarchive", 1, "CS-a"),
        ("move", 1, "sub/CS-z"),
        ("create", 2, "CS-b"),
        ("detach", 1, "sub/CS-z"),
        ("forget", 1, "sub/CS-z"),
    ]
    assert actions(lab) == done
    assert actions(lab, "P2", "--mount", str(lab.mountpoint)) == [done[4]]
    assert actions(lab, str(lab / "CS-b/project.json")) == [done[4]]
    assert actions(lab, str(lab / "sub/CS-z")) == [done[3], done[5], done[6]]
    lab.umount().ok()
    lab.mount()
    assert actions(lab) == done
    lines = lab.csfs("log", "--mount", lab.mountpoint, "-n", "4").ok().out.splitlines()
    assert len(lines) == 5
    assert "CS-a -> sub/CS-z" in lines[1]


def test_it_says_who_and_by_what(sample: Path, make_lab: LabMaker) -> None:
    lab = make_lab()
    os.chown(sample, ORDINARY_USER, ORDINARY_USER)
    lab.run("cd CS-a && setpriv --reuid=65534 --clear-groups touch cs.lock").ok()
    lab.csfs("detach", lab / "CS-a").ok()
    first, second = map(json.loads, (lab / ".csfs/history").read_text().splitlines())
    assert (first["uid"], first["program"], first["outcome"]) == (ORDINARY_USER, "touch", "done")
    assert first["host"] == socket.gethostname()
    assert first["pid"] > 0
    assert (second["uid"], second["program"]) == (0, "unlink")
    shown = lab.csfs("log", lab / "CS-a").ok().out
    assert "nobody" in shown
    assert f"touch ({first['pid']})" in shown


def test_a_rescue_is_in_it(sample: Path, labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    one.run("touch CS-a/cs.lock").ok()
    wait_for(lambda: two.state_of("CS-a") == "foreign", "the owner is seen")
    lock_id = two.attribute("CS-a", "lock_id")
    two.csfs("rescue", "--attach", "--lock-id", lock_id, two / "CS-a").ok()
    assert actions(two) == [("rescue", 0, "CS-a"), ("attach", 1, "CS-a")]
    wait_for(lambda: one.state_of("CS-a") == "lost", "the loss is seen")
    one.run("rm CS-a/cs.lock").ok()
    assert actions(one) == [("attach", 1, "CS-a"), ("let go", 1, "CS-a")]


def test_of_a_directory_in_no_project_all_that_lay_in_it(sample: Path, lab: Lab) -> None:
    lab.run("mkdir sub sub/CS-new other && touch CS-a/cs.lock sub/CS-new/cs.lock").ok()
    lab.run("mv sub/CS-new other/CS-new").ok()

    def logged(path: str) -> list[str]:
        found = json.loads(lab.csfs("log", "--json", lab / path).ok().out)
        return [f"{deed['action']} {deed['path']}" for deed in found]

    in_sub = ["create sub/CS-new", "move other/CS-new"]
    assert logged("") == ["attach CS-a", *in_sub]
    assert logged("sub") == in_sub
    assert logged("other") == in_sub[1:]
    assert logged("CS-a") == ["attach CS-a"]
