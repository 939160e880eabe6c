"""Filesystems whose power can be cut: what was not synced by then is gone."""

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, XFS_IOC_SHUTDOWN."""
_NO_LOG_FLUSH = 2
_MEBIBYTES = {"ext4": 64, "xfs": 300}
_MAKE = {"ext4": ("mkfs.ext4", "-q", "-F"), "xfs": ("mkfs.xfs", "-q", "-f")}


class Disk:
    """A filesystem in an image file, mounted."""

    def __init__(self, kind: str, place: Path) -> None:
        """Skips the test where such a filesystem cannot be made or mounted."""
        self.kind = kind
        self.mountpoint = place / kind
        self._image = place / f"{kind}.img"
        if os.geteuid() != 0:
            pytest.skip("only root can mount a filesystem whose power can be cut")
        if shutil.which(_MAKE[kind][0]) is None:
            pytest.skip(f"{_MAKE[kind][0]} is not installed")
        self.mountpoint.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_MEBIBYTES[kind] << 20)
        subprocess.run([*_MAKE[kind], str(self._image)], check=True, capture_output=True)
        mounted = self._mount()
        if mounted.returncode != 0:
            pytest.skip(f"{kind} cannot be mounted here: {mounted.stderr.strip()}")

    def _mount(self) -> subprocess.CompletedProcess[str]:
        words = ["mount", "-o", "loop", str(self._image), str(self.mountpoint)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def sync(self) -> None:
        fd = os.open(self.mountpoint, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        subprocess.run(["sync", "-f", str(self.mountpoint)], check=True)

    def cut_power(self) -> None:
        """From now on all on it fails; what its journal has not on disk yet is lost."""
        fd = os.open(self.mountpoint, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def restart(self) -> None:
        """Mounts it again, as after a boot."""
        ended = subprocess.run(["umount", str(self.mountpoint)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        mounted = self._mount()
        assert mounted.returncode == 0, mounted.stderr

    def clear(self) -> None:
        """Makes it as good as new, also if a test has failed while its power was off."""
        try:
            found = list(self.mountpoint.iterdir())
        except OSError:
            self.restart()
            found = list(self.mountpoint.iterdir())
        for path in found:
            if path.name != "lost+found":
                shutil.rmtree(path)

    def close(self) -> None:
        """The loop device goes with the mount."""
        subprocess.run(["umount", "-l", str(self.mountpoint)], check=False, capture_output=True)
        self._image.unlink(missing_ok=True)
