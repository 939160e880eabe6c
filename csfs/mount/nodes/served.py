"""What the store serves in the directories of a project that this instance holds."""

import os

from csfs.lifecycle import documents
from csfs.mount.nodes.directory import Directory
from csfs.mount.nodes.document import Document
from csfs.mount.tree import Inode


def inode_of(directory: Directory, name: bytes) -> Inode:
    """The inode of what the store serves in a directory of a project."""
    assert directory.project is not None
    inside = b"" if directory.inode.number == directory.project.inode else directory.inode.name + b"/"
    key = directory.project.held.uuid.encode() + b"/" + inside + name
    return directory.mount.tree.virtual(directory.inode, name, key)


def document(
    directory: Directory, name: bytes, path: str, kind: type[Document] = Document
) -> Document | None:
    """The document of a held project, if the store has it."""
    project = directory.project
    assert project is not None
    if documents.head(directory.mount.instance, project, path) is None:
        return None
    return kind(directory, inode_of(directory, name), project, path)


async def take_off(directory: Directory, name: bytes, path: str) -> None:
    """Takes a document of an archived project off its directory; the store keeps it. Raises OSError."""
    assert directory.project is not None
    if await directory.io(directory.descriptor.exists, name):
        await directory.remove(name, os.unlink)
    directory.project.removed.add(path)
