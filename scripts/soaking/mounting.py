"""A mount for a while, in a directory of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Mounted(NamedTuple):
    """A mount of a new instance over an empty backing directory."""

    backing: Path
    mountpoint: Path
    log: Path

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.mountpoint / ".csfs/status.json").read_bytes())
        return found


@contextmanager
def mounted(place: Path, options: tuple[str, ...] = ()) -> Iterator[Mounted]:
    """Mounts in the directory `place`, and unmounts at the end. Raises CalledProcessError."""
    made = Mounted(place / "backing", place / "mnt", place / "state/soak/csfs.log")
    for directory in (made.backing, made.mountpoint):
        directory.mkdir(parents=True)
    csfs = [sys.executable, "-m", "csfs"]
    words = [word for option in options for word in ("-o", option)]
    where = [str(made.backing), str(made.mountpoint), "--instance", "soak", "--state", str(place / "state")]
    subprocess.run([*csfs, "mount", *where, *words], check=True)
    try:
        yield made
    finally:
        ended = subprocess.run([*csfs, "umount", made.mountpoint])
        if ended.returncode != 0:
            subprocess.run(["umount", "-l", made.mountpoint], check=False)


def complaints(log: Path) -> list[str]:
    """The lines of a daemon's log that tell of something wrong."""
    words = (" WARNING ", " ERROR ", "Traceback", "Exception")
    return [line for line in log.read_text().splitlines() if any(word in line for word in words)]
