"""The instance: what it knows of its projects, and how it recognises them."""

import os
import shutil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain.state import State
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from csfs.lifecycle.instance import Claims, Instance, owner_of, timestamp
from csfs.lifecycle.project import Project
from csfs.store import records
from tests.lifecycle.world import MOUNTPOINT, Lab, World


def record(number: int, **changes: object) -> records.Project:
    made = records.Project(
        number=number,
        uuid=f"uuid-{number}",
        title="",
        state="attached",
        path=b"CS-%d" % number,
        inode=1000 + number,
        lock_id=f"lock-{number}",
        lock_content=b"",
        epoch=1,
        since="2026-01-01T00:00:00.000Z",
    )
    return msgspec.structs.replace(made, **changes)


# Claims.


def test_a_claim_is_found_by_what_is_seen() -> None:
    claims = Claims()
    claims.put(record(1))
    assert claims.by_lock("lock-1") == claims.by_inode(1001) == claims.by_number[1] == record(1)
    assert claims.by_lock("lock-2") is None
    assert claims.by_inode(1002) is None


def test_a_later_record_replaces_the_one_before() -> None:
    claims = Claims()
    claims.put(record(1))
    later = record(1, lock_id="lock-x", inode=7)
    claims.put(later)
    assert claims.by_lock("lock-1") is None
    assert claims.by_inode(1001) is None
    assert claims.by_lock("lock-x") == claims.by_inode(7) == later


def test_a_detached_one_is_found_by_its_lock_alone() -> None:
    claims = Claims()
    claims.put(record(1))
    claims.put(record(1, state="detached"))
    assert claims.by_inode(1001) is None
    assert claims.by_lock("lock-1") == record(1, state="detached")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_attached_one_of_two_with_the_same_inode(order: tuple[int, int]) -> None:
    """The other is archived and away; the number of its directory was given again."""
    both = {1: record(1, state="archived", inode=7), 2: record(2, inode=7)}
    claims = Claims()
    for number in order:
        claims.put(both[number])
    assert claims.by_inode(7) == both[2]
    claims.drop(1)
    assert claims.by_inode(7) == both[2]


def test_dropped_it_is_gone() -> None:
    claims = Claims()
    claims.put(record(1))
    claims.drop(1)
    claims.drop(1)
    assert claims.by_lock("lock-1") is None
    assert claims.by_inode(1001) is None
    assert claims.by_number == {}


@given(
    st.lists(
        st.builds(
            record,
            st.integers(1, 3),
            state=st.sampled_from(["attached", "archived", "detached"]),
            inode=st.integers(1, 2),
            lock_id=st.sampled_from(["a", "b", "c"]),
        ),
        max_size=12,
    )
)
def test_whatever_is_found_is_what_it_was_asked_for(put: list[records.Project]) -> None:
    claims = Claims()
    for one in put:
        claims.put(one)
        assert claims.by_number[one.number] == one
        assert claims.by_lock(one.lock_id) == one
    for inode in (1, 2):
        found = claims.by_inode(inode)
        assert found is None or (found.inode == inode and found.state != "detached")
    for lock_id in ("a", "b", "c"):
        found = claims.by_lock(lock_id)
        assert found is None or found.lock_id == lock_id


# Recognising.


async def test_a_plain_directory_is_no_project(world: World, lab: Lab) -> None:
    (world.backing / "plain").mkdir()
    assert lab.look("plain") is None
    assert lab.instance.projects == {}


async def test_one_object_for_one_directory(world: World, lab: Lab) -> None:
    world.small()
    first = lab.project("CS-x")
    assert first.state is State.DETACHED
    assert await lab.attach("CS-x") is first
    os.rename(world.backing / "CS-x", world.backing / "CS-y")
    assert lab.project("CS-y") is first
    assert first.path == b"CS-y"


async def test_a_project_that_is_none_any_more(world: World, lab: Lab) -> None:
    directory = world.small()
    lab.project("CS-x")
    (directory / "project.json").unlink()
    assert lab.look("CS-x") is None
    assert lab.instance.projects == {}


async def test_changes_of_state_are_told(world: World, lab: Lab) -> None:
    world.small()
    told: list[str] = []
    lab.instance.changed = lambda project: told.append(project.state.value)
    project = lab.project("CS-x")
    lab.project("CS-x")
    await lab.attach("CS-x")
    lab.project("CS-x")
    await archive(lab.instance, project)
    os.unlink(world.backing / "CS-x/cs.lock")
    lab.project("CS-x")
    assert told == ["detached", "attached", "archived", "detached"]


