"""Makes each call in a process of its own: csfs tells by the process who sweeps a project and who does not.

    with Doer() as doer:
        doer.do("unlink", path)

It stays single-threaded, so that it may fork.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_TOP = Path(__file__).parents[2]


def _write(flags: int) -> Callable[[str, str], None]:
    def write(path: str, content: str) -> None:
        """Raises what close(2) says, too."""
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        try:
            if content:
                os.write(fd, content.encode())
        finally:
            os.close(fd)

    return write


VERBS: dict[str, Callable[..., None]] = {
    "claim": _write(os.O_CREAT),
    "write": _write(os.O_CREAT | os.O_TRUNC),
    "rewrite": _write(os.O_TRUNC),
    "append": _write(os.O_APPEND),
    "truncate": os.truncate,
    "mkdir": os.mkdir,
    "rmdir": os.rmdir,
    "unlink": os.unlink,
    "rename": os.rename,
    "link": os.link,
    "chmod": os.chmod,
    "setxattr": lambda path, name, value: os.setxattr(path, name, value.encode()),
    "rmtree": shutil.rmtree,
}


class Doer:
    """The process that makes calls. To be closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.doer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_TOP,
        )

    def do(self, verb: str, *arguments: Any) -> int:
        """The errno with which the call failed; 0 if it did not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [str(each) if isinstance(each, Path) else each for each in arguments]
        self._process.stdin.write(json.dumps([verb, words]).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve() -> None:
    for line in sys.stdin.buffer:
        verb, arguments = json.loads(line)
        if os.fork() == 0:
            code = 255
            try:
                VERBS[verb](*arguments)
                code = 0
            except OSError as error:
                code = error.errno or errno.EIO
            finally:
                os._exit(code)
        _, status = os.wait()
        os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _serve()
