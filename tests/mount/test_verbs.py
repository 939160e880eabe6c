"""Each verb of the lifecycle, done with ordinary commands on a real mount."""

import json
import os
from pathlib import Path

import pytest

from csfs.cli.sample.project import many_files
from tests.mount.lab import Lab, wait_for

DIFF = "diff -r --no-dereference"


def test_touch_in_an_empty_directory_creates_a_project(lab: Lab) -> None:
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    for place in (lab / "CS-a", lab.backing / "CS-a"):
        assert sorted(os.listdir(place)) == ["cs.lock", "project.json", "workspaces.json"]
        document = json.loads((place / "project.json").read_text())
        assert document["uid"] == "P1"
        assert document["uid_num"] == 1
        assert document["title"] == "CS-a"
        assert [w["uid"] for w in json.loads((place / "workspaces.json").read_text())] == ["W1"]
    lab.run(f"{DIFF} CS-a {lab.backing}/CS-a").ok()
    assert lab.state_of("CS-a") == "attached"
    assert lab.attribute("CS-a", "uid") == "P1"
    assert lab.attribute("CS-a", "owner") == "lab1"


def test_numbers_are_given_in_turn_and_never_again(lab: Lab) -> None:
    for name in ("CS-a", "CS-b", "CS-c"):
        lab.run(f"mkdir {name} && touch {name}/cs.lock").ok()
    lab.run("rm CS-c/cs.lock && touch CS-c/cs.lock").ok()
    assert [lab.attribute(n, "uid") for n in ("CS-a", "CS-b", "CS-c")] == ["P1", "P2", "P4"]
    lab.run("rmdir .csfs/projects/P3").ok()
    lab.run("mkdir CS-d && touch CS-d/cs.lock").ok()
    assert lab.attribute("CS-d", "uid") == "P5"


@pytest.mark.parametrize(
    "touch",
    [
        "touch CS-a/cs.lock",
        "> CS-a/cs.lock",
        "python3 -c \"open('CS-a/cs.lock', 'x').close()\"",
        "python3 -c \"import pathlib; pathlib.Path('CS-a/cs.lock').touch()\"",
        "touch x && mv x CS-a/cs.lock",
        "python3 -c \"import os; os.mknod('CS-a/cs.lock')\"",
    ],
)
def test_every_way_to_make_an_empty_lock_attaches(sample: Path, lab: Lab, touch: str) -> None:
    lab.run(touch).ok()
    assert lab.state_of("CS-a") == "attached"
    assert (lab / "CS-a/cs.lock").read_bytes() == (sample / "cs.lock").read_bytes()
    lab.run("touch CS-a/cs.lock").ok()
    assert lab.attribute("CS-a", "uid") == "P1"


def test_attach_imports_the_project_under_a_new_number(sample: Path, lab: Lab) -> None:
    before = {p: p.read_bytes() for p in sample.rglob("*") if p.is_file() and p.name != "project.json"}
    lab.run("touch CS-a/cs.lock").ok()
    assert json.loads((lab / "CS-a/project.json").read_text())["uid"] == "P1"
    jobs = [p for p in sample.iterdir() if p.name[0] == "J" and (p / "job.json").exists()]
    assert lab.attribute("CS-a", "jobs") == str(len(jobs))
    for job in jobs:
        document = json.loads((lab / f"CS-a/{job.name}/job.json").read_text())
        assert document["project_uid"] == "P1"
    data = [p for p in before if p.name not in ("job.json", "workspaces.json")]
    assert data
    for path in data:
        assert (lab / str(path.relative_to(lab.backing))).read_bytes() == before[path]


def test_a_directory_that_is_no_project_is_refused(lab: Lab) -> None:
    lab.run("mkdir d && echo data > d/file").ok()
    lab.run("touch d/cs.lock").refused("Invalid argument")
    assert os.listdir(lab.backing / "d") == ["file"]
    assert "neither empty nor a project" in lab.why("d")
    assert lab.refusals()[-1]["path"] == "d/cs.lock"
    lab.run("echo more > d/file2").ok()


def test_a_broken_project_document_refuses_the_attach(sample: Path, lab: Lab) -> None:
    broken = b'{"uid": "P9",\n "title": oops}'
    (sample / "project.json").write_bytes(broken)
    lab.run("touch CS-a/cs.lock").refused("Invalid argument")
    assert not (sample / "cs.lock").exists()
    assert (sample / "project.json").read_bytes() == broken
    assert lab.state_of("CS-a") == "detached"
    assert "line 2 column 11" in lab.why("CS-a")


