"""Opening a store only to read it: another process's, or a backup."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

import lmdb

from csfs.store import integrity
from csfs.store.store import DAMAGE, DATABASES, Damaged, View, check_records, copy_environment
from csfs.store.writer import as_oserror

T = TypeVar("T")


class Reader:
    """A store that is only read: that of another process, which may write it, or a backup."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._db = {name: environment.open_db(name.encode(), create=False) for name in DATABASES}

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the store in the directory `path`, or the backup that the file `path` is.

        Raises Damaged, UnknownFormat, or OSError as `Store.open` does; FileNotFoundError if it is
        not there.
        """
        os.stat(path)
        if fault := integrity.fault(os.fspath(path)):
            raise Damaged(fault)
        is_store = path.is_dir()
        try:
            reader = cls(
                lmdb.open(
                    os.fspath(path),
                    subdir=is_store,
                    lock=is_store,
                    readonly=True,
                    create=False,
                    max_dbs=len(DATABASES),
                )
            )
        except DAMAGE as error:
            raise Damaged(str(error)) from error
        except lmdb.Error as error:
            raise as_oserror(error, os.fspath(path.parent)) from error
        try:
            reader.read(check_records)
        except BaseException:
            reader.close()
            raise
        return reader

    def read(self, look: Callable[[View], T]) -> T:
        """As `Store.read`."""
        with self._environment.begin() as txn:
            return look(View(txn, self._db))

    def copy_to(self, fd: int) -> None:
        """As `Store.copy_to`."""
        copy_environment(self._environment, fd)

    def close(self) -> None:
        self._environment.close()
