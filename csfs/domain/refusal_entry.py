"""What is told of a request that was refused: one line of `.csfs/refusals`."""

import msgspec


class RefusalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was refused, or several in a row for one reason."""

    at: str
    """ISO 8601, UTC."""
    errno: str
    """`EBUSY`."""
    path: str
    """Relative to the mount point."""
    operation: str
    pid: int
    command: str
    uid: int
    rule: str
    """The rule's name, which does not change with the wording."""
    reason: str
    advice: str
    """What to do next."""
    count: int = 1
    """How often in a row: one `rm -rf` may be refused a thousand times for one reason."""
