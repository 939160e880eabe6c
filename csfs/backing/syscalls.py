"""System calls that Python's os module lacks."""

import ctypes
import os

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2 = _libc.renameat2
_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_fstatfs = _libc.fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)

_NETWORK_TYPES = {
    0x6969: "nfs",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x65735546: "fuse",
    0x00C36400: "ceph",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x01021997: "9p",
    0x19830326: "beegfs",
}
"""statfs(2) types whose calls may take milliseconds, or for ever."""


def renameat2(source_fd: int, source: bytes, target_fd: int, target: bytes, flags: int) -> None:
    """rename(2) with RENAME_NOREPLACE or RENAME_EXCHANGE. Raises OSError."""
    if _renameat2(source_fd, source, target_fd, target, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def syncfs(fd: int) -> None:
    """Makes all that was written to the filesystem of `fd` durable (syncfs(2)). Raises OSError."""
    if _libc.syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class _Timestamp(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_uint32), ("reserved", ctypes.c_int32))


class _Statx(ctypes.Structure):
    """The beginning of struct statx (statx(2)), as far as it is asked for."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("before_times", ctypes.c_uint8 * 60),
        ("access", _Timestamp),
        ("birth", _Timestamp),
        ("rest", ctypes.c_uint8 * 160),
    )


_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800


def birth_time(fd: int) -> int:
    """When the file was made, in nanoseconds; 0 where the filesystem or the kernel does not tell."""
    found = _Statx()
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, ctypes.byref(found)) != 0:
        return 0
    if not found.mask & _STATX_BTIME:
        return 0
    born: int = found.birth.seconds * 1_000_000_000 + found.birth.nanoseconds
    return born


def network_filesystem(fd: int) -> str | None:
    """The name of the network (or FUSE) filesystem that `fd` lies on; None for a local one."""
    buffer = ctypes.create_string_buffer(256)
    if _fstatfs(fd, buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    kind = ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF
    return _NETWORK_TYPES.get(kind)
