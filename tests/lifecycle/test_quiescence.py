"""The quiescence rule."""

import errno

import pytest

from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle.quiescence import refuse_active_jobs, refuse_unless_quiescent, transition
from tests.lifecycle.world import Lab, World, add_job


async def test_active_jobs_are_named(world: World, lab: Lab) -> None:
    directory = world.small()
    for uid in ("J2", "J10", "J3"):
        add_job(directory, uid)
    project = await lab.attach("CS-x")
    refuse_active_jobs(lab.instance, project)
    await lab.set_status(project, "J10", "queued")
    await lab.set_status(project, "J3", "running")
    with pytest.raises(Refusal) as caught:
        refuse_active_jobs(lab.instance, project)
    assert caught.value.errno == errno.EBUSY
    assert set(caught.value.detail.split(", ")) == {"J10 is queued", "J3 is running"}


async def test_a_job_of_a_neighbouring_project_does_not_count(world: World, lab: Lab) -> None:
    for name in ("CS-a", "CS-b"):
        world.small(name)
        await lab.attach(name)
    await lab.set_status(lab.project("CS-b"), "J1", "running")
    refuse_active_jobs(lab.instance, lab.project("CS-a"))
    with pytest.raises(Refusal):
        refuse_active_jobs(lab.instance, lab.project("CS-b"))


async def test_while_an_action_is_under_way_nothing_changes(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    project.refuse_change()
    with transition(lab.instance, project, "archive"):
        for refuse in (
            project.refuse_change,
            project.refuse_leaving,
            lambda: refuse_unless_quiescent(lab.instance, project),
            transition(lab.instance, project, "detach").__enter__,
        ):
            with pytest.raises(Refusal) as caught:
                refuse()
            assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.IN_TRANSITION)
            assert caught.value.detail == "archive"
    project.refuse_change()


async def test_it_ends_with_an_error_too(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    with pytest.raises(ValueError), transition(lab.instance, project, "archive"):
        raise ValueError
    assert project.transition == ""


async def test_writers_are_named(world: World, lab: Lab) -> None:
    world.small()
    project = await lab.attach("CS-x")
    lab.instance.writers = lambda asked: ["vim (7) J1/a", "cp (8) J1/b"] if asked is project else []
    with pytest.raises(Refusal) as caught:
        refuse_unless_quiescent(lab.instance, project)
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.OPEN_WRITER)
    assert caught.value.detail == "vim (7) J1/a; cp (8) J1/b"
    assert project.transition == ""
