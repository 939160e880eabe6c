"""The LMDB environment of an instance: opening it, reading it, and the transactions that write it."""

import errno
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import lmdb
import msgspec

from csfs.domain.manifest import Page
from csfs.store import integrity, records
from csfs.store.writer import StoreFailed, Writer, as_oserror

T = TypeVar("T")

MAP_SIZE = 1 << 40
"""Bytes of address space: the file grows only as it fills, so this never has to be changed."""

_META_PAGES = 2
"""With which each LMDB file begins."""

DATABASES = (
    "instance",
    "projects",
    "documents",
    "heads",
    "unexported",
    "jobs",
    "manifest",
    "intents",
    "temporary",
)

_instance = msgspec.msgpack.Decoder(records.Instance)
_project = msgspec.msgpack.Decoder(records.Project)
_head = msgspec.msgpack.Decoder(records.DocumentHead)
_job = msgspec.msgpack.Decoder(records.Job)
_page = msgspec.msgpack.Decoder(Page)
_intent = msgspec.msgpack.Decoder(records.Intent)
_deed = msgspec.msgpack.Decoder(records.Deed)
_DEED = b"deed"
_encode = msgspec.msgpack.Encoder().encode


DAMAGE: tuple[type[lmdb.Error], ...] = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
)
"""What LMDB raises for a file whose content makes no sense."""


class Pages(NamedTuple):
    """The pages of a store's file."""

    size: int
    """Bytes of each."""
    known: int
    """How many the file has."""
    free: int
    """How many of these hold nothing, or say which do not: they are filled before the file grows."""


class UnknownFormat(Exception):
    """The store was written by another version of csfs."""


class Damaged(Exception):
    """What lies there is no store any more, or not all of one; says what is wrong."""


def _number_key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _document_key(number: int, path: str) -> bytes:
    return _number_key(number) + path.encode()


def _manifest_key(number: int, index: int) -> bytes:
    return _number_key(number) + index.to_bytes(8, "big")


class View:
    """What can be read within one LMDB transaction: a consistent state of the store."""

    def __init__(self, txn: lmdb.Transaction, databases: dict[str, lmdb._Database]) -> None:
        self._txn = txn
        self._db = databases

    def instance(self) -> records.Instance:
        content = self._txn.get(b"instance", db=self._db["instance"])
        if content is None:
            raise Damaged("it does not say whose it is: its instance record is missing")
        return _instance.decode(content)

    def project(self, number: int) -> records.Project | None:
        content = self._txn.get(_number_key(number), db=self._db["projects"])
        return None if content is None else _project.decode(content)

    def projects(self) -> list[records.Project]:
        with self._txn.cursor(db=self._db["projects"]) as cursor:
            return [_project.decode(content) for _, content in cursor]

    def document(self, number: int, path: str) -> bytes | None:
        content = self._txn.get(_document_key(number, path), db=self._db["documents"])
        return None if content is None else bytes(content)

    def head(self, number: int, path: str) -> records.DocumentHead | None:
        content = self._txn.get(_document_key(number, path), db=self._db["heads"])
        return None if content is None else _head.decode(content)

    def paths(self, number: int) -> Iterator[str]:
        """Of all documents of a project."""
        for key, _ in self._range("heads", number):
            yield key.decode()

    def unexported(self, number: int) -> list[str]:
        """The paths of the documents that the backing directory does not hold as the store does."""
        return [key.decode() for key, _ in self._range("unexported", number)]

    def is_exported(self, number: int, path: str) -> bool:
        return self._txn.get(_document_key(number, path), db=self._db["unexported"]) is None

    def job(self, number: int, uid: str) -> records.Job | None:
        content = self._txn.get(_document_key(number, uid), db=self._db["jobs"])
        return None if content is None else _job.decode(content)

    def job_uids(self, number: int) -> set[str]:
        return {key.decode() for key, _ in self._range("jobs", number)}

    def jobs(self, number: int) -> Iterator[records.Job]:
        for _, content in self._range("jobs", number):
            yield _job.decode(content)

    def manifest(self, number: int) -> Iterator[Page]:
        for _, content in self._range("manifest", number):
            yield _page.decode(content)

    def manifest_page(self, number: int, index: int) -> Page | None:
        content = self._txn.get(_manifest_key(number, index), db=self._db["manifest"])
        return None if content is None else _page.decode(content)

    def intents(self) -> list[records.Intent]:
        with self._txn.cursor(db=self._db["intents"]) as cursor:
            return [_intent.decode(content) for _, content in cursor]

    def deeds(self) -> list[records.Deed]:
        """The actions that were done, oldest first."""
        return [_deed.decode(content) for _, content in self._deeds()]

    def _deeds(self) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor(db=self._db["instance"]) as cursor:
            found = cursor.set_range(_DEED)
            while found and (key := bytes(cursor.key())).startswith(_DEED) and len(key) == len(_DEED) + 8:
                yield key, bytes(cursor.value())
                found = cursor.next()

    def pages(self) -> tuple[int, int]:
        """How many pages hold something, and the size of one in bytes."""
        found = [self._txn.stat(database) for database in (None, *self._db.values())]
        used = sum(each["branch_pages"] + each["leaf_pages"] + each["overflow_pages"] for each in found)
        return used, found[0]["psize"]

    def temporaries(self) -> dict[str, bytes]:
        """The directories in which a temporary file may lie, relative to the backing directory."""
        with self._txn.cursor(db=self._db["temporary"]) as cursor:
            return {bytes(key).decode(): bytes(path) for key, path in cursor}

    def _range(self, database: str, number: int) -> Iterator[tuple[bytes, bytes]]:
        prefix = _number_key(number)
        with self._txn.cursor(db=self._db[database]) as cursor:
            found = cursor.set_range(prefix)
            while found and (key := bytes(cursor.key())).startswith(prefix):
                yield key[len(prefix) :], bytes(cursor.value())
                found = cursor.next()


