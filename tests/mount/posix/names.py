"""Names and paths: their lengths and bytes, slashes at the end, dots, and what each call makes of them."""

import errno
import functools
import os
import stat
from collections.abc import Callable

from tests.mount.posix.cases import case, register
from tests.mount.posix.observation import Observation, content, look, opened, outcome, put

NAMES = {
    "of 255 bytes": b"n" * 255,
    "of 256 bytes": b"n" * 256,
    "of 255 bytes in three byte letters": "\u20ac".encode() * 85,
    "of 258 bytes in three byte letters": "\u20ac".encode() * 86,
    "with a newline": b"a\nb",
    "of one newline": b"\n",
    "invalid UTF-8": b"caf\xe9\xff\xfe",
    "with a control byte": b"\x01\x1b[31m\x7f",
    "with a leading dot": b".hidden",
    "of three dots": b"...",
    "with a leading dash": b"-rf",
    "of one space": b" ",
    "with a backslash": b"a\\b",
    "with quotes": b"'\"`$(x)",
    "ending in a tilde": b"f~",
    "ending in a dot": b"f.",
    "decomposed": "e\u0301".encode(),
    "composed": "\u00e9".encode(),
    "in capitals": b"MiXeD",
    "of another case": b"mixed",
}


@case
def names_of_every_kind() -> Observation:
    found: Observation = {}
    for words, name in NAMES.items():
        found[words] = (
            outcome(put, name, words.encode()),
            look(name),
            outcome(os.rename, name, b"other"),
            outcome(os.rename, b"other", name),
            outcome(os.mkdir, name + b"d"),
        )
    found["listed"] = sorted(os.listdir(b"."))
    found["content"] = [outcome(content, name) for name in NAMES.values()]
    for words, name in NAMES.items():
        found[f"remove {words}"] = (outcome(os.unlink, name), outcome(os.rmdir, name + b"d"))
    found["left"] = os.listdir(b".")
    return found


@case
def paths_up_to_the_limit() -> Observation:
    name = "p" * 250
    here = os.path.join(*[name] * 15)
    os.makedirs(here)
    found: Observation = {}
    for length in (4094, 4095, 4096, 5000):
        path = here + "/" + "./" * 1000
        path = path[: length - 1] + "f"
        path = path[:-2] + "/f" if path[-2] == "." and path[-3] == "/" else path
        found[str(length)] = [
            len(path),
            outcome(put, path),
            outcome(lambda path=path: os.stat(path).st_size),
            outcome(os.mkdir, path),
            outcome(os.rename, path, "f"),
            outcome(os.symlink, path, f"link{length}"),
            outcome(lambda length=length: len(os.readlink(f"link{length}"))),
        ]
    return found


@case
def trees_deeper_than_any_path() -> Observation:
    name, levels = "t" * 255, 20
    found: Observation = {}
    start = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name)
        os.chdir(name)
    found["write"] = outcome(put, "f", b"at the bottom")
    found["read"] = outcome(content, "f")
    found["rename"] = outcome(os.rename, "f", "g")
    found["look"] = look("g")
    found["xattr"] = (outcome(os.setxattr, "g", "user.x", b"1"), outcome(os.getxattr, "g", "user.x"))
    found["link"] = outcome(os.link, "g", "h")
    found["chmod"] = (outcome(os.chmod, "h", 0o600), look("h"))
    found["getcwd"] = outcome(lambda: bool(os.getcwd()))
    found["unlink"] = (outcome(os.unlink, "g"), outcome(os.unlink, "h"))
    for _ in range(levels):
        os.chdir("..")
        os.rmdir(name)
    found["back"] = os.path.samestat(os.stat("."), os.fstat(start))
    return found


@case
def slashes_at_the_end() -> Observation:
    put("f")
    os.mkdir("d")
    os.symlink("d", "ld")
    os.symlink("f", "lf")
    os.symlink("none", "ln")
    found: Observation = {}
    for name in ("f/", "d/", "ld/", "lf/", "ln/", "none/", "d//", "d/.", "d/./", "f/.", "f/.."):
        found[f"stat {name}"] = outcome(lambda name=name: oct(os.stat(name).st_mode))
        found[f"lstat {name}"] = outcome(lambda name=name: oct(os.lstat(name).st_mode))
        found[f"open {name}"] = opened(name, os.O_RDONLY)
        found[f"creat {name}"] = opened(name, os.O_CREAT | os.O_WRONLY)
        found[f"readlink {name}"] = outcome(os.readlink, name)
        found[f"chmod {name}"] = outcome(os.chmod, name, 0o755)
        found[f"symlink {name}"] = outcome(os.symlink, "x", name)
        found[f"link {name}"] = outcome(os.link, "f", name)
        found[f"mknod {name}"] = outcome(os.mknod, name)
        found[f"unlink {name}"] = outcome(os.unlink, name)
    found["mkdir new/"] = outcome(os.mkdir, "new/")
    found["rename f new2/"] = outcome(os.rename, "f", "new2/")
    found["rename d new3/"] = outcome(os.rename, "d/", "new3/")
    found["rename f/ new4"] = outcome(os.rename, "f/", "new4")
    found["rmdir ld/"] = outcome(os.rmdir, "ld/")
    found["rmdir new3/"] = outcome(os.rmdir, "new3/")
    found["listed"] = sorted(os.listdir())
    return found


