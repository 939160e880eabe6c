"""What callers may do: mode bits, owners and groups, setuid, setgid, sticky, access control lists."""

import itertools
import os
import stat
import struct
from collections.abc import Callable

from tests.mount.posix.cases import case, root_case
from tests.mount.posix.observation import Observation, by, content, look, mode, opened, outcome, put

ALICE, BOB, GROUP, OTHER_GROUP = 1001, 1002, 2001, 2002
CALLERS: dict[str, tuple[int, int, tuple[int, ...]]] = {
    "owner": (ALICE, ALICE, ()),
    "group": (BOB, GROUP, ()),
    "supplementary": (BOB, BOB, (OTHER_GROUP, GROUP)),
    "other": (BOB, BOB, ()),
}
MODES = (0, 0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001, 0o750, 0o057, 0o666, 0o777)


def _all(call: Callable[[], Observation]) -> Observation:
    found: Observation = {}
    for words, (uid, gid, groups) in CALLERS.items():
        for step, seen in by(uid, gid, call, groups).items():
            found[f"{words}: {step}"] = seen
    return found


@root_case
def permissions_of_files() -> Observation:
    for each in MODES:
        put(f"f{each:o}", b"content")
        os.chown(f"f{each:o}", ALICE, GROUP)
        os.chmod(f"f{each:o}", each)

    def tries() -> Observation:
        return {
            f"{each:o}": (
                opened(f"f{each:o}", os.O_RDONLY),
                opened(f"f{each:o}", os.O_WRONLY),
                opened(f"f{each:o}", os.O_RDWR),
                [os.access(f"f{each:o}", how) for how in (os.R_OK, os.W_OK, os.X_OK, os.F_OK)],
                os.access(f"f{each:o}", os.R_OK, effective_ids=True),
            )
            for each in MODES
        }

    return _all(tries)


@root_case
def permissions_of_directories() -> Observation:
    for each in MODES:
        name = f"d{each:o}"
        os.mkdir(name)
        put(f"{name}/f", mode=0o666)
        os.chown(name, ALICE, GROUP)
        os.chmod(name, each)

    def tries() -> Observation:
        found: Observation = {}
        for each in MODES:
            name = f"d{each:o}"
            found[f"{each:o}"] = (
                outcome(os.listdir, name),
                outcome(content, f"{name}/f"),
                outcome(put, f"{name}/new"),
                outcome(os.unlink, f"{name}/new"),
                outcome(os.mkdir, f"{name}/sub"),
                outcome(os.rmdir, f"{name}/sub"),
                outcome(os.symlink, "x", f"{name}/l"),
                outcome(os.rename, f"{name}/l", f"{name}/m"),
                outcome(os.unlink, f"{name}/m"),
                outcome(os.link, f"{name}/f", f"{name}/g"),
                outcome(os.unlink, f"{name}/g"),
                outcome(os.chdir, name),
            )
            if found[f"{each:o}"][-1] == "ok":
                os.chdir("..")
        return found

    return _all(tries)


@case
def an_owner_who_has_closed_his_own() -> Observation:
    found: Observation = {}
    os.mkdir("d")
    put("d/f")
    put("f")
    for each in (0, 0o444, 0o222, 0o111, 0o666):
        os.chmod("d", each)
        os.chmod("f", each)
        found[f"{each:o}: listing"] = outcome(lambda: len(os.listdir("d")))
        found[f"{each:o}: in the directory"] = (outcome(content, "d/f"), outcome(put, "d/g"), look("d/f"))
        found[f"{each:o}: the file"] = (
            opened("f", os.O_RDONLY),
            opened("f", os.O_WRONLY),
            opened("f", os.O_WRONLY | os.O_CREAT),
            outcome(os.truncate, "f", 3),
            [os.access("f", how) for how in (os.R_OK, os.W_OK, os.X_OK)],
        )
        found[f"{each:o}: rename"] = (outcome(os.rename, "d", "e"), outcome(os.rename, "e", "d"))
        found[f"{each:o}: the directory"] = (outcome(os.utime, "d", ns=(1, 2)), look("d"))
    os.chmod("d", 0o755)
    os.chmod("f", 0o644)
    return found


