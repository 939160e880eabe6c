"""The store: what was written is there, whole, after whatever happens."""

import errno
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import msgspec
import pytest
import trio

from csfs.domain.manifest import Entry, Page
from csfs.store import records
from csfs.store.store import Change, Damaged, Store, UnknownFormat, View

NEIGHBOURS = (1, 2, 255, 256, 257, 65535, 65536, 2**24, 2**32 - 1)
"""Project numbers whose keys begin alike, or come right after one another."""


def project(number: int, **changes: object) -> records.Project:
    made = records.Project(
        number=number,
        uuid=f"uuid-{number}",
        title=f"Title {number}",
        state="attached",
        path=b"group/CS-\xff\x00-%d" % number,
        inode=2**63 + number,
        lock_id=f"lock-{number}",
        lock_content=b"\x00\xff content",
        epoch=1_700_000_000_000,
        since="2026-01-01T00:00:00.000Z",
    )
    return msgspec.structs.replace(made, **changes)


def page(number: int) -> Page:
    entry = Entry(b"\xff%d" % number, "symlink", 0, 1_700_000_000_000_000_001, b"../\xfe")
    return Page(b"J1/extract", [entry, Entry(b"a", "file", 2**40, -1)])


def job(uid: str) -> records.Job:
    return records.Job(
        uid=uid, type="homo_refine", title="β", status="completed", parents=("J1",), workspaces=("W1", "W2")
    )


def fill(change: Change, number: int) -> None:
    """Puts something of every kind under this project number."""
    change.put_project(project(number))
    for path in ("project.json", "workspaces.json", "J1/job.json", "J12/job.json"):
        content = f"{path} of {number}".encode()
        change.put_document(number, path, content, mtime_ns=number, exported=path != "J12/job.json")
    for uid in ("J1", "J12"):
        change.put_job(number, job(uid))
    for index in (0, 1, 255, 256):
        change.put_manifest_page(number, index, page(index))
    change.put_intent(records.Intent(action="archive", before=None, after=project(number)))


def everything(view: View, number: int) -> dict[str, object]:
    """What the store holds of one project."""
    return {
        "project": view.project(number),
        "documents": {path: view.document(number, path) for path in view.paths(number)},
        "heads": {path: view.head(number, path) for path in view.paths(number)},
        "unexported": view.unexported(number),
        "uids": view.job_uids(number),
        "jobs": list(view.jobs(number)),
        "manifest": list(view.manifest(number)),
        "intents": [intent for intent in view.intents() if intent.after.number == number],
    }


NOTHING: dict[str, object] = {
    "project": None,
    "documents": {},
    "heads": {},
    "unexported": [],
    "uids": set(),
    "jobs": [],
    "manifest": [],
    "intents": [],
}


def expected(number: int) -> dict[str, object]:
    paths = ("J1/job.json", "J12/job.json", "project.json", "workspaces.json")
    documents = {path: f"{path} of {number}".encode() for path in paths}
    return {
        "project": project(number),
        "documents": documents,
        "heads": {
            path: records.DocumentHead(size=len(content), mtime_ns=number)
            for path, content in documents.items()
        },
        "unexported": ["J12/job.json"],
        "uids": {"J1", "J12"},
        "jobs": [job("J1"), job("J12")],
        "manifest": [page(index) for index in (0, 1, 255, 256)],
        "intents": [records.Intent(action="archive", before=None, after=project(number))],
    }


# Opening.


def test_a_new_store_names_its_instance(store: Store) -> None:
    instance = store.read(View.instance)
    assert instance.name == "lab1"
    assert instance.next_project == 1
    assert instance.format == records.FORMAT
    assert len(instance.uuid) == 36


