"""The writer: one commit for all that waits, and each piece of work for itself."""

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio
import trio.testing

from csfs.store.writer import Writer, as_oserror

Work = Callable[[lmdb.Transaction], Any]


class Bench:
    """A writer over an environment of its own, which can be held up."""

    def __init__(self, directory: Path) -> None:
        self.environment = lmdb.open(str(directory), map_size=1 << 24)
        self.writer: Writer[lmdb.Transaction] = Writer(self.environment, lambda txn: txn, self.reopen)

    def reopen(self) -> lmdb.Environment:
        raise AssertionError("LMDB goes on with the environment")

    def commits(self) -> int:
        found: int = self.environment.info()["last_txnid"]
        return found

    def content(self) -> dict[bytes, bytes]:
        with self.environment.begin() as txn, txn.cursor() as cursor:
            return {bytes(key): bytes(value) for key, value in cursor}

    async def together(self, works: dict[str, Work]) -> dict[str, Any]:
        """Submits these in order, so that all wait at once; what each gave or raised, and when."""
        outcomes: dict[str, Any] = {}
        begun, go = trio.Event(), threading.Event()

        def hold_up(txn: lmdb.Transaction) -> None:
            trio.from_thread.run_sync(begun.set, trio_token=token)
            go.wait()

        async def one(name: str, work: Work) -> None:
            try:
                outcomes[name] = await self.writer.submit(work)
            except Exception as error:
                outcomes[name] = error

        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.writer.submit, hold_up)
            await begun.wait()
            for name, work in works.items():
                nursery.start_soon(one, name, work)
                await trio.testing.wait_all_tasks_blocked()
            assert outcomes == {}
            go.set()
        return outcomes


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.writer.close()
    made.environment.close()


def put(key: bytes, value: bytes = b"") -> Work:
    return lambda txn: txn.put(key, value)


def put_and_fail(key: bytes) -> Work:
    def work(txn: lmdb.Transaction) -> None:
        txn.put(key, b"")
        raise ValueError(key)

    return work


async def test_the_result_of_the_work_comes_back(bench: Bench) -> None:
    assert await bench.writer.submit(lambda txn: txn.get(b"a", default=b"none")) == b"none"
    assert await bench.writer.submit(put(b"a", b"1")) is True
    assert bench.content() == {b"a": b"1"}


async def test_what_waits_together_is_one_commit(bench: Bench) -> None:
    before = bench.commits()
    outcomes = await bench.together({str(number): put(b"%d" % number) for number in range(50)})
    assert outcomes == dict.fromkeys(map(str, range(50)), True)
    assert len(bench.content()) == 50
    assert bench.commits() - before <= 2


async def test_many_writers_are_all_kept(bench: Bench) -> None:
    before = bench.commits()
    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(bench.writer.submit, put(b"%d" % number))
    assert set(bench.content()) == {b"%d" % number for number in range(500)}
    assert bench.commits() - before < 50


async def test_work_is_done_in_the_order_of_arrival(bench: Bench) -> None:
    def append(letter: bytes) -> Work:
        return lambda txn: txn.put(b"word", txn.get(b"word", default=b"") + letter)

    await bench.together({letter: append(letter.encode()) for letter in "abcdefgh"})
    assert bench.content() == {b"word": b"abcdefgh"}


async def test_one_that_fails_takes_nothing_of_the_others(bench: Bench) -> None:
    outcomes = await bench.together(
        {"first": put(b"1"), "bad": put_and_fail(b"2"), "worse": put(b"k" * 600), "last": put(b"3")}
    )
    assert outcomes["first"] is True
    assert outcomes["last"] is True
    assert isinstance(outcomes["bad"], ValueError)
    assert isinstance(outcomes["worse"], OSError)
    assert outcomes["worse"].errno == errno.EIO
    assert set(bench.content()) == {b"1", b"3"}


async def test_later_work_sees_nothing_of_a_failed_one(bench: Bench) -> None:
    outcomes = await bench.together(
        {"bad": put_and_fail(b"a"), "then": lambda txn: txn.get(b"a"), "put": put(b"a", b"good")}
    )
    assert outcomes["then"] is None
    assert bench.content() == {b"a": b"good"}


async def test_a_commit_that_fails_is_an_error_for_each(bench: Bench) -> None:
    """More than the map can hold: here LMDB's own error, on a full disk it is ENOSPC."""
    too_much = bytes(1 << 24)
    outcomes = await bench.together({"a": put(b"a"), "b": put(b"b", too_much), "c": put(b"c")})
    assert isinstance(outcomes["b"], OSError)
    assert set(bench.content()) == {name.encode() for name, outcome in outcomes.items() if outcome is True}
    assert await bench.writer.submit(put(b"later")) is True


async def test_a_cancelled_writer_is_on_disk_all_the_same(bench: Bench) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        assert await bench.writer.submit(put(b"a")) is True
    assert bench.content() == {b"a": b""}


async def test_the_work_runs_in_one_thread_of_its_own(bench: Bench) -> None:
    seen = {await bench.writer.submit(lambda txn: threading.get_ident()) for _ in range(5)}
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_close_waits_for_what_was_submitted(tmp_path: Path) -> None:
    bench = Bench(tmp_path)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(bench.writer.submit, put(b"%d" % number))

    trio.run(main)
    bench.writer.close()
    assert len(bench.content()) == 20
    bench.environment.close()


class Failure(lmdb.Error):
    """An error as LMDB gives it."""

    def __init__(self, code: int) -> None:
        super().__init__("mdb_txn_commit")
        self.code = code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, errno.ENOSPC),
        (errno.EDQUOT, errno.EDQUOT),
        (errno.EIO, errno.EIO),
        (-30792, errno.EIO),
        (0, errno.EIO),
    ],
)
def test_the_errno_of_lmdb_is_kept(tmp_path: Path, code: int, expected: int) -> None:
    assert as_oserror(Failure(code), str(tmp_path)).errno == expected
    assert list(tmp_path.iterdir()) == []


async def test_an_environment_that_lmdb_refuses_to_go_on_with_is_opened_anew(tmp_path: Path) -> None:
    """As after a meta page that could not be written; the first attempts to open it anew fail, too."""
    environment = lmdb.open(str(tmp_path), map_size=1 << 24)
    attempts: list[lmdb.Environment] = []

    def reopen() -> lmdb.Environment:
        attempts.append(environment)
        if len(attempts) < 3:
            raise OSError(errno.EIO, "still broken")
        return lmdb.open(str(tmp_path), map_size=1 << 24)

    writer: Writer[lmdb.Transaction] = Writer(environment, lambda txn: txn, reopen)
    await writer.submit(lambda txn: txn.put(b"before", b"1"))
    environment.close()
    for _ in range(2):
        with pytest.raises(OSError) as refused:
            await writer.submit(lambda txn: txn.put(b"lost", b"1"))
        assert refused.value.errno == errno.EIO
    assert writer.problem == ""
    await writer.submit(lambda txn: txn.put(b"after", b"1"))
    assert await writer.submit(lambda txn: (txn.get(b"before"), txn.get(b"lost"), txn.get(b"after"))) == (
        b"1",
        None,
        b"1",
    )
    writer.close()
