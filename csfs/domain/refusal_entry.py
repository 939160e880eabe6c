"""What is told of a request that was refused: one line of `.csfs/refusals`."""

import msgspec


class RefusalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was refused, or several in a row for one reason."""

    at: str
    """ISO 8601, UTC."""
    errno: str
    """`EBUSY`."""
    path: str
    """Relative to the mount point, as `target` and `directory` are."""
    target: str = ""
    """Where a rename or link was to lead."""
    directory: str = ""
    """The project directory that it is about; outside of any, what the request was about."""
    operation: str
    pid: int
    command: str
    uid: int
    rule: str
    """The rule's name, which does not change with the wording."""
    reason: str
    advice: str
    """What to do next; in its commands are words in capitals that stand for paths, see `domain.refusals`."""
    count: int = 1
    """How often in a row: one `rm -rf` may be refused a thousand times for one reason."""
