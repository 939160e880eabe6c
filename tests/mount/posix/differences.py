"""Where csfs differs, on purpose: each with its reason and with exactly what is to be seen instead."""

from dataclasses import dataclass

from tests.mount.posix.observation import Observation
from tests.mount.posix.site import Mode


@dataclass(frozen=True)
class Difference:
    """What one step of a case gives on the mount, in place of what the backing filesystem gives."""

    case: str
    step: str
    seen: object
    reason: str
    modes: tuple[str, ...] = ()
    """Names of the modes in which it is so; empty: in all."""
    states: tuple[str, ...] = ()


_FALLOCATE = "pyfuse3 has no fallocate; programs write zeros instead, or go on without"
_SETGID = (
    "the kernel takes setgid from what another writes only where the group may execute it: without that it"
    " once meant mandatory locking, and for FUSE it still does"
)
_UNCHANGED = (16384, 16384)

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "temporary_files_without_a_name",
        "open",
        "EOPNOTSUPP",
        "pyfuse3 has no tmpfile; programs make a file with a name instead",
    ),
    *(
        Difference("space_reserved_and_punched", f"fallocate {how}", "EOPNOTSUPP", _FALLOCATE)
        for how in ("", "keep size", "punch", "collapse", "zero", "insert")
    ),
    *(
        Difference("space_reserved_and_punched", f"{how}, then", _UNCHANGED, _FALLOCATE)
        for how in ("punch", "collapse", "zero", "insert")
    ),
    Difference(
        "holes_are_found_or_passed_over", "first data", 0, "pyfuse3 has no lseek: all of a file is data"
    ),
    Difference(
        "holes_are_found_or_passed_over",
        "first hole",
        (1 << 20) + 4096,
        "pyfuse3 has no lseek: the end is one",
    ),
    Difference("ioctls", "GETFLAGS", "ENOTTY", "pyfuse3 has no ioctl; programs go on without"),
    Difference("clones", "FICLONE", "EOPNOTSUPP", "FUSE has no request for it; programs copy instead"),
    *(
        Difference(
            "an_owner_who_has_closed_his_own",
            f"{mode}: listing",
            "EACCES",
            "a listing looks at each entry, for which the daemon has to be allowed to search the directory",
            modes=("users-own",),
        )
        for mode in ("444", "666")
    ),
    *(
        Difference(
            "an_owner_who_has_closed_his_own",
            f"{mode}: rename",
            ("EACCES", "ENOENT"),
            "whether projects lie in a directory is looked at before it is moved, and these cannot be listed",
            modes=("users-own",),
            states=("plain",),
        )
        for mode in ("0", "111", "222")
    ),
    Difference("device_nodes", "open null", "EACCES", "FUSE is mounted with nodev: no data is a device"),
    *(
        Difference(
            "set_id_bits_end",
            f"{how} {mode:o}",
            ("ok", (oct(0o100000 | mode), 1, 1001, 2001, size, 0)),
            _SETGID,
        )
        for mode in (0o2767, 0o2666)
        for how, size in (
            ("append", 11),
            ("truncate", 2),
            ("truncate to the same size", 7),
            ("truncating open", 0),
            ("write", 3),
        )
    ),
)


def expected(case: str, mode: Mode, state: str, reference: Observation) -> Observation:
    """What a case has to give on a mount, if a plain directory gives `reference`."""
    found = dict(reference)
    for each in DIFFERENCES:
        if (
            each.case == case
            and (not each.modes or mode.name in each.modes)
            and (not each.states or state in each.states)
        ):
            assert each.step in found, f"{case} has no step {each.step!r}"
            found[each.step] = each.seen
    return found
