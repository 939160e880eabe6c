"""What all nodes have in common, and what those on the backing filesystem do with their attributes."""

import errno
import logging
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.backing.descriptor import Descriptor, open_known
from csfs.backing.io import Io
from csfs.domain import refusals
from csfs.lifecycle import processes
from csfs.lifecycle.project import Project
from csfs.mount import attributes, privileges
from csfs.mount.tree import Inode

if TYPE_CHECKING:
    from csfs.mount.handles import FileHandle
    from csfs.mount.mount import Mount

log = logging.getLogger(__name__)

VIRTUAL_ATTRIBUTES = b"user.csfs."
"""The extended attributes that csfs answers itself."""
_SHOWN_ATTRIBUTES = frozenset(
    VIRTUAL_ATTRIBUTES + name
    for name in (
        b"state",
        b"uid",
        b"title",
        b"lock_id",
        b"jobs",
        b"owner",
        b"instance",
        b"reason",
        b"exported",
        b"status",
        b"type",
        b"attach_status",
        b"export_failed",
        b"heartbeat",
        b"unexported",
    )
)
"""Those that a program which copies may find on a project, and try to give to its copy."""
_COPIERS = frozenset({"cp", "mv", "install", "rsync", "tar", "bsdtar", "star"})
_SET_ID = stat.S_ISUID | stat.S_ISGID
"""The mode bits that make a program run as its owner, or its group."""


_ATTRIBUTE_BYTES = 4096


def attribute_value(text: str) -> bytes:
    """The value of an attribute that csfs shows; one that is longer than any tool prints is cut."""
    return text.encode()[:_ATTRIBUTE_BYTES].decode(errors="ignore").encode()


def without_virtual(names: list[bytes]) -> list[bytes]:
    """The extended attributes among these that are not csfs's own."""
    return [name for name in names if not name.startswith(VIRTUAL_ATTRIBUTES)]


def is_copying(context: RequestContext) -> bool:
    """Whether the caller lists attributes to give them to a copy, to which csfs's own do not belong."""
    try:
        return processes.command(context.pid) in _COPIERS
    except OSError:
        return False


def attribute_text(value: bytes) -> str:
    """What a user gives an attribute of csfs's; more than any of them takes is cut."""
    return value[:_ATTRIBUTE_BYTES].decode(errors="backslashreplace")


class Standing(Protocol):
    """What a node was derived from: valid until that is to be looked at again."""

    fresh_until: float


@dataclass
class Plain:
    """The standing of what belongs to no project: that is looked at again after a while."""

    fresh_until: float


class Always:
    """The standing of what csfs makes itself."""

    fresh_until = float("inf")


class Node:
    """A file of some kind. What a kind does not do is refused as the kernel expects it."""

    __slots__ = ("mount", "inode", "standing", "project")

    def __init__(self, mount: "Mount", inode: Inode, standing: Standing, project: Project | None) -> None:
        self.mount = mount
        self.inode = inode
        self.standing = standing
        self.project = project
        """The project it lies in, whatever its state; None in a container."""

    @property
    def io(self) -> Io:
        """How calls to the filesystem on which it lies are made."""
        return self.inode.backing.io

    @property
    def is_free(self) -> bool:
        """Whether it belongs to no instance."""
        return self.project is None or self.project.is_free

    def refuse_change(self) -> None:
        """Passes if the file may be changed, as far as its project is concerned."""
        if self.project is not None:
            self.project.refuse_change()

    async def getattr(self) -> EntryAttributes:
        raise NotImplementedError

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: "FileHandle | None",
        context: RequestContext,
    ) -> EntryAttributes:
        raise NotImplementedError

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        raise OSError(errno.ENOSYS, "cannot be opened")

    async def readlink(self) -> bytes:
        raise OSError(errno.EINVAL, "not a symlink")

    async def getxattr(self, name: bytes) -> bytes:
        raise OSError(errno.ENODATA, "no such attribute")

    async def listxattr(self) -> list[bytes]:
        return []

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        raise OSError(errno.EOPNOTSUPP, "no attributes to set")

    async def removexattr(self, name: bytes) -> None:
        raise OSError(errno.ENODATA, "no such attribute")


