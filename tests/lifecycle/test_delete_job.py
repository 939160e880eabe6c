"""Deleting a job: its document first."""

import errno
import json

import pytest

from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.lifecycle import documents
from csfs.lifecycle.delete_job import delete_job
from csfs.lifecycle.detach import detach
from tests.lifecycle.world import Lab, World, add_job


async def test_delete_job(world: World, lab: Lab) -> None:
    directory = world.small()
    add_job(directory, "J2")
    project = await lab.attach("CS-x")
    await delete_job(lab.instance, project, "J2")
    assert not (directory / "J2/job.json").exists()
    assert (directory / "J2").is_dir()
    assert (set(lab.jobs(1)), project.jobs) == ({"J1"}, {"J1"})
    assert "J2/job.json" not in lab.paths(1)
    await documents.export_all(lab.instance, project)
    assert not (directory / "J2/job.json").exists()
    lab.check_consistent()


@pytest.mark.parametrize("status", ["queued", "launched", "started", "running", "waiting"])
async def test_an_active_one_stays(world: World, lab: Lab, status: str) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    await lab.set_status(project, "J1", status)
    with pytest.raises(Refusal) as caught:
        await delete_job(lab.instance, project, "J1")
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.ACTIVE_JOB)
    assert (directory / "J1/job.json").exists()
    assert set(lab.jobs(1)) == {"J1"}


async def test_a_parent_stays_until_its_children_are_gone(world: World, lab: Lab) -> None:
    directory = world.small()
    add_job(directory, "J2", parents=["J1"])
    add_job(directory, "J11", parents=["J2"])
    project = await lab.attach("CS-x")
    with pytest.raises(Refusal) as caught:
        await delete_job(lab.instance, project, "J1")
    assert (caught.value.errno, caught.value.rule) == (errno.EBUSY, Rule.JOB_HAS_CHILDREN)
    assert caught.value.detail == "J2"
    for uid in ("J11", "J2", "J1"):
        await delete_job(lab.instance, project, uid)
    assert lab.jobs(1) == {}


async def test_a_job_that_was_never_exported(world: World, lab: Lab) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    (directory / "J1/job.json").unlink()
    await delete_job(lab.instance, project, "J1")
    assert lab.jobs(1) == {}


async def test_deleted_it_does_not_come_back(world: World, lab: Lab) -> None:
    directory = world.small()
    project = await lab.attach("CS-x")
    await delete_job(lab.instance, project, "J1")
    await detach(lab.instance, project)
    assert not (directory / "J1/job.json").exists()
    await lab.attach("CS-x")
    assert lab.jobs(2) == {}
    assert json.loads((directory / "project.json").read_bytes())["uid"] == "P2"
