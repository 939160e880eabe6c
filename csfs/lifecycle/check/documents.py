"""Documents: what the store has, against what lies on the backing directory."""

import errno
from collections.abc import Iterator

from csfs.backing import manifest
from csfs.backing.descriptor import Descriptor, read_file
from csfs.domain import document
from csfs.domain.manifest import Page
from csfs.domain.state import State
from csfs.lifecycle.check.findings import Finding, Kind, Severity, unreadable
from csfs.lifecycle.check.seen import Seen
from csfs.lifecycle.documents import is_held_back
from csfs.store import records
from csfs.store.store import Store, View

_LOOKS = 5
"""At a document that is edited all the time; after that many it is left alone."""

_MISSING = "the file is missing"
_SHOWN = 10
"""Differences of an archived project that are named; the others are counted."""

_NO_FILE = (errno.ELOOP, errno.EINVAL, errno.EFBIG, errno.ENXIO)


def examine(seen: Seen, record: records.Project) -> Iterator[Finding]:
    """Documents that differ, those that wait, and what an archived project has lost meanwhile."""
    store, number = seen.instance.store, record.number
    archived = seen.verdict.state is State.ARCHIVED
    differing = []
    for path in store.read(lambda view: list(view.paths(number))):
        try:
            difference = _difference(store, seen.directory, number, path)
        except OSError as error:
            yield unreadable(seen.path, path.encode(), error, seen.uid)
            continue
        if difference:
            differing.append(path)
            yield _differs(seen, path, difference, archived=archived)
    if archived:
        yield from _archive(seen, number, differing)
    waiting = store.read(lambda view: _waiting(view, number))
    if waiting:
        yield Finding(
            kind=Kind.UNEXPORTED,
            severity=Severity.NOTE,
            project=seen.uid,
            directory=seen.path,
            meaning=f"documents wait to be written to the backing directory: {waiting}",
            advice="a mount of the instance writes them; `csfs status` tells if it cannot",
        )


def _waiting(view: View, number: int) -> int:
    return sum(not is_held_back(view, number, path) for path in view.unexported(number))


def _difference(store: Store, project: Descriptor, number: int, path: str) -> str:
    """How the file of a document that counts as exported differs; empty if it does not.

    An export marks its document before it touches the file. So the file is judged only by a version
    that was the exported one before and after it was read. A job whose directory is missing is not
    looked at here. Raises OSError.
    """

    def look(view: View) -> tuple[records.DocumentHead | None, bool]:
        return view.head(number, path), view.is_exported(number, path)

    for _ in range(_LOOKS):
        before = store.read(look)
        if before[0] is None or not before[1]:
            return ""
        difference = _compared(project, path, store.read(lambda view: view.document(number, path)))
        if not difference or store.read(look) == before:
            return difference
    return ""


def _compared(project: Descriptor, path: str, expected: bytes | None) -> str:
    parent, _, name = path.encode().rpartition(b"/")
    try:
        directory = project.descend(parent)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        found = read_file(directory, name, document.MAX_BYTES)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return "there is no regular file, or one that is too large"
    return "" if found == expected else "the file has other bytes than the document in the store"


def _differs(seen: Seen, path: str, difference: str, *, archived: bool) -> Finding:
    if archived:
        advice = "restore the file: nothing is written to an archived project"
    elif difference == _MISSING:
        advice = "--repair writes the document of the store"
    else:
        advice = (
            "to keep what is in the file, put it into the document on the mount;"
            " --repair writes the document of the store, and keeps the file as *.before-repair-TIME beside it"
        )
    return Finding(
        kind=Kind.DOCUMENT_DIFFERS,
        severity=Severity.ERROR,
        project=seen.uid,
        directory=seen.path,
        path=path.encode(),
        meaning=difference,
        advice=advice,
        mendable=not archived,
    )


def _archive(seen: Seen, number: int, differing: list[str]) -> Iterator[Finding]:
    """What the manifest says that is not so, but for documents that are reported already."""
    examples, count = [], 0
    try:
        for line in manifest.differences(seen.directory, _pages(seen.instance.store, number)):
            if any(line.startswith(f"{path} ") for path in differing):
                continue
            count += 1
            if count <= _SHOWN:
                examples.append(line)
    except OSError as error:
        yield unreadable(seen.path, b"", error, seen.uid)
    if count > _SHOWN:
        examples.append(f"and {count - _SHOWN} more")
    if count:
        yield Finding(
            kind=Kind.ARCHIVE_DIFFERS,
            severity=Severity.ERROR,
            project=seen.uid,
            directory=seen.path,
            meaning=f"it is not what was archived: {'; '.join(examples)}",
            advice="restore it from a backup, or accept it: csfs unarchive --accept-changes",
        )


def _pages(store: Store, number: int) -> Iterator[Page]:
    """The manifest, a page at a time, each in a transaction of its own."""
    index = 0
    while (page := store.read(lambda view, index=index: view.manifest_page(number, index))) is not None:  # type: ignore[misc]
        yield page
        index += 1
