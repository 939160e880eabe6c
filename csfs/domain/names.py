"""Names: of files that mean something, of project directories, of projects and jobs."""

import re
import unicodedata
from collections.abc import Callable

LOCK = "cs.lock"
PROJECT_DOCUMENT = "project.json"
WORKSPACES_DOCUMENT = "workspaces.json"
JOB_DOCUMENT = "job.json"
PROJECT_DOCUMENTS = (PROJECT_DOCUMENT, WORKSPACES_DOCUMENT)
CONTROL = ".csfs"
RESCUED_PREFIX = "cs.lock.rescued-"
"""Locks that were broken by a rescue, beside the project's documents."""
TEMPORARY_PREFIX = ".csfs-tmp."
"""Files that csfs makes for a moment in a backing directory; never shown on the mount."""

NAME_MAX = 255
"""Bytes in one file name (limits.h)."""

_JOB = re.compile(r"J[1-9][0-9]*\Z")
_PROJECT = re.compile(r"P([1-9][0-9]*)\Z")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def is_job(name: str) -> bool:
    """Whether a directory of this name, at the top of a project, is a job's."""
    return _JOB.match(name) is not None


def rescued(since: str) -> str:
    """The name under which the bytes of a lock are kept that was broken at a time (ISO 8601)."""
    return RESCUED_PREFIX + since.replace(":", "")


def project_uid(number: int) -> str:
    return f"P{number}"


def project_number(uid: str) -> int | None:
    """The number in `P12`; None for anything else."""
    found = _PROJECT.match(uid)
    return int(found.group(1)) if found else None


def slug(title: str) -> str:
    """The directory name for a new project of this title: `CS-my-protein-data-collection`.

    Lower case, each run of anything but a-z and 0-9 one hyphen, accents dropped (guide, "Project
    directories and lock files"). A title with no such letter (symbols, non-Latin scripts) gives
    `CS-project`. At most NAME_MAX bytes less room for a collision's suffix.
    """
    plain = unicodedata.normalize("NFKD", title)
    letters = "".join(c for c in plain if not unicodedata.combining(c)).lower()
    stem = _NOT_SLUG.sub("-", letters).strip("-")
    return ("CS-" + stem)[: NAME_MAX - 12].rstrip("-") if stem else "CS-project"


def unique(name: str, taken: Callable[[str], bool]) -> str:
    """`name`, or with the first free suffix: `-2`, `-3`, ... ."""
    if not taken(name):
        return name
    number = 2
    while taken(f"{name}-{number}"):
        number += 1
    return f"{name}-{number}"
