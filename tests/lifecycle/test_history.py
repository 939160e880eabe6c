"""The history: what was done is noted with what it has done, what was taken back or refused is not."""

from functools import partial

import pytest

from csfs.domain.refusals import Refusal
from csfs.lifecycle import history, intents
from csfs.lifecycle.archive import archive
from csfs.lifecycle.detach import detach
from csfs.lifecycle.instance import timestamp
from csfs.store.records import Deed, Intent
from csfs.store.store import View
from tests.lifecycle.power import cut_after
from tests.lifecycle.world import Lab, World


def deeds(lab: Lab) -> list[Deed]:
    return lab.store.read(View.deeds)


def done(lab: Lab) -> list[tuple[str, int]]:
    return [(deed.action, deed.number) for deed in deeds(lab)]


async def test_it_names_the_one_who_asked(world: World, lab: Lab) -> None:
    token = history.actor.set(history.Actor(1234, 0))
    try:
        await lab.create("CS-x")
    finally:
        history.actor.reset(token)
    await archive(lab.instance, lab.project("CS-x"))
    first, second = deeds(lab)
    assert (first.action, first.uid, first.path, first.outcome) == ("create", 1234, "CS-x", "done")
    assert (second.action, second.uid, second.program) == ("archive", None, "")


async def test_what_is_refused_is_not_in_it(world: World, lab: Lab) -> None:
    project = await lab.create("CS-x")
    lab.instance.writers = lambda project: ["a file is open"]
    with pytest.raises(Refusal):
        await detach(lab.instance, project)
    assert done(lab) == [("create", 1)]


async def test_an_action_that_was_cut_short_is_in_it_once_it_is_finished(world: World, lab: Lab) -> None:
    project = await lab.create("CS-x")
    before = project.held
    after = intents.as_detached(before, timestamp())
    await intents.declare(lab.instance, Intent(action="detach", before=before, after=after))
    (world.backing / "CS-x/cs.lock").unlink()
    lab.restart()
    await intents.settle(lab.instance)
    assert done(lab) == [("create", 1), ("detach", 1)]
    assert deeds(lab)[-1].outcome == "finished after it was cut short"
    await intents.settle(lab.instance)
    assert len(deeds(lab)) == 2


async def test_an_action_that_was_taken_back_is_not_in_it(world: World, lab: Lab) -> None:
    project = await lab.create("CS-x")
    after = intents.as_detached(project.held, timestamp())
    await intents.declare(lab.instance, Intent(action="detach", before=project.held, after=after))
    lab.restart()
    await intents.settle(lab.instance)
    assert lab.state_of("CS-x") == "attached"
    assert done(lab) == [("create", 1)]


@pytest.mark.parametrize("step", range(1, 40, 3))
async def test_wherever_it_is_cut_short_state_and_history_agree(world: World, lab: Lab, step: int) -> None:
    project = await lab.create("CS-x")
    await cut_after(step, lab, partial(archive, lab.instance, project))
    lab.restart()
    await intents.settle(lab.instance)
    archived = ("archive", 1) in done(lab)
    assert lab.state_of("CS-x") == ("archived" if archived else "attached")
    assert done(lab).count(("archive", 1)) <= 1
