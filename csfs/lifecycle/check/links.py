"""Symlinks of a project: where they lead, counted for each directory at the top of the project.

Imports link to raw data outside, and that may be gone by now: both are noted. A link to something
that should lie in the project itself, and does not, is a warning.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from csfs.backing.descriptor import Descriptor
from csfs.domain import document, names
from csfs.domain.document import Invalid, Kind
from csfs.lifecycle.check.findings import Finding, Severity, shown
from csfs.lifecycle.check.findings import Kind as FindingKind
from csfs.lifecycle.check.seen import Seen
from csfs.lifecycle.check.walk import Entry


@dataclass
class _Tally:
    """Links of one sort below one directory, and one of them."""

    example: str
    count: int = 0


@dataclass
class Links:
    """What is counted while a project is walked through."""

    seen: Seen
    prefixes: list[bytes]
    """Paths by which the project directory may be called in an absolute link."""
    _tallies: dict[tuple[bytes, FindingKind, bool], _Tally] = field(default_factory=dict)

    @classmethod
    def of(cls, seen: Seen) -> "Links":
        own = os.readlink(f"/proc/self/fd/{seen.directory.fd}").encode(errors="surrogateescape")
        recorded = _recorded_directory(seen)
        return cls(seen, [own, recorded] if recorded else [own])

    def see(self, entry: Entry) -> None:
        """Takes note of a symlink. Its target is looked for and not opened."""
        try:
            target = os.readlink(entry.name, dir_fd=entry.directory.fd)
        except OSError:
            return  # removed or replaced since its directory was listed
        inside = _within(self.prefixes, entry.path, target)
        if _exists(self.seen.directory, entry, target, inside):
            if inside is None:
                self._count(entry, target, FindingKind.LEAVES_PROJECT, within=False)
        else:
            self._count(entry, target, FindingKind.DANGLING_IMPORT, within=inside is not None)

    def _count(self, entry: Entry, target: bytes, kind: FindingKind, *, within: bool) -> None:
        top = entry.whole.partition(b"/")[0]
        tally = self._tallies.setdefault(
            (top, kind, within), _Tally(f"{shown(entry.whole)} -> {shown(target)}")
        )
        tally.count += 1

    def findings(self) -> Iterator[Finding]:
        for (top, kind, within), tally in sorted(self._tallies.items()):
            many = f"{tally.count} symlinks" if tally.count > 1 else "a symlink"
            if kind is FindingKind.LEAVES_PROJECT:
                meaning, advice = "out of the project", "a bundle or a copy does not carry what they lead to"
            elif within:
                meaning = "to what should lie in the project, and does not"
                advice = "restore what is missing, or remove them"
            else:
                meaning = "out of the project, to what does not exist"
                advice = "bring the raw data back, or link to where they are now, if they are still needed"
            yield Finding(
                kind=kind,
                severity=Severity.WARNING if within else Severity.NOTE,
                project=self.seen.uid,
                directory=self.seen.path,
                path=top,
                meaning=f"{many} {meaning}, such as {tally.example}",
                advice=advice,
            )


def _recorded_directory(seen: Seen) -> bytes:
    """The `project_dir` of the document in the store: the path on the mount; empty if there is none."""
    record = seen.record
    if record is None:
        return b""
    path = names.PROJECT_DOCUMENT
    content = seen.instance.store.read(lambda view: view.document(record.number, path))
    if content is None:
        return b""
    try:
        return document.parse(content, Kind.PROJECT).head.text("project_dir").encode()
    except Invalid:
        return b""


def _within(prefixes: list[bytes], directory: bytes, target: bytes) -> bytes | None:
    """The path in the project to which a link in `directory` of it leads; None if that leaves it."""
    if target.startswith(b"/"):
        target = os.path.normpath(target)
        for prefix in prefixes:
            if target == prefix:
                return b"."
            if target.startswith(prefix + b"/"):
                return target[len(prefix) + 1 :]
        return None
    inside = os.path.normpath(os.path.join(directory, target))
    return None if inside == b".." or inside.startswith(b"../") else inside


def _exists(project: Descriptor, entry: Entry, target: bytes, inside: bytes | None) -> bool:
    """Whether the target is there. One that may not be looked at counts as there."""
    try:
        if target.startswith(b"/") and inside is not None:
            os.stat(inside, dir_fd=project.fd)
        else:
            os.stat(entry.name, dir_fd=entry.directory.fd)
    except PermissionError:
        return True
    except OSError:
        return False
    return True
