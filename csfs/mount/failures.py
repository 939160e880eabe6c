"""What a failing backing filesystem or store is to users: a reason that `csfs why` shows."""

import errno
import os

from csfs.domain import refusals
from csfs.domain.refusals import Refusal
from csfs.store.writer import StoreFailed

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FAILED = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ETIMEDOUT, errno.ENOTCONN)


def reason(error: OSError) -> Refusal | None:
    """The reason to record for an error that a request ends with; None for those of every day (ENOENT)."""
    code = error.errno or errno.EIO
    detail = error.strerror or os.strerror(code)
    if isinstance(error, StoreFailed):
        return refusals.store_failed(code, detail)
    if code in _FULL:
        return refusals.storage_full(code, detail)
    if code == errno.EROFS:
        return refusals.storage_read_only(detail)
    if code == errno.EACCES:
        return refusals.storage_denied(detail)
    if code in _FAILED:
        return refusals.storage_failed(code, detail)
    return None