class Change(View):
    """A write transaction: sees and makes changes, all of which are committed or none."""

    def put_instance(self, instance: records.Instance) -> None:
        self._txn.put(b"instance", _encode(instance), db=self._db["instance"])

    def take_number(self) -> int:
        """The next P-number, never given again."""
        instance = self.instance()
        self.put_instance(msgspec.structs.replace(instance, next_project=instance.next_project + 1))
        return instance.next_project

    def put_project(self, project: records.Project) -> None:
        self._txn.put(_number_key(project.number), _encode(project), db=self._db["projects"])

    def put_document(self, number: int, path: str, content: bytes, *, mtime_ns: int, exported: bool) -> None:
        """Stores a document; `exported` says whether the backing directory holds these very bytes."""
        key = _document_key(number, path)
        head = records.DocumentHead(size=len(content), mtime_ns=mtime_ns)
        self._txn.put(key, content, db=self._db["documents"])
        self._txn.put(key, _encode(head), db=self._db["heads"])
        if exported:
            self._txn.delete(key, db=self._db["unexported"])
        else:
            self._txn.put(key, b"", db=self._db["unexported"])

    def mark_exported(self, number: int, path: str, head: records.DocumentHead) -> None:
        """Notes that this version of the document lies on the backing directory."""
        if self.head(number, path) == head:
            self._txn.delete(_document_key(number, path), db=self._db["unexported"])

    def mark_unexported(self, number: int, path: str) -> None:
        self._txn.put(_document_key(number, path), b"", db=self._db["unexported"])

    def drop_document(self, number: int, path: str) -> None:
        key = _document_key(number, path)
        for database in ("documents", "heads", "unexported"):
            self._txn.delete(key, db=self._db[database])

    def put_job(self, number: int, job: records.Job) -> None:
        self._txn.put(_document_key(number, job.uid), _encode(job), db=self._db["jobs"])

    def drop_job(self, number: int, uid: str) -> None:
        self._txn.delete(_document_key(number, uid), db=self._db["jobs"])

    def put_manifest_page(self, number: int, index: int, page: Page) -> None:
        self._txn.put(_manifest_key(number, index), _encode(page), db=self._db["manifest"])

    def drop_manifest(self, number: int) -> None:
        self._drop_range("manifest", number)

    def put_intent(self, intent: records.Intent) -> None:
        self._txn.put(_number_key(intent.after.number), _encode(intent), db=self._db["intents"])

    def put_rescue(self, intent: records.Intent) -> int:
        """Stores the intent of a rescue under a number of its own, which is returned."""
        taken = [found.after.number for found in self.intents()]
        number = max([records.FIRST_RESCUE, *(each + 1 for each in taken)])
        self.put_intent(
            msgspec.structs.replace(intent, after=msgspec.structs.replace(intent.after, number=number))
        )
        return number

    def drop_intent(self, number: int) -> None:
        self._txn.delete(_number_key(number), db=self._db["intents"])

    def put_deed(self, deed: records.Deed) -> None:
        """Notes an action that is done with this transaction. Only the last DEEDS_KEPT are kept."""
        with self._txn.cursor(db=self._db["instance"]) as cursor:
            # The key after the last possible one, then one back: the newest.
            last = cursor.prev() if cursor.set_range(b"dee" + b"e") else cursor.last()
            newest = bytes(cursor.key()) if last else b""
        number = int.from_bytes(newest[len(_DEED) :]) + 1 if newest.startswith(_DEED) else 1
        self._txn.put(_DEED + number.to_bytes(8, "big"), _encode(deed), db=self._db["instance"])
        if number > records.DEEDS_KEPT:
            old = _DEED + (number - records.DEEDS_KEPT).to_bytes(8, "big")
            self._txn.delete(old, db=self._db["instance"])

    def put_temporary(self, note: str, directory: bytes) -> None:
        self._txn.put(note.encode(), directory, db=self._db["temporary"])

    def drop_temporary(self, note: str) -> None:
        self._txn.delete(note.encode(), db=self._db["temporary"])

    def forget_project(self, number: int) -> None:
        """Drops all that the store holds of the project; its number stays taken."""
        for database in ("documents", "heads", "unexported", "jobs", "manifest"):
            self._drop_range(database, number)
        self._txn.delete(_number_key(number), db=self._db["projects"])
        self.drop_intent(number)

    def _drop_range(self, database: str, number: int) -> None:
        prefix = _number_key(number)
        with self._txn.cursor(db=self._db[database]) as cursor:
            while cursor.set_range(prefix) and bytes(cursor.key()).startswith(prefix):
                cursor.delete()


