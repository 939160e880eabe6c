"""The one writer of the store: a thread that commits together what arrives together."""

import errno
import logging
import os
import queue
import tempfile
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import lmdb
import trio

from csfs.domain import document

log = logging.getLogger(__name__)

C = TypeVar("C")
T = TypeVar("T")

_REOPEN_SECONDS = 1.0
"""How long an environment that could not be opened anew waits for the next attempt."""


class StoreFailed(OSError):
    """The filesystem of the store failed, or LMDB did. Nothing of that write is kept."""


class _Ticket(Generic[C]):
    """One piece of work, and the task that waits for it to be on disk."""

    def __init__(self, work: Callable[[C], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = trio.Event()
        self.token = trio.lowlevel.current_trio_token()


def as_oserror(error: lmdb.Error, directory: str) -> StoreFailed:
    """LMDB's error with the errno in it; its own codes (below zero) become EIO.

    A write that a full disk cut short is EIO for LMDB. Where the store's `directory` has no room for
    the largest document, the reason is that: ENOSPC or EDQUOT.
    """
    code = error.code if error.code > 0 else errno.EIO
    if error.code == errno.EIO:
        try:
            with tempfile.TemporaryFile(dir=directory) as probe:
                os.posix_fallocate(probe.fileno(), 0, document.MAX_BYTES)
        except OSError as reason:
            if reason.errno in (errno.ENOSPC, errno.EDQUOT):
                code = reason.errno
    return StoreFailed(code, f"the store: {error}")


class Writer(Generic[C]):
    """Runs work in write transactions, in the order of arrival, one commit for all that waits.

    `change` wraps a transaction for the work. Each piece has a nested transaction of its own, so
    one that fails takes nothing of the others with it. After a failed commit LMDB may refuse everything
    (MDB_PANIC): `reopen` then gives the environment anew, at once or as soon as its filesystem lets it.
    """

    def __init__(
        self,
        environment: lmdb.Environment,
        change: Callable[[lmdb.Transaction], C],
        reopen: Callable[[], lmdb.Environment],
    ) -> None:
        self._environment = environment
        self._path = environment.path()
        self._change = change
        self._reopen = reopen
        self.problem = ""
        """Why nothing can be read or written at the moment; empty if it can."""
        self._queue: queue.SimpleQueue[_Ticket[C] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, work: Callable[[C], T]) -> T:
        ticket = _Ticket[C](work)
        self._queue.put(ticket)
        with trio.CancelScope(shield=True):
            await ticket.done.wait()
        if ticket.error is not None:
            raise ticket.error
        result: T = ticket.result
        return result

    def close(self) -> None:
        """Ends the thread once all that was submitted is on disk."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch: list[_Ticket[C]] = []
            try:
                ticket = self._queue.get(timeout=_REOPEN_SECONDS if self.problem else None)
            except queue.Empty:
                self._make_usable()
                continue
            while True:
                if ticket is None:
                    ended = True
                    break
                batch.append(ticket)
                try:
                    ticket = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(batch)
                for settled in batch:
                    settled.token.run_sync_soon(settled.done.set)

    def _as_oserror(self, error: lmdb.Error) -> StoreFailed:
        return as_oserror(error, self._path)

    def _make_usable(self) -> None:
        """Has the environment opened anew if LMDB refuses to go on with it."""
        try:
            try:
                self._environment.begin(write=True).abort()
            except lmdb.Error as error:
                log.warning("the store has to be opened anew: %s", error)
                self._environment = self._reopen()
        except (lmdb.Error, OSError) as error:
            log.warning("the store cannot be opened anew, it will be tried again: %s", error)
            self.problem = f"it cannot be opened anew: {error}"
        else:
            self.problem = ""

    def _commit(self, batch: list[_Ticket[C]]) -> None:
        if self.problem:
            self._make_usable()
        try:
            with self._environment.begin(write=True) as txn:
                for ticket in batch:
                    self._run_nested(txn, ticket)
        except lmdb.Error as error:
            reason = self._as_oserror(error)
            for ticket in batch:
                ticket.error = StoreFailed(reason.errno, reason.strerror)
            self._make_usable()

    def _run_nested(self, txn: lmdb.Transaction, ticket: _Ticket[C]) -> None:
        nested = self._environment.begin(write=True, parent=txn)
        try:
            ticket.result = ticket.work(self._change(nested))
            nested.commit()
        except lmdb.Error as error:
            nested.abort()
            ticket.error = self._as_oserror(error)
        except Exception as error:
            nested.abort()
            ticket.error = error
