"""How much files take, and how that is written for people."""

import os

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_of(directory: str) -> int:
    """Bytes that a directory and all below it take on the disk; follows no symlink. Raises OSError.

    What goes away meanwhile is not counted.
    """
    total, pending = 0, [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except FileNotFoundError:
            continue
    return total


def readable(size: float) -> str:
    """`3.2 GiB`."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
