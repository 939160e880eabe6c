"""Checksums of an archived project: added to its manifest, or held against what came back.

Both may take hours, so no request waits for them: each goes on in the background, a piece at a time in a
worker thread, until it has ended or is stopped. The project's attribute tells how it ended.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal, TypeAlias

import msgspec
import trio

from csfs.backing import checksums, manifest
from csfs.backing.io import in_thread
from csfs.domain.manifest import Entry, Page, shown
from csfs.domain.refusals import Refusal
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.project import Project
from csfs.lifecycle.quiescence import refuse_unless_quiescent, transition
from csfs.store import records

log = logging.getLogger(__name__)

UNDER_WAY = "under way"
DONE = "done"
STOPPED = "stopped"
"""What `Project.reading` says, or why it failed."""

_KEEP_SECONDS = 60
"""So much reading is done again after a crash."""

Action: TypeAlias = Literal["checksum", "compare"]


async def serve(instance: Instance) -> None:
    """Runs what is begun, until it is cancelled: a background task of the mount."""
    async with trio.open_nursery() as nursery:
        instance.spawn = nursery.start_soon
        await trio.sleep_forever()


def begin(instance: Instance, project: Project, record: records.Project, action: Action) -> None:
    """Begins to take or to compare the checksums of an archived project. Raises Refusal EBUSY.

    What an attempt before took already is not read again.
    """
    refuse_unless_quiescent(instance, project)
    instance.spawn(_run, instance, project, record, action)
    project.reading = UNDER_WAY
    project.stop_reading = trio.CancelScope()


def stop(project: Project) -> None:
    """Has it end soon; nothing if nothing is under way."""
    if project.stop_reading is not None:
        project.stop_reading.cancel()


async def _run(instance: Instance, project: Project, record: records.Project, action: Action) -> None:
    work: Callable[[Instance, Project, records.Project], Awaitable[None]]
    work = take if action == "checksum" else compare
    outcome = STOPPED
    assert project.stop_reading is not None, "it was set when this began"
    try:
        with project.stop_reading, transition(instance, project, action):
            await work(instance, project, record)
            outcome = DONE
    except (OSError, Refusal) as error:
        outcome = str(error)
        log.warning("%s of %s failed: %s", action, record.uid, error)
    finally:
        project.stop_reading = None
        project.progress = project.total = 0
        project.reading = outcome


async def take(instance: Instance, project: Project, record: records.Project) -> None:
    """Adds checksums to the manifest of an archived project, where it has none. Raises OSError.

    What was read so far is kept from time to time, and when it is stopped.
    """
    project.total = await in_thread(_size, instance, record, _lacks)
    index = 0
    while (page := _page(instance, record, index)) is not None:
        found: dict[bytes, bytes] = {}
        keep = partial(_keep, instance, record, index, page, found)
        try:
            await _read(project, page, _lacks, found, keep)
        finally:
            with trio.CancelScope(shield=True):
                await keep()
        index += 1


async def _keep(
    instance: Instance, record: records.Project, index: int, page: Page, found: dict[bytes, bytes]
) -> None:
    if not found:
        return
    entries = [
        msgspec.structs.replace(each, checksum=found.get(each.name, each.checksum)) for each in page.entries
    ]
    whole = Page(page.directory, entries)
    await instance.store.write(lambda change: change.put_manifest_page(record.number, index, whole))


async def compare(instance: Instance, project: Project, record: records.Project) -> None:
    """Notes which files of a project do not hold what they held when it was archived. Raises OSError.

    It says nothing of those that differ otherwise: nothing is read then, for unarchive refuses anyway.
    """
    project.other_contents = []
    project.total = await in_thread(_size, instance, record, _has)
    if not project.total or await in_thread(_differs, instance, project, record):
        return
    index, other = 0, list[str]()
    while (page := _page(instance, record, index)) is not None:
        found: dict[bytes, bytes] = {}
        await _read(project, page, _has, found)
        other += [
            f"{shown(page, each)} holds something else than before"
            for each in page.entries
            if each.name in found and found[each.name] != each.checksum
        ]
        index += 1
    project.other_contents = other


async def _read(
    project: Project,
    page: Page,
    wanted: Callable[[Entry], bool],
    found: dict[bytes, bytes],
    keep: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Adds name -> checksum of the wanted files of a page to `found`. Raises OSError."""
    pieces = checksums.checksums(project.directory, page, wanted, found)
    due = trio.current_time() + _KEEP_SECONDS
    while (done := await in_thread(next, pieces, None)) is not None:
        project.progress += done
        if keep is not None and trio.current_time() > due:
            await keep()
            due = trio.current_time() + _KEEP_SECONDS


def _lacks(entry: Entry) -> bool:
    return not entry.checksum


def _has(entry: Entry) -> bool:
    return bool(entry.checksum)


def _page(instance: Instance, record: records.Project, index: int) -> Page | None:
    return instance.store.read(lambda view: view.manifest_page(record.number, index))


def _size(instance: Instance, record: records.Project, wanted: Callable[[Entry], bool]) -> int:
    """Bytes of the wanted files, and one more, so that none is not nothing."""
    total = index = 0
    while (page := _page(instance, record, index)) is not None:
        total += sum(each.size + 1 for each in page.entries if each.type == "file" and wanted(each))
        index += 1
    return total


def _differs(instance: Instance, project: Project, record: records.Project) -> bool:
    pages = instance.store.read(lambda view: list(view.manifest(record.number)))
    return any(True for _ in manifest.differences(project.directory, pages))
