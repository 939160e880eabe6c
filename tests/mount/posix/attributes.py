"""Extended attributes, and what statvfs(3) says."""

import os
import stat

from tests.mount.posix.cases import case, root_case
from tests.mount.posix.observation import Observation, by, called, content, outcome, put

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE


@case
def attributes_of_users() -> Observation:
    put("f")
    os.mkdir("d")
    found: Observation = {}
    for name in ("f", "d"):
        found[f"get none {name}"] = outcome(os.getxattr, name, "user.a")
        found[f"remove none {name}"] = outcome(os.removexattr, name, "user.a")
        found[f"replace none {name}"] = outcome(os.setxattr, name, "user.a", b"1", REPLACE)
        found[f"create {name}"] = outcome(os.setxattr, name, "user.a", b"1", CREATE)
        found[f"create again {name}"] = outcome(os.setxattr, name, "user.a", b"2", CREATE)
        found[f"replace {name}"] = outcome(os.setxattr, name, "user.a", b"three", REPLACE)
        found[f"get {name}"] = outcome(os.getxattr, name, "user.a")
        found[f"empty {name}"] = (
            outcome(os.setxattr, name, "user.e", b""),
            outcome(os.getxattr, name, "user.e"),
        )
        found[f"binary {name}"] = outcome(os.setxattr, name, "user.b", b"\0\xff\n\0")
        found[f"get binary {name}"] = outcome(os.getxattr, name, "user.b")
        found[f"list {name}"] = sorted(os.listxattr(name))
        found[f"remove {name}"] = (outcome(os.removexattr, name, "user.a"), sorted(os.listxattr(name)))
    os.rename("f", "g")
    found["renamed"] = outcome(os.getxattr, "g", "user.b")
    os.link("g", "h")
    found["linked"] = (outcome(os.setxattr, "h", "user.l", b"x"), outcome(os.getxattr, "g", "user.l"))
    fd = os.open("g", os.O_RDONLY)
    found["by descriptor"] = (outcome(os.getxattr, fd, "user.b"), outcome(os.setxattr, fd, "user.d", b"1"))
    return found


@case
def sizes_of_attributes() -> Observation:
    put("f")
    found: Observation = {}
    for size in (1, 100, 1000, 3000, 4000, 5000, 65536, 65537, 100_000):
        found[f"{size}"] = outcome(os.setxattr, "f", "user.big", b"v" * size)
        found[f"{size}, got"] = outcome(lambda: len(os.getxattr("f", "user.big")))
    found["name of 255"] = outcome(os.setxattr, "f", "user." + "n" * 250, b"x")
    found["name of 256"] = outcome(os.setxattr, "f", "user." + "n" * 251, b"x")
    found["name without a rest"] = outcome(os.setxattr, "f", "user.", b"x")
    found["name without a namespace"] = outcome(os.setxattr, "f", "noprefix", b"x")
    found["unknown namespace"] = outcome(os.setxattr, "f", "other.x", b"x")
    found["empty name"] = outcome(os.setxattr, "f", "", b"x")
    found["get without a namespace"] = outcome(os.getxattr, "f", "noprefix")
    os.setxattr("f", "user.big", b"12345")
    found["size asked for"] = called("getxattr", b"f", b"user.big", None, 0)
    found["too little room"] = called("getxattr", b"f", b"user.big", bytes(3), 3)
    found["too little room for the list"] = called("listxattr", b"f", bytes(3), 3)
    found["size of the list"] = called("listxattr", b"f", None, 0)
    return found


@case
def attributes_of_links_and_special_files() -> Observation:
    put("f")
    os.symlink("f", "l")
    os.mkfifo("p")
    os.mknod("s", stat.S_IFSOCK | 0o644)
    found: Observation = {}
    for name in ("l", "p", "s"):
        for kind in ("user", "trusted"):
            key = f"{kind}.x"
            found[f"set {key} {name}"] = outcome(os.setxattr, name, key, b"1", follow_symlinks=False)
            found[f"get {key} {name}"] = outcome(os.getxattr, name, key, follow_symlinks=False)
        found[f"list {name}"] = outcome(lambda name=name: sorted(os.listxattr(name, follow_symlinks=False)))
    found["through the link"] = (outcome(os.setxattr, "l", "user.y", b"1"), os.listxattr("f"))
    return found


@case
def attributes_of_the_system() -> Observation:
    put("f")
    found: Observation = {}
    for name in ("trusted.x", "security.x", "security.capability", "system.x", "system.posix_acl_access"):
        found[f"set {name}"] = outcome(os.setxattr, "f", name, b"value")
        found[f"get {name}"] = outcome(os.getxattr, "f", name)
        found[f"remove {name}"] = outcome(os.removexattr, "f", name)
    found["list"] = sorted(os.listxattr("f"))
    return found


@root_case
def attributes_and_other_users() -> Observation:
    put("f")
    put("open", mode=0o666)
    os.setxattr("f", "user.x", b"1")
    os.setxattr("f", "trusted.x", b"1")
    os.setxattr("f", "security.x", b"1")
    put("secret", mode=0o600)
    os.setxattr("secret", "user.x", b"1")
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)

    def tries() -> Observation:
        found: Observation = {}
        for name in ("f", "open", "secret", "sticky"):
            found[name] = (
                outcome(os.getxattr, name, "user.x"),
                outcome(os.setxattr, name, "user.y", b"1"),
                outcome(os.removexattr, name, "user.x"),
                outcome(os.getxattr, name, "trusted.x"),
                outcome(os.setxattr, name, "trusted.y", b"1"),
                outcome(os.setxattr, name, "security.y", b"1"),
                outcome(lambda name=name: sorted(os.listxattr(name))),
            )
        return found

    return by(1001, 1001, tries)


@root_case
def capabilities_end_with_a_write() -> Observation:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    found: Observation = {}
    for words in ("write", "truncate", "truncating open", "chown"):
        put("f", b"program", 0o755)
        found[f"set, {words}"] = outcome(os.setxattr, "f", "security.capability", capability)
        found[f"get, {words}"] = outcome(os.getxattr, "f", "security.capability")
        if words == "write":
            with open("f", "ab") as file:
                file.write(b"x")
        elif words == "truncating open":
            os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
        elif words == "truncate":
            os.truncate("f", 3)
        else:
            os.chown("f", 5, 5)
        found[f"after {words}"] = outcome(os.getxattr, "f", "security.capability")
        os.unlink("f")
    return found


@case
def space_of_the_filesystem() -> Observation:
    put("f")
    os.mkdir("d")
    found: Observation = {}
    for words, at in (("directory", "."), ("file", "f"), ("subdirectory", "d")):
        said = os.statvfs(at)
        found[words] = (said.f_bsize, said.f_frsize, said.f_blocks, said.f_files, said.f_namemax)
        found[f"{words}, room"] = (said.f_bfree > 0, said.f_bavail > 0, said.f_ffree > 0)
    found["by descriptor"] = os.fstatvfs(os.open("f", os.O_RDONLY)).f_namemax
    return found


@case
def what_stat_says() -> Observation:
    put("f", b"x" * 10_000)
    os.fsync(os.open("f", os.O_RDWR))
    found: Observation = {"content": len(content("f"))}
    said = os.stat("f")
    found["blocks"] = (said.st_blksize, said.st_blocks)
    found["one device"] = len({os.stat(at).st_dev for at in (".", "f")})
    return found
