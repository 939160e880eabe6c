"""What users do, as ordinary file operations: each to be cut short at every system call of the daemon."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from csfs.backing.descriptor import Descriptor
from csfs.domain import lock
from tests.crash.site import Site

Step = Callable[[Site], None]


@dataclass(frozen=True)
class Action:
    """`act` does it, and does nothing where it was done already; it raises OSError if it fails.

    `before` and `after` are the states of directories. `holds` checks what else follows from it, and is
    asked of whatever was acknowledged, and when it was repeated.
    """

    name: str
    prepare: Step
    act: Step
    before: dict[str, str]
    after: dict[str, str]
    holds: Step = field(default=lambda site: None)
    between: dict[str, str] | None = None
    """The states that may be found too, of an action of several steps that was not acknowledged."""
    removes_data: bool = False

    def __str__(self) -> str:
        return self.name


def touch(path: Path, content: bytes = b"") -> None:
    """Raises what close(2) says, too."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        if content:
            os.write(fd, content)
    finally:
        os.close(fd)


def rewrite(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def run(*words: str | Path) -> None:
    """Raises OSError if the command fails, as its operation did."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr)


def unless(state: str, path: str, act: Step) -> Step:
    """Acts where a directory is not in this state yet."""

    def step(site: Site) -> None:
        if site.state_of(path) != state:
            act(site)

    return step


# -- create, attach ------------------------------------------------------------------------------------


def empty(site: Site) -> None:
    (site / "CS-x").mkdir()


def claim(site: Site) -> None:
    touch(site / "CS-x/cs.lock")


def claim_in_words_of_their_own(site: Site) -> None:
    touch(site / "CS-x/cs.lock", b"mine, says the user")


def has_words_of_their_own(site: Site) -> None:
    assert (site / "CS-x/cs.lock").read_bytes() == b"mine, says the user"


def a_detached_project(site: Site) -> None:
    site.small("CS-x")


def inert_lock_elsewhere(site: Site) -> None:
    """The lock of another project, to be copied into a detached one."""
    site.attached("CS-o")
    site.small("CS-x")


def copy_lock(site: Site) -> None:
    target = site / "CS-x/cs.lock"
    if not target.exists():
        touch(target, (site / "CS-o/cs.lock").read_bytes())


# -- rescue ---------------------------------------------------------------------------------------------

LOCK_OF_ANOTHER = "0f8fad5b-d9cb-469f-a165-70867728950e"


def held_by_another(site: Site) -> None:
    """A project of an instance that is gone."""
    directory = Descriptor.root(os.fspath(site.small("CS-x")))
    held = lock.Lock(
        lock_id=LOCK_OF_ANOTHER,
        instance_uuid="7c9e6679-7425-40de-944b-e07fc1f90ae7",
        instance_name="gone",
        project_uuid="a",
        project_uid="P1",
        state="attached",
        epoch=1,
        inode=directory.inode,
        born=directory.born(),
        path="CS-x",
        host="gone",
        since="2026-05-15T10:00:00.000Z",
    )
    (site.backing / "CS-x/cs.lock").write_bytes(held.encode())


def rescue(site: Site) -> None:
    os.setxattr(site / "CS-x", "user.csfs.rescue", LOCK_OF_ANOTHER.encode())


def the_broken_lock_is_kept(site: Site) -> None:
    [kept] = (site.backing / "CS-x").glob("cs.lock.rescued-*")
    assert lock.parse(kept.read_bytes()).lock_id == LOCK_OF_ANOTHER


# -- archive and its end -------------------------------------------------------------------------------


def attached(site: Site) -> None:
    site.attached("CS-x")


def archived(site: Site) -> None:
    site.archived("CS-x")


def archived_and_restored(site: Site) -> None:
    archived(site)
    shutil.copytree(site.backing / "CS-x", site.backing / "CS-y", symlinks=True)
    shutil.rmtree(site.backing / "CS-x")


def leave(site: Site) -> None:
    if (site / "CS-x").exists():
        run("rm", "-rf", site / "CS-x")


def is_archived_and_away(site: Site) -> None:
    assert site.records()["P1"].state == "archived"
    json.loads((site / ".csfs/projects/P1/project.json").read_text())


# -- forget --------------------------------------------------------------------------------------------


def detached(site: Site) -> None:
    site.attached("CS-x")
    (site / "CS-x/cs.lock").unlink()


def forget(site: Site) -> None:
    if (site / ".csfs/projects/P1").exists():
        (site / ".csfs/projects/P1").rmdir()


def is_forgotten(site: Site) -> None:
    assert "P1" not in site.records()


# -- move ----------------------------------------------------------------------------------------------


def a_container_of_projects(site: Site) -> None:
    site.attached("old/CS-a")
    site.archived("old/CS-b")
    site.small("old/CS-c")


def renamed(old: str, new: str) -> Step:
    def act(site: Site) -> None:
        if (site / old).exists():
            os.rename(site / old, site / new)

    return act


# -- jobs ----------------------------------------------------------------------------------------------


def make_job(site: Site) -> None:
    """A directory that was left without a document is no job yet: it can be made anew."""
    directory = site / "CS-x/J7"
    if directory.exists() and not (directory / "job.json").exists():
        directory.rmdir()
    if not directory.exists():
        directory.mkdir()


def is_a_job(site: Site) -> None:
    assert json.loads((site / "CS-x/J7/job.json").read_text())["uid"] == "J7"
    assert site.attribute("CS-x/J7", "status") == "building"


def delete_job(site: Site) -> None:
    if (site / "CS-x/J2/job.json").exists():
        (site / "CS-x/J2/job.json").unlink()


def is_no_job(site: Site) -> None:
    for top in (site.mnt, site.backing):
        assert (top / "CS-x/J2").is_dir()
        assert not (top / "CS-x/J2/job.json").exists()


def a_job_to_copy(site: Site) -> None:
    site.attached("CS-x")
    shutil.copytree(site.backing / "CS-x/J1", site.place / "J1", symlinks=True)


def copy_job(site: Site) -> None:
    """Copied in part, it is deleted and copied again."""
    target = site / "CS-x/J9"
    if target.exists():
        run("rm", "-f", target / "job.json")
        run("rm", "-rf", target)
    run("cp", "-a", site.place / "J1", target)


def is_copied(site: Site) -> None:
    found = json.loads((site / "CS-x/J9/job.json").read_text())
    assert (found["uid"], found["status"], found["project_uid"]) == ("J9", "completed", "P1")
    assert (site / "CS-x/J9/data.mrc").read_bytes() == (site.place / "J1/data.mrc").read_bytes()


def a_running_job(site: Site) -> None:
    site.attached("CS-x")
    (site / "CS-x/J7").mkdir()
    for status in (b"queued", b"launched", b"running"):
        os.setxattr(site / "CS-x/J7", "user.csfs.status", status)


def complete_job(site: Site) -> None:
    os.setxattr(site / "CS-x/J7", "user.csfs.status", b"completed")


def is_completed(site: Site) -> None:
    for top in (site.mnt, site.backing):
        assert json.loads((top / "CS-x/J7/job.json").read_text())["status"] == "completed"


# -- documents -----------------------------------------------------------------------------------------

NEW_TITLE = "after the edit"
NEW_TIME_NS = 1_700_000_000_123_456_789


def _edited(site: Site) -> bytes:
    before = json.loads((site / "CS-x/project.json").read_text())
    return json.dumps({**before, "title": NEW_TITLE}).encode()


def edit_in_place(site: Site) -> None:
    rewrite(site / "CS-x/project.json", _edited(site))


def edit_by_rename(site: Site) -> None:
    temporary = site / "CS-x/.project.json.new"
    temporary.write_bytes(_edited(site))
    os.rename(temporary, site / "CS-x/project.json")


def is_edited(site: Site) -> None:
    for top in (site.mnt, site.backing):
        assert json.loads((top / "CS-x/project.json").read_text())["title"] == NEW_TITLE


def keep_backup(site: Site) -> None:
    """As editors do before they write: the document itself stays where it is."""
    os.rename(site / "CS-x/project.json", site / "CS-x/J1/sub/project.json~")


def has_backup(site: Site) -> None:
    json.loads((site / "CS-x/J1/sub/project.json~").read_text())


def set_time(site: Site) -> None:
    os.utime(site / "CS-x/J1/job.json", ns=(NEW_TIME_NS, NEW_TIME_NS))


def has_time(site: Site) -> None:
    for top in (site.mnt, site.backing):
        assert (top / "CS-x/J1/job.json").stat().st_mtime_ns == NEW_TIME_NS


# -- restored in place ---------------------------------------------------------------------------------


def restored_in_place(site: Site) -> None:
    site.attached("CS-x")
    site.umount()
    shutil.copytree(site.backing / "CS-x", site.place / "backup", symlinks=True)
    shutil.rmtree(site.backing / "CS-x")
    shutil.copytree(site.place / "backup", site.backing / "CS-x", symlinks=True)
    site.mount()


def look(site: Site) -> None:
    os.stat(site / "CS-x/project.json")


ACTIONS = (
    Action(
        "rescue",
        held_by_another,
        unless("detached", "CS-x", rescue),
        {"CS-x": "foreign"},
        {"CS-x": "detached"},
        the_broken_lock_is_kept,
    ),
    Action("create", empty, claim, {"CS-x": "plain"}, {"CS-x": "attached"}),
    Action("attach", a_detached_project, claim, {"CS-x": "detached"}, {"CS-x": "attached"}),
    Action(
        "attach with a lock of one's own",
        a_detached_project,
        unless("attached", "CS-x", claim_in_words_of_their_own),
        {"CS-x": "detached"},
        {"CS-x": "attached"},
        has_words_of_their_own,
    ),
    Action(
        "copy of a lock",
        inert_lock_elsewhere,
        copy_lock,
        {"CS-o": "attached", "CS-x": "detached"},
        {"CS-o": "attached", "CS-x": "detached"},
    ),
    Action(
        "detach",
        attached,
        unless("detached", "CS-x", lambda site: os.unlink(site / "CS-x/cs.lock")),
        {"CS-x": "attached"},
        {"CS-x": "detached"},
    ),
    Action(
        "archive",
        attached,
        lambda site: os.chmod(site / "CS-x", 0o555),
        {"CS-x": "attached"},
        {"CS-x": "archived"},
    ),
    Action(
        "unarchive in place",
        archived,
        lambda site: os.chmod(site / "CS-x", 0o755),
        {"CS-x": "archived"},
        {"CS-x": "attached"},
    ),
    Action(
        "unarchive a copy",
        archived_and_restored,
        lambda site: os.chmod(site / "CS-y", 0o755),
        {"CS-y": "detached"},
        {"CS-y": "attached"},
    ),
    Action(
        "remove an archived project",
        archived,
        leave,
        {"CS-x": "archived"},
        {"CS-x": "missing"},
        is_archived_and_away,
        between={"CS-x": "plain"},
        removes_data=True,
    ),
    Action(
        "move",
        attached,
        renamed("CS-x", "CS-y"),
        {"CS-x": "attached", "CS-y": "missing"},
        {"CS-x": "missing", "CS-y": "attached"},
    ),
    Action(
        "move an archived project",
        archived,
        renamed("CS-x", "CS-y"),
        {"CS-x": "archived", "CS-y": "missing"},
        {"CS-x": "missing", "CS-y": "archived"},
    ),
    Action(
        "move a container",
        a_container_of_projects,
        renamed("old", "new"),
        {"old/CS-a": "attached", "old/CS-b": "archived", "old/CS-c": "detached", "new": "missing"},
        {"new/CS-a": "attached", "new/CS-b": "archived", "new/CS-c": "detached", "old": "missing"},
    ),
    Action("forget", detached, forget, {"CS-x": "detached"}, {"CS-x": "detached"}, is_forgotten),
    Action("make a job", attached, make_job, {"CS-x": "attached"}, {"CS-x": "attached"}, is_a_job),
    Action("delete a job", attached, delete_job, {"CS-x": "attached"}, {"CS-x": "attached"}, is_no_job),
    Action("copy a job in", a_job_to_copy, copy_job, {"CS-x": "attached"}, {"CS-x": "attached"}, is_copied),
    Action(
        "complete a job",
        a_running_job,
        complete_job,
        {"CS-x": "attached"},
        {"CS-x": "attached"},
        is_completed,
    ),
    Action("edit in place", attached, edit_in_place, {"CS-x": "attached"}, {"CS-x": "attached"}, is_edited),
    Action("edit by rename", attached, edit_by_rename, {"CS-x": "attached"}, {"CS-x": "attached"}, is_edited),
    Action("keep a backup", attached, keep_backup, {"CS-x": "attached"}, {"CS-x": "attached"}, has_backup),
    Action("set a time", attached, set_time, {"CS-x": "attached"}, {"CS-x": "attached"}, has_time),
    Action("rebind", restored_in_place, look, {"CS-x": "attached"}, {"CS-x": "attached"}),
)

BY_NAME = {action.name: action for action in ACTIONS}
