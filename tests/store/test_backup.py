"""Backups: a copy that was read before it gets its name, made while the store is written."""

import errno
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from csfs.store import backup
from csfs.store.store import Change, Damaged, Store, View
from tests.store.test_store import everything, expected, fill, put


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "one.mdb"


async def test_a_backup_holds_what_the_store_does(store: Store, target: Path) -> None:
    await store.write(lambda change: fill(change, 7))
    made = backup.make(store, target)
    assert (made.path, made.instance, made.projects) == (target, "lab1", 1)
    assert made.uuid == store.read(View.instance).uuid
    assert made.bytes == target.stat().st_size
    reader = Store.open_for_reading(target)
    try:
        assert reader.read(lambda view: everything(view, 7)) == expected(7)
        assert reader.read(View.instance) == store.read(View.instance)
    finally:
        reader.close()
    assert os.listdir(target.parent) == [target.name]


async def test_a_backup_opens_as_a_store(store: Store, target: Path, tmp_path: Path) -> None:
    await store.write(lambda change: fill(change, 7))
    backup.make(store, target)
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "data.mdb").write_bytes(target.read_bytes())
    again = Store.open(tmp_path / "again", "other")
    try:
        await again.write(put("J1/job.json", b"new"))
        assert again.read(View.instance) == store.read(View.instance)
    finally:
        again.close()


async def test_a_backup_is_compact(store: Store, target: Path) -> None:
    await store.write(put("J1/job.json", bytes(5_000_000)))
    await store.write(put("J1/job.json", b"small"))
    assert backup.make(store, target).bytes < 1_000_000


_COPIES = """
import sys
from pathlib import Path
from csfs.store import backup
from csfs.store.store import Store

for number in range(10):
    reader = Store.open_for_reading(Path(sys.argv[1]))
    backup.make(reader, Path(sys.argv[2], f"{number}.mdb"))
    reader.close()
"""


async def test_another_process_copies_while_the_store_is_written(
    store: Store, directory: Path, target: Path
) -> None:
    """Two documents are always written together: no copy has one without the other."""
    ended = False

    async def write() -> None:
        number = 0
        while not ended:
            content = b"%d" % number * 5000

            def both(change: Change, content: bytes = content) -> None:
                put("J1/job.json", content)(change)
                put("J2/job.json", content)(change)

            await store.write(both)
            number += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.run_process([sys.executable, "-c", _COPIES, str(directory), str(target.parent)])
        ended = True
    seen = set()
    for number in range(10):
        reader = Store.open_for_reading(target.parent / f"{number}.mdb")
        try:
            found = reader.read(lambda view: [view.document(1, f"J{n}/job.json") for n in (1, 2)])
        finally:
            reader.close()
        assert found[0] is not None
        assert found[0] == found[1]
        seen.add(found[0])
    assert len(seen) > 1, "the store was written meanwhile"


def test_a_backup_is_never_overwritten(store: Store, target: Path) -> None:
    target.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        backup.make(store, target)
    assert target.read_bytes() == b"precious"
    assert os.listdir(target.parent) == [target.name]


async def test_a_full_disk_leaves_nothing(store: Store, small_disk: Path) -> None:
    await store.write(put("J1/job.json", os.urandom(20_000_000)))
    with pytest.raises(OSError) as caught:
        backup.make(store, small_disk / "one.mdb")
    assert caught.value.errno == errno.ENOSPC
    assert [name for name in os.listdir(small_disk) if name != "lost+found"] == []


class Broken:
    """A store whose copy is none."""

    def copy_to(self, fd: int) -> None:
        os.write(fd, b"nonsense" * 10_000)


def test_a_copy_that_cannot_be_read_is_no_backup(target: Path) -> None:
    with pytest.raises(Damaged):
        backup.make(Broken(), target)
    assert os.listdir(target.parent) == []


def test_a_damaged_backup_is_not_described(store: Store, target: Path) -> None:
    backup.make(store, target)
    os.truncate(target, target.stat().st_size // 2)
    with pytest.raises(Damaged):
        backup.describe(target)
    with pytest.raises(FileNotFoundError):
        backup.describe(target.with_name("none"))


def test_names_sort_as_times_and_tell_them(tmp_path: Path) -> None:
    start = datetime(2026, 1, 31, 23, 59, 59, 999_999, UTC)
    times = [start + timedelta(seconds=n) for n in (0, 1, 86_400, 40_000_000)]
    names = [backup.name(time) for time in times]
    assert names == sorted(names)
    assert [backup.made_at(tmp_path / name) for name in names] == times


def test_the_oldest_go_and_what_is_no_backup_stays(tmp_path: Path) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = [backup.name(start + timedelta(days=day)) for day in range(5)]
    for name in (*names, "mine.mdb", "20260101.mdb"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in backup.prune(tmp_path, 2)] == names[:3]
    assert sorted(os.listdir(tmp_path)) == sorted([*names[3:], "mine.mdb", "20260101.mdb"])
    assert backup.prune(tmp_path, 7) == []
    assert backup.listed(tmp_path / "none") == []


_STOPS_HALF_WAY = """
import os, signal, sys
from pathlib import Path
from csfs.store import backup

class Half:
    def copy_to(self, fd):
        os.write(fd, b"half")
        print("half", flush=True)
        signal.pause()

backup.make(Half(), Path(sys.argv[1]))
"""


def test_a_killed_backup_leaves_nothing_that_counts(store: Store, target: Path) -> None:
    words = [sys.executable, "-c", _STOPS_HALF_WAY, str(target)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        backup.clear_partial(target.parent)
        assert len(os.listdir(target.parent)) == 1, "it is being written"
        process.send_signal(signal.SIGKILL)
    assert backup.listed(target.parent) == []
    backup.clear_partial(target.parent)
    assert os.listdir(target.parent) == []
    backup.make(store, target)
