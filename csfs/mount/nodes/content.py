"""Files whose bytes csfs serves itself: read through a handle that keeps what it opened."""

import errno

from pyfuse3 import EntryAttributes, FileInfo, RequestContext, SetattrFields

from csfs.mount.handles import ContentHandle, FileHandle
from csfs.mount.nodes.base import Node
from csfs.mount.nodes.data import writes


class ContentFile(Node):
    """A file that is made of bytes in memory; what can be done with it is up to the kind."""

    __slots__ = ()

    def read(self) -> bytes:
        """The content at this moment. Raises OSError."""
        raise NotImplementedError

    async def setattr(
        self,
        wanted: EntryAttributes,
        fields: SetattrFields,
        handle: FileHandle | None,
        context: RequestContext,
    ) -> EntryAttributes:
        raise OSError(errno.EPERM, "made by csfs")

    async def open(self, flags: int, context: RequestContext) -> FileInfo:
        if writes(flags):
            raise OSError(errno.EPERM, "made by csfs")
        handle = ContentHandle(self.inode, context, False, bytearray(self.read()))
        return FileInfo(fh=self.mount.handles.add_file(handle), direct_io=True)
