"""The daemon is killed before and after each system call of each action, and mounted again."""

from pathlib import Path

import pytest

from tests.conftest import Points
from tests.crash.actions import ACTIONS, BY_NAME, Action
from tests.crash.conftest import EVERY_CALL
from tests.crash.control import Control
from tests.crash.site import Site, temporary_site
from tests.crash.zygote import MountFailed, Zygote

AFTER_STRIDE = 1 if EVERY_CALL else 6
"""What is on disk after a call is there before the next one, too: only what was answered may differ."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_killed_at_each_call(
    zygote: Zygote, place: Path, points: Points, action: Action, after: bool
) -> None:
    """One call after the other, until the action and its exports come to their end."""
    stride = AFTER_STRIDE if after else 1
    number, killed = 1, True
    while killed:
        with temporary_site(zygote, place, str(number)) as site:
            killed = cut_short(site, action, number, after=after)
        if killed:
            points.add(action.name, 1)
            number += stride
    assert number > 1


def cut_short(site: Site, action: Action, number: int, *, after: bool) -> bool:
    """Kills the daemon at one call of the action, and looks at what the next one finds.

    Whether it came to that: the action may have no call of this number.
    """
    begin(site, action)
    control = site.control
    control.kill(number, after=after)
    acknowledged = did(site, action)
    killed = not (acknowledged and site.settle())
    at = f"killed {'after' if after else 'before'} call {number}" if killed else "not killed"
    if killed:
        at += f": {control.call(number)}"
    control.disarm()
    try:
        assert acknowledged or killed, "the action failed"
        if killed:
            site.crash()
            site.mount()
        check_outcome(site, action, acknowledged=acknowledged)
        if killed:
            repeat(site, action)
    except BaseException as error:
        error.add_note(f"{action}, {at}")
        raise
    return killed


def begin(site: Site, action: Action) -> None:
    """Mounts, and prepares the action."""
    site.mount()
    action.prepare(site)
    assert site.settle()
    site.remember(data=not action.removes_data)


def did(site: Site, action: Action) -> bool:
    """Whether the action was acknowledged: it may be cut short, and then fails in whatever way."""
    try:
        action.act(site)
    except OSError:
        return False
    return True


def check_outcome(site: Site, action: Action, *, acknowledged: bool) -> None:
    site.check()
    states = site.states(*action.before, *action.after)
    outcomes = [action.after] if acknowledged else [action.before, action.between, action.after]
    assert any(outcome.items() <= states.items() for outcome in outcomes if outcome is not None), states
    if acknowledged:
        action.holds(site)


def repeat(site: Site, action: Action) -> None:
    """Whatever came of it: it can be done again, and then it is done."""
    action.act(site)
    check_outcome(site, action, acknowledged=True)


WITH_INTENT = (
    "create",
    "attach",
    "attach with a lock of one's own",
    "detach",
    "archive",
    "unarchive in place",
    "unarchive a copy",
    "move",
    "move a container",
)


@pytest.mark.parametrize("name", WITH_INTENT)
def test_killed_while_what_was_cut_short_is_settled(
    zygote: Zygote, place: Path, points: Points, name: str
) -> None:
    """The action ends when it has just changed the lock; then each call of the next mount is the last."""
    action = BY_NAME[name]
    with temporary_site(zygote, place, "counted") as site:
        begin(site, action)
        site.control.count()
        assert did(site, action)
        calls = site.control.journal()
    changes = [n for n, call in enumerate(calls, 1) if changes_lock(call)]
    number, killed = 0, True
    while killed:
        number += 1
        with temporary_site(zygote, place, str(number)) as site:
            begin(site, action)
            site.control.kill(changes[-1], after=True)
            assert not did(site, action)
            site.crash()
            with site.view() as view:
                assert view.intents() != []
            control = site.new_control()
            control.kill(number, after=False)
            killed = not comes_up(site, control)
            at = control.call(number) if killed else "not killed"
            control.disarm()
            try:
                if killed:
                    site.crash()
                    site.mount()
                check_outcome(site, action, acknowledged=False)
                repeat(site, action)
            except BaseException as error:
                error.add_note(f"{action}, settling, killed before call {number}: {at}")
                raise
    assert number > 1
    points.add(f"settle {name}", number - 1)


def changes_lock(call: str) -> bool:
    kind, _, path = call.partition(" ")
    return kind in ("LINK", "RENAME") and path.endswith(".lock")


def comes_up(site: Site, control: Control) -> bool:
    """Whether a mount gets so far as to have nothing left to do."""
    try:
        site.mount(control)
    except MountFailed:
        return False
    return site.settle()
