"""What the locks below a backing directory tell of an instance whose store is lost."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from csfs.backing import contents, lockfile
from csfs.backing.backings import Backing, Backings
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import document, lock, names
from csfs.domain.document import Kind

_MOST_NUMBER = 1 << 31
"""A P-number beyond this is nonsense that a document holds, and no number is given after it."""
_SESSIONS = b"sessions"
_SESSION_BYTES = 1 << 20
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO)
"""What reading gives for a file that is not there, or is none that csfs wrote."""


class CannotRecover(Exception):
    """The store cannot be rebuilt; the message says why and what to do. Nothing was changed."""


@dataclass(frozen=True)
class Sighting:
    """A directory in which a cs.lock lies."""

    path: bytes
    """On the mount: relative to the backing directory, below the name of its container."""
    inode: int
    born: int
    lock: lock.Lock | lock.Opaque
    content: bytes
    """Of the cs.lock."""
    document_number: int
    """The P-number in its project.json; 0 if there is none."""

    @property
    def is_bound(self) -> bool:
        """Whether the lock is that of this very directory."""
        return isinstance(self.lock, lock.Lock) and self.lock.binds(self.inode, self.born)

    @property
    def shown(self) -> str:
        return shown(self.path)

    def names_instance(self, uuid: str) -> bool:
        return isinstance(self.lock, lock.Lock) and self.lock.instance_uuid == uuid


def shown(path: bytes) -> str:
    """A path below the backing directory as text; `.` for that itself."""
    return path.decode(errors="backslashreplace") or "."


def survey(backings: Backings) -> list[Sighting]:
    """Every directory with a lock, in the order of their paths. Follows no symlink. Raises OSError."""
    found = [_sighting(path, directory) for each in backings for path, directory in _projects(each)]
    return sorted((each for each in found if each is not None), key=lambda each: each.path)


def _projects(backing: Backing) -> Iterator[tuple[bytes, Descriptor]]:
    markers, top = (names.LOCK, names.PROJECT_DOCUMENT), backing.container
    if any(backing.descriptor.exists(name.encode()) for name in markers):
        yield top, backing.descriptor
        return
    for path, directory in contents.projects_below(backing.descriptor):
        yield os.path.join(top, path), directory


def _sighting(path: bytes, directory: Descriptor) -> Sighting | None:
    directory.revalidate()
    content = lockfile.content_of(directory)
    if content is None:
        return None
    return Sighting(
        path=path,
        inode=directory.inode,
        born=directory.born(),
        lock=lock.parse(content),
        content=content,
        document_number=_document_number(directory),
    )


def _document_number(directory: Descriptor) -> int:
    try:
        found = contents.read(directory, names.PROJECT_DOCUMENT)
        parsed = document.parse(found.content, Kind.PROJECT) if found is not None else None
    except document.Invalid:
        return 0  # the project itself is read later, and its fault is told then
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return 0
    member = parsed.head.members.get("uid_num") if parsed is not None else None
    text = str(member.value) if member is not None and isinstance(member.value, document.Number) else ""
    return _plausible(int(text)) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _plausible(number: int) -> int:
    return number if 0 < number < _MOST_NUMBER else 0


def lock_number(sighting: Sighting) -> int:
    """The P-number that its lock names; 0 if that is none."""
    if not isinstance(sighting.lock, lock.Lock) or len(sighting.lock.project_uid) > 20:
        return 0
    return _plausible(names.project_number(sighting.lock.project_uid) or 0)


def choose_uuid(seen: list[Sighting], name: str, wanted: str | None) -> str:
    """The UUID of the instance that is to be rebuilt: the wanted one, or the only one of this name.

    Raises CannotRecover if there is none, or a choice.
    """
    if wanted is not None:
        if not any(each.names_instance(wanted) for each in seen):
            raise CannotRecover(f"no lock names an instance with the UUID {wanted}; {_instances(seen)}")
        return wanted
    bound = [each.lock for each in seen if each.is_bound and isinstance(each.lock, lock.Lock)]
    found = sorted({each.instance_uuid for each in bound if each.instance_name == name})
    if len(found) == 1:
        return found[0]
    if not found:
        raise CannotRecover(f"no project is held by an instance called {name}; {_instances(seen)}")
    raise CannotRecover(
        f"{len(found)} instances are called {name}; say which one with --uuid; {_instances(seen)}"
    )


def _instances(seen: list[Sighting]) -> str:
    """The instances that the locks name, and their projects, for people."""
    projects: dict[tuple[str, str], list[str]] = {}
    for each in seen:
        if isinstance(each.lock, lock.Lock):
            copy = "" if each.is_bound else ", a copy"
            what = f"{each.lock.project_uid} in {each.shown}{copy}"
            projects.setdefault((each.lock.instance_name, each.lock.instance_uuid), []).append(what)
    if not projects:
        return "the locks there name none"
    lines = [f"  {name} {uuid}: {'; '.join(held)}" for (name, uuid), held in sorted(projects.items())]
    return "\n".join(["the locks there name", *lines])


def greatest_number(backings: Backings, seen: list[Sighting], uuid: str) -> int:
    """The greatest P-number that this instance is known to have given.

    Told by its locks, also in copies, by the documents beside them, and by what its last mount wrote
    of itself.
    """
    ours = [each for each in seen if each.names_instance(uuid)]
    told = [number for each in ours for number in (lock_number(each), each.document_number)]
    marks = [_high_water(each.descriptor, uuid) - 1 for each in backings]
    return max([*marks, *told, 0])


def _high_water(backing: Descriptor, uuid: str) -> int:
    """The next P-number as the last mount of the instance noted it; 0 if it did not."""
    if "/" in uuid:
        return 0
    try:
        directory = backing.child(names.CONTROL.encode()).child(_SESSIONS)
        content = read_file(directory, f"{uuid}.json".encode(), _SESSION_BYTES)
        found = msgspec.json.decode(content, type=dict[str, object])
    except msgspec.DecodeError:
        return 0  # one witness of several, and half written
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return 0
    number = found.get("next_project")
    return _plausible(number) if type(number) is int else 0
