"""What a case sees: results and errnos by name, stat fields, contents; also those of other processes."""

import ctypes
import errno
import os
import pickle
import signal
import stat
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

Observation = dict[str, Any]
"""What was done, in words -> what came of it."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_libc = ctypes.CDLL(None, use_errno=True)

_NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}

_MUCH = 1 << 20
"""Files up to so many bytes are compared by their content."""


def outcome(call: Callable[..., object], *args: object, **kwargs: object) -> object:
    """What a call returns ("ok" for None), or the name of its errno."""
    try:
        found = call(*args, **kwargs)
    except OSError as error:
        assert error.errno is not None
        return _NAMES[error.errno]
    return "ok" if found is None else found


def opened(path: str | bytes, flags: int, mode: int = 0o666) -> object:
    """Whether it can be opened: "ok", or the name of the errno."""
    return outcome(lambda: os.close(os.open(path, flags, mode)))


def put(path: str | bytes, content: bytes = b"content", mode: int = 0o644) -> None:
    """Makes or overwrites a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def content(path: str | bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def described(found: os.stat_result) -> tuple[object, ...]:
    """Type, mode, links, owner and size, as far as they are the same for the same file elsewhere."""
    size = -1 if stat.S_ISDIR(found.st_mode) else found.st_size
    return (oct(found.st_mode), found.st_nlink, found.st_uid, found.st_gid, size, found.st_rdev)


def look(path: str | bytes) -> object:
    """`described` of what lies at a path, or the name of the errno."""
    return outcome(lambda: described(os.lstat(path)))


def mode(path: str | bytes) -> str:
    return oct(os.lstat(path).st_mode)


def called(name: str, *args: Any) -> object:
    """A function of libc: what it returns, or the name of its errno."""
    found = getattr(_libc, name)(*args)
    return _NAMES[ctypes.get_errno()] if found == -1 else found


def in_child(call: Callable[[], T]) -> T:
    """What a forked process of its own returns; what it raises is an AssertionError with its traceback."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        # Other tests of this process may have left idle threads: the child does not need them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(read)
        _answer(call, write)
    try:
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert answer, "the process died"
    done, found = pickle.loads(answer)
    assert done, found
    result: T = found
    return result


def _answer(call: Callable[[], object], write: int) -> NoReturn:
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            answer = pickle.dumps((True, call()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(write, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def become(uid: int, gid: int, *groups: int) -> None:
    """Makes this process one of an ordinary user's, as if that had started it."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def by(uid: int, gid: int, call: Callable[[], T], groups: tuple[int, ...] = ()) -> T:
    """What a process of another user returns."""

    def work() -> T:
        become(uid, gid, *groups)
        return call()

    return in_child(work)


def snapshot(fd: int) -> Observation:
    """All that lies below a directory: what it is, its owner, content, times and attributes."""
    found: Observation = {}
    try:
        at = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
    except OSError as error:
        return {".": _NAMES[error.errno or 0]}
    try:
        for name in sorted(os.fsencode(each) for each in os.listdir(at)):
            key = ascii(name)
            found[key] = _seen(at, name)
            if found[key][0].startswith("0o4"):
                below = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=at)
                try:
                    found.update({f"{key}/{more}": seen for more, seen in snapshot(below).items()})
                finally:
                    os.close(below)
    finally:
        os.close(at)
    return found


def _seen(at: int, name: bytes) -> tuple[Any, ...]:
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    held: object = None
    if stat.S_ISLNK(found.st_mode):
        held = os.readlink(name, dir_fd=at)
    elif stat.S_ISREG(found.st_mode) and found.st_size <= _MUCH:
        held = outcome(_read, at, name)
    path = b"/proc/self/fd/%d/%s" % (at, name)
    attributes = outcome(lambda: sorted(os.listxattr(path, follow_symlinks=False)))
    return (*described(found), found.st_mtime_ns, held, attributes)


def _read(at: int, name: bytes) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=at)
    try:
        return os.read(fd, _MUCH)
    finally:
        os.close(fd)


def differing(one: Observation, other: Observation) -> dict[str, tuple[object, object]]:
    """The steps that have come out differently."""
    steps = sorted(one.keys() | other.keys())
    return {step: (one.get(step), other.get(step)) for step in steps if one.get(step) != other.get(step)}
