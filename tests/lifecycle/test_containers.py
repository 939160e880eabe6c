"""Actions in several containers, and in one that is away: cut short, settled, and what the store notes."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from csfs.backing import control
from csfs.backing.backings import Backings
from csfs.domain.state import State
from csfs.lifecycle import intents, leftovers, storage
from csfs.lifecycle.archive import archive
from csfs.lifecycle.instance import Claims
from csfs.lifecycle.unarchive import returning, unarchive
from csfs.store.records import Instance, Intent
from tests.lifecycle.power import cut_after
from tests.lifecycle.test_instance import record
from tests.lifecycle.test_intents import check, move_all, settle_with_cuts
from tests.lifecycle.world import Lab, World


class ContainersLab(Lab):
    """An instance with the containers ssd and hdd, or those of them that have a directory."""

    names: tuple[str, ...] = ("ssd", "hdd")

    def backings(self) -> Backings:
        return Backings.open({name.encode(): os.fspath(self.backing / name) for name in self.names})


def begin(directory: Path) -> tuple[World, ContainersLab]:
    world = World(directory)
    for name in ContainersLab.names:
        (world.backing / name).mkdir()
    lab = ContainersLab("lab1", world.backing, directory / "lab1")
    world.labs.append(lab)
    return world, lab


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[World, ContainersLab]]:
    world, lab = begin(tmp_path / "world")
    yield world, lab
    world.close()


async def test_an_unarchive_in_another_container_is_cut_short_at_every_step(tmp_path: Path) -> None:
    steps, was_cut = 0, True
    while was_cut:
        world, lab = begin(tmp_path / str(steps))
        try:
            directory = world.small("ssd/CS-x")
            await archive(lab.instance, await lab.attach("ssd/CS-x"))
            shutil.copytree(directory, world.backing / "hdd/CS-y", symlinks=True)
            shutil.rmtree(directory)

            async def act(lab: Lab = lab) -> None:
                project = lab.project("hdd/CS-y")
                if project.state is State.DETACHED:
                    found = await returning(lab.instance, project)
                    assert found is not None
                    await unarchive(lab.instance, project, found)

            was_cut = await cut_after(steps, lab, act)
            lab.restart()
            await settle_with_cuts(lab)
            await check(world, lab)
            await act()
            await check(world, lab)
            assert (lab.state_of("hdd/CS-y"), lab.record(1).path) == (State.ATTACHED, b"hdd/CS-y")
        finally:
            world.close()
        steps += 1
    assert steps > 1


async def test_a_move_is_cut_short_at_every_step(tmp_path: Path) -> None:
    steps, was_cut = 0, True
    while was_cut:
        world, lab = begin(tmp_path / str(steps))
        try:
            world.small("hdd/CS-x")
            (world.backing / "hdd/group").mkdir()
            await lab.attach("hdd/CS-x")

            async def act(lab: Lab = lab) -> None:
                await move_all(lab, "hdd/CS-x", "hdd/group/CS-y")

            was_cut = await cut_after(steps, lab, act)
            lab.restart()
            await settle_with_cuts(lab)
            await check(world, lab)
            await act()
            assert lab.state_of("hdd/group/CS-y") is State.ATTACHED
        finally:
            world.close()
        steps += 1
    assert steps > 1


async def test_what_was_cut_short_in_a_container_that_is_away_waits(
    both: tuple[World, ContainersLab], tmp_path: Path
) -> None:
    world, lab = both
    for path in ("ssd/CS-x", "hdd/CS-y"):
        world.small(path)
        project = await lab.attach(path)
        after = lab.instance.relocked(project.held, project.directory, path.encode(), archived=True)
        await intents.declare(lab.instance, Intent(action="archive", before=project.held, after=after))
    note = await leftovers.note(lab.instance, b"hdd/CS-y")
    os.rename(world.backing / "hdd", tmp_path / "aside")
    lab.restart()
    await intents.settle(lab.instance)
    await leftovers.remove(lab.instance, leftovers.find(lab.instance))
    assert [intent.after.path for intent in lab.pending()] == [b"hdd/CS-y"]
    assert note in lab.store.read(lambda view: view.temporaries())
    assert lab.state_of("ssd/CS-x") is State.ATTACHED
    with pytest.raises(OSError, match="is not there"):
        await lab.instance.visit(lab.record(2))
    os.rename(tmp_path / "aside", world.backing / "hdd")
    lab.restart()
    await settle_with_cuts(lab)
    await leftovers.remove(lab.instance, leftovers.find(lab.instance))
    assert lab.store.read(lambda view: view.temporaries()) == {}
    await check(world, lab)


async def test_an_archived_project_returns_from_a_container_that_was_given_up_but_not_from_one_that_is_away(
    both: tuple[World, ContainersLab], tmp_path: Path
) -> None:
    world, lab = both
    directory = world.small("ssd/CS-x")
    await archive(lab.instance, await lab.attach("ssd/CS-x"))
    shutil.copytree(directory, world.backing / "hdd/CS-y", symlinks=True)
    os.rename(world.backing / "ssd", tmp_path / "aside")
    lab.restart()
    with pytest.raises(OSError, match="is not there"):
        await returning(lab.instance, lab.project("hdd/CS-y"))
    lab.names = ("hdd",)
    lab.restart()
    project = lab.project("hdd/CS-y")
    found = await returning(lab.instance, project)
    assert found is not None
    await unarchive(lab.instance, project, found)
    assert lab.state_of("hdd/CS-y") is State.ATTACHED
    os.rename(tmp_path / "aside", world.backing / "ssd")
    lab.names = ("ssd", "hdd")
    lab.restart()
    assert lab.state_of("hdd/CS-y") is State.ATTACHED
    assert lab.state_of("ssd/CS-x") is State.DETACHED, "nobody owns what came back too late"


async def test_each_container_has_a_storage_of_its_own(both: tuple[World, ContainersLab]) -> None:
    world, lab = both
    await storage.recognise_all(lab.instance)
    backings = list(lab.instance.backings)
    expected = {each.name: control.storage(each.descriptor) for each in backings}
    assert lab.instance.identity.containers == expected
    assert len(set(expected.values())) == 2
    world.small("ssd/CS-x")
    await lab.attach("ssd/CS-x")
    shutil.rmtree(world.backing / "ssd/.csfs")
    lab.restart()
    await storage.recognise_all(lab.instance)
    assert [bool(each.away) for each in lab.instance.backings] == [True, False]
    assert [each.filesystem for each in lab.instance.backings] == [b"ssd", b"hdd"]
    assert lab.instance.claims.by_inode(lab.record(1).inode, b"ssd") == lab.record(1)
    assert not (world.backing / "ssd/.csfs").exists()
    lab.restart()
    await storage.recognise_all(lab.instance, accept=True)
    assert not any(each.away for each in lab.instance.backings)
    assert lab.state_of("ssd/CS-x") is State.ATTACHED


async def test_a_store_without_projects_goes_from_the_one_to_the_other(
    both: tuple[World, ContainersLab],
) -> None:
    _, lab = both
    await storage.recognise_all(lab.instance)
    lab.instance.backings = one = Backings.of_one(lab.root)
    storage.refuse_other_containers(lab.store, one)
    before = lab.instance.identity
    assert before.on_storage("", "s") == Instance(
        uuid=before.uuid, name=before.name, created=before.created, storage="s"
    )


def test_inode_numbers_tell_on_their_own_filesystem_only() -> None:
    claims = Claims(lambda path: path.partition(b"/")[0])
    one, other = record(1, path=b"ssd/CS-x", inode=7), record(2, path=b"hdd/CS-x", inode=7)
    claims.put(one)
    claims.put(other)
    assert (claims.by_inode(7, b"ssd"), claims.by_inode(7, b"hdd")) == (one, other)
    claims.drop(1)
    assert (claims.by_inode(7, b"ssd"), claims.by_inode(7, b"hdd")) == (None, other)
