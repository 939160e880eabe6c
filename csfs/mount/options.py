"""What is given to `csfs mount`, and the words of -o that are csfs's own."""

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from csfs.backing.backings import ROOT
from csfs.domain import session

_NO_PASSTHROUGH = "nopassthrough"
_STRICT = "strict"
_BACKUP = "backup="
_HOURS = re.compile(r"[0-9]{1,6}\Z")
_ACCEPT_STORAGE = "accept_storage"
_TAKEOVER = "takeover="
_THREADS, _INLINE = "io=threads", "io=inline"
_LOG = "log="
_LOG_FORMATS = ("text", "json")
_LEAST_TAKEOVER = 1.0


class BadOption(Exception):
    """A word of -o that csfs knows has a value that it cannot have."""


@dataclass(frozen=True)
class Own:
    """The words of -o that the kernel and libfuse do not get to see.

    | word | means |
    | --- | --- |
    | `nopassthrough` | all data goes through the daemon |
    | `strict` | what is written in a project goes through the daemon, which asks each time if it may |
    | `io=threads`, `io=inline` | whether backing calls may hold up others; by its type if not given |
    | `backup=HOURS`, `backup=off` | how often the store is backed up; every day if it is not given |
    | `takeover=SECONDS` | an instance that is silent for so long counts as dead |
    | `log=text`, `log=json` | how the daemon's log looks; text if it is not given |
    | `accept_storage` | the storage is another one than before, and that is intended |
    """

    passthrough: bool = True
    strict: bool = False
    takeover: float = session.TAKEOVER_SECONDS
    accept_storage: bool = False
    threads: bool | None = None
    backup_seconds: float = 24 * 3600.0
    """From one automatic backup to the next; 0: none."""

    @classmethod
    def parse(cls, words: frozenset[str]) -> tuple[Self, frozenset[str]]:
        """csfs's own options, and the words that are left. Raises BadOption."""
        rest = set(words)
        takeover, backup = session.TAKEOVER_SECONDS, cls.backup_seconds
        for word in words:
            if word.startswith(_TAKEOVER):
                takeover = _seconds(word)
                rest.discard(word)
            elif word.startswith(_BACKUP):
                backup = _backup_seconds(word)
                rest.discard(word)
            elif word.startswith(_LOG):
                _refuse_other_log(word)
                rest.discard(word)
        rest -= {_NO_PASSTHROUGH, _STRICT, _ACCEPT_STORAGE, _THREADS, _INLINE}
        own = cls(
            passthrough=_NO_PASSTHROUGH not in words,
            strict=_STRICT in words,
            takeover=takeover,
            accept_storage=_ACCEPT_STORAGE in words,
            backup_seconds=backup,
            threads=True if _THREADS in words else False if _INLINE in words else None,
        )
        return own, frozenset(rest)


def _seconds(word: str) -> float:
    try:
        seconds = float(word.removeprefix(_TAKEOVER))
    except ValueError:
        seconds = 0.0
    if not _LEAST_TAKEOVER <= seconds <= 1e9:
        raise BadOption(f"-o {word}: a number of seconds, at least {_LEAST_TAKEOVER:g}, is wanted")
    return seconds


def _backup_seconds(word: str) -> float:
    hours = word.removeprefix(_BACKUP)
    if hours != "off" and not _HOURS.match(hours):
        raise BadOption(f"-o {word}: say how many hours, or off")
    return 0.0 if hours == "off" else float(hours) * 3600


def _refuse_other_log(word: str) -> None:
    if word.removeprefix(_LOG) not in _LOG_FORMATS:
        raise BadOption(f"-o {word}: say text or json")


@dataclass(frozen=True)
class MountOptions:
    """What `csfs mount` was told, paths absolute."""

    backing: str
    """The backing directory; with containers, the file that names them."""
    mountpoint: str
    instance: str
    state: Path
    fuse: frozenset[str] = field(default_factory=frozenset)
    """The words of -o."""
    containers: Mapping[str, str] = field(default_factory=dict)
    """The backing directory of each container; with none there is just one, at the root of the mount."""

    @property
    def backings(self) -> dict[bytes, str]:
        """The path of each backing directory, by the name of its container."""
        named = {os.fsencode(name): path for name, path in self.containers.items()}
        return named or {ROOT: self.backing}

    @property
    def words(self) -> str:
        """What tells another command (`csfs recover`) of the same instance."""
        if self.containers:
            return shlex.join([self.backing, "--state", os.fspath(self.state)])
        return shlex.join([self.backing, "--instance", self.instance, "--state", os.fspath(self.state)])

    @property
    def directory(self) -> Path:
        """Of the instance, in the state directory."""
        return self.state / self.instance

    @property
    def log(self) -> Path:
        return self.directory / "csfs.log"

    @property
    def log_format(self) -> str:
        """`text` or `json`."""
        return "json" if _LOG + "json" in self.fuse else "text"
