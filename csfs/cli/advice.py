"""The advice of a refusal as it can be pasted: with the paths of this mount in its commands."""

import os
import re
import shlex

from csfs.cli.mounts import Mounted, on_backing
from csfs.domain.refusal_entry import RefusalEntry

_WORD = re.compile(r"\b(PATH|TARGET|DIRECTORY|MOUNTPOINT|BACKING|BACKING_PATH|STATE)\b")
_ESCAPE = re.compile(r"\\(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_TO_ESCAPE = re.compile(rf"{_ESCAPE.pattern}|[\\']")


def next_step(entry: RefusalEntry, mount: Mounted) -> str:
    """The advice with what its words in capitals stand for (see `domain.refusals`), quoted for a shell."""
    path = os.path.join(mount.mountpoint, entry.path)
    values = {
        "PATH": path,
        "TARGET": os.path.join(mount.mountpoint, entry.target),
        "DIRECTORY": os.path.join(mount.mountpoint, entry.directory),
        "MOUNTPOINT": mount.mountpoint,
        "BACKING": _backing_of(mount, path),
        "BACKING_PATH": on_backing(mount, path) or mount.backing,
        "STATE": mount.state_directory,
    }
    return _WORD.sub(lambda word: _quoted(values[word.group()]), entry.advice)


def _backing_of(mount: Mounted, path: str) -> str:
    for container in mount.containers:
        top = os.path.normpath(os.path.join(mount.mountpoint, container.name))
        if path == top or path.startswith(top + "/"):
            return container.backing
    return mount.backing


def _quoted(path: str) -> str:
    """A path as a word of bash. What is no ordinary character the mount has escaped (`domain.printable`)."""
    path = path.rstrip("/") or "/"
    if not _ESCAPE.search(path):
        return shlex.quote(path)
    escaped = _TO_ESCAPE.sub(
        lambda found: found.group() if len(found.group()) > 1 else "\\" + found.group(), path
    )
    return f"$'{escaped}'"
