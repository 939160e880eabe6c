"""Forget: what the store keeps of a detached project goes, and nothing else."""

import errno

import pytest

from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from csfs.lifecycle.forget import forget
from tests.lifecycle.world import Lab, World, tree


async def test_forget(world: World, lab: Lab) -> None:
    directory = world.sample()
    await lab.create("CS-other")
    await detach(lab.instance, await lab.attach("CS-x"))
    before = tree(directory)
    await forget(lab.instance, lab.record(2))
    assert lab.states() == {"P1": "attached"}
    assert lab.paths(2) == set()
    assert lab.jobs(2) == {}
    assert tree(directory) == before
    assert lab.instance.claims.by_lock("anything") is None
    assert 2 not in lab.instance.claims.by_number
    lab.check_consistent()
    assert (await lab.attach("CS-x")).uid == "P3"


async def test_a_project_that_is_held_is_not_forgotten(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    for word in ("attached", "archived"):
        with pytest.raises(Refusal) as caught:
            await forget(lab.instance, project.held)
        assert (caught.value.errno, caught.value.rule) == (errno.EPERM, Rule.NOT_DETACHED)
        assert caught.value.detail == f"P1 is {word}"
        if word == "attached":
            await archive(lab.instance, project)
    assert lab.state_of("CS-x") is State.ARCHIVED
    lab.check_consistent()
