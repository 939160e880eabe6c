"""What `.csfs/metrics` shows: the mount in numbers, for Prometheus."""

import errno
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from csfs import __version__
from csfs.backing.backings import Backing
from csfs.backing.io import in_thread
from csfs.domain.printable import printable
from csfs.domain.session import Life
from csfs.domain.state import State
from csfs.lifecycle import processes
from csfs.lifecycle.liveness import Liveness
from csfs.mount.exposition import Exposition, Labels
from csfs.mount.requests import BOUNDS
from csfs.store.store import Pages

if TYPE_CHECKING:
    from csfs.mount.mount import Mount

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Process:
    """The daemon, as /proc has it."""

    cpu: float
    """Seconds."""
    resident: int
    """Bytes."""
    virtual: int
    descriptors: int
    most_descriptors: int
    started: float
    """Seconds since 1970."""


async def page(mount: "Mount") -> bytes:
    """The metrics at this moment. What may take a while to find out is found out in a thread."""
    await mount.backlog.look()
    process = await in_thread(_process)
    try:
        pages, size = mount.instance.store.pages(), mount.instance.store.size()
    except OSError:
        pages, size = None, None
    to = Exposition()
    _write_build(to, mount)
    _write_requests(to, mount)
    _write_tree(to, mount)
    _write_projects(to, mount)
    _write_exports(to, mount)
    _write_liveness(to, mount)
    _write_store(to, mount, pages, size)
    _write_process(to, process)
    return to.encode()


def _write_build(to: Exposition, mount: "Mount") -> None:
    build = {"version": __version__, "python": platform.python_version()}
    to.family("gauge", "csfs_build_info", "The version of csfs, as labels.", [(build, 1)])
    about = {
        "instance": mount.instance.identity.name,
        "instance_uuid": mount.instance.identity.uuid,
        "backing": printable(mount.backing),
        "mountpoint": printable(mount.instance.mountpoint),
    }
    to.family("gauge", "csfs_mount_info", "What is mounted where, as labels.", [(about, 1)])
    to.family(
        "gauge",
        "csfs_io_mode",
        "Whether calls to the backing filesystem run in threads or inline: 1 for the one that is so.",
        [
            ({**_of(each), "mode": mode}, each.threads is threads)
            for each in mount.instance.backings
            for mode, threads in (("threads", True), ("inline", False))
        ],
    )
    to.one("gauge", "csfs_strict", "Whether it is mounted with -o strict.", mount.strict)


def _write_requests(to: Exposition, mount: "Mount") -> None:
    by_kind = mount.requests
    to.family(
        "counter",
        "csfs_requests_total",
        "Requests of the kernel that were answered, by kind and errno; OK also for a lookup of no file.",
        _answers(mount),
    )
    to.histogram(
        "csfs_request_duration_seconds",
        "How long requests took to be answered.",
        BOUNDS,
        (({"kind": kind}, found.times, found.seconds) for kind, found in by_kind.items()),
    )
    to.one(
        "gauge",
        "csfs_requests_in_progress",
        "Requests that are not answered yet, the one for this page among them.",
        sum(found.begun - found.answered for found in by_kind.values()),
    )
    to.family(
        "counter",
        "csfs_refusals_total",
        "Requests that csfs refused, or that a failing storage did not let succeed, by rule.",
        (({"rule": rule.name}, count) for rule, count in mount.refusals.counts.items()),
    )


def _answers(mount: "Mount") -> Iterator[tuple[Labels, int]]:
    for kind, found in mount.requests.items():
        yield {"kind": kind, "errno": "OK"}, found.succeeded
        for code, count in sorted(found.errors.items()):
            yield {"kind": kind, "errno": errno.errorcode.get(code, str(code))}, count


def _write_tree(to: Exposition, mount: "Mount") -> None:
    handles, tree, passthrough = mount.handles, mount.tree, mount.passthrough
    to.one("gauge", "csfs_open_files", "Files that programs have open.", len(handles.files))
    to.one("gauge", "csfs_open_directories", "Directories that programs have open.", len(handles.directories))
    to.one("gauge", "csfs_known_inodes", "Inodes that the kernel holds references to.", len(tree.inodes))
    to.one(
        "gauge",
        "csfs_directory_descriptors",
        "Descriptors of directories that are kept.",
        tree.descriptors_kept,
    )
    to.family(
        "gauge",
        "csfs_passthrough_active",
        "Whether passthrough is used.",
        [(_of(each), not passthrough.off_in(each.container)) for each in mount.instance.backings],
    )
    to.one(
        "counter",
        "csfs_passthrough_opens_total",
        "Opens of data files that the kernel reads and writes without asking.",
        passthrough.opens,
    )


