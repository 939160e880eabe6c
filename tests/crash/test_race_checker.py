"""The checker of the race accepts what can have come about by the rules, and nothing else."""

from dataclasses import replace

import pytest

from tests.crash.race_checker import (
    Call,
    Sighting,
    Silence,
    Violation,
    Written,
    check_epochs,
    check_holdings,
    check_last,
)

TAKEOVER = 1.0


def take(instance: str, start: float, end: float) -> Call:
    return Call(instance, "take", start, end)


def let(instance: str, start: float, end: float) -> Call:
    return Call(instance, "let", start, end)


def use(instance: str, start: float, end: float) -> Call:
    return Call(instance, "use", start, end)


def cut_short(call: Call) -> Call:
    return replace(call, certain=False)


HANDED_OVER = [take("a", 0, 1), use("a", 2, 3), let("a", 4, 5), take("b", 6, 7), use("b", 8, 9)]
DEAD = [Silence("a", 2.0, 9.0)]


@pytest.mark.parametrize(
    ("calls", "silences"),
    [
        pytest.param([], [], id="nothing"),
        pytest.param(HANDED_OVER, [], id="handed over"),
        pytest.param([take("a", 0, 1), take("a", 2, 3)], [], id="touched by its owner"),
        pytest.param(
            [take("a", 0, 1), let("a", 2, 6), take("b", 3, 4)], [], id="taken before rm has returned"
        ),
        pytest.param([take("b", 0, 9), take("a", 1, 2), let("a", 3, 4)], [], id="waited for"),
        pytest.param([take("a", 0, 3), use("a", 1, 2)], [], id="used before touch has returned"),
        pytest.param(
            [take("a", 0, 9), let("a", 0, 9), take("a", 0, 9), take("b", 10, 11), let("a", 0, 9)],
            [],
            id="two workers of one instance",
        ),
        pytest.param([use("a", 0, 1), use("b", 2, 3), take("b", 4, 5)], [], id="used while it is nobody's"),
        pytest.param([take("a", 0, 1), let("b", 4, 5), take("b", 6, 7)], DEAD, id="rescued"),
        pytest.param([take("a", 0, 1), let("b", 2.9, 3.1), take("b", 6, 7)], DEAD, id="rescued just in time"),
        pytest.param(
            [take("a", 0, 1), let("b", 4, 5), take("b", 6, 7), let("a", 9, 10), use("b", 11, 12)],
            DEAD,
            id="lost, and let go of",
        ),
        pytest.param(
            [take("a", 0, 1), cut_short(let("a", 2, 3)), take("b", 4, 5)], [], id="rm may have worked"
        ),
        pytest.param(
            [take("a", 0, 1), cut_short(let("a", 2, 3)), use("a", 4, 5)], [], id="rm may have failed"
        ),
        pytest.param([cut_short(take("a", 0, 1)), take("b", 2, 3)], [], id="touch may have failed"),
        pytest.param([cut_short(take("a", 0, 1)), let("a", 2, 3)], [], id="touch may have worked"),
        pytest.param(
            [cut_short(take("a", 0, 1)), cut_short(Call("a", "take back", 0, 5)), take("b", 6, 7)],
            [],
            id="touch was taken back",
        ),
    ],
)
def test_good(calls: list[Call], silences: list[Silence]) -> None:
    check_holdings(calls, silences, TAKEOVER)
    check_holdings(calls[::-1], silences, TAKEOVER)


