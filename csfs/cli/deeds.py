"""The lifecycle actions that the instance of a mount has done, as `.csfs/history` has them."""

import msgspec

from csfs.cli.mounts import Mounted, control_file
from csfs.store.records import Deed


def deeds_of(mount: Mounted) -> list[Deed]:
    """Oldest first. Raises ClickException if the mount does not answer."""
    return [msgspec.json.decode(line, type=Deed) for line in control_file(mount, "history").splitlines()]
