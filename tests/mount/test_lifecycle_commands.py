"""The commands for the lifecycle: what the shell does as well, with the reason where it is refused."""

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csfs.cli.sample.project import many_files
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

ROOT = Path(__file__).parents[2]


def listed(lab: Lab, *arguments: str) -> list[dict[str, object]]:
    found = json.loads(lab.csfs("ls", lab.mountpoint, "--json", *arguments).ok().out)
    assert isinstance(found, list)
    return found


def test_ls_lists_projects_here_and_away(sample: Path, labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    assert "has no projects" in lab.csfs("ls", lab.mountpoint).ok().out
    lab.run("touch CS-a/cs.lock && mkdir -p sub/CS-b CS-c x && touch sub/CS-b/cs.lock CS-c/cs.lock").ok()
    lab.run("chmod a-w sub/CS-b && rm -rf sub/CS-b && rm CS-c/cs.lock").ok()
    other.run("mkdir CS-d && touch CS-d/cs.lock").ok()
    wait_for(lambda: lab.state_of("CS-d") == "foreign", "the other's project is seen")
    own = listed(lab, "--size")
    assert [(p["uid"], p["state"], p["away"]) for p in own] == [
        ("P1", "attached", False),
        ("P2", "archived", True),
        ("P3", "detached", False),
    ]
    assert own[0]["path"] == str(lab / "CS-a")
    assert own[0]["title"] == lab.attribute("CS-a", "title")
    assert own[0]["jobs"] == int(lab.attribute("CS-a", "jobs"))
    in_jobs = sum(p.lstat().st_blocks * 512 for j in sample.glob("J*") for p in j.rglob("*"))
    assert own[0]["bytes"] == pytest.approx(in_jobs, rel=0.1)
    assert [p["number"] for p in own] == [1, 2, 3]
    everything = {p["path"]: p["state"] for p in listed(lab, "--all")}
    assert everything[str(lab / "CS-d")] == "foreign"
    shown = lab.csfs("ls", lab.mountpoint, "--all").ok().out
    assert "archived, away" in shown
    assert "\x1b" not in shown


def test_ls_finds_its_mount(labs: tuple[Lab, Lab]) -> None:
    one, _ = labs
    one.csfs("ls").refused("name one of them", str(one.mountpoint))
    command = f"PYTHONPATH={ROOT} {sys.executable} -m csfs ls"
    assert "lab1 has no projects" in one.run(command).ok().out
    one.csfs("forget", "--mount", one.mountpoint, "P7").refused("has no P7")


def test_show_a_project_and_a_job(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    project = json.loads(lab.csfs("show", lab / "CS-a", "--json").ok().out)
    assert (project["uid"], project["state"], project["owner"]) == ("P1", "attached", "lab1")
    assert project["jobs"] == sum(project["jobs_by_status"].values())
    assert project["workspaces"][0].startswith("W1 ")
    job = json.loads(lab.csfs("show", lab / "CS-a/J1/job.log", "--json").ok().out)
    document = json.loads((lab / "CS-a/J1/job.json").read_text())
    assert (job["uid"], job["project"], job["status"]) == ("J1", "P1", document["status"])
    assert job["type"] == lab.attribute("CS-a/J1", "type")
    text = lab.csfs("show", lab / "CS-a/J1").ok().out
    assert document["status"] in text
    lab.run("mkdir plain").ok()
    lab.csfs("show", lab / "plain").refused("belongs to no project", "csfs ls --all")


def test_detach_says_who_is_in_the_way(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    with (lab / "CS-a/J1/job.log").open("ab"):
        refused = lab.csfs("detach", lab / "CS-a").refused(
            "busy", "because", "J1/job.log is open in", "next: close"
        )
        assert refused.code == 1
        assert next(line for line in lab.why("CS-a").splitlines() if "because" in line) in refused.err
        lab.csfs("archive", lab / "CS-a").refused("J1/job.log is open in")
    lab.csfs("detach", lab / "CS-a").ok()
    assert lab.state_of("CS-a") == "detached"
    assert lab.csfs("detach", lab / "CS-a").ok().out == ""
    lab.csfs("archive", lab / "CS-a").refused("is detached", "csfs why")


def test_archive_and_unarchive(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    lab.csfs("archive", lab / "CS-a").ok()
    lab.csfs("archive", lab / "CS-a").ok()
    assert lab.state_of("CS-a") == "archived"
    lab.csfs("detach", lab / "CS-a").refused("csfs unarchive")
    (sample / "J1/job.log").unlink()
    lab.csfs("unarchive", lab / "CS-a").refused("J1/job.log is missing", f"--accept-changes {lab / 'CS-a'}")
    lab.csfs("unarchive", "--accept-changes", lab / "CS-a").ok()
    assert lab.state_of("CS-a") == "attached"


def test_of_a_project_of_another(sample: Path, labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    one.csfs("attach", one / "CS-a").ok()
    wait_for(lambda: two.state_of("CS-a") == "foreign", "the owner is seen")
    two.csfs("detach", two / "CS-a").refused("another instance", "lab1 (P1)", f"csfs rescue {two / 'CS-a'}")
    two.csfs("attach", two / "CS-a").refused("lab1 (P1)", f"csfs rescue {two / 'CS-a'}")


def test_forget(lab: Lab) -> None:
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    lab.csfs("forget", "--mount", lab.mountpoint, "P1").refused("P1 is attached", "next: detach it first")
    lab.csfs("detach", lab / "CS-a").ok()
    lab.csfs("forget", "--mount", lab.mountpoint, "P1").ok()
    assert os.listdir(lab / ".csfs/projects") == []
    assert lab.csfs("forget", "CS-a").code == 2


def test_version_tells_of_the_daemons(lab: Lab) -> None:
    import csfs

    found = json.loads(lab.csfs("version", "--json").ok().out)
    assert found["csfs"] == csfs.__version__
    assert found["mounts"][str(lab.mountpoint)] == csfs.__version__
    assert str(lab.mountpoint) in lab.csfs("version").ok().out


@pytest.mark.parametrize("command", ["detach", "archive", "unarchive", "attach"])
def test_outside_of_a_mount(make_lab: LabMaker, tmp_path: Path, command: str) -> None:
    lab = make_lab(mounted=False)
    lab.csfs(command, tmp_path).refused("does not lie in a csfs mount", "csfs status")


def on_a_terminal(
    *words: str | Path, interrupt: Callable[[], bool] | None = None, after: str = "", code: int = 0
) -> str:
    """What a command shows there; it gets a SIGINT as soon as it has shown `after`, and `interrupt` holds."""
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "csfs", *map(str, words)]
    with subprocess.Popen(command, cwd=ROOT, stdout=inner, stderr=inner, env=environment) as process:
        os.close(inner)
        shown = b""
        try:
            while True:
                if interrupt is not None and after.encode() in shown and interrupt():
                    process.send_signal(signal.SIGINT)
                    interrupt = None
                if select.select([outer], [], [], 0.02)[0]:
                    part = os.read(outer, 1 << 16)
                    if not part:
                        break
                    shown += part
        except OSError as error:
            assert error.errno == errno.EIO, error  # the other side is closed
        finally:
            os.close(outer)
        assert process.wait(20) == code, shown
    return shown.decode(errors="replace")


def test_colours_and_bars_on_a_terminal(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    (lab / "CS-a/J1/large").write_bytes(os.urandom(1 << 20) * 20)
    assert "\x1b[32mattached" in on_a_terminal("ls", lab.mountpoint)
    shown = on_a_terminal("clone", lab / "CS-a", lab / "CS-b")
    assert "cloning CS-b" in shown
    assert "/s" in shown
    assert lab.state_of("CS-b") == "detached"


def test_an_attach_shows_its_jobs_and_can_be_left_alone(sample: Path, lab: Lab) -> None:
    document = (sample / "J1/job.json").read_bytes()
    for number in range(1000, 4000):
        (sample / f"J{number}").mkdir()
        (sample / f"J{number}/job.json").write_bytes(document.replace(b'"J1"', b'"J%d"' % number))
    shown = on_a_terminal("attach", lab / "CS-a")
    assert "attaching" in shown
    assert re.search(r"\d+/30\d\d", shown)
    assert re.search(r"jobs\W.*/s", shown)
    lab.csfs("detach", lab / "CS-a").ok()
    shown = on_a_terminal("attach", lab / "CS-a", interrupt=lambda: bool(under_way(lab)), code=130)
    assert "interrupted; the mount may go on with it" in shown
    wait_for(lambda: under_way(lab) == 0, "the mount has gone on with it", 60)
    assert lab.state_of("CS-a") == "attached"
    lab.csfs("attach", lab / "CS-a").ok()


def under_way(lab: Lab) -> int:
    """Jobs or bytes that the action on CS-a has done, and one more; 0 if none is under way."""
    transitions = lab.status["transitions"]
    assert isinstance(transitions, dict)
    done: int = transitions["CS-a"]["done"] + 1 if "CS-a" in transitions else 0
    return done


def altered(path: Path) -> None:
    """Something else of the same size and time is in a file."""
    found = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_checksums_tell_what_size_and_time_do_not(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    lab.csfs("archive", lab / "CS-a").ok()
    altered(sample / "J1/job.log")
    lab.csfs("unarchive", lab / "CS-a").ok()
    lab.csfs("archive", "--checksum", lab / "CS-a").ok()
    assert lab.attribute("CS-a", "reading") == "done"
    altered(sample / "J1/job.log")
    refused = lab.csfs("unarchive", lab / "CS-a").refused("J1/job.log holds something else than before")
    assert f"csfs unarchive --accept-changes {lab / 'CS-a'}" in refused.err
    assert lab.state_of("CS-a") == "archived"
    altered(sample / "J1/job.log")
    lab.run("mkdir sub && cp -a CS-a sub/ && rm -rf CS-a").ok()
    lab.csfs("unarchive", lab / "sub/CS-a").ok()
    assert (lab.state_of("sub/CS-a"), lab.attribute("sub/CS-a", "uid")) == ("attached", "P1")
    lab.csfs("archive", "--checksum", lab / "sub/CS-a").ok()
    altered(lab.backing / "sub/CS-a/J1/job.log")
    lab.csfs("unarchive", "--accept-changes", lab / "sub/CS-a").ok()
    lab.csfs("detach", lab / "sub/CS-a").ok()
    lab.csfs("archive", "--checksum", lab / "sub/CS-a").refused("only an attached project is archived")


def test_reading_for_checksums_is_shown_interrupted_and_repeated(sample: Path, lab: Lab) -> None:
    """Meanwhile the project can be read, and the mount answers."""
    lab.csfs("attach", lab / "CS-a").ok()
    with (lab / "CS-a/J1/huge").open("wb") as file:
        file.truncate(80 << 30)

    def is_read_meanwhile() -> bool:
        if under_way(lab) < 1 << 28:
            return False
        before = time.monotonic()
        assert (lab / "CS-a/J1/job.log").read_bytes()
        lab.run("ls CS-a CS-a/J2 && mkdir other && rmdir other").ok()
        lab.run("chmod u+w CS-a").refused("busy")
        assert time.monotonic() - before < 5
        return under_way(lab) > 0

    words = ("archive", "--checksum", lab / "CS-a")
    shown = on_a_terminal(*words, interrupt=is_read_meanwhile, after="/s", code=130)
    assert "taking checksums" in shown
    assert f"interrupted; {lab / 'CS-a'} is archived, with checksums of a part of its files" in shown
    assert f"to go on: csfs archive --checksum {lab / 'CS-a'}" in shown
    wait_for(lambda: lab.attribute("CS-a", "reading") == "stopped", "the mount has stopped")
    os.truncate(sample / "J1/huge", 3 << 30)
    lab.csfs("unarchive", "--accept-changes", lab / "CS-a").ok()
    lab.csfs("archive", "--checksum", lab / "CS-a").ok()
    is_comparing = lambda: under_way(lab) > 1  # noqa: E731
    shown = on_a_terminal("unarchive", lab / "CS-a", interrupt=is_comparing, code=130)
    assert f"interrupted; {lab / 'CS-a'} is archived" in shown
    assert f"to go on: csfs unarchive {lab / 'CS-a'}" in shown
    wait_for(lambda: lab.attribute("CS-a", "reading") == "stopped", "the mount has stopped")
    shown = on_a_terminal("unarchive", lab / "CS-a")
    assert "comparing checksums" in shown
    assert lab.state_of("CS-a") == "attached"


def test_a_mount_ends_while_it_reads_for_checksums(sample: Path, lab: Lab) -> None:
    lab.csfs("attach", lab / "CS-a").ok()
    with (lab / "CS-a/J1/huge").open("wb") as file:
        file.truncate(80 << 30)
    lab.csfs("archive", lab / "CS-a").ok()
    os.setxattr(lab / "CS-a", "user.csfs.archive", b"checksum")
    assert lab.attribute("CS-a", "reading") == "under way"
    lab.umount().ok()
    lab.mount()
    assert lab.state_of("CS-a") == "archived"
    lab.run("chmod u+w CS-a").ok()
    assert lab.state_of("CS-a") == "attached"


def test_check_tells_how_far_it_is(sample: Path, lab: Lab) -> None:
    many_files(sample, 30_000)
    lab.csfs("attach", lab / "CS-a").ok()
    words = ["check", lab.backing, "--instance", lab.name, "--state", lab.state]
    shown = on_a_terminal(*words)
    assert "1 project, " in shown
    assert re.search(r"\d+ files, \d+/s", shown)


def test_an_interrupted_check_says_so(sample: Path, lab: Lab) -> None:
    many_files(sample, 30_000)
    lab.csfs("attach", lab / "CS-a").ok()
    words = ["check", str(lab.backing), "--instance", lab.name, "--state", str(lab.state)]
    command = [sys.executable, "-m", "csfs", *words]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: str(sample) in open_files(process.pid), "it looks at the project")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "interrupted: not all was looked at, nothing was changed" in said


def open_files(pid: int) -> str:
    """What a process has open, in one text; what it closes meanwhile is left out."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(each))
        except FileNotFoundError:
            continue
    return "\n".join(found)