class BackingNode(Node):
    """A file on the backing filesystem: found by (directory, name), or by a handle once unlinked."""

    __slots__ = ()

    def place(self) -> tuple[Descriptor, bytes]:
        """Where the file lies. Raises OSError ENOENT for what was removed."""
        parent = self.inode.parent
        if parent is None or self.inode.removed:
            raise OSError(errno.ENOENT, "it was removed")
        return self.mount.tree.descriptor(parent), self.inode.name

    async def stat(self) -> os.stat_result:
        inode = self.inode
        fd = inode.open_fds[0] if inode.open_fds else self.held_fd()
        if fd >= 0:
            return await self.io(os.fstat, fd)
        directory, name = self.place()
        return await self.io(directory.stat, name)

    async def getattr(self) -> EntryAttributes:
        return attributes.of_file(await self.stat(), self.inode)

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: "FileHandle | None",
        context: RequestContext,
    ) -> EntryAttributes:
        self.refuse_change()
        await self.io(self._apply, wanted, fields, context.uid)
        return await self.getattr()

    def held_fd(self) -> int:
        """A descriptor by which it is reached better than by its place; -1 if there is none."""
        return self.inode.held_fd

    def _apply(self, wanted: EntryAttributes, fields: SetattrFields, uid: int) -> None:
        """Sets what this user asks for, on the open file if there is one, else by its place."""
        held = self.held_fd()
        if held >= 0:
            apply_to_held(held, wanted, fields, uid)
            return
        directory, name = self.place()
        if directory.stat(name).st_ino != self.inode.number:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))  # replaced behind our back
        apply_by_name(directory, name, wanted, fields, uid)

    async def readlink(self) -> bytes:
        held = self.held_fd()
        if held >= 0:
            return await self.io(lambda: os.readlink(b"", dir_fd=held))
        directory, name = self.place()
        return await self.io(_readlink, directory, name)

    def xattr_path(self) -> bytes:
        """A path for the calls on extended attributes, which take no directory descriptor."""
        held = self.held_fd()
        if held >= 0:
            return held_path(held)
        directory, name = self.place()
        return directory.path(name)

    def _follow(self) -> bool:
        return self.held_fd() >= 0

    async def getxattr(self, name: bytes) -> bytes:
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise OSError(errno.ENODATA, "no such attribute")
        path, follow = self.xattr_path(), self._follow()
        return await self.io(lambda: os.getxattr(path, name, follow_symlinks=follow))

    async def listxattr(self) -> list[bytes]:
        path, follow = self.xattr_path(), self._follow()
        found = await self.io(lambda: os.listxattr(path, follow_symlinks=follow))
        return without_virtual(list(map(os.fsencode, found)))

    async def setxattr(self, name: bytes, value: bytes, context: RequestContext) -> None:
        if name in _SHOWN_ATTRIBUTES:
            raise OSError(errno.EOPNOTSUPP, "csfs says what it is")
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise refusals.unknown_attribute(os.fsdecode(name))
        self.refuse_change()
        path, follow = self.xattr_path(), self._follow()
        await self.io(lambda: os.setxattr(path, name, value, follow_symlinks=follow))

    async def removexattr(self, name: bytes) -> None:
        if name.startswith(VIRTUAL_ATTRIBUTES):
            raise refusals.unknown_attribute(os.fsdecode(name))
        self.refuse_change()
        path, follow = self.xattr_path(), self._follow()
        await self.io(lambda: os.removexattr(path, name, follow_symlinks=follow))


def _readlink(directory: Descriptor, name: bytes) -> bytes:
    return os.readlink(name, dir_fd=directory.fd)


def apply_by_name(
    directory: Descriptor, name: bytes, wanted: EntryAttributes, fields: SetattrFields, uid: int
) -> None:
    """Sets size, owner, mode and times of a file for a user, never through a symlink. Raises OSError."""
    if fields.update_size:
        fd = os.open(name, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory.fd)
        try:
            privileges.end(fd, uid)
            os.ftruncate(fd, wanted.st_size)
        finally:
            os.close(fd)
    if _is_chown(fields):
        uid = wanted.st_uid if fields.update_uid else -1
        gid = wanted.st_gid if fields.update_gid else -1
        os.chown(name, uid, gid, dir_fd=directory.fd, follow_symlinks=False)
    if fields.update_mode:
        chmod(directory, name, stat.S_IMODE(wanted.st_mode))
    if fields.update_atime or fields.update_mtime:
        times = _times(directory.stat(name), wanted, fields)
        os.utime(name, ns=times, dir_fd=directory.fd, follow_symlinks=False)


