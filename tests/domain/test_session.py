"""Whether another instance lives, judged from what one observer has watched by its own clock."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain.session import Life, Pulse, Session, parse

SESSION = Session(
    session="a",
    instance_uuid="11111111-2222-3333-4444-555555555555",
    instance_name="lab1",
    host="node1",
    pid=7,
    since="2026-05-15T10:00:00.000Z",
    counter=1,
    interval=10,
    takeover=300,
)
PATIENCE = 30.0


def beat(session: Session, **more: object) -> Session:
    return msgspec.structs.replace(session, counter=session.counter + 1, **more)


def watched(seconds: float, *, step: float = 10.0) -> Pulse:
    """A session that was looked at for so long and never moved."""
    pulse, now = Pulse.first(SESSION, 0.0), 0.0
    while now < seconds:
        now += step
        pulse = pulse.seen(SESSION, now, PATIENCE)
    return pulse


def test_round_trip() -> None:
    assert parse(SESSION.encode()) == SESSION


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", SESSION.encode()[:-9], b"[" * 100_000])
def test_what_is_no_session(content: bytes) -> None:
    assert parse(content) is None


def test_one_of_a_later_format_is_none() -> None:
    assert parse(msgspec.structs.replace(SESSION, csfs_session=2).encode()) is None


def test_what_was_seen_once_is_neither_alive_nor_dead() -> None:
    pulse = Pulse.first(SESSION, 1e9)
    assert pulse.life(300) is Life.SILENT
    assert pulse.describe(300) == "its heartbeat on node1 is watched since 0 s"


def test_one_that_moves_is_alive() -> None:
    pulse = Pulse.first(SESSION, 0).seen(beat(SESSION), 10, PATIENCE)
    assert pulse.life(300) is Life.ALIVE
    assert "alive on node1" in pulse.describe(300)


def test_it_is_dead_when_it_was_watched_in_silence_for_long_enough() -> None:
    assert watched(290).life(300) is Life.SILENT
    assert "after 300 s it counts as dead" in watched(290).describe(300)
    assert watched(300).life(300) is Life.DEAD
    assert "silent on node1 for 300 s and counts as dead" in watched(300).describe(300)


def test_the_longer_takeover_time_counts() -> None:
    assert watched(300).life(1) is Life.DEAD
    assert watched(300).life(301) is Life.SILENT
    assert watched(290).life(1) is Life.SILENT


def test_a_beat_brings_it_back_to_life() -> None:
    pulse = watched(400).seen(beat(SESSION), 410, PATIENCE)
    assert (pulse.life(300), pulse.still) == (Life.ALIVE, 0)


def test_time_in_which_the_observer_did_not_look_does_not_count() -> None:
    """It was stopped for an hour itself, or the machine slept."""
    pulse = Pulse.first(SESSION, 0).seen(SESSION, 10, PATIENCE).seen(SESSION, 3600, PATIENCE)
    assert pulse.still == 10 + PATIENCE
    assert pulse.life(300) is Life.SILENT


def test_one_that_was_unmounted_is_never_dead() -> None:
    pulse = Pulse.first(msgspec.structs.replace(SESSION, ended=True), 0)
    for now in range(0, 10_000, 10):
        pulse = pulse.seen(pulse.session, now, PATIENCE)
    assert pulse.life(300) is Life.ENDED
    assert "unmounted on node1" in pulse.describe(300)


def test_a_new_mount_of_the_instance_is_not_taken_for_a_beat_of_the_old() -> None:
    again = msgspec.structs.replace(SESSION, session="b", host="node2", counter=1)
    pulse = watched(400).seen(again, 410, PATIENCE)
    assert (pulse.still, pulse.moved) == (0, False)
    assert pulse.life(300) is Life.SILENT


looks = st.lists(st.tuples(st.floats(0.01, 1000), st.booleans()), max_size=60)


@given(looks, st.floats(1, 1000))
def test_never_dead_before_its_silence_was_watched(looks: list[tuple[float, bool]], takeover: float) -> None:
    session, now, last_beat = SESSION, 0.0, 0.0
    pulse = Pulse.first(session, now)
    for step, moves in looks:
        now += step
        if moves:
            session, last_beat = beat(session), now
        pulse = pulse.seen(session, now, PATIENCE)
        assert pulse.still <= now - last_beat + 1e-6
        if pulse.life(takeover) is Life.DEAD:
            assert now - last_beat >= max(takeover, session.takeover) - 1e-6


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_heart_that_beats_in_no_time_is_none(seconds: float) -> None:
    assert parse(SESSION.encode()) == SESSION
    for name in ("interval", "takeover"):
        assert parse(msgspec.structs.replace(SESSION, **{name: seconds}).encode()) is None