def test_detach_and_attach_in_the_other_instance(sample: Path, labs: tuple[Lab, Lab]) -> None:
    one, two = labs
    for _ in range(3):
        two.run("mkdir x && touch x/cs.lock && rm x/cs.lock && rm -rf x").ok()
    one.run("touch CS-a/cs.lock").ok()
    assert two.state_of("CS-a") == "foreign"
    one.run("rm CS-a/cs.lock").ok()
    assert json.loads((sample / "project.json").read_text())["detached"] is True
    two.run("touch CS-a/cs.lock").ok()
    assert two.attribute("CS-a", "uid") == "P4"
    assert json.loads((two / "CS-a/project.json").read_text())["detached"] is False
    assert json.loads((one / ".csfs/projects/P1/record.json").read_text())["state"] == "detached"
    wait_for(lambda: one.state_of("CS-a") == "foreign", "the first instance sees the new owner")


def test_archive_is_read_only_and_unarchive_ends_it(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a").ok()
    assert lab.state_of("CS-a") == "archived"
    assert json.loads((sample / "project.json").read_text())["archived"] is True
    for command in (
        "touch CS-a/new",
        "echo x >> CS-a/J2/job.log",
        "truncate -s 0 CS-a/J2/job.log",
        "mkdir CS-a/J2/d",
        "rm CS-a/J2/job.log",
        "mv CS-a/J2/job.log CS-a/J2/other",
        "chmod 600 CS-a/J2/job.log",
        "setfattr -n user.x -v y CS-a/J2/job.log",
        "ln CS-a/J2/job.log CS-a/J2/other",
        "ln -s x CS-a/J2/other",
        "echo {} > CS-a/project.json",
        "rm CS-a/cs.lock",
    ):
        lab.run(command).refused("Read-only file system")
    lab.run("cat CS-a/J2/job.log > /dev/null").ok()
    lab.run("chmod a-w CS-a && chmod -R u+w CS-a").ok()
    assert lab.state_of("CS-a") == "attached"
    assert lab.attribute("CS-a", "uid") == "P1"
    assert json.loads((sample / "project.json").read_text())["archived"] is False
    lab.run("echo x >> CS-a/J2/job.log && touch CS-a/new").ok()


def test_bundle_delete_and_restore_at_a_new_place(
    sample: Path, labs: tuple[Lab, Lab], tmp_path: Path
) -> None:
    lab, other = labs
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a").ok()
    lab.run(f"cp -a CS-a {tmp_path}/copy").ok()
    lab.run(f"tar -cf {tmp_path}/P.tar CS-a && rm -rf CS-a && mkdir new").ok()
    assert not sample.exists()
    assert json.loads((lab / ".csfs/projects/P1/project.json").read_text())["archived"] is True
    names = lab.run(f"tar -tf {tmp_path}/P.tar").ok().out.splitlines()
    assert names[-1] == "CS-a/cs.lock"
    lab.run(f"tar -C new -xf {tmp_path}/P.tar").ok()
    other.run("touch new/CS-a/cs.lock").refused("File exists")
    lab.run("chmod u+w new/CS-a").ok()
    assert lab.attribute("new/CS-a", "uid") == "P1"
    assert lab.state_of("new/CS-a") == "attached"
    changed = "-x cs.lock -x project.json"
    lab.run(f"{DIFF} {changed} {tmp_path}/copy new/CS-a").ok()
    links = [p for p in (lab / "new/CS-a/J1/imported").iterdir() if p.is_symlink()]
    assert links
    assert not any(p.exists() for p in links)
    wait_for(lambda: other.state_of("new/CS-a") == "foreign", "the other instance sees the owner")


def test_what_is_missing_from_an_archive_is_named(sample: Path, lab: Lab, tmp_path: Path) -> None:
    lab.run(f"touch CS-a/cs.lock && chmod a-w CS-a && tar -cf {tmp_path}/P.tar CS-a && rm -rf CS-a").ok()
    lab.run(f"tar -xf {tmp_path}/P.tar && rm CS-a/J2/job.log && echo x >> CS-a/J3/job.log").ok()
    lab.run("chmod u+w CS-a").refused("Input/output error")
    told = lab.why("CS-a")
    assert "J2/job.log is missing" in told
    assert "J3/job.log had " in told
    assert "--accept-changes" in told
    lab.csfs("unarchive", "--accept-changes", lab / "CS-a").ok()
    assert lab.state_of("CS-a") == "attached"
    assert lab.attribute("CS-a", "uid") == "P1"
    lab.run("touch CS-a/works").ok()


RESTORES = {
    "tar": "tar -xf ../away/P.tar",
    "cp": "cp -a ../away/CS-a .",
    "rsync": "rsync -a ../away/CS-a .",
    "mv": "mv ../away/CS-a .",
    "tarfile": "python3 -c \"import tarfile; tarfile.open('../away/P.tar').extractall('.')\"",
}


@pytest.mark.parametrize("restore", RESTORES.values(), ids=RESTORES.keys())
def test_restoring_is_not_yet_unarchiving(sample: Path, lab: Lab, restore: str) -> None:
    """Each of these tools ends with a chmod of the directory: the user's own chmod comes after it."""
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a && mkdir ../away && tar -cf ../away/P.tar CS-a").ok()
    lab.run("mv CS-a ../away/").ok()
    assert not sample.exists()
    lab.run(restore).ok()
    assert lab.state_of("CS-a") == "detached"
    lab.run("mv CS-a/J2/job.log kept && chmod u+w CS-a").refused("Input/output error")
    lab.run("mv kept CS-a/J2/job.log && chmod u+w CS-a").ok()
    assert lab.state_of("CS-a") == "attached"
    assert lab.attribute("CS-a", "uid") == "P1"


def test_a_copy_beside_the_archived_original_stays_a_copy(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a && cp -a CS-a CS-b && chmod u+w CS-b").ok()
    assert lab.state_of("CS-a") == "archived"
    assert lab.state_of("CS-b") == "detached"
    lab.run("rm CS-b/cs.lock && touch CS-b/cs.lock").ok()
    assert lab.attribute("CS-b", "uid") == "P2"
    lab.run("chmod u+w CS-a").ok()
    assert lab.attribute("CS-a", "uid") == "P1"


def test_an_archived_project_may_be_renamed_and_moved_away(sample: Path, lab: Lab, tmp_path: Path) -> None:
    lab.run("touch CS-a/cs.lock && chmod a-w CS-a && mkdir sub && mv CS-a sub/CS-z").ok()
    assert lab.state_of("sub/CS-z") == "archived"
    lab.run(f"mv sub/CS-z {tmp_path}/away").ok()
    assert not (lab / "sub/CS-z").exists()
    lab.run(f"cp -a {tmp_path}/away back && chmod u+w back").ok()
    assert lab.state_of("back") == "attached"
    assert lab.attribute("back", "uid") == "P1"


def test_move_of_a_project_is_one_step(sample: Path, lab: Lab) -> None:
    many_files(sample, 10_000)
    lab.run("touch CS-a/cs.lock && mkdir sub").ok()
    reader = (lab / "CS-a/J2/job.log").open("rb")
    first = reader.read(100)
    rest_before = (lab / "CS-a/J2/job.log").read_bytes()[100:]
    lab.run("mv CS-a sub/CS-z").ok()
    assert lab.attribute("sub/CS-z", "uid") == "P1"
    assert first + reader.read() == first + rest_before
    reader.close()
    lab.run("tar -cf /dev/null sub/CS-z").ok()
    document = json.loads((lab / "sub/CS-z/project.json").read_text())
    assert document["project_dir"] == str(lab / "sub/CS-z")
    assert json.loads((lab.backing / "sub/CS-z/cs.lock").read_text())["path"] == "sub/CS-z"
    assert os.readlink(lab / ".csfs/projects/P1/directory") == "../../../sub/CS-z"


def test_a_container_moves_with_the_projects_in_it(sample: Path, labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    lab.run("mkdir -p top/mid && mv CS-a top/mid/ && touch top/mid/CS-a/cs.lock").ok()
    lab.run("mkdir top/CS-b && touch top/CS-b/cs.lock").ok()
    lab.run("mv top elsewhere && touch elsewhere/mid/CS-a/ok elsewhere/CS-b/ok").ok()
    assert lab.attribute("elsewhere/mid/CS-a", "uid") == "P1"
    assert lab.attribute("elsewhere/CS-b", "uid") == "P2"
    other.run("mv elsewhere stolen").refused("Operation not permitted")
    with (lab / "elsewhere/mid/CS-a/J2/open").open("wb"):
        lab.run("mv elsewhere again").refused("Device or resource busy")
    lab.run("mv elsewhere again").ok()
    assert lab.attribute("again/CS-b", "uid") == "P2"


def test_a_clone_is_complete_and_owned_by_nobody(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && cp -a CS-a CS-b").ok()
    assert lab.refusals() == []
    lab.run(f"{DIFF} CS-a CS-b").ok()
    assert lab.state_of("CS-b") == "detached"
    assert "inert" in lab.attribute("CS-b", "reason")
    lab.run("touch CS-b/cs.lock").refused("File exists")
    assert f"`rm {lab.mountpoint}/CS-b/cs.lock" in lab.why("CS-b")
    lab.run("rm CS-b/cs.lock && touch CS-b/cs.lock").ok()
    assert lab.attribute("CS-b", "uid") == "P2"
    assert lab.attribute("CS-a", "uid") == "P1"


def test_rsync_clones_and_brings_up_to_date(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && rsync -a CS-a/ CS-b/").ok()
    lab.run(f"{DIFF} CS-a CS-b").ok()
    assert lab.state_of("CS-b") == "detached"
    lab.run("echo more >> CS-a/J2/job.log && rsync -a CS-a/ CS-b/").ok()
    lab.run(f"{DIFF} CS-a CS-b").ok()
    assert lab.run("rsync -a --itemize-changes CS-a/ CS-b/").ok().out == ""


def test_delete_after_detach_and_forget(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run("rmdir .csfs/projects/P1").refused("Operation not permitted")
    lab.run("rm CS-a/cs.lock && rm -rf CS-a").ok()
    assert os.listdir(lab.backing) == [".csfs"]
    assert os.listdir(lab / ".csfs/projects") == ["P1"]
    assert "J2" in os.listdir(lab / ".csfs/projects/P1")
    lab.run("rm -r .csfs/projects/P1").ok()
    assert os.listdir(lab / ".csfs/projects") == []


def test_projects_do_not_nest(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock && mkdir CS-b && touch CS-b/cs.lock").ok()
    lab.run("mv CS-b CS-a/").refused("Operation not permitted")
    assert lab.attribute("CS-b", "uid") == "P2"
    lab.run("mkdir c && cp CS-b/project.json c/ && mkdir c/CS-d && touch c/CS-d/cs.lock")
    lab.run("mkdir -p e/CS-f && touch e/CS-f/cs.lock && cp CS-b/project.json e/").ok()
    lab.run("touch e/cs.lock").refused("Operation not permitted")
    assert not (lab.backing / "e/cs.lock").exists()


def test_bytes_of_the_users_own_attach_and_are_served_back(sample: Path, labs: tuple[Lab, Lab]) -> None:
    lab, other = labs
    (lab.backing.parent / "own").write_bytes(b"lock of another program\n\x00\xff")
    lab.run("cp ../own CS-a/cs.lock").ok()
    assert lab.state_of("CS-a") == "attached"
    for place in (lab / "CS-a", sample, other / "CS-a"):
        assert (place / "cs.lock").read_bytes() == b"lock of another program\n\x00\xff"
    assert other.state_of("CS-a") == "foreign"
    assert "not written by csfs" in other.attribute("CS-a", "owner")
    lab.run("mv CS-a CS-b && chmod a-w CS-b && chmod u+w CS-b && rm CS-b/cs.lock").ok()
    assert not (lab.backing / "CS-b/cs.lock").exists()


def test_create_by_title(lab: Lab) -> None:
    titles = {
        "My Protein, Data Collection (October 1 2022)": "CS-my-protein-data-collection-october-1-2022",
        "my protein data collection october 1 2022": "CS-my-protein-data-collection-october-1-2022-2",
        "": "CS-project",
        "蛋白質": "CS-project-2",
        "Protéine β": "CS-proteine",
    }
    for title, name in titles.items():
        lab.csfs("create", lab.mountpoint, title).ok()
        assert lab.state_of(name) == "attached", title
        assert json.loads((lab / f"{name}/project.json").read_text())["title"] == title
        assert json.loads((lab.backing / f"{name}/project.json").read_text())["title"] == title
        assert lab.attribute(name, "title") == title
