"""The filesystems that are compared: each shows the same backing directory at a mount point of its own."""

import os
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

MOUNT_SECONDS = 20


class Filesystem(Protocol):
    name: str

    def mount(self, backing: Path, mountpoint: Path) -> None: ...
    def umount(self, mountpoint: Path) -> None: ...


class Native:
    """The backing directory itself, by a bind mount: the same paths, nothing in between."""

    name = "native"

    def mount(self, backing: Path, mountpoint: Path) -> None:
        subprocess.run(["mount", "--bind", backing, mountpoint], check=True)

    def umount(self, mountpoint: Path) -> None:
        subprocess.run(["umount", mountpoint], check=True)


class Csfs:
    """This checkout's csfs; the project in the backing directory is attached."""

    def __init__(self, state: Path, *, name: str = "csfs", options: tuple[str, ...] = ()) -> None:
        self.name, self._state, self._options = name, state, options

    def mount(self, backing: Path, mountpoint: Path) -> None:
        words = ["mount", backing, mountpoint, "--instance", "bench", "--state", self._state]
        options = [word for option in self._options for word in ("-o", option)]
        subprocess.run([sys.executable, "-m", "csfs", *words, *options], check=True)

    def umount(self, mountpoint: Path) -> None:
        subprocess.run([sys.executable, "-m", "csfs", "umount", mountpoint], check=True)


class Command:
    """A program that mounts; in the foreground if `stays`."""

    def __init__(self, name: str, *words: str, stays: bool = False) -> None:
        self.name, self._words, self._stays = name, words, stays
        self._process: subprocess.Popen[bytes] | None = None

    def mount(self, backing: Path, mountpoint: Path) -> None:
        words = [word.format(backing=backing, mountpoint=mountpoint) for word in self._words]
        if not self._stays:
            subprocess.run(words, check=True)
            return
        self._process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(mountpoint):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"{self.name} does not mount")
            time.sleep(0.01)

    def umount(self, mountpoint: Path) -> None:
        subprocess.run(["umount", mountpoint], check=True)
        if self._process is not None:
            self._process.wait(MOUNT_SECONDS)


@contextmanager
def mounted(filesystem: Filesystem, backing: Path, mountpoint: Path) -> Iterator[Path]:
    """The mount point, as long as it is mounted."""
    filesystem.mount(backing, mountpoint)
    try:
        yield mountpoint
    finally:
        filesystem.umount(mountpoint)


def peers(place: Path, libfuse: Path | None) -> tuple[list[Filesystem], list[str]]:
    """What can be compared with here, and what is missing, a sentence each."""
    found: list[Filesystem] = []
    missing = []
    for name, options in (("bindfs", ()), ("mergerfs", ("-o", "category.create=ff"))):
        if shutil.which(name):
            found.append(Command(name, name, *options, "{backing}", "{mountpoint}"))
        else:
            missing.append(f"{name} is not installed (apt install {name})")
    example = _pyfuse3_example(place)
    if example is None:
        missing.append("pyfuse3's passthrough example could not be had from the package index")
    else:
        words = (sys.executable, str(example), "{backing}", "{mountpoint}")
        found.append(Command("pyfuse3 example", *words, stays=True))
    if libfuse is None:
        missing.append(
            "libfuse's passthrough_hp and passthrough_ll: name the build's example directory (--libfuse)"
        )
    else:
        hp, ll = str(libfuse / "passthrough_hp"), str(libfuse / "passthrough_ll")
        # They keep a descriptor for each inode, and fail where a row has more files than that.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        many = ("prlimit", f"--nofile={most}")
        words = (*many, hp, "--foreground", "{backing}", "{mountpoint}")
        found.append(Command("passthrough_hp", *words, stays=True))
        words = (*many, ll, "-f", "-o", "source={backing},allow_other", "{mountpoint}")
        found.append(Command("passthrough_ll", *words, stays=True))
    return found, missing


def _pyfuse3_example(place: Path) -> Path | None:
    """The file of pyfuse3's source distribution, which the installed package lacks."""
    fetched = place / "pyfuse3"
    if not fetched.exists():
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        done = subprocess.run([*words, "--dest", fetched, "pyfuse3>=3.5,<3.6"], capture_output=True)
        if done.returncode != 0:
            return None
    program = place / "passthroughfs.py"
    for archive in fetched.glob("*.tar.gz"):
        with tarfile.open(archive) as opened:
            for member in opened:
                content = opened.extractfile(member) if member.name.endswith("/passthroughfs.py") else None
                if content is not None:
                    program.write_bytes(content.read())
                    return program
    return None
