"""Whether all of an LMDB file can be read, found out in a process of its own.

LMDB maps its file and trusts what it finds there: where a page is cut off or overwritten, the process
that reads it may be killed (SIGBUS, SIGSEGV). So another one reads it first. That runs this file alone,
which is why nothing of csfs is imported here.
"""

import errno
import os
import signal
import subprocess
import sys

import lmdb

DATA = "data.mdb"
"""LMDB's name for the file in a store's directory."""
_MOST_DATABASES = 32
_THIS_PYTHON = "/proc/self/exe"
"""The interpreter that runs: its path may lead through directories that are closed to this user."""
_FAULTY, _FAILED = 3, 4
"""Exit statuses of the process: the file is no store, or could not be looked at (errno first)."""


def fault(path: str) -> str:
    """What is wrong with a store's directory or a backup file; empty if all of it can be read.

    A store may be written meanwhile. Raises OSError if it cannot be looked at.
    """
    file = _file(path)
    try:
        if os.stat(file).st_size == 0:
            return f"{os.path.basename(file)} is empty"
    except FileNotFoundError:
        return f"{os.path.basename(file)} is missing"
    done = subprocess.run(
        [sys.executable, "-P", __file__, path],
        executable=_THIS_PYTHON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"pages are missing or overwritten ({signal.Signals(-done.returncode).name} when read)"
    if done.returncode == _FAULTY:
        return done.stdout.strip()
    number, _, reason = done.stdout.strip().partition(" ")
    if done.returncode == _FAILED and number.isdigit():
        raise OSError(int(number), f"{path} cannot be looked at: {reason}")
    raise OSError(errno.EIO, f"{path} cannot be looked at: {done.stderr.strip()}")


def _file(path: str) -> str:
    return os.path.join(path, DATA) if os.path.isdir(path) else path


def _read_all(path: str) -> None:
    """Touches every key, and both ends of every value. Raises lmdb.Error, or ends in a signal."""
    is_store = os.path.isdir(path)
    with lmdb.open(
        path, subdir=is_store, lock=is_store, readonly=True, create=False, max_dbs=_MOST_DATABASES
    ) as environment:
        pages = environment.info()["last_pgno"] + 1
        if os.path.getsize(_file(path)) < pages * environment.stat()["psize"]:
            # Pages that are free need not be in the file; a copy reads those that must.
            with open(os.devnull, "wb") as nothing:
                environment.copyfd(nothing.fileno(), compact=True)
        with environment.begin(buffers=True) as txn, txn.cursor() as cursor:
            names = [bytes(name) for name in cursor.iternext(keys=True, values=False)]
        for name in names:
            database = environment.open_db(name, create=False)
            with environment.begin(db=database, buffers=True) as txn, txn.cursor() as cursor:
                for key, value in cursor:
                    _ = bytes(key), bytes(value[:1]), bytes(value[-1:])


if __name__ == "__main__":
    try:
        _read_all(sys.argv[1])
    except lmdb.Error as error:
        # LMDB's own codes are below zero. EINVAL is what it makes of sizes that cannot be.
        if error.code > 0 and error.code != errno.EINVAL:
            print(error.code, error)
            sys.exit(_FAILED)
        print(error)
        sys.exit(_FAULTY)