@root_case
def changing_mode_and_owner() -> Observation:
    for name in ("f", "g"):
        put(name, mode=0o644)
        os.chown(name, ALICE, GROUP)
    os.mkdir("d")
    os.chown("d", ALICE, GROUP)

    def tries() -> Observation:
        found: Observation = {}
        for name in ("f", "d"):
            for each in (0o600, 0o4755, 0o2755, 0o6755, 0o1777):
                found[f"chmod {name} {each:o}"] = (outcome(os.chmod, name, each), mode(name))
            for owner in (
                (ALICE, -1),
                (-1, GROUP),
                (BOB, -1),
                (-1, OTHER_GROUP),
                (-1, BOB),
                (0, 0),
                (-1, -1),
            ):
                found[f"chown {name} {owner}"] = (outcome(os.chown, name, *owner), look(name))
        return found

    found = _all(tries)
    found.update({f"again {step}": seen for step, seen in _all(tries).items()})
    member = by(ALICE, ALICE, lambda: outcome(os.chown, "g", -1, OTHER_GROUP), (OTHER_GROUP,))
    found["the owner, to a group of his"] = (member, look("g"))
    return found


@root_case
def set_id_bits_end() -> Observation:
    found: Observation = {}
    actions: dict[str, Callable[[str], object]] = {
        "write": lambda name: put(name, b"new"),
        "append": lambda name: os.close(_written(name)),
        "truncate": lambda name: os.truncate(name, 2),
        "truncate to the same size": lambda name: os.truncate(name, 7),
        "chown": lambda name: os.chown(name, -1, GROUP),
        "chown to nobody else": lambda name: os.chown(name, -1, -1),
        "chmod": lambda name: os.chmod(name, 0o6777),
        "utime": lambda name: os.utime(name),
        "rename": lambda name: (os.rename(name, "other"), os.rename("other", name))[0],
        "open": lambda name: os.close(os.open(name, os.O_RDWR)),
        "truncating open": lambda name: os.close(os.open(name, os.O_WRONLY | os.O_TRUNC)),
    }
    os.chmod(".", 0o777)
    for (words, action), bits in itertools.product(actions.items(), (0o6777, 0o2767, 0o4666, 0o2666)):
        put("f", b"content")
        os.chown("f", ALICE, GROUP)
        os.chmod("f", bits)
        who = (ALICE, GROUP) if words in ("chmod", "utime", "rename") or "chown" in words else (BOB, BOB)
        found[f"{words} {bits:o}"] = (by(*who, lambda: outcome(action, "f")), look("f"))  # noqa: B023
        if bits == 0o6777:
            os.chmod("f", bits)
            found[f"{words} by root"] = (outcome(action, "f"), look("f"))
        os.unlink("f")
    return found


def _written(name: str) -> int:
    fd = os.open(name, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"more")
    return fd


@root_case
def new_files_in_setgid_directories() -> Observation:
    os.mkdir("d")
    os.chown("d", ALICE, GROUP)
    os.chmod("d", 0o2777)

    def make(name: str) -> Observation:
        put(f"d/f{name}", mode=0o2755)
        os.mkdir(f"d/d{name}", 0o755)
        os.mkdir(f"d/e{name}", 0o2755)
        os.mkfifo(f"d/p{name}", 0o644)
        os.symlink("x", f"d/l{name}")
        os.mknod(f"d/n{name}", stat.S_IFREG | 0o2775)
        os.mkdir(f"d/d{name}/below")
        fd = os.open(f"d/g{name}", os.O_CREAT | os.O_RDWR, 0o6777)
        os.write(fd, b"x")
        return {kind: look(f"d/{kind}{name}") for kind in "fdeplng"} | {"b": look(f"d/d{name}/below")}

    found: Observation = {"root": make("root")}
    for words, (uid, gid, groups) in CALLERS.items():
        found[words] = by(uid, gid, lambda words=words: make(words), groups)
    os.rename("d/froot", "moved")
    os.rename("moved", "d/froot")
    found["moved"] = look("d/froot")
    return found


@root_case
def sticky_directories() -> Observation:
    os.mkdir("d")
    os.chmod("d", 0o1777)
    os.mkdir("owned")
    os.chown("owned", BOB, BOB)
    os.chmod("owned", 0o1777)
    for at in ("d", "owned"):
        for name in ("f", "g", "h"):
            put(f"{at}/{name}", mode=0o666)
            os.chown(f"{at}/{name}", ALICE, GROUP)
        os.mkdir(f"{at}/sub")
        os.chown(f"{at}/sub", ALICE, GROUP)

    def tries() -> Observation:
        return {
            at: (
                outcome(os.unlink, f"{at}/f"),
                outcome(os.rename, f"{at}/g", f"{at}/new"),
                outcome(os.rmdir, f"{at}/sub"),
                outcome(put, f"{at}/mine{os.getuid()}"),
                outcome(os.rename, f"{at}/mine{os.getuid()}", f"{at}/h"),
                sorted(os.listdir(at)),
            )
            for at in ("d", "owned")
        }

    return {words: by(uid, gid, tries, groups) for words, (uid, gid, groups) in reversed(CALLERS.items())}


