"""The lifecycle actions that the instance of a mount has done, as `.csfs/history` has them."""

import msgspec

from csfs.cli.mounts import Mounted, control_file


class Deed(msgspec.Struct, kw_only=True, frozen=True):
    """One line of `.csfs/history`."""

    at: str
    """ISO 8601, UTC."""
    action: str
    number: int
    title: str
    path: str
    """Relative to the mount point."""
    came_from: str
    host: str
    uid: int | None
    pid: int
    program: str
    outcome: str


def deeds_of(mount: Mounted) -> list[Deed]:
    """Oldest first. Raises ClickException if the mount does not answer."""
    return [msgspec.json.decode(line, type=Deed) for line in control_file(mount, "history").splitlines()]
