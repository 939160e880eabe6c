"""Locks and records: who holds what, and whether both sides say the same."""

from collections.abc import Iterator

from csfs.backing import lockfile
from csfs.domain import lock
from csfs.domain.lock import Lock
from csfs.domain.state import HELD, State
from csfs.lifecycle.check.findings import Finding, Kind, Severity, shown
from csfs.lifecycle.check.seen import Seen
from csfs.lifecycle.instance import Instance, is_directory_of
from csfs.store import records

_LOCK = b"cs.lock"


def examine(seen: Seen) -> Iterator[Finding]:
    """What is wrong with the lock of a directory. Raises OSError."""
    found, verdict = seen.sight.lock, seen.verdict
    if verdict.state is State.LOST:
        yield _finding(
            seen,
            Kind.LOST,
            Severity.ERROR,
            f"the record says attached, but {verdict.reason}",
            "if another instance is to have it, `rm cs.lock` on the mount lets go of it;"
            " otherwise find out who removed or replaced the lock, and put it back",
        )
    elif verdict.inert:
        yield _inert(seen)
    elif verdict.rebind and seen.record is not None and seen.record.path != seen.path:
        return  # told of its record: the directory is not where that says
    elif verdict.rebind:
        yield _finding(
            seen,
            Kind.RESTORED,
            Severity.WARNING,
            "the directory was restored in place, so the lock in it names the one before",
            "mount the instance and look at the project: the lock is bound anew, all documents are exported",
        )
    elif verdict.state is State.FOREIGN and isinstance(found, Lock):
        if found.instance_uuid == seen.instance.identity.uuid:
            yield _finding(
                seen,
                Kind.UNKNOWN_CLAIM,
                Severity.ERROR,
                f"the lock names this instance, but the store knows no such claim: {found.owner}",
                "if the store was lost or is an old one, rebuild it: csfs recover;"
                " if the lock was put there by hand, remove it",
            )
    elif verdict.state in HELD and seen.record is not None:
        yield from _differing(seen, seen.record)


def _differing(seen: Seen, record: records.Project) -> Iterator[Finding]:
    if lockfile.content_of(seen.directory) == record.lock_content:
        return
    attached = record.state == "attached"
    yield _finding(
        seen,
        Kind.LOCK_DIFFERS,
        Severity.ERROR,
        "the lock is that of the record, but an older version of it or a changed one:"
        " the project can be neither detached, archived nor moved",
        "--repair writes the lock of the record"
        if attached
        else "restore the cs.lock that it was archived with",
        mendable=attached,
    )


def _inert(seen: Seen) -> Finding:
    found = seen.sight.lock
    record = seen.instance.claims.by_lock(found.lock_id) if isinstance(found, Lock) else None
    if (
        record is not None
        and record.state == "archived"
        and isinstance(found, Lock)
        and found.encode() == record.lock_content
        and not _lies_in_its_place(seen.instance, record)
    ):
        return _finding(
            seen,
            Kind.INERT_LOCK,
            Severity.NOTE,
            f"the archived project {record.uid} lies here",
            "it is unarchived here by `chmod u+w` on the mount",
        )
    return _finding(
        seen,
        Kind.INERT_LOCK,
        Severity.WARNING,
        seen.verdict.reason,
        "nobody owns this copy: `rm cs.lock` in it, then it can be attached (touch cs.lock) or removed",
    )


def _lies_in_its_place(instance: Instance, record: records.Project) -> bool:
    try:
        return is_directory_of(record, instance.backings.descend(record.path))
    except OSError:
        return False


def absent(record: records.Project, now_at: bytes | None) -> Finding:
    """An attached project whose directory is not where the record says; perhaps it lies elsewhere."""
    if now_at is None:
        meaning = "the record says attached, but the directory is not there"
        advice = "restore it to this place from a backup; it is bound anew at the next mount"
    else:
        meaning = f"its directory was moved on the backing directory, to {shown(now_at)}"
        advice = "mount the instance and look at the project there: record and lock follow it"
    return Finding(
        kind=Kind.ABSENT,
        severity=Severity.ERROR,
        project=record.uid,
        directory=record.path,
        meaning=meaning,
        advice=advice,
    )


def pending(intent: records.Intent, *, mounted: bool) -> Finding:
    """An action that is under way, or was cut short."""
    meaning = f"its {intent.action} is under way" if mounted else f"its {intent.action} was cut short"
    return Finding(
        kind=Kind.PENDING_INTENT,
        severity=Severity.NOTE if mounted else Severity.WARNING,
        project=intent.after.uid,
        directory=intent.after.path,
        meaning=meaning + ": the project was not checked",
        advice="check again when it has ended"
        if mounted
        else "mount the instance, which finishes it or takes it back, then check again",
    )


def is_ours_and_given_up(instance: Instance, found: lock.Lock) -> bool:
    """Whether a lock is of this instance, whose store says that it does not hold that claim."""
    record = instance.claims.by_lock(found.lock_id)
    ours = found.instance_uuid == instance.identity.uuid
    return ours and (record is None or record.state == "detached")


def _finding(
    seen: Seen, kind: Kind, severity: Severity, meaning: str, advice: str, *, mendable: bool = False
) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        project=seen.uid,
        directory=seen.path,
        path=_LOCK,
        meaning=meaning,
        advice=advice,
        mendable=mendable,
    )
