"""Whether all of an LMDB file can be read, found out in a process of its own.

LMDB maps its file and trusts what it finds there: where a page is cut off or overwritten, the process
that reads it may be killed (SIGBUS, SIGSEGV). So another one reads it first. That runs this file alone,
which is why nothing of csfs is imported here.
"""

import os
import signal
import subprocess
import sys

import lmdb

_MOST_DATABASES = 32


def fault(path: str) -> str:
    """What is wrong with a store's directory or a backup file; empty if all of it can be read.

    Raises OSError if no process can be started.
    """
    done = subprocess.run(
        [sys.executable, "-P", __file__, path], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"pages are missing or overwritten ({signal.Signals(-done.returncode).name} when read)"
    return done.stdout.strip() or done.stderr.strip() or "it cannot be read"


def _read_all(path: str) -> None:
    """Touches every key, and both ends of every value. Raises lmdb.Error, or ends in a signal."""
    file = os.path.join(path, "data.mdb") if os.path.isdir(path) else path
    with lmdb.open(
        path, subdir=os.path.isdir(path), readonly=True, lock=False, max_dbs=_MOST_DATABASES
    ) as environment:
        pages = environment.info()["last_pgno"] + 1
        if os.path.getsize(file) < pages * environment.stat()["psize"]:
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
    except (lmdb.Error, OSError) as error:
        print(error)
        sys.exit(1)
