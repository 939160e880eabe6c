"""What a check finds: one struct for each, whatever it is about."""

import enum
import os
from typing import TypeAlias

import msgspec


class Severity(enum.StrEnum):
    ERROR = "error"
    """Something is lost, or will be refused or go wrong."""
    WARNING = "warning"
    """Something is left over or out of place, and somebody should see to it."""
    NOTE = "note"
    """Worth knowing; nothing is wrong."""


class Kind(enum.StrEnum):
    """The stable word for each sort of finding."""

    TEMPORARY = "temporary"
    ASIDE_LOCK = "aside-lock"
    INERT_LOCK = "inert-lock"
    LOST = "lost"
    LOCK_DIFFERS = "lock-differs"
    UNKNOWN_CLAIM = "unknown-claim"
    ABSENT = "absent"
    RESTORED = "restored"
    PENDING_INTENT = "pending-intent"
    DOCUMENT_DIFFERS = "document-differs"
    UNEXPORTED = "unexported"
    ARCHIVE_DIFFERS = "archive-differs"
    JOB_WITHOUT_DIRECTORY = "job-without-directory"
    DIRECTORY_WITHOUT_JOB = "directory-without-job"
    FAILED_IMPORT = "failed-import"
    STALE_PARENT = "stale-parent"
    DANGLING_IMPORT = "dangling-import"
    LEAVES_PROJECT = "leaves-project"
    NESTED_PROJECT = "nested-project"
    UNREADABLE = "unreadable"


Key: TypeAlias = tuple[Kind, bytes, bytes]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a check found."""

    kind: Kind
    severity: Severity
    project: str = ""
    """`P7` where this instance has a record of the project."""
    directory: bytes
    """Of the project, or of a container; relative to the backing directory."""
    path: bytes = b""
    """Within that directory; empty for itself."""
    meaning: str
    """What it means, in a sentence."""
    advice: str
    """What a repair does, or what the user should do."""
    mendable: bool = False
    """Whether a repair does something about it."""

    @property
    def key(self) -> Key:
        """The same in two looks at the same thing."""
        return self.kind, self.directory, self.path

    @property
    def is_failure(self) -> bool:
        return self.severity is not Severity.NOTE


def shown(path: bytes) -> str:
    """A path for people and for JSON: what is not UTF-8 in it is escaped."""
    return os.fsdecode(path).encode(errors="backslashreplace").decode()


def unreadable(directory: bytes, path: bytes, error: OSError, project: str = "") -> Finding:
    return Finding(
        kind=Kind.UNREADABLE,
        severity=Severity.ERROR,
        project=project,
        directory=directory,
        path=path,
        meaning=f"it cannot be read ({error.strerror or error}), and was not checked",
        advice="make it readable, or check as root",
    )
