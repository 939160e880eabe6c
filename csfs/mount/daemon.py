"""The life of a mount: from the options of `csfs mount` to the closed store."""

import fcntl
import logging
import os
import re
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pyfuse3
import trio

from csfs.backing.backings import Backings, Overlap
from csfs.lifecycle import checksums, documents, intents, leftovers, storage
from csfs.lifecycle.daily_backup import DailyBackup
from csfs.lifecycle.instance import Instance
from csfs.lifecycle.recover import RECOVERING, STORE
from csfs.lifecycle.sole_mount import MountedElsewhere
from csfs.mount import event_loop, garbage, service
from csfs.mount.mount import Mount
from csfs.mount.operations import Operations
from csfs.mount.options import BadOption, MountOptions, Own
from csfs.store import backup
from csfs.store.store import Damaged, Store, UnknownFormat

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_DESCRIPTOR_SHARE = 4
"""Of all descriptors a process may have, one in this many is for directories; the rest is for handles."""

_OTHER_DESCRIPTORS = 512
"""What exports, threads, the store and the heartbeat need at the same time, whatever programs have open."""
_LEAST_FILES = 64
_TASKS = 99
"""Requests that are under way at the same time; each may wait for the backing filesystem in a thread."""
_END_SECONDS = 5.0
"""How long a storage that does not answer may delay the end of a mount."""


class CannotMount(Exception):
    """The mount did not come about; the message says why and what to do."""


class WrongOptions(CannotMount):
    """It cannot come about as it was asked for; trying again leads nowhere."""


class Holder(msgspec.Struct):
    """Who has an instance mounted, or rebuilds its store; lies in the file that is locked for as long."""

    pid: int
    mountpoint: str
    """Empty while the instance is not mounted, but repaired or its store rebuilt."""
    backing: str