async def test_a_glance_reads_a_lock_again_only_if_it_has_changed(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    project = await lab.attach("CS-x")
    before = project.sight
    looks = []
    look = Instance.look

    def counted(self: Instance, directory: object) -> object:
        looks.append(directory)
        return look(self, directory)  # type: ignore[arg-type]

    monkeypatch.setattr(Instance, "look", counted)
    assert lab.instance.glance(project.directory, before) == before
    (world.backing / "CS-x/project.json").unlink()
    assert lab.instance.glance(project.directory, before).has_project_document is False
    assert looks == []
    os.unlink(world.backing / "CS-x/cs.lock")
    assert lab.instance.glance(project.directory, before).lock is None
    (world.backing / "CS-x/cs.lock").write_bytes(b"other")
    assert lab.instance.glance(project.directory, before).lock is not None
    assert len(looks) == 2


async def test_all_is_known_again_after_a_restart(world: World, lab: Lab) -> None:
    for name in ("CS-a", "CS-b", "CS-c"):
        world.small(name)
        await lab.attach(name)
    await archive(lab.instance, lab.project("CS-b"))
    await detach(lab.instance, lab.project("CS-c"))
    before = lab.instance.claims.by_number
    lab.restart()
    assert lab.instance.claims.by_number == before
    assert [lab.state_of(f"CS-{name}") for name in "abc"] == ["attached", "archived", "detached"]
    assert lab.project("CS-a").jobs == {"J1"}


async def test_a_lock_removed_behind_our_back_is_noticed(world: World, lab: Lab) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    lock = (directory / "cs.lock").read_bytes()
    os.unlink(directory / "cs.lock")
    assert lab.state_of("CS-x") is State.LOST
    assert "was removed" in project.verdict.reason
    assert project.held.uid == "P1"
    assert project.jobs == {"J1"}
    (directory / "cs.lock").write_bytes(lock)
    assert lab.state_of("CS-x") is State.ATTACHED


async def test_a_copy_never_makes_a_second_owner(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    shutil.copytree(world.backing / "CS-x", world.backing / "CS-y", symlinks=True)
    for which in (lab, other):
        copy = which.project("CS-y")
        assert (copy.state, copy.verdict.inert, copy.record) == (State.DETACHED, True, None)
    (world.backing / "CS-y/cs.lock").unlink()
    assert (await other.attach("CS-y")).uid == "P1"
    assert lab.state_of("CS-y") is State.FOREIGN
    lab.check_consistent()
    other.check_consistent()


async def test_two_copies_of_one_store_do_not_share_a_project(world: World, lab: Lab) -> None:
    """A record of an instance with another UUID does not make its lock ours."""
    world.small()
    await lab.attach("CS-x")
    foreign = world.lab("lab2")
    await foreign.store.write(lambda change: change.put_project(lab.record(1)))
    foreign.restart()
    assert foreign.state_of("CS-x") is State.LOST
    assert lab.state_of("CS-x") is State.ATTACHED


@pytest.mark.parametrize("gone", ["missing", "a file"])
async def test_a_visit_to_what_is_not_there(world: World, lab: Lab, gone: str) -> None:
    world.small("group/CS-x")
    project = await lab.attach("group/CS-x")
    assert await lab.instance.visit(project.held) is project
    shutil.rmtree(world.backing / "group")
    if gone == "a file":
        (world.backing / "group").write_bytes(b"")
    assert await lab.instance.visit(project.held) is None


# What it writes.


def test_a_timestamp_is_that_of_extended_json() -> None:
    found = timestamp()
    assert len(found) == len("2026-05-15T10:00:00.000Z")
    assert found.endswith("Z")
    assert found[10] == "T"


def test_the_owner_of_what_is_made_is_that_of_the_directory(world: World, lab: Lab) -> None:
    found = world.backing.stat()
    assert owner_of(lab.root) == (found.st_uid, found.st_gid)


async def test_the_path_of_a_project_is_that_on_the_mount(world: World, lab: Lab) -> None:
    path = os.fsdecode(b"gr\xffup/CS-\xc3\xa4")
    world.small(path)
    await lab.attach(path)
    assert lab.live_json(1)["project_dir"] == f"{MOUNTPOINT}/gr\\udcffup/CS-ä"


async def test_a_local_filesystem_is_worked_on_inline(lab: Lab) -> None:
    assert lab.instance.backings.of(lab.root).network is False


async def test_on_a_network_filesystem_all_is_the_same(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.small()
    lab.instance.backings.of(lab.root).network = True
    project = await lab.attach("CS-x")
    await archive(lab.instance, project)
    assert lab.state_of("CS-x") is State.ARCHIVED
    os.unlink(world.backing / "CS-x/cs.lock")
    assert lab.state_of("CS-x") is State.DETACHED


async def test_a_project_knows_its_name(world: World, lab: Lab) -> None:
    world.small()
    project = lab.project("CS-x")
    assert (project.uid, project.is_free) == ("CS-x", True)
    with pytest.raises(AssertionError):
        _ = project.held
    await lab.attach("CS-x")
    assert (project.uid, project.is_free) == ("P1", False)
    assert isinstance(project, Project)