@root_case
def new_files_belong_to_who_makes_them() -> Observation:
    os.chmod(".", 0o777)

    def make() -> Observation:
        tag = f"{os.getuid()}-{os.getgid()}-{len(os.getgroups())}"
        put(f"f{tag}")
        os.mkdir(f"d{tag}")
        os.symlink("x", f"l{tag}")
        os.mkfifo(f"p{tag}")
        os.link(f"f{tag}", f"h{tag}")
        return {kind: look(f"{kind}{tag}") for kind in "fdlph"}

    return _all(make) | {
        "links of another's": by(BOB, BOB, lambda: outcome(os.link, f"f{ALICE}-{ALICE}-0", "x"))
    }


@root_case
def what_root_alone_may_do() -> Observation:
    os.chmod(".", 0o777)
    put("f", mode=0)
    os.mkdir("d", 0)
    found: Observation = {
        "root reads": outcome(content, "f"),
        "root lists": outcome(os.listdir, "d"),
        "root may not execute": os.access("f", os.X_OK),
        "root searches": outcome(put, "d/f"),
    }

    def tries() -> Observation:
        return {
            "mknod block": outcome(os.mknod, "b", stat.S_IFBLK | 0o600, os.makedev(7, 0)),
            "mknod char": outcome(os.mknod, "c", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
            "mknod whiteout": outcome(os.mknod, "w", stat.S_IFCHR, 0),
            "mknod fifo": outcome(os.mknod, "p", stat.S_IFIFO | 0o600),
            "mknod regular": outcome(os.mknod, "r", stat.S_IFREG | 0o600),
            "mknod directory": outcome(os.mknod, "x", stat.S_IFDIR | 0o700),
            "mknod link": outcome(os.mknod, "y", stat.S_IFLNK | 0o700),
            "noatime": opened("f", os.O_RDONLY | os.O_NOATIME),
        }

    return found | by(BOB, BOB, tries)


@root_case
def device_nodes() -> Observation:
    found: Observation = {}
    for words, kind, device in (
        ("null", stat.S_IFCHR, os.makedev(1, 3)),
        ("loop", stat.S_IFBLK, os.makedev(7, 200)),
        ("large", stat.S_IFCHR, os.makedev(511, 70_000)),
        ("whiteout", stat.S_IFCHR, 0),
    ):
        found[f"make {words}"] = outcome(os.mknod, words, kind | 0o640, device)
        found[f"is {words}"] = look(words)
        found[f"rename {words}"] = (outcome(os.rename, words, "x"), outcome(os.rename, "x", words))
        found[f"chmod {words}"] = (outcome(os.chmod, words, 0o666), look(words))
    found["open null"] = opened("null", os.O_RDWR)
    return found


# -- access control lists: the kernel's own form of them (linux/posix_acl_xattr.h)

USER_OBJ, USER, GROUP_OBJ, GROUP_ENTRY, MASK, OTHER = 1, 2, 4, 8, 16, 32
UNDEFINED = 0xFFFFFFFF
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*entries: tuple[int, int] | tuple[int, int, int]) -> bytes:
    """An access control list of (tag, permissions) and (tag, permissions, id)."""
    packed = [struct.pack("<HHI", *(*each, UNDEFINED)[:3]) for each in sorted(entries)]
    return struct.pack("<I", 2) + b"".join(packed)


BOB_MAY_READ = acl((USER_OBJ, 6), (USER, 4, BOB), (GROUP_OBJ, 0), (MASK, 4), (OTHER, 0))
GROUP_MAY_WRITE = acl((USER_OBJ, 6), (GROUP_OBJ, 0), (GROUP_ENTRY, 6, GROUP), (MASK, 6), (OTHER, 0))
MASKED = acl((USER_OBJ, 6), (USER, 7, BOB), (GROUP_OBJ, 7), (MASK, 1), (OTHER, 0))
INHERITED = acl((USER_OBJ, 7), (USER, 7, BOB), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))
SIMPLE = acl((USER_OBJ, 6), (GROUP_OBJ, 4), (OTHER, 4))


