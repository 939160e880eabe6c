"""The process that has everything imported and forks a daemon for each mount: see zygote.py.

Reads requests from standard input and says on standard output what becomes of them, one JSON object a
line. It stays single-threaded, and neither trio nor LMDB runs in it, so that a fork of it is as good as
a process of its own. When standard input ends, it kills what it started and ends.
"""

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from csfs.lifecycle import documents
from csfs.mount.daemon import CannotMount, serve
from csfs.mount.options import MountOptions
from csfs.store import integrity

_NO_BACKUP = "backup=off"
"""Else each daemon would begin with one, and which calls are counted would be a matter of chance."""
_RETRY_SECONDS = 0.1
"""A test is not to wait as long for the next attempt at an export as a storage may take to mend."""


def main() -> None:
    documents.RETRY_SECONDS = _RETRY_SECONDS
    # Reads the store in a Python of its own, which takes longer than all the rest of a mount.
    integrity.fault = lambda path: ""
    say = os.dup(sys.stdout.fileno())
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    children: dict[int, int] = {}
    received = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _reap(children, say)
        if 0 in readable:
            chunk = os.read(0, 1 << 16)
            if not chunk:
                break
            *lines, received = (received + chunk).split(b"\n")
            for line in lines:
                _mount(json.loads(line), children, say, (woken, wake))
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _mount(request: dict[str, Any], children: dict[int, int], say: int, own: tuple[int, int]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in own:
                os.close(fd)
            status = _serve(request, say)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    children[pid] = request["id"]
    _tell(say, id=request["id"], event="started", pid=pid)


def _serve(request: dict[str, Any], say: int) -> int:
    """The daemon; as `csfs mount` leaves it, but that it logs to its file from the beginning."""
    options = MountOptions(
        backing=request["backing"],
        mountpoint=request["mountpoint"],
        instance=request["instance"],
        state=Path(request["state"]),
        fuse=frozenset([_NO_BACKUP, *request["fuse"]]),
    )
    os.setsid()
    os.chdir("/")
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    code = ctypes.CDLL(None).interpose_by(os.fsencode(request["control"]))
    if code:
        raise OSError(code, os.strerror(code), request["control"])
    try:
        serve(options, lambda: _tell(say, id=request["id"], event="ready"))
    except CannotMount as error:
        _tell(say, id=request["id"], event="failed", reason=str(error))
        return 1
    logging.shutdown()
    return 0


def _reap(children: dict[int, int], say: int) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(say, id=children.pop(pid), event="ended", status=os.waitstatus_to_exitcode(status))


def _tell(say: int, **event: Any) -> None:
    os.write(say, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    main()
