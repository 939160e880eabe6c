"""Create: an empty directory becomes a project (`touch cs.lock` in it)."""

import os

import msgspec

from csfs.backing.descriptor import Descriptor
from csfs.domain import document, names
from csfs.domain.document import Kind
from csfs.lifecycle import documents
from csfs.lifecycle.claim import claim
from csfs.lifecycle.instance import Instance, timestamp
from csfs.lifecycle.project import Project
from csfs.store import records
from csfs.store.store import Change


async def create(instance: Instance, directory: Descriptor, path: bytes, content: bytes | None) -> Project:
    """Makes the empty `directory` a project of this instance, with one workspace W1.

    Its title is the directory's name. Raises Refusal EROFS if another instance was quicker, OSError.
    """
    name = os.fsdecode(path.rpartition(b"/")[2] or os.fsencode(instance.mountpoint))
    title = name.rpartition("/")[2].encode(errors="backslashreplace").decode()

    async def fill(record: records.Project) -> records.Project:
        now = timestamp()
        record = msgspec.structs.replace(record, title=title)
        project = document.new_project(title=title, created_at=now, values=instance.identity_values(record))
        workspaces = document.new_workspaces(
            created_at=now, project_uid=record.uid, project_number=record.number
        )

        def store(change: Change) -> None:
            for path, made in (
                (names.PROJECT_DOCUMENT, project),
                (names.WORKSPACES_DOCUMENT, workspaces),
            ):
                parsed = document.parse(made, Kind(path))
                documents.store_document(change, record.number, path, parsed, exported=False)

        await instance.store.write(store)
        return record

    project = await claim(instance, directory, path, content, "create", fill)
    number = project.held.number
    for document_name in names.PROJECT_DOCUMENTS:
        await documents.export_one(instance, project, number, document_name)
    return project