@case
def lists_are_set_and_read() -> Observation:
    put("f", mode=0o644)
    os.mkdir("d", 0o755)
    found: Observation = {"none": outcome(os.getxattr, "f", ACCESS)}
    for words, value in (
        ("bob", BOB_MAY_READ),
        ("masked", MASKED),
        ("simple", SIMPLE),
        ("too short", b"\2\0"),
        ("without a mask", acl((USER_OBJ, 6), (USER, 4, BOB), (GROUP_OBJ, 0), (OTHER, 0))),
        ("of no version", b"\7\0\0\0"),
    ):
        found[f"set {words}"] = (outcome(os.setxattr, "f", ACCESS, value), look("f"))
        found[f"get {words}"] = outcome(os.getxattr, "f", ACCESS)
    found["default of a file"] = outcome(os.setxattr, "f", DEFAULT, BOB_MAY_READ)
    found["default of a directory"] = outcome(os.setxattr, "d", DEFAULT, INHERITED)
    found["get default"] = outcome(os.getxattr, "d", DEFAULT)
    found["list"] = outcome(lambda: (sorted(os.listxattr("f")), sorted(os.listxattr("d"))))
    os.setxattr("f", "user.x", b"1")
    found["chmod"] = (outcome(os.chmod, "f", 0o640), outcome(os.getxattr, "f", ACCESS), look("f"))
    found["remove"] = (outcome(os.removexattr, "f", ACCESS), outcome(os.removexattr, "d", DEFAULT), look("f"))
    return found


@root_case
def lists_are_enforced() -> Observation:
    for words, value in (("bob", BOB_MAY_READ), ("group", GROUP_MAY_WRITE), ("masked", MASKED)):
        put(words, mode=0o600)
        # What `ls -l` shows as the permissions of its group is the mask.
        os.chown(words, ALICE, GROUP)
        os.setxattr(words, ACCESS, value)
    os.mkdir("d", 0o700)
    put("d/f", mode=0o644)
    os.setxattr("d", ACCESS, acl((USER_OBJ, 7), (USER, 5, BOB), (GROUP_OBJ, 0), (MASK, 5), (OTHER, 0)))

    def tries() -> Observation:
        found: Observation = {"directory": (outcome(os.listdir, "d"), outcome(content, "d/f"))}
        for name in ("bob", "group", "masked"):
            found[name] = (
                opened(name, os.O_RDONLY),
                opened(name, os.O_WRONLY),
                [os.access(name, how) for how in (os.R_OK, os.W_OK, os.X_OK)],
            )
        return found

    return _all(tries)


@case
def a_list_that_is_inherited_takes_the_place_of_the_umask() -> Observation:
    os.mkdir("d")
    found: Observation = {}
    for words in ("without", "with", "with another", "without again"):
        if words == "with":
            os.setxattr("d", DEFAULT, INHERITED)
        elif words == "with another":
            os.setxattr("d", DEFAULT, acl((USER_OBJ, 7), (GROUP_OBJ, 7), (OTHER, 5)))
        elif words == "without again":
            os.removexattr("d", DEFAULT)
        for umask in (0o22, 0o77):
            os.umask(umask)
            tag = f"{words} {umask:o}"
            os.close(os.open(f"d/f{tag}", os.O_CREAT | os.O_RDWR, 0o666))
            os.mkdir(f"d/d{tag}")
            os.mkdir(f"d/d{tag}/below")
            put(f"d/d{tag}/below/f", mode=0o777)
            below = (look(f"d/d{tag}/below"), look(f"d/d{tag}/below/f"))
            found[tag] = (look(f"d/f{tag}"), look(f"d/d{tag}"), below)
    return found


@root_case
def lists_are_inherited() -> Observation:
    os.mkdir("d", 0o777)
    os.chmod("d", 0o777)
    os.setxattr("d", DEFAULT, INHERITED)
    found: Observation = {}

    def make(umask: int) -> Observation:
        os.umask(umask)
        seen: Observation = {}
        for wanted in (0o600, 0o644, 0o666, 0o777):
            tag = f"{os.getuid()}-{umask:o}-{wanted:o}"
            os.close(os.open(f"d/f{tag}", os.O_CREAT | os.O_RDWR, wanted))
            os.mkdir(f"d/d{tag}", wanted)
            os.mknod(f"d/n{tag}", stat.S_IFREG | wanted)
            os.mkfifo(f"d/p{tag}", wanted)
            for kind in "fdnp":
                name = f"d/{kind}{tag}"
                seen[f"{kind} {wanted:o}"] = (look(name), outcome(os.getxattr, name, ACCESS))
            seen[f"default {wanted:o}"] = outcome(os.getxattr, f"d/d{tag}", DEFAULT)
        os.symlink("x", f"d/l{os.getuid()}-{umask:o}")
        return seen

    for umask in (0, 0o22, 0o77):
        found[f"root, umask {umask:o}"] = by(0, 0, lambda umask=umask: make(umask))
        found[f"alice, umask {umask:o}"] = by(ALICE, ALICE, lambda umask=umask: make(umask))
    return found