@case
def dots() -> Observation:
    os.makedirs("d/e")
    put("d/f")
    found: Observation = {}
    for name in (".", "..", "d/.", "d/..", "d/e/..", "d/e/../f"):
        found[name] = {
            "mkdir": outcome(os.mkdir, name),
            "rmdir": outcome(os.rmdir, name) if not name.startswith("..") else "",
            "unlink": outcome(os.unlink, name) if name != "d/e/../f" else "",
            "rename": outcome(os.rename, name, "new"),
            "rename to": outcome(os.rename, "d/e", name) if name != "d/e/../f" else "",
            "link": outcome(os.link, "d/f", name),
            "symlink": outcome(os.symlink, "x", name),
            "creat": opened(name, os.O_CREAT | os.O_WRONLY),
        }
    os.chdir("d/e")
    found["from below"] = (look("../f"), sorted(os.listdir("..")), outcome(content, "../e/../f"))
    return found


def _objects() -> None:
    put("file")
    put("source")
    os.mkdir("empty")
    os.makedirs("full/inner")
    os.symlink("file", "link")
    os.symlink("full", "to directory")
    os.symlink("nowhere", "dangling")
    os.symlink("loop", "loop")
    os.mkfifo("fifo")


SITUATIONS = (
    "",
    "none",
    "none/x",
    "file/x",
    "dangling/x",
    "loop/x",
    "loop",
    "dangling",
    "n" * 256,
    "full/" + "n" * 256,
    "/".join(["long" * 40] * 30),
    "fifo/x",
    "link/x",
    "to directory/inner/x",
    "full",
    "to directory",
    "fifo",
    "link",
    "empty",
    "file",
)


def _rename_away(path: str) -> None:
    os.rename(path, "target")
    os.rename("target", path)


CALLS: dict[str, Callable[[str], object]] = {
    "open": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)),
    "creat": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK)),
    "creat_excl": lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)),
    "mkdir": lambda path: os.mkdir(path),
    "rmdir": lambda path: os.rmdir(path),
    "unlink": lambda path: os.unlink(path),
    "rename": lambda path: _rename_away(path),
    "rename_to": lambda path: os.rename("source", path),
    "rename_directory_to": lambda path: os.rename("empty", path),
    "link": lambda path: os.link(path, f"link{SITUATIONS.index(path)}", follow_symlinks=False),
    "link_to": lambda path: os.link("source", path),
    "symlink": lambda path: os.symlink("anything", path),
    "readlink": lambda path: os.readlink(path),
    "mknod": lambda path: os.mknod(path, stat.S_IFREG | 0o600),
    "mkfifo": lambda path: os.mkfifo(path),
    "chmod": lambda path: os.chmod(path, 0o750),
    "chown": lambda path: os.chown(path, os.getuid(), os.getgid()),
    "lchown": lambda path: os.chown(path, os.getuid(), os.getgid(), follow_symlinks=False),
    "truncate": lambda path: os.truncate(path, 3),
    "truncate_to_less_than_nothing": lambda path: os.truncate(path, -1),
    "utime": lambda path: os.utime(path, ns=(1, 2)),
    "utime_of_a_link": lambda path: os.utime(path, ns=(1, 2), follow_symlinks=False),
    "access": lambda path: os.access(path, os.R_OK | os.W_OK),
    "stat": lambda path: oct(os.stat(path).st_mode),
    "lstat": lambda path: oct(os.lstat(path).st_mode),
    "statvfs": lambda path: os.statvfs(path).f_namemax,
    "listdir": lambda path: sorted(os.listdir(path)) if path else errno.ENOENT,
    "chdir": lambda path: (os.chdir(path), os.fchdir(_HERE[0]))[0],
    "getxattr": lambda path: os.getxattr(path, "user.none"),
    "setxattr": lambda path: os.setxattr(path, "user.some", b"x", follow_symlinks=False),
    "removexattr": lambda path: os.removexattr(path, "user.none"),
    "listxattr": lambda path: os.listxattr(path),
}
_HERE: list[int] = []


def _call_on_everything(call: Callable[[str], object]) -> Observation:
    _objects()
    _HERE[:] = [os.open(".", os.O_RDONLY)]
    found: Observation = {}
    for path in SITUATIONS:
        words = path if len(path) < 40 else f"{path[:10]}... of {len(path)}"
        found[words] = outcome(call, path)
        if path in ("full", "empty") and not os.path.lexists(path):
            os.mkdir(path)
        if not os.path.lexists("source"):
            put("source")
        if not os.path.lexists("empty"):
            os.mkdir("empty")
    found["left"] = {name: look(name) for name in sorted(os.listdir()) if not name[4:].isdigit()}
    return found


for _name, _call in CALLS.items():
    register(f"{_name}_of_everything", functools.partial(_call_on_everything, _call))
