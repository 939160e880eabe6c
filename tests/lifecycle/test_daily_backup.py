"""The backup that a mount makes by itself: once a day, by a clock that may be set."""

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from csfs.backing.io import inline
from csfs.lifecycle import daily_backup
from csfs.lifecycle.daily_backup import LOOK_SECONDS, DailyBackup
from csfs.store import backup
from tests.lifecycle.world import Lab, World

DAY = 24 * 3600.0
START = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


class Clock:
    """The wall clock."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def daily(world: World, lab: Lab, clock: Clock) -> DailyBackup:
    return DailyBackup(lab.store, world.directory / "backups", clock=clock)


async def made(daily: DailyBackup) -> int:
    """How many backups there are after another look."""
    await daily.look()
    return len(backup.listed(daily.directory))


async def test_one_a_day(lab: Lab, daily: DailyBackup, clock: Clock) -> None:
    await lab.create("CS-x")
    assert await made(daily) == 1
    assert daily.last == datetime.fromtimestamp(START, UTC)
    clock.now += DAY - 1
    assert await made(daily) == 1
    clock.now += 1
    assert await made(daily) == 2
    clock.now += 30 * DAY  # suspended
    assert await made(daily) == 3
    assert daily.last == datetime.fromtimestamp(clock.now, UTC)
    assert backup.describe(backup.listed(daily.directory)[-1]).projects == 1


async def test_nothing_is_no_reason_for_a_backup(lab: Lab, daily: DailyBackup) -> None:
    assert await made(daily) == 0
    assert not daily.directory.exists()
    await lab.create("CS-x")
    assert await made(daily) == 1


async def test_one_of_yesterday_by_another_mount_counts(
    world: World, lab: Lab, daily: DailyBackup, clock: Clock
) -> None:
    await lab.create("CS-x")
    assert await made(daily) == 1
    clock.now += DAY / 2
    again = DailyBackup(lab.store, daily.directory, clock=clock)
    assert await made(again) == 1
    assert again.status()["last"] == "2026-03-01T12:00:00+00:00"


async def test_so_many_are_kept(lab: Lab, daily: DailyBackup, clock: Clock) -> None:
    await lab.create("CS-x")
    for _ in range(backup.KEEP + 3):
        await daily.look()
        clock.now += DAY
    found = [backup.made_at(path) for path in backup.listed(daily.directory)]
    newest = datetime.fromtimestamp(clock.now - DAY, UTC)
    assert found == [newest - timedelta(days=n) for n in reversed(range(backup.KEEP))]


async def test_never(lab: Lab, daily: DailyBackup) -> None:
    await lab.create("CS-x")
    daily.every = 0
    assert await made(daily) == 0


async def test_a_backup_of_the_future_does_not_count(lab: Lab, daily: DailyBackup, clock: Clock) -> None:
    await lab.create("CS-x")
    clock.now += 400 * DAY
    assert await made(daily) == 1
    clock.now = START
    assert await made(daily) == 2


async def test_a_failure_is_told_and_made_up_for(
    lab: Lab,
    daily: DailyBackup,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await lab.create("CS-x")
    copy_to = lab.store.copy_to

    def full(fd: int) -> None:
        os.write(fd, b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lab.store, "copy_to", full)
    assert await made(daily) == 0
    assert await made(daily) == 0
    assert daily.status()["failing"] == "No space left on device"
    assert os.listdir(daily.directory) == []
    assert len(caplog.records) == 1, "the same failure is logged once"
    monkeypatch.setattr(lab.store, "copy_to", copy_to)
    assert await made(daily) == 1
    assert daily.status()["failing"] == ""


async def test_a_place_that_cannot_be_used_is_a_failure_too(
    world: World, lab: Lab, daily: DailyBackup
) -> None:
    await lab.create("CS-x")
    daily.directory = Path(world.directory, "none", "backups")
    await daily.look()
    assert daily.failure == "No such file or directory"


async def test_it_looks_again_and_again(
    lab: Lab,
    daily: DailyBackup,
    clock: Clock,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Often, so that a jump of the wall clock is seen soon. The other clock waits for no thread."""
    monkeypatch.setattr(daily_backup, "in_thread", inline)
    await lab.create("CS-x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(daily.run)
        for day in range(3):
            await trio.sleep(LOOK_SECONDS * 1.5)
            assert len(backup.listed(daily.directory)) == day + 1
            clock.now += DAY
            await trio.sleep(LOOK_SECONDS * 0.5)
        nursery.cancel_scope.cancel()