@contextmanager
def holding(options: MountOptions) -> Iterator[None]:
    """Makes this process the only one that has the instance's store. Raises CannotMount."""
    if not _NAME.match(options.instance):
        raise WrongOptions(
            f"{options.instance!r} is no name for an instance: use letters, digits, '.', '_' and '-'"
        )
    try:
        options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(options.directory / "mounted", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotMount(
            f"the state directory {options.directory} cannot be used: {error.strerror};"
            " choose another with --state"
        ) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CannotMount(_held_by(fd, options.instance)) from error
        os.ftruncate(fd, 0)
        holder = Holder(os.getpid(), options.mountpoint, options.backing)
        os.pwrite(fd, msgspec.json.encode(holder), 0)
        yield
    finally:
        os.close(fd)


def is_held(directory: Path) -> bool:
    """Whether a process of this node has the instance in this directory; takes no lock to find out.

    The kernel's list names the device of a lock as no stat(2) does on some filesystems; inode and
    process tell.
    """
    try:
        with open(directory / "mounted", "rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            holder = msgspec.json.decode(file.read(), type=Holder)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[4] == str(holder.pid) and words[5].endswith(f":{inode}"):
            return True
    return False


def _held_by(fd: int, name: str) -> str:
    try:
        holder = msgspec.json.decode(os.pread(fd, 1 << 16, 0), type=Holder)
    except msgspec.DecodeError:
        return f"the instance {name} is being mounted by another process; try again"
    if not holder.mountpoint:
        return (
            f"the instance {name} is being repaired, or its store rebuilt, by process {holder.pid}:"
            " wait until that has ended"
        )
    return (
        f"the instance {name} is mounted at {holder.mountpoint} already (backing {holder.backing},"
        f" process {holder.pid}): use that, or end it first: csfs umount {holder.mountpoint}"
    )


def serve(
    options: MountOptions, ready: Callable[[], None], reopen_log: Callable[[], None] | None = None
) -> None:
    """Mounts and answers requests until it is unmounted, or told to end by SIGTERM or SIGINT.

    `ready` is called once requests are answered, `reopen_log` at each SIGHUP; without that, SIGHUP ends the
    mount too: its terminal is gone. Raises CannotMount if it does not come so far.
    """
    try:
        own, fuse = Own.parse(options.fuse)
    except BadOption as error:
        raise WrongOptions(str(error)) from error
    os.umask(0)
    limit = _raise_descriptor_limit()
    with holding(options):
        store = _open_store(options)
        try:
            trio.run(_run, options, own, fuse, store, limit, ready, reopen_log)
        except* CannotMount as group:
            raise group.exceptions[0] from None
        finally:
            store.close()


def _open_store(options: MountOptions) -> Store:
    directory = options.directory / STORE
    rebuild = f"csfs recover {options.words}"
    if (options.directory / RECOVERING).exists() and not directory.exists():
        raise CannotMount(f"the recovery of {directory} was cut short; repeat it: {rebuild}")
    kept = backup.place(options.directory)
    newest = "".join(f" --from {path}" for path in backup.listed(kept)[-1:])
    if newest and not (directory.is_dir() and any(directory.iterdir())):
        raise CannotMount(
            f"{directory} is gone, but backups of it are there; rebuild it: {rebuild}{newest}\n"
            f"(to begin with an empty one all the same, move {kept} away)"
        )
    try:
        return Store.open(directory, options.instance)
    except (OSError, UnknownFormat) as error:
        raise CannotMount(f"{options.directory}: {error}") from error
    except Damaged as error:
        raise CannotMount(
            f"{directory} is damaged: {error}\nrebuild it from the projects and the newest backup:"
            f" {rebuild}{newest}"
        ) from error


def _raise_descriptor_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


async def _run(
    options: MountOptions,
    own: Own,
    fuse: frozenset[str],
    store: Store,
    limit: int,
    ready: Callable[[], None],
    reopen_log: Callable[[], None] | None,
) -> None:
    try:
        backings = Backings.open(options.backings, threads=own.threads)
    except Overlap as error:
        raise WrongOptions(str(error)) from error
    _refuse_all_away(backings)
    _check_mountpoint(options.mountpoint)
    daily = DailyBackup(store, backup.place(options.directory), every=own.backup_seconds)
    instance = Instance(store, backings, options.mountpoint, takeover=own.takeover)
    try:
        await storage.recognise_all(instance, accept=own.accept_storage)
        _refuse_all_away(backings)
        hearts = [instance.heart(each) for each in backings.present]
        for heart in hearts:
            await heart.take()
        await intents.settle(instance)
    except (storage.WrongContainers, MountedElsewhere) as error:
        raise CannotMount(f"{options.backing}: {error}") from error
    except OSError as error:
        raise CannotMount(f"{options.backing}: what was cut short cannot be settled: {error}") from error
    for each in backings:
        if each.away:
            log.warning("the container %s is away: %s: %s", each.name, each.path, each.away)
    left = leftovers.find(instance)
    for heart in hearts:
        await heart.turn()
    mount = Mount(
        instance,
        options.backing,
        descriptors=limit // _DESCRIPTOR_SHARE,
        files=max(limit - limit // _DESCRIPTOR_SHARE - _OTHER_DESCRIPTORS, _LEAST_FILES),
        passthrough=own.passthrough,
        strict=own.strict,
        backup=daily,
    )
    event_loop.install()
    garbage.tune()
    trio.to_thread.current_default_thread_limiter().total_tokens = _TASKS
    try:
        pyfuse3.init(Operations(mount, ready), options.mountpoint, _fuse_options(options.backing, fuse))
    except RuntimeError as error:
        raise CannotMount(
            f"{options.mountpoint} cannot be mounted on: are the -o options known, is fuse3 installed,"
            " /dev/fuse accessible, and the directory yours?"
        ) from error
    log.info("%s is mounted on %s for instance %s", options.backing, options.mountpoint, options.instance)
    try:
        async with trio.open_nursery() as nursery:
            for heart in hearts:
                nursery.start_soon(heart.keep)
            nursery.start_soon(leftovers.remove, instance, left)
            nursery.start_soon(documents.work_off, instance)
            nursery.start_soon(mount.backlog.keep_looking)
            nursery.start_soon(daily.run)
            nursery.start_soon(intents.settle_failed, instance)
            nursery.start_soon(checksums.serve, instance)
            nursery.start_soon(garbage.collect)
            nursery.start_soon(_obey_signals, reopen_log)
            nursery.start_soon(service.keep_alive)
            try:
                await pyfuse3.main(min_tasks=_TASKS, max_tasks=_TASKS)
            except* ConnectionAbortedError:
                # A read that is under way when the mount ends may give this instead of ENODEV.
                log.info("the kernel has ended the connection")
            nursery.cancel_scope.cancel()
        service.tell("STOPPING=1")
        with trio.move_on_after(_END_SECONDS):
            async with trio.open_nursery() as nursery:
                for heart in hearts:
                    nursery.start_soon(heart.end)
    finally:
        pyfuse3.close(unmount=True)
        log.info("%s is unmounted", options.mountpoint)


def _refuse_all_away(backings: Backings) -> None:
    """Passes if there is anything to serve. Raises CannotMount."""
    if not backings.present:
        raise CannotMount("\n".join(f"{each.path} cannot be mounted: {each.away}" for each in backings))


def _check_mountpoint(path: str) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        raise CannotMount(f"{path} cannot be mounted on: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise CannotMount(f"{path} cannot be mounted on: it is not a directory")


def _fuse_options(backing: str, words: frozenset[str]) -> set[str]:
    source = backing.replace("\\", "\\\\").replace(",", "\\,")
    chosen = {f"fsname={source}", "subtype=csfs", "default_permissions", *words}
    if os.geteuid() == 0:
        chosen.add("allow_other")
    return chosen


async def _obey_signals(reopen_log: Callable[[], None] | None) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for received in signals:
            if received == signal.SIGHUP and reopen_log is not None:
                try:
                    reopen_log()
                except OSError as error:
                    log.warning("the log cannot be opened again, it goes on where it was: %s", error)
                else:
                    log.info("the log goes on here")
            else:
                pyfuse3.terminate()
