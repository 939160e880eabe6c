"""`mount.csfs`: what mount(8) calls for `mount -t csfs BACKING MOUNTPOINT -o instance=NAME`, or for fstab.

BACKING may be a file that names instance and containers, as for `csfs mount`.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from csfs.cli.instance_options import chosen, resolved
from csfs.cli.mount import mount_in_background

USAGE_STATUS, SYSTEM_STATUS, FAILED_STATUS = 1, 2, 32
"""Exit statuses of mount(8)."""

_USAGE = "usage: mount.csfs BACKING MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS]"

_IGNORED = frozenset(
    {
        "auto", "noauto", "nofail", "_netdev", "defaults", "user", "nouser", "users", "owner", "group",
        "rw", "async", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime",
        "iversion", "noiversion", "silent", "loud", "exec", "suid", "dev", "diratime", "nodiratime",
        "mand", "nomand", "bg", "fg",
    }
)  # fmt: skip
"""For mount(8), systemd or the kernel's defaults; nothing that csfs has to do."""
_IGNORED_BEGINNINGS = ("x-", "X-", "comment=", "uhelper=", "helper=", "loop=", "offset=", "sizelimit=")
_VALUED = ("instance=", "state=")


class Wrong(Exception):
    """The command line is wrong; the message says why and what to do. `status` is the exit status."""

    def __init__(self, message: str, status: int = USAGE_STATUS) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """What mount(8) wants."""

    backing: str
    mountpoint: str
    instance: str | None
    state: str
    """Empty if it was not given."""
    words: tuple[str, ...]
    """Options for csfs, libfuse and the kernel."""
    fake: bool
    """`-f`: everything but the mount itself."""
    verbose: bool


def main() -> None:
    """The program: ends with an exit status of mount(8)."""
    try:
        sys.exit(_run(sys.argv[1:]))
    except Wrong as error:
        print(f"mount.csfs: {error}", file=sys.stderr)
        sys.exit(error.status)


def _run(arguments: Sequence[str]) -> int:
    request = parse(arguments)
    if request.verbose:
        instance = f" --instance {request.instance}" if request.instance else ""
        words = f" -o {','.join(request.words)}" if request.words else ""
        print(f"csfs mount {request.backing} {request.mountpoint}{instance}{words}")
    if request.fake:
        return 0
    # mount(8) may have closed these, or run with an empty environment at boot.
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    os.environ.setdefault("HOME", "/")
    try:
        state = Path(request.state) if request.state else None
        options = chosen(request.backing, request.instance, state)
        mountpoint = resolved(request.mountpoint, "MOUNTPOINT")
        mount_in_background(replace(options, mountpoint=mountpoint, fuse=frozenset(request.words)))
    except click.ClickException as error:
        print(f"mount.csfs: {error.format_message()}", file=sys.stderr)
        return FAILED_STATUS
    except SystemExit as end:
        return FAILED_STATUS if end.code else 0
    return 0


def parse(arguments: Sequence[str]) -> Request:
    """What a command line of mount(8) asks for. Raises Wrong."""
    places: list[str] = []
    given: list[str] = []
    fake = verbose = False
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "-N", "-t"):
            if not rest:
                raise Wrong(f"{word} wants a value\n{_USAGE}")
            value = rest.pop(0)
            if word == "-o":
                given.append(value)
            elif word == "-N":
                raise Wrong(
                    f"another mount namespace ({value}) cannot be mounted in; run mount there: nsenter -m",
                    SYSTEM_STATUS,
                )
        elif word.startswith("-") and set(word[1:]) <= set("sfnvw") and word != "-":
            fake = fake or "f" in word
            verbose = verbose or "v" in word
        elif word == "-r":
            given.append("ro")
        elif word.startswith("-"):
            raise Wrong(f"{word} is not known\n{_USAGE}")
        else:
            places.append(word)
    if len(places) != 2:
        raise Wrong(_USAGE)
    return _request(places[0], places[1], ",".join(given), fake=fake, verbose=verbose)


def _request(backing: str, mountpoint: str, options: str, *, fake: bool, verbose: bool) -> Request:
    values = dict.fromkeys(_VALUED, "")
    words: list[str] = []
    for word in options.split(","):
        key = next((each for each in _VALUED if word.startswith(each)), None)
        if key is not None:
            values[key] = word.removeprefix(key)
        elif word == "remount":
            raise Wrong(
                f"{mountpoint} cannot be remounted with other options: umount it, then mount it anew",
                SYSTEM_STATUS,
            )
        elif word == "rw" and "ro" in words:
            words.remove("ro")
        elif word and word not in _IGNORED and not word.startswith(_IGNORED_BEGINNINGS):
            words.append(word)
    if not values["instance="] and not os.path.isfile(backing):
        raise Wrong(
            f"{backing} is no file that names an instance: say for which it is, -o instance=NAME (made at the"
            " first use of a name)"
        )
    return Request(
        backing=backing,
        mountpoint=mountpoint,
        instance=values["instance="] or None,
        state=values["state="],
        words=tuple(words),
        fake=fake,
        verbose=verbose,
    )


if __name__ == "__main__":
    main()
