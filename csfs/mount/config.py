"""The file that `csfs mount` takes for BACKING: an instance, and the backing directory of each container."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import msgspec

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


class BadConfig(Exception):
    """The file does not say what is to be mounted; the message says what to mend."""


class _Instance(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    state: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    instance: _Instance
    containers: dict[str, str]


@dataclass(frozen=True)
class Config:
    """What a file says."""

    instance: str
    state: Path | None
    """The state directory; None if it does not say."""
    containers: dict[str, str]
    """Name -> absolute path of the backing directory, in the order of the file."""


def read(path: Path) -> Config:
    """Raises BadConfig, with the key or line that is wrong."""
    try:
        with path.open("rb") as file:
            found = msgspec.convert(tomllib.load(file), _File)
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise BadConfig(
            f"{path}: {error}; it has [instance] with name and, if need be, state, and [containers]"
            ' with a line NAME = "/backing/directory" for each'
        ) from error
    if not found.containers:
        raise BadConfig(f"{path}: [containers] names none; a single directory is mounted without such a file")
    for name, backing in found.containers.items():
        if not _CONTAINER.match(name):
            raise BadConfig(
                f"{path}: {name!r} is no name for a container: use letters, digits, '.', '_' and '-'"
            )
        _refuse_relative(path, f"containers.{name}", backing)
    if found.instance.state:
        _refuse_relative(path, "instance.state", found.instance.state)
    state = Path(found.instance.state) if found.instance.state else None
    return Config(found.instance.name, state, found.containers)


def _refuse_relative(path: Path, key: str, value: str) -> None:
    if not value.startswith("/") or "\0" in value:
        raise BadConfig(f"{path}: {key} is {value!r}: give an absolute path")