class Store:
    """An open instance store. One process at a time writes it; see `lifecycle.instance`.

    Reads are cheap (memory mapped) and may be made from any thread. Writes go to one writer
    thread (an LMDB write transaction belongs to its operating-system thread) and are on disk when
    `write` returns. A full disk is OSError ENOSPC, and nothing of that write is kept.
    """

    def __init__(self, environment: lmdb.Environment) -> None:
        self._path = environment.path()
        self._in_use = threading.RLock()
        """Held while the environment is read, and while it is replaced."""
        self._copying = threading.Lock()
        """Held while the environment is copied, which may take long, and while it is replaced."""
        self._use(environment)
        only_read = environment.flags()["readonly"]
        self._writer = (
            None if only_read else Writer(environment, lambda txn: Change(txn, self._db), self._reopen)
        )

    def _use(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        only_read = environment.flags()["readonly"]
        self._db = {name: environment.open_db(name.encode(), create=not only_read) for name in DATABASES}

    def _reopen(self) -> lmdb.Environment:
        """Opens the environment anew: LMDB does not go on with one whose meta page could not be written.

        What it finds is what was committed before that. Raises lmdb.Error, OSError; a store that was deleted
        is not made anew.
        """
        with self._copying, self._in_use:
            self._environment.close()
            self._use(_environment(Path(self._path), create=False))
            return self._environment

    @classmethod
    def open(cls, directory: Path, name: str) -> Self:
        """Opens the store in `directory`, creating it for an instance of this name if there is none.

        Raises Damaged if what lies there cannot be read whole, UnknownFormat for a store of another
        version, OSError if the filesystem fails. Nothing is changed then.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(directory.iterdir()):
            cls._create(directory, name)
        if fault := integrity.fault(os.fspath(directory)):
            raise Damaged(fault)
        try:
            store = cls(_environment(directory, create=False))
        except DAMAGE as error:
            raise Damaged(str(error)) from error
        except lmdb.Error as error:
            raise as_oserror(error, os.fspath(directory)) from error
        try:
            store._environment.reader_check()
            store.read(check_records)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open_for_reading(cls, path: Path) -> Self:
        """Opens the store in the directory `path` beside the process that writes it, or a backup: a file.

        Nothing in it is changed: what LMDB notes of its readers lies in a file of its own, and keeps no
        writer waiting. `write` is refused. Raises what `open` does, FileNotFoundError if there is none.
        """
        is_store = path.is_dir()
        os.stat(path)
        if fault := integrity.fault(os.fspath(path)):
            raise Damaged(fault)
        try:
            environment = lmdb.open(
                os.fspath(path),
                map_size=MAP_SIZE,
                max_dbs=len(DATABASES),
                subdir=is_store,
                lock=is_store,
                readonly=True,
                create=False,
            )
        except DAMAGE as error:
            raise Damaged(str(error)) from error
        except lmdb.Error as error:
            raise as_oserror(error, os.fspath(path.parent)) from error
        try:
            store = cls(environment)
            store.read(check_records)
        except lmdb.NotFoundError as error:
            environment.close()
            raise Damaged("it holds no instance") from error
        except BaseException:
            environment.close()
            raise
        return store

    @classmethod
    def _create(cls, directory: Path, name: str) -> None:
        """Makes a store under another name first: one that is there is whole."""
        making = directory.with_name(directory.name + ".new")
        if making.exists():
            shutil.rmtree(making)
        making.mkdir(mode=0o700, parents=True)
        instance = records.Instance(
            uuid=str(uuid.uuid4()), name=name, created=datetime.now(UTC).isoformat(timespec="seconds")
        )
        try:
            store = cls(_environment(making, create=True))
            try:
                with store._environment.begin(write=True) as txn:
                    Change(txn, store._db).put_instance(instance)
            finally:
                store.close()
        except lmdb.Error as error:
            raise as_oserror(error, os.fspath(making)) from error
        os.rename(making, directory)
        sync_directory(directory.parent)

    def read(self, look: Callable[[View], T]) -> T:
        """What `look` finds in one consistent state of the store. Keep nothing lazy of it.

        Raises OSError EIO while the store cannot be read.
        """
        with self._in_use:
            try:
                with self._environment.begin() as txn:
                    return look(View(txn, self._db))
            except lmdb.Error as error:
                raise StoreFailed(errno.EIO, f"the store: {error}") from error

    async def write(self, work: Callable[[Change], T]) -> T:
        """Runs `work` in a write transaction and returns once that is on disk.

        `work` runs in the writer's thread. If it raises, or the commit fails, nothing is kept and
        the error is raised here: OSError with the errno for what LMDB could not do, EROFS for a store
        that was opened for reading.
        """
        if self._writer is None:
            raise OSError(errno.EROFS, "the store is open for reading only")
        return await self._writer.submit(work)

    def copy_to(self, fd: int) -> None:
        """Writes a compacted copy of one consistent state to a file; writers go on. Raises OSError."""
        with self._copying:
            self._environment.reader_check()
            try:
                self._environment.copyfd(fd, compact=True)
            except lmdb.Error as error:
                raise as_oserror(error, os.path.dirname(self._path)) from error

    def pages(self) -> "Pages":
        """How much of its file the store uses. Raises OSError."""
        used, size = self.read(View.pages)
        with self._in_use:
            known = self._environment.info()["last_pgno"] + 1
        return Pages(size=size, known=known, free=max(known - used - _META_PAGES, 0))

    @property
    def directory(self) -> str:
        """Where its files lie."""
        return self._path

    @property
    def problem(self) -> str:
        """Why the store is of no use now, or will not be at the next mount; empty if all is well."""
        if not os.path.exists(os.path.join(self._path, integrity.DATA)):
            return "its files were deleted: what is written now is lost when the mount ends"
        return "" if self._writer is None else self._writer.problem

    def size(self) -> int:
        """Bytes on disk. Raises OSError."""
        return os.stat(os.path.join(self._path, integrity.DATA)).st_blocks * 512

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._environment.close()


def check_records(view: View) -> None:
    """Passes if the records can be read by this version. Raises Damaged, UnknownFormat."""
    try:
        found = view.instance().format
        if found != records.FORMAT:
            raise UnknownFormat(f"the store has format {found}, this version of csfs reads {records.FORMAT}")
        view.projects()
        view.intents()
    except msgspec.DecodeError as error:
        raise Damaged(f"a record cannot be read: {error}") from error


def sync_directory(path: Path) -> None:
    """Makes names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _environment(directory: Path, *, create: bool) -> lmdb.Environment:
    return lmdb.open(
        os.fspath(directory), map_size=MAP_SIZE, max_dbs=len(DATABASES), mode=0o600, create=create
    )
