"""Recover: a lost or damaged store is rebuilt from the projects whose locks name its instance."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from csfs.backing.backings import Backings, Overlap
from csfs.domain import document, lock, names
from csfs.domain.document import Kind
from csfs.domain.refusals import Refusal
from csfs.lifecycle import documents, sole_mount, storage, survey
from csfs.lifecycle.instance import timestamp
from csfs.lifecycle.intents import as_detached
from csfs.lifecycle.recovered_project import RecoveredProject, identity, take
from csfs.lifecycle.survey import CannotRecover, Sighting, shown
from csfs.store import records
from csfs.store.integrity import DATA
from csfs.store.store import Change, Damaged, Store, UnknownFormat, View, sync_directory

STORE = "store"
RECOVERING = "store.recovering"
"""Where the new store is built. Where it lies and there is no store, a recovery was cut short."""


@dataclass(frozen=True)
class Wanted:
    """What is to be recovered, from what."""

    backings: Mapping[bytes, str]
    """The path of each backing directory, by container."""
    directory: Path
    """Of the instance, in the state directory. Its store must not be open elsewhere."""
    instance: str
    uuid: str | None = None
    """Of the instance, where several have its name."""
    backup: Path | None = None
    replace: bool = False
    """Also a store that can be read."""
    dry_run: bool = False


class Aside(msgspec.Struct):
    """A project of the backup without a lock, or a directory with a lock that was not taken."""

    uid: str
    path: str
    why: str


class Report(msgspec.Struct, kw_only=True):
    """What was recovered."""

    instance: str
    uuid: str
    next_project: int
    backup: str | None = None
    dry_run: bool = False
    projects: list[RecoveredProject] = []
    kept: list[Aside] = []
    """Projects of the backup whose lock was not found."""
    passed_over: list[Aside] = []
    set_aside: str | None = None
    """Where the store before it lies now."""


async def recover(wanted: Wanted) -> Report:
    """Builds the store anew, and puts it in the place of the old one, which is kept beside it.

    All or nothing: what is cut short leaves the old store, and can be repeated. The backing directory
    is only read. Raises CannotRecover, also if the instance is mounted elsewhere, OSError.
    """
    backings = _opened(wanted)
    present = _Present.of(wanted)
    seen = survey.survey(backings)
    base = _base(wanted, seen)
    if wanted.dry_run:
        target = Path(tempfile.mkdtemp(prefix="store.dry-run-", dir=wanted.directory))
    else:
        await _refuse_mounted(backings, base.uuid)
        target = wanted.directory / RECOVERING
        _remove(target)
    try:
        store = _begin(wanted, target)
        try:
            _refuse_other_containers(store, backings)
            report = await _fill(wanted, store, backings, seen, base, present)
        finally:
            store.close()
        if not wanted.dry_run:
            report.set_aside = _put_in_place(wanted.directory, target, present)
        return report
    finally:
        _remove(target)


async def _refuse_mounted(backings: Backings, uuid: str) -> None:
    """Passes unless the instance lives elsewhere: its store is not lost then. Raises CannotRecover."""
    try:
        for each in backings:
            await sole_mount.refuse_mounted(each.descriptor, uuid)
    except sole_mount.MountedElsewhere as error:
        raise CannotRecover(str(error)) from error


def _opened(wanted: Wanted) -> Backings:
    """Raises CannotRecover if one is not there: the store would lack what lies in it."""
    try:
        backings = Backings.open(wanted.backings)
    except Overlap as error:
        raise CannotRecover(str(error)) from error
    for each in backings:
        if each.away:
            raise CannotRecover(
                f"{each.path} cannot be read: {each.away}; the projects that lie there would be missing"
            )
    return backings


def _refuse_other_containers(store: Store, backings: Backings) -> None:
    try:
        storage.refuse_other_containers(store, backings)
    except storage.WrongContainers as error:
        raise CannotRecover(f"the backup is of other containers: {error}") from error


@dataclass(frozen=True)
class _Present:
    """The store that is there."""

    exists: bool = False
    is_damaged: bool = False
    instance: records.Instance | None = None

    @classmethod
    def of(cls, wanted: Wanted) -> "_Present":
        """Raises CannotRecover if it can be read, and nobody said that it is to be replaced."""
        path = wanted.directory / STORE
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return cls()
        try:
            reader = Store.open_for_reading(path)
        except Damaged:
            return cls(exists=True, is_damaged=True)
        except UnknownFormat as error:
            if not wanted.replace:
                raise CannotRecover(f"{path}: {error}; --replace puts a new store in its place") from error
            return cls(exists=True)
        try:
            instance = reader.read(View.instance)
        finally:
            reader.close()
        if not wanted.replace and wanted.backup is None:
            raise CannotRecover(
                f"the store of {wanted.instance} in {path} is not damaged. To put a new one in its place all"
                " the same say --replace, or --from with a backup; the old one is kept beside it"
            )
        return cls(exists=True, instance=instance)


def _base(wanted: Wanted, seen: list[Sighting]) -> records.Instance:
    """The instance to begin with: that of the backup, or one that the locks tell of."""
    if wanted.backup is None:
        return records.Instance(
            uuid=survey.choose_uuid(seen, wanted.instance, wanted.uuid),
            name=wanted.instance,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    try:
        reader = Store.open_for_reading(wanted.backup)
        try:
            found = reader.read(View.instance)
        finally:
            reader.close()
    except (Damaged, UnknownFormat) as error:
        raise CannotRecover(f"the backup {wanted.backup} cannot be used: {error}") from error
    if found.name != wanted.instance:
        raise CannotRecover(f"the backup {wanted.backup} is of the instance {found.name}")
    if wanted.uuid not in (None, found.uuid):
        raise CannotRecover(f"the backup {wanted.backup} is of an instance with the UUID {found.uuid}")
    return found


def _begin(wanted: Wanted, target: Path) -> Store:
    """An empty store, or the backup as one."""
    if wanted.backup is not None:
        target.mkdir(mode=0o700, exist_ok=True)
        with wanted.backup.open("rb") as source, (target / DATA).open("xb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
    return Store.open(target, wanted.instance)


async def _fill(
    wanted: Wanted,
    store: Store,
    backings: Backings,
    seen: list[Sighting],
    base: records.Instance,
    present: _Present,
) -> Report:
    report = Report(
        instance=base.name,
        uuid=base.uuid,
        next_project=1,
        backup=os.fspath(wanted.backup) if wanted.backup is not None else None,
        dry_run=wanted.dry_run,
    )
    former = {record.number: record for record in store.read(View.projects)}
    claims = _claims(backings, seen, base.uuid, former, report)
    await store.write(lambda change: _drop_intents(change, claims.keys()))
    taken: list[records.Project] = []
    for number, (sighting, record) in sorted(claims.items()):
        before = former.get(number)
        if before is not None and before.lock_id != record.lock_id:
            await store.write(lambda change, number=number: change.forget_project(number))  # type: ignore[misc]
            before = None
        told = RecoveredProject(uid=record.uid, path=sighting.shown, state=record.state)
        backing, below = backings.at(sighting.path), backings.below(sighting.path)
        place = os.path.join(backing.path, os.fsdecode(below)).rstrip("/")
        project_directory = place.encode(errors="backslashreplace").decode()
        try:
            directory = backings.descend(sighting.path)
            await take(store, directory, record, before, told, project_directory)
        except Refusal as refusal:
            why = f"{refusal.detail}: mend it there, then recover with --replace"
            report.passed_over.append(Aside(record.uid, sighting.shown, why))
            continue
        taken.append(record)
        report.projects.append(told)
    await _keep(backings, store, taken, seen, report)
    counters = [base.next_project, 1 + survey.greatest_number(backings, seen, base.uuid)]
    counters += [1 + number for number in former]
    if present.instance is not None and present.instance.uuid == base.uuid:
        counters.append(present.instance.next_project)
    report.next_project = max(counters)
    instance = msgspec.structs.replace(base, next_project=report.next_project)
    await store.write(lambda change: change.put_instance(instance))
    if not backings.is_one:
        await storage.note(store, backings)
    return report


def _claims(
    backings: Backings,
    seen: list[Sighting],
    uuid: str,
    former: dict[int, records.Project],
    report: Report,
) -> dict[int, tuple[Sighting, records.Project]]:
    """The directories that this instance holds, and the record of each, by P-number."""
    found: dict[int, tuple[Sighting, records.Project]] = {}
    for each in sorted(seen, key=lambda each: each.lock.epoch if isinstance(each.lock, lock.Lock) else 0):
        record, why = _record(backings, each, uuid, former)
        if record is None:
            if why:
                report.passed_over.append(Aside(_uid(each), each.shown, why))
            continue
        other = found.pop(record.number, None)
        if other is not None:
            why = f"{each.shown} holds the same number by a later lock"
            report.passed_over.append(Aside(record.uid, other[0].shown, why))
        found[record.number] = each, record
    return found


def _record(
    backings: Backings, sighting: Sighting, uuid: str, former: dict[int, records.Project]
) -> tuple[records.Project | None, str]:
    """The record that a lock stands for; None, and why if that is worth telling, if it is not to be taken."""
    found = sighting.lock
    if isinstance(found, lock.Opaque):
        for record in former.values():
            if record.state == "detached" or record.lock_content != sighting.content:
                continue
            if _is_same_place(backings, record, sighting):
                return msgspec.structs.replace(record, path=sighting.path), ""
        return None, "its cs.lock was not written by csfs, so it does not tell whose it is"
    if found.instance_uuid != uuid:
        return None, ""
    if any(_is_restored(record, sighting) for record in former.values()):
        return None, ""
    if not sighting.is_bound:
        return None, "a copy: its lock is of another directory, and inert"
    number = survey.lock_number(sighting)
    if not number:
        return None, f"its lock names no P-number: {found.project_uid!r}"
    before = former.get(number)
    if before is not None and before.lock_id != found.lock_id and before.epoch > found.epoch:
        return None, f"the backup knows {before.uid} by a later lock, in {shown(before.path)}"
    return records.Project(
        number=number,
        uuid=found.project_uuid,
        title="",
        state=found.state,
        path=sighting.path,
        inode=sighting.inode,
        born=sighting.born,
        lock_id=found.lock_id,
        lock_content=sighting.content,
        epoch=found.epoch,
        since=found.since,
    ), ""


def _uid(sighting: Sighting) -> str:
    return sighting.lock.project_uid if isinstance(sighting.lock, lock.Lock) else ""


def _drop_intents(change: Change, taken: Set[int]) -> None:
    """What was under way when the backup was made: the locks tell how it ended.

    Of a project that was just being made the backup holds less than the directory does. What has no
    lock here is settled at the next mount, as always.
    """
    for intent in change.intents():
        if intent.before is None:
            change.forget_project(intent.after.number)
        elif intent.after.number in taken:
            change.drop_intent(intent.after.number)


async def _keep(
    backings: Backings, store: Store, taken: list[records.Project], seen: list[Sighting], report: Report
) -> None:
    """Tells of the projects of the backup whose lock was not found; they stay as they are.

    One whose directory this instance has attached anew since was detached in between.
    """
    numbers = {record.number for record in taken}
    for record in store.read(View.projects):
        if record.number in numbers:
            continue
        again = next((each for each in taken if _is_same_place(backings, record, each)), None)
        if record.state == "attached" and again is not None:
            after = as_detached(record, timestamp())
            await store.write(lambda change, after=after: _detach(change, after))  # type: ignore[misc]
            why = f"detached since; its directory is {again.uid} now"
        elif record.state != "attached":
            why = record.state
        elif any(_is_restored(record, each) for each in seen):
            why = "attached; its directory was restored in place"
        else:
            why = "attached, but no lock of it was found: it is lost unless that comes back"
        report.kept.append(Aside(record.uid, shown(record.path), why))


def _is_restored(record: records.Project, sighting: Sighting) -> bool:
    """Whether the owner will bind its lock anew to this directory; see `domain.state.judge`."""
    found = sighting.lock
    if not isinstance(found, lock.Lock) or sighting.is_bound:
        return False
    return record.state == "attached" and (found.lock_id, sighting.path) == (record.lock_id, record.path)


def _is_same_place(backings: Backings, record: records.Project, other: records.Project | Sighting) -> bool:
    if backings.filesystem(record.path) != backings.filesystem(other.path):
        return False
    return lock.is_same_directory(record.inode, record.born, other.inode, other.born)


def _detach(change: Change, after: records.Project) -> None:
    change.put_project(after)
    content = change.document(after.number, names.PROJECT_DOCUMENT)
    if content is not None:
        made = document.parse(content, Kind.PROJECT).rewritten(identity(after))
        documents.store_document(change, after.number, names.PROJECT_DOCUMENT, made, exported=False)


def _put_in_place(directory: Path, target: Path, present: _Present) -> str | None:
    """Gives the new store its name; where the old one is kept."""
    store, aside = directory / STORE, None
    sync_directory(target)
    if present.exists:
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = directory / f"{STORE}.{'damaged' if present.is_damaged else 'replaced'}-{time}"
        os.rename(store, aside)
    try:
        os.rename(target, store)
    except OSError:
        if aside is not None:
            os.rename(aside, store)
        raise
    sync_directory(directory)
    return os.fspath(aside) if aside is not None else None


def _remove(target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
