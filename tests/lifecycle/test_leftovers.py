"""Left-overs: a mount removes what an earlier one of its own has left, and nothing else."""

import os
from pathlib import Path

import pytest

from csfs.backing import temporary
from csfs.domain import names
from csfs.domain.state import State
from csfs.lifecycle import intents, leftovers
from csfs.lifecycle.archive import archive
from csfs.store.records import Intent
from csfs.store.store import View
from tests.lifecycle.world import Lab, World, add_job


def leave(lab: Lab, directory: Path) -> Path:
    """A temporary file as the mount that `lab` is now would leave it in a directory."""
    made = directory / os.fsdecode(temporary.name(lab.root))
    made.write_text("half a docu")
    return made


async def next_mount(lab: Lab) -> None:
    """What the next mount does before, and while, it serves."""
    lab.restart()
    await intents.settle(lab.instance)
    await leftovers.remove(lab.instance, leftovers.find(lab.instance))


async def test_in_held_projects_and_by_outstanding_documents(world: World, lab: Lab) -> None:
    for name in ("CS-x", "CS-archived", "CS-detached"):
        world.small(name)
    add_job(world.backing / "CS-x", "J2", "failed")
    project = await lab.attach("CS-x")
    await archive(lab.instance, await lab.attach("CS-archived"))
    number = project.held.number
    await lab.store.write(lambda change: change.mark_unexported(number, "J2/job.json"))
    places = ("CS-x", "CS-x/J2", "CS-archived", "CS-x/J1", "CS-detached")
    gone = [leave(lab, world.backing / place) for place in places[:3]]
    elsewhere = [leave(lab, world.backing / place) for place in places[3:]]
    await next_mount(lab)
    # Nothing was under way in these, so nothing is looked for.
    assert world.temporaries() == sorted(elsewhere)
    assert gone
    assert lab.state_of("CS-x") is State.ATTACHED


async def test_others_keep_theirs(world: World, lab: Lab, other: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    leave(lab, world.backing / "CS-x")
    of_another = leave(other, world.backing / "CS-x")
    lab.restart()
    of_this_mount = leave(lab, world.backing / "CS-x")
    await leftovers.remove(lab.instance, leftovers.find(lab.instance))
    assert world.temporaries() == sorted([of_another, of_this_mount])


async def test_in_a_directory_that_was_noted(world: World, lab: Lab) -> None:
    (world.backing / "plain").mkdir()
    await leftovers.note(lab.instance, b"plain")
    leave(lab, world.backing / "plain")
    await next_mount(lab)
    assert world.temporaries() == []
    assert lab.store.read(View.temporaries) == {}


async def test_a_note_lasts_as_long_as_its_file(world: World, lab: Lab) -> None:
    (world.backing / "plain").mkdir()
    async with leftovers.noted(lab.instance, lab.directory("plain"), b"plain"):
        assert list(lab.store.read(View.temporaries).values()) == [b"plain"]
    assert lab.store.read(View.temporaries) == {}


async def test_a_directory_that_is_gone_needs_no_look(world: World, lab: Lab) -> None:
    world.small()
    await lab.attach("CS-x")
    for place in (b"gone", b"CS-x/note/below"):
        await leftovers.note(lab.instance, place)
    (world.backing / "CS-x/note").write_text("a file")
    os.rename(world.backing / "CS-x", world.backing / "CS-away")
    await next_mount(lab)
    assert lab.store.read(View.temporaries) == {}


async def test_what_cannot_be_reached_is_left_to_the_next_mount(
    world: World, lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (world.backing / "plain").mkdir()
    await leftovers.note(lab.instance, b"plain")
    left = leave(lab, world.backing / "plain")

    def fails(*_: object, **more: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fails)
        await next_mount(lab)
    assert world.temporaries() == [left]
    assert "what was left in plain stays for now" in caplog.text
    await next_mount(lab)
    assert world.temporaries() == []


@pytest.mark.parametrize("action", ["create", "attach", "detach"])
async def test_settling_an_intent_clears_its_directory(world: World, lab: Lab, action: str) -> None:
    world.small()
    project = await lab.attach("CS-x")
    record = project.held
    before = record if action == "detach" else None
    after = intents.as_detached(record, "2026-01-01T00:00:00.000Z") if action == "detach" else record
    if before is None:
        await lab.store.write(lambda change: change.forget_project(record.number))
    await intents.declare(lab.instance, Intent(action=action, before=before, after=after))  # type: ignore[arg-type]
    leave(lab, world.backing / "CS-x")
    os.rename(
        world.backing / "CS-x/cs.lock",
        world.backing / "CS-x" / os.fsdecode(temporary.name(lab.root) + b".lock"),
    )
    lab.restart()
    await intents.settle(lab.instance)
    assert world.temporaries() == []
    assert lab.state_of("CS-x") is State.DETACHED
    assert not (world.backing / "CS-x" / names.LOCK).exists()