@pytest.mark.parametrize(
    ("calls", "silences"),
    [
        pytest.param([take("a", 0, 1), take("b", 2, 3)], [], id="taken twice"),
        pytest.param([take("a", 0, 3), take("b", 1, 2)], [], id="taken twice at once"),
        pytest.param([take("a", 0, 1), let("a", 4, 5), take("b", 2, 3)], [], id="taken before it was let go"),
        pytest.param([let("a", 0, 1)], [], id="nothing to let go of"),
        pytest.param([take("a", 0, 1), let("a", 2, 3), let("a", 4, 5)], [], id="let go twice"),
        pytest.param(
            [take("a", 0, 1), let("a", 2, 3), take("b", 4, 5), use("a", 6, 7)],
            [],
            id="used by a former owner",
        ),
        pytest.param([take("a", 0, 1), use("b", 2, 3)], [], id="used by another"),
        pytest.param(
            [
                take("a", 0, 1),
                let("a", 2, 9),
                take("b", 3, 4),
                let("b", 5, 6),
                take("a", 7, 8),
                take("b", 10, 11),
            ],
            [],
            id="one release for two",
        ),
        pytest.param([take("a", 0, 1), let("b", 4, 5)], [], id="rescued from the living"),
        pytest.param([take("a", 0, 1), let("b", 2.5, 2.9), take("b", 4, 5)], DEAD, id="rescued too early"),
        pytest.param([take("a", 0, 1), let("b", 9.1, 9.2)], DEAD, id="rescued too late"),
        pytest.param([take("a", 0, 1), let("b", 4, 5)], [Silence("b", 0, 9)], id="rescued by the dead"),
        pytest.param(
            [take("a", 0, 1), let("b", 4, 5), use("a", 6, 7), take("b", 5.1, 5.2)], DEAD, id="used when lost"
        ),
        pytest.param(
            [take("a", 0, 1), let("b", 4, 5), let("a", 9, 10), let("a", 11, 12)],
            DEAD,
            id="let go of twice when lost",
        ),
        pytest.param(
            [cut_short(take("a", 0, 1)), take("b", 2, 3), use("a", 4, 5)], [], id="touch cannot have worked"
        ),
        pytest.param([take("a", 2, 3), cut_short(let("a", 0, 1)), take("b", 4, 5)], [], id="rm came before"),
    ],
)
def test_bad(calls: list[Call], silences: list[Silence]) -> None:
    with pytest.raises(Violation, match="cannot have succeeded"):
        check_holdings(calls, silences, TAKEOVER)


def test_who_has_it_at_the_beginning() -> None:
    check_holdings([let("a", 0, 1), take("b", 2, 3)], [], TAKEOVER, owner="a")
    with pytest.raises(Violation, match="held by a"):
        check_holdings([take("b", 2, 3)], [], TAKEOVER, owner="a")


def test_many_calls_at_once() -> None:
    """As after a daemon that was stopped: all that waited for it ends in the same moment."""
    waiting = [cut_short(Call(name, kind, 0, 9)) for name in "abcd" for kind in ("take", "take back", "let")]
    waiting += [take("a", 0, 9), use("b", 0, 9), let("a", 0, 9), use("c", 0, 9)] * 3
    check_holdings(waiting, [], TAKEOVER)
    with pytest.raises(Violation):
        check_holdings([*waiting, take("a", 10, 11), take("b", 12, 13)], [], TAKEOVER)


def test_epochs_grow() -> None:
    one, two = Sighting("l1", 5, "a"), Sighting("l2", 6, "b")
    check_epochs([])
    check_epochs([one, one, two, two])
    for wrong in (
        [two, one],
        [one, replace(two, epoch=5)],
        [one, replace(one, epoch=6)],
        [one, two, one],
    ):
        with pytest.raises(Violation, match="epoch"):
            check_epochs(wrong)


def test_what_was_written_last() -> None:
    one, two = Written("one", 0, 1), Written("two", 2, 3)
    check_last([], "zero", initial="zero")
    check_last([one, two], "two")
    check_last([one, replace(two, start=0.5)], "one")
    check_last([one, replace(two, certain=False)], "one")
    check_last([replace(one, certain=False), two], "one")
    check_last([replace(one, certain=False)], "zero", initial="zero")
    for written, found in (
        ([one, two], "one"),
        ([one, two], "zero"),
        ([], "one"),
        ([one], "zero"),
        ([one, replace(two, certain=False)], "three"),
    ):
        with pytest.raises(Violation, match="the last that was acknowledged"):
            check_last(written, found, initial="zero")
