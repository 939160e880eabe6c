"""Whether a clone can share its blocks with the original: FUSE does not pass that on, the backing does."""

import fcntl
import os

from csfs.cli.mounts import Mounted, devices, on_backing
from csfs.cli.staging import Reach, Staging
from csfs.cli.tree_copy import FICLONE, opened

_PROBES = (".csfs-probe-1", ".csfs-probe-2")


def reach(mount: Mounted, other: Mounted, source: str, staging: Staging) -> Reach | None:
    """Source and copy on their backing directories, if files there can share blocks; otherwise None.

    Both have to be there already. Only what is the very same directory as on the mount is believed: the
    mount may cover its backing directory, or something else may be mounted over that.
    """
    at = _on_backing(mount, source)
    to = _on_backing(other, staging.copy)
    if at is None or to is None or not _can_share(os.path.dirname(to)):
        return None
    return Reach(at, to)


def _on_backing(mount: Mounted, path: str) -> str | None:
    lies = on_backing(mount, path)
    if lies is None:
        return None
    try:
        found, seen = os.stat(lies, follow_symlinks=False), os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    # Not by inode number: that is the mount's own where it shows several filesystems.
    same = _identity(found) == _identity(seen) and found.st_dev not in devices()
    return lies if same and os.access(lies, os.R_OK | os.X_OK) else None


def _identity(found: os.stat_result) -> tuple[int, ...]:
    """What no two directories have in common: not even root sets the time of the last change."""
    return (found.st_ctime_ns, found.st_mtime_ns, found.st_mode, found.st_uid, found.st_gid)


def _can_share(directory: str) -> bool:
    """Whether files in a directory can share blocks, tried out with two small ones."""
    try:
        with opened(directory) as at:
            try:
                one, two = (
                    os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=at)
                    for name in _PROBES
                )
                try:
                    os.write(one, bytes(4096))
                    fcntl.ioctl(two, FICLONE, one)
                finally:
                    os.close(one)
                    os.close(two)
            finally:
                for name in _PROBES:
                    if os.path.lexists(os.path.join(directory, name)):
                        os.unlink(name, dir_fd=at)
    except OSError:
        return False
    return True