def _is_chown(fields: SetattrFields) -> bool:
    """Whether an owner or group is to be set; the kernel's request for chown(2) to -1, -1 sets nothing.

    That ends the privileges of a file all the same, which the backing filesystem does by itself.
    """
    others = fields.update_size or fields.update_mode or fields.update_atime or fields.update_mtime
    return bool(fields.update_uid or fields.update_gid or not others)


def held_path(fd: int) -> bytes:
    """A path that leads to the file of a descriptor, also an O_PATH one, whether it has a name or not."""
    return b"/proc/self/fd/%d" % fd


def apply_to_held(fd: int, wanted: EntryAttributes, fields: SetattrFields, uid: int) -> None:
    """The same by a descriptor, which may be an O_PATH one: of a directory, or of a file without a name.

    Raises OSError.
    """
    path = held_path(fd)
    if fields.update_size:
        opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            privileges.end(opened, uid)
            os.ftruncate(opened, wanted.st_size)
        finally:
            os.close(opened)
    if _is_chown(fields):
        owner = wanted.st_uid if fields.update_uid else -1
        group = wanted.st_gid if fields.update_gid else -1
        os.chown(path, owner, group)
    if fields.update_mode:
        os.chmod(path, stat.S_IMODE(wanted.st_mode))
    if fields.update_atime or fields.update_mtime:
        os.utime(path, ns=_times(os.fstat(fd), wanted, fields))


def apply_to_descriptor(fd: int, wanted: EntryAttributes, fields: SetattrFields, uid: int) -> None:
    """The same through an open file that may be written. Raises OSError."""
    if fields.update_size:
        privileges.end(fd, uid)
        os.ftruncate(fd, wanted.st_size)
    if _is_chown(fields):
        uid = wanted.st_uid if fields.update_uid else -1
        gid = wanted.st_gid if fields.update_gid else -1
        os.fchown(fd, uid, gid)
    if fields.update_mode:
        os.fchmod(fd, stat.S_IMODE(wanted.st_mode))
    if fields.update_atime or fields.update_mtime:
        os.utime(fd, ns=_times(os.fstat(fd), wanted, fields))


def chmod(directory: Descriptor, name: bytes, mode: int) -> None:
    """chmod(2) that follows no symlink, whatever is swapped into the name meanwhile."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EOPNOTSUPP, "a symlink has no mode")
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)


def _times(now: os.stat_result, wanted: EntryAttributes, fields: SetattrFields) -> tuple[int, int]:
    return (
        wanted.st_atime_ns if fields.update_atime else now.st_atime_ns,
        wanted.st_mtime_ns if fields.update_mtime else now.st_mtime_ns,
    )


def create_file(
    directory: Descriptor, name: bytes, mode: int, flags: int, context: RequestContext
) -> tuple[int, os.stat_result]:
    """Makes a file that is the caller's, and opens it; without O_EXCL one that is there is opened.

    Also what is open now. Raises OSError; a file that cannot be given to the caller is not made.
    """
    always = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags | always, stat.S_IMODE(mode), dir_fd=directory.fd)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return open_known(directory, name, flags)
    try:
        return fd, give_to_caller(directory, fd, mode, context)
    except BaseException:
        os.close(fd)
        unmake(directory, name)
        raise


def unmake(directory: Descriptor, name: bytes) -> None:
    """Removes what was just made and cannot be given to its caller; a directory, if it is empty still."""
    try:
        try:
            os.unlink(name, dir_fd=directory.fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=directory.fd)
    except OSError as error:
        log.warning("%s was made, but could not be given to its caller: %s", os.fsdecode(name), error)


def is_callers(made: os.stat_result, context: RequestContext) -> bool:
    """Whether a new file is the caller's already. Only root's mount serves others than its own user."""
    return (made.st_uid == context.uid and made.st_gid == context.gid) or os.geteuid() != 0


def give_to_caller(directory: Descriptor, fd: int, mode: int, context: RequestContext) -> os.stat_result:
    """Makes a new file the caller's, and says what it is now. In a setgid directory it keeps that's group.

    By its descriptor, which may be an O_PATH one: another file may have its name by now. Raises OSError.
    """
    made = os.fstat(fd)
    if is_callers(made, context):
        return made
    path = b"/proc/self/fd/%d" % fd
    inherits = os.fstat(directory.fd).st_mode & stat.S_ISGID
    os.chown(path, context.uid, -1 if inherits else context.gid)
    if mode & _SET_ID and not stat.S_ISLNK(made.st_mode):
        os.chmod(path, stat.S_IMODE(os.fstat(fd).st_mode) | mode & _SET_ID)
    return os.fstat(fd)