def _write_projects(to: Exposition, mount: "Mount") -> None:
    instance = mount.instance
    states = mount.projects_by_state()
    to.family(
        "gauge",
        "csfs_projects",
        "Projects by state: those of the instance, and foreign ones as far as they were looked at.",
        (({"state": state.value}, states[state]) for state in State if state is not State.PLAIN),
    )
    to.one(
        "gauge",
        "csfs_transitions_in_progress",
        "Lifecycle actions that are under way.",
        sum(1 for project in instance.projects.values() if project.transition),
    )
    to.one(
        "gauge",
        "csfs_actions_unsettled",
        "Lifecycle actions that failed half way and have to be finished or taken back.",
        len(instance.unsettled),
    )


def _write_exports(to: Exposition, mount: "Mount") -> None:
    backlog = mount.backlog
    failing = sum(len(project.export_failures) for project in mount.instance.projects.values())
    to.one("gauge", "csfs_exports_waiting", "Documents that are to be exported.", len(backlog.since))
    to.one(
        "gauge",
        "csfs_exports_oldest_seconds",
        "For how long the document that waits longest has waited for its export; 0 if none does.",
        backlog.oldest_seconds,
    )
    to.one("gauge", "csfs_exports_failing", "Documents whose last attempt at an export failed.", failing)
    to.one(
        "gauge",
        "csfs_exports_held_back",
        "Documents of jobs that are exported when these are completed.",
        backlog.held_back,
    )


def _write_liveness(to: Exposition, mount: "Mount") -> None:
    backings, instance = mount.instance.backings, mount.instance
    to.family(
        "gauge",
        "csfs_container_away",
        "Whether the backing directory was not there when it was to be mounted.",
        [(_of(each), bool(each.away)) for each in backings],
    )
    hearts = [(_of(each), instance.heart(each)) for each in backings.present]
    to.family(
        "gauge",
        "csfs_heartbeat_age_seconds",
        "Since the last own heartbeat was written.",
        [(labels, heart.age) for labels, heart in hearts if heart.age is not None],
    )
    to.family(
        "gauge",
        "csfs_heartbeat_late",
        "Whether that is so old that locks are doubted.",
        [(labels, heart.is_late) for labels, heart in hearts],
    )
    to.family(
        "gauge",
        "csfs_takeover_seconds",
        "For how long the instance has to be silent to count as dead.",
        [(labels, heart.takeover) for labels, heart in hearts],
    )
    to.family(
        "gauge",
        "csfs_sessions",
        "Other instances on the same storage, by what their heartbeats say.",
        (sample for labels, heart in hearts for sample in _sessions(labels, heart)),
    )


def _sessions(labels: Labels, heart: Liveness) -> Iterator[tuple[Labels, int]]:
    lives = Counter(pulse.life(heart.takeover) for pulse in heart.others)
    for life in Life:
        yield {**labels, "life": life.value}, lives[life]


def _of(backing: Backing) -> Labels:
    """Which container it is; nothing for the one that is the root of the mount."""
    return {"container": printable(backing.name)} if backing.container else {}


def _write_store(to: Exposition, mount: "Mount", pages: Pages | None, size: int | None) -> None:
    problem, backup = mount.instance.store.problem, mount.backup
    to.one("gauge", "csfs_store_bytes", "What the store takes on disk.", size)
    to.one("gauge", "csfs_store_page_bytes", "The size of a page of the store.", pages and pages.size)
    to.one("gauge", "csfs_store_pages", "Pages of the store's file.", pages and pages.known)
    to.one(
        "gauge",
        "csfs_store_free_pages",
        "Pages of it that hold nothing, or say which do not.",
        pages and pages.free,
    )
    to.one("gauge", "csfs_store_failing", "Whether the store cannot be used as it should.", bool(problem))
    to.one(
        "gauge",
        "csfs_backup_age_seconds",
        "Since the newest automatic backup was made; no sample if there is none.",
        None if backup.last is None else max(backup.clock() - backup.last.timestamp(), 0.0),
    )
    to.one("gauge", "csfs_backup_failing", "Whether the last automatic backup failed.", bool(backup.failure))


def _write_process(to: Exposition, process: _Process) -> None:
    told: Iterable[tuple[str, str, float]] = (
        ("resident_memory_bytes", "Resident memory.", process.resident),
        (
            "virtual_memory_bytes",
            "Virtual memory, mostly for the store.",
            process.virtual,
        ),
        ("open_fds", "Open descriptors.", process.descriptors),
        ("max_fds", "Descriptors that may be open.", process.most_descriptors),
        ("start_time_seconds", "When the process began, in seconds since 1970.", process.started),
    )
    to.one("counter", "process_cpu_seconds_total", "Processor time, of the system too.", process.cpu)
    for name, help, value in told:
        to.one("gauge", f"process_{name}", help, value)


def _process() -> _Process:
    virtual, resident = Path("/proc/self/statm").read_text().split()[:2]
    began = processes.started(os.getpid())
    assert began is not None, "it has not ended"
    return _Process(
        cpu=time.process_time(),
        resident=int(resident) * _PAGE,
        virtual=int(virtual) * _PAGE,
        descriptors=len(os.listdir("/proc/self/fd")),
        most_descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        started=time.time() - (processes.now() - began),
    )