def test_it_is_readable_by_its_owner_alone(store: Store, directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_two_stores_are_two_instances(store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other", "lab1")
    try:
        assert other.read(View.instance).uuid != store.read(View.instance).uuid
    finally:
        other.close()


def test_its_name_stays_when_it_is_opened_under_another(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    before = store.read(View.instance)
    store.close()
    store = Store.open(directory, "lab2")
    try:
        assert store.read(View.instance) == before
    finally:
        store.close()


async def test_another_format_is_refused(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    later = msgspec.structs.replace(store.read(View.instance), format=records.FORMAT + 1)
    await store.write(lambda change: change.put_instance(later))
    store.close()
    for _ in range(2):
        with pytest.raises(UnknownFormat, match=f"format {records.FORMAT + 1}"):
            Store.open(directory, "lab1")


DAMAGE: dict[str, Callable[[Path, int], None]] = {
    "empty": lambda data, size: os.truncate(data, 0),
    "cut in its first page": lambda data, size: os.truncate(data, 1000),
    "cut after its first pages": lambda data, size: os.truncate(data, 8192),
    "cut in half": lambda data, size: os.truncate(data, size // 2),
    "without its last page": lambda data, size: os.truncate(data, size - 4096),
    "its first pages overwritten": lambda data, size: overwrite(data, 0, 8192),
    "all but its first pages overwritten": lambda data, size: overwrite(data, 8192, size - 8192),
    "random bytes": lambda data, size: overwrite(data, 0, size),
    "zeros": lambda data, size: data.write_bytes(bytes(size)) and None,
    "no LMDB environment": lambda data, size: data.write_bytes(b"no LMDB environment" * 1000) and None,
    "missing": lambda data, size: data.unlink(),
}


def overwrite(path: Path, at: int, size: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(random.Random(1).randbytes(size))


@pytest.mark.parametrize("name", DAMAGE)
async def test_a_damaged_store_is_refused_and_left_alone(directory: Path, name: str) -> None:
    store = Store.open(directory, "lab1")
    await store.write(lambda change: fill(change, 1))
    for number in range(100):
        await store.write(put(f"J{number}/job.json", bytes(20_000)))
    store.close()
    data = directory / "data.mdb"
    DAMAGE[name](data, data.stat().st_size)
    before = data.read_bytes() if data.exists() else None
    for _ in range(2):
        with pytest.raises(Damaged):
            Store.open(directory, "lab1")
    with pytest.raises(Damaged):
        Store.open_for_reading(directory)
    assert (data.read_bytes() if data.exists() else None) == before


async def test_a_store_that_does_not_say_whose_it_is_is_damaged(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    await store.write(lambda change: change._txn.delete(b"instance", db=change._db["instance"]))
    store.close()
    with pytest.raises(Damaged, match="whose"):
        Store.open(directory, "lab1")


async def test_a_record_that_cannot_be_read_is_damage(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    await store.write(lambda change: change._txn.put(b"\0\0\0\1", b"\xc1", db=change._db["projects"]))
    store.close()
    with pytest.raises(Damaged, match="record"):
        Store.open(directory, "lab1")


def test_what_was_left_of_making_a_store_is_not_in_the_way(directory: Path) -> None:
    making = directory.with_name(directory.name + ".new")
    making.mkdir(parents=True)
    (making / "data.mdb").write_bytes(b"")
    Store.open(directory, "lab1").close()
    assert not making.exists()


def test_a_file_in_the_way_is_an_oserror(directory: Path) -> None:
    directory.parent.mkdir(parents=True)
    directory.write_bytes(b"")
    with pytest.raises(FileExistsError):
        Store.open(directory, "lab1")


# Writing and reading back.


async def test_all_is_there_after_reopening(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    await store.write(lambda change: fill(change, 7))
    before = store.read(View.instance)
    assert store.read(lambda view: everything(view, 7)) == expected(7)
    store.close()
    store = Store.open(directory, "lab1")
    try:
        assert store.read(lambda view: everything(view, 7)) == expected(7)
        assert store.read(View.instance) == before
        assert store.read(View.projects) == [project(7)]
    finally:
        store.close()


_WRITES_AND_WAITS = """
import sys, trio
from pathlib import Path
from csfs.store.store import Change, Store

async def main():
    store = Store.open(Path(sys.argv[1]), "lab1")
    for number in range(20):
        await store.write(Change.take_number)
        await store.write(lambda change: change.put_document(1, f"J{number + 1}/job.json", b"x" * 9000, mtime_ns=1, exported=False))
    print("written", flush=True)
    await trio.sleep_forever()

trio.run(main)
"""  # noqa: E501


def test_what_was_written_survives_kill(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_AND_WAITS, os.fspath(directory)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    store = Store.open(directory, "lab1")
    try:
        assert store.read(View.instance).next_project == 21
        assert len(store.read(lambda view: view.unexported(1))) == 20
        assert store.read(lambda view: view.document(1, "J20/job.json")) == b"x" * 9000
    finally:
        store.close()


@pytest.mark.parametrize("content", [b"", b"\x00", b"x" * 3_000_000], ids=len)
async def test_documents_of_any_size(store: Store, content: bytes) -> None:
    await store.write(
        lambda change: change.put_document(1, "project.json", content, mtime_ns=5, exported=True)
    )
    assert store.read(lambda view: view.document(1, "project.json")) == content
    assert store.read(lambda view: view.head(1, "project.json")) == records.DocumentHead(
        size=len(content), mtime_ns=5
    )


def test_what_is_not_there_is_none(store: Store) -> None:
    assert store.read(lambda view: everything(view, 3)) == NOTHING
    assert store.read(lambda view: view.document(3, "project.json")) is None
    assert store.read(lambda view: view.head(3, "project.json")) is None
    assert store.read(lambda view: view.job(3, "J1")) is None
    assert store.read(View.projects) == []


async def test_projects_come_in_the_order_of_their_numbers(store: Store) -> None:
    for number in reversed(NEIGHBOURS):
        await store.write(lambda change, n=number: change.put_project(project(n)))
    assert [found.number for found in store.read(View.projects)] == list(NEIGHBOURS)


async def test_neighbouring_projects_do_not_leak_into_each_other(store: Store) -> None:
    for number in NEIGHBOURS:
        await store.write(lambda change, n=number: fill(change, n))
    for number in NEIGHBOURS:
        assert store.read(lambda view, n=number: everything(view, n)) == expected(number)
    for number in (0, 3, 254, 258, 2**32 - 2):
        assert store.read(lambda view, n=number: everything(view, n)) == NOTHING


@pytest.mark.parametrize("gone", NEIGHBOURS)
async def test_forget_takes_one_project_and_no_other(store: Store, gone: int) -> None:
    for number in NEIGHBOURS:
        await store.write(lambda change, n=number: fill(change, n))
    await store.write(lambda change: change.forget_project(gone))
    for number in NEIGHBOURS:
        wanted = NOTHING if number == gone else expected(number)
        assert store.read(lambda view, n=number: everything(view, n)) == wanted


async def test_a_shorter_manifest_leaves_nothing_of_a_longer_one(store: Store) -> None:
    await store.write(lambda change: fill(change, 1))
    await store.write(lambda change: fill(change, 2))

    def replace(change: Change) -> None:
        change.drop_manifest(1)
        change.put_manifest_page(1, 0, page(9))

    await store.write(replace)
    assert store.read(lambda view: list(view.manifest(1))) == [page(9)]
    assert len(store.read(lambda view: list(view.manifest(2)))) == 4


async def test_manifest_pages_come_in_order(store: Store) -> None:
    indices = [300, 2, 256, 0, 255, 1, 65536]
    for index in indices:
        await store.write(lambda change, i=index: change.put_manifest_page(1, i, page(i)))
    assert store.read(lambda view: list(view.manifest(1))) == [page(index) for index in sorted(indices)]


async def test_a_document_and_what_belongs_to_it_go_together(store: Store) -> None:
    await store.write(lambda change: fill(change, 1))
    await store.write(lambda change: change.drop_document(1, "J12/job.json"))
    await store.write(lambda change: change.drop_job(1, "J12"))
    found = store.read(lambda view: everything(view, 1))
    assert found["unexported"] == []
    assert found["uids"] == {"J1"}
    assert "J12/job.json" not in found["documents"]  # type: ignore[operator]
    await store.write(lambda change: change.drop_document(1, "J99/job.json"))


async def test_exported_is_what_the_backing_directory_holds(store: Store) -> None:
    path = "J1/job.json"

    def put(content: bytes, mtime_ns: int, exported: bool) -> Callable[[Change], None]:
        return lambda change: change.put_document(1, path, content, mtime_ns=mtime_ns, exported=exported)

    def exported() -> bool:
        return store.read(lambda view: view.is_exported(1, path))

    await store.write(put(b"one", 1, False))
    assert not exported()
    first = store.read(lambda view: view.head(1, path))
    assert first is not None
    await store.write(put(b"other", 2, False))
    await store.write(lambda change: change.mark_exported(1, path, first))
    assert not exported()
    second = store.read(lambda view: view.head(1, path))
    assert second is not None
    await store.write(lambda change: change.mark_exported(1, path, second))
    assert exported()
    await store.write(lambda change: change.mark_unexported(1, path))
    assert store.read(lambda view: view.unexported(1)) == [path]
    await store.write(put(b"third", 3, True))
    assert exported()


async def test_an_intent_replaces_the_one_before(store: Store) -> None:
    first = records.Intent(action="archive", before=project(1), after=project(1, state="archived"))
    second = records.Intent(action="detach", before=project(1), after=project(1, state="detached"))
    await store.write(lambda change: change.put_intent(first))
    await store.write(lambda change: change.put_intent(second))
    assert store.read(View.intents) == [second]
    await store.write(lambda change: change.drop_intent(1))
    await store.write(lambda change: change.drop_intent(1))
    assert store.read(View.intents) == []


# The counter.


async def test_the_counter_never_goes_back(directory: Path) -> None:
    store = Store.open(directory, "lab1")
    taken = [await store.write(Change.take_number) for _ in range(3)]
    await store.write(lambda change: change.put_project(project(3)))
    await store.write(lambda change: change.forget_project(3))

    def take_and_fail(change: Change) -> None:
        change.take_number()
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await store.write(take_and_fail)
    taken.append(await store.write(Change.take_number))
    store.close()
    store = Store.open(directory, "lab1")
    try:
        taken.append(await store.write(Change.take_number))
    finally:
        store.close()
    assert taken == [1, 2, 3, 4, 5]


async def test_no_number_is_given_twice(store: Store) -> None:
    taken: list[int] = []

    async def take() -> None:
        taken.append(await store.write(Change.take_number))

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(take)
    assert sorted(taken) == list(range(1, 201))


# All or nothing.


async def test_a_change_that_raises_leaves_nothing(store: Store) -> None:
    await store.write(lambda change: fill(change, 1))

    def half(change: Change) -> None:
        change.forget_project(1)
        fill(change, 2)
        change.take_number()
        raise KeyError("half way")

    with pytest.raises(KeyError, match="half way"):
        await store.write(half)
    assert store.read(lambda view: everything(view, 1)) == expected(1)
    assert store.read(lambda view: everything(view, 2)) == NOTHING
    assert store.read(View.instance).next_project == 1


async def test_a_change_sees_what_it_has_done_itself(store: Store) -> None:
    def work(change: Change) -> tuple[dict[str, object], dict[str, object]]:
        fill(change, 1)
        during = everything(change, 1)
        change.forget_project(1)
        return during, everything(change, 1)

    assert await store.write(work) == (expected(1), NOTHING)


async def test_a_read_sees_one_state(store: Store) -> None:
    """Whatever is written while it looks."""
    await store.write(lambda change: fill(change, 1))
    reading, written = trio.Event(), trio.Event()

    def look(view: View) -> tuple[bytes | None, bytes | None]:
        before = view.document(1, "project.json")
        trio.from_thread.run_sync(reading.set)
        trio.from_thread.run(written.wait)
        return before, view.document(1, "project.json")

    async def write() -> None:
        await reading.wait()
        await store.write(
            lambda change: change.put_document(1, "project.json", b"new", mtime_ns=2, exported=False)
        )
        written.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        before, after = await trio.to_thread.run_sync(store.read, look)
    assert before == after == b"project.json of 1"
    assert store.read(lambda view: view.document(1, "project.json")) == b"new"


async def test_a_key_that_is_too_long_is_an_oserror_and_harms_nothing(store: Store) -> None:
    await store.write(lambda change: fill(change, 1))
    with pytest.raises(OSError) as caught:
        await store.write(
            lambda change: change.put_document(1, "x" * 600, b"content", mtime_ns=1, exported=False)
        )
    assert caught.value.errno == errno.EIO
    assert store.read(lambda view: everything(view, 1)) == expected(1)


# A full disk.


def put(path: str, content: bytes) -> Callable[[Change], None]:
    return lambda change: change.put_document(1, path, content, mtime_ns=1, exported=False)


async def test_a_full_disk_is_enospc_and_nothing_is_lost(small_disk: Path) -> None:
    store = Store.open(small_disk / "store", "lab1")
    try:
        await store.write(lambda change: fill(change, 1))
        with open(small_disk / "filler", "wb") as filler, pytest.raises(OSError, match="No space left"):
            while True:
                os.write(filler.fileno(), bytes(4096))
        for _ in range(3):
            with pytest.raises(OSError) as caught:
                await store.write(put("J1/job.json", os.urandom(1_000_000)))
            assert caught.value.errno == errno.ENOSPC
            assert store.read(lambda view: everything(view, 1)) == expected(1)
        os.unlink(small_disk / "filler")
        content = os.urandom(1_000_000)
        await store.write(put("J1/job.json", content))
        assert store.read(lambda view: view.document(1, "J1/job.json")) == content
        store.close()
        store = Store.open(small_disk / "store", "lab1")
        assert store.read(lambda view: view.document(1, "J1/job.json")) == content
        assert store.read(lambda view: view.project(1)) == project(1)
    finally:
        store.close()


async def test_a_store_that_fills_its_disk_keeps_what_it_confirmed(small_disk: Path) -> None:
    store = Store.open(small_disk / "store", "lab1")
    kept: dict[str, bytes] = {}
    try:
        with pytest.raises(OSError) as caught:
            for number in range(1, 1000):
                path, content = f"J{number}/job.json", os.urandom(40_000)
                await store.write(put(path, content))
                kept[path] = content
        assert caught.value.errno == errno.ENOSPC
        assert len(kept) > 50
        found = store.read(lambda view: {path: view.document(1, path) for path in view.paths(1)})
        assert found == kept
    finally:
        store.close()


async def test_one_write_that_does_not_fit_is_enospc_for_all_that_share_its_commit(small_disk: Path) -> None:
    """None of them may believe it is on disk; each is told, and can be repeated."""
    store = Store.open(small_disk / "store", "lab1")
    outcomes: dict[str, int | None] = {}

    async def write(path: str, content: bytes) -> None:
        try:
            await store.write(put(path, content))
        except OSError as error:
            outcomes[path] = error.errno
        else:
            outcomes[path] = None

    try:
        async with trio.open_nursery() as nursery:
            for number in range(1, 20):
                nursery.start_soon(write, f"J{number}/job.json", b"small")
            nursery.start_soon(write, "J99/job.json", bytes(8_000_000))
        assert outcomes["J99/job.json"] == errno.ENOSPC
        assert set(outcomes.values()) <= {None, errno.ENOSPC}
        there = set(store.read(lambda view: list(view.paths(1))))
        assert there == {path for path, outcome in outcomes.items() if outcome is None}
    finally:
        store.close()


def test_size_grows_with_what_is_stored(store: Store) -> None:
    before = store.size()
    trio.run(store.write, put("J1/job.json", bytes(1_000_000)))
    assert store.size() >= before + 1_000_000


# Opening for reading.


def test_for_reading_it_is_as_it_is(store: Store, directory: Path) -> None:
    before = store.read(View.instance)
    store.close()
    content = (directory / "data.mdb").read_bytes()
    reading = Store.open_for_reading(directory)
    try:
        assert reading.read(View.instance) == before
        assert reading.read(View.projects) == []
        assert reading.size() > 0
    finally:
        reading.close()
    assert (directory / "data.mdb").read_bytes() == content


async def test_for_reading_a_write_is_refused(store: Store, directory: Path) -> None:
    store.close()
    reading = Store.open_for_reading(directory)
    try:
        with pytest.raises(OSError, match="reading only") as caught:
            await reading.write(lambda change: change.take_number())
        assert caught.value.errno == errno.EROFS
    finally:
        reading.close()


READER = """
import sys
from pathlib import Path
from csfs.store.store import Store, View
store = Store.open_for_reading(Path(sys.argv[1]))
for line in sys.stdin:
    print(len(store.read(View.projects)), flush=True)
"""


async def test_for_reading_beside_the_writer(store: Store, directory: Path) -> None:
    """Each read sees what was written last, and no write waits for the reader."""
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    try:
        for number in range(1, 20):
            await store.write(lambda change, number=number: change.put_project(project(number)))
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert int(reader.stdout.readline()) == number
    finally:
        reader.kill()
        reader.communicate()


def test_for_reading_there_has_to_be_one(directory: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Store.open_for_reading(directory)
    assert not directory.exists()
    directory.mkdir(parents=True)
    with pytest.raises(Damaged):
        Store.open_for_reading(directory)
    (directory / "data.mdb").write_bytes(b"no store" * 1000)
    with pytest.raises(Damaged):
        Store.open_for_reading(directory)


async def test_for_reading_the_format_is_checked(store: Store, directory: Path) -> None:
    later = msgspec.structs.replace(store.read(View.instance), format=records.FORMAT + 1)
    await store.write(lambda change: change.put_instance(later))
    store.close()
    with pytest.raises(UnknownFormat):
        Store.open_for_reading(directory)


def test_for_reading_it_may_be_empty(directory: Path) -> None:
    directory.mkdir(parents=True)
    lmdb.open(str(directory), max_dbs=8).close()
    with pytest.raises(Damaged, match="no instance"):
        Store.open_for_reading(directory)


async def test_a_page_of_a_manifest(store: Store) -> None:
    await store.write(lambda change: fill(change, 1))
    assert store.read(lambda view: view.manifest_page(1, 255)) == page(255)
    assert store.read(lambda view: view.manifest_page(1, 2)) is None
    assert store.read(lambda view: view.manifest_page(2, 0)) is None


async def test_pages_that_hold_nothing_are_told(store: Store, directory: Path) -> None:
    empty = store.pages()
    for number in range(20):
        await store.write(put(f"J{number}/job.json", bytes(40_000)))
    full = store.pages()
    assert full.size * full.known == (directory / "data.mdb").stat().st_size
    assert full.known - full.free >= empty.known - empty.free + 20 * 40_000 // full.size
    await store.write(lambda change: change.forget_project(1))
    await store.write(put("J1/job.json", b"{}"))  # what the last transaction freed counts from here on
    after = store.pages()
    assert after.free - full.free >= 20 * 40_000 // full.size
    assert after.free < after.known <= full.known + 20


@pytest.mark.parametrize("seed", range(8))
async def test_damage_anywhere_is_refused_or_harmless(directory: Path, seed: int) -> None:
    """Documents that were overwritten are what they are; to read what opens never ends the process."""
    store = Store.open(directory, "lab1")
    for number in range(40):
        await store.write(put(f"J{number}/job.json", bytes(300 * number)))
    await store.write(lambda change: fill(change, 7))
    store.close()
    data = directory / "data.mdb"
    chosen = random.Random(seed)
    overwrite(data, chosen.randrange(4096, data.stat().st_size - 600), 600)
    try:
        store = Store.open(directory, "lab1")
    except (Damaged, UnknownFormat):
        return
    try:
        assert store.read(lambda view: [view.document(1, path) for path in view.paths(1)])
    finally:
        store.close()
