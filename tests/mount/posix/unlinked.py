"""What was removed while it is open: files, directories, fifos; and what is made under its name then."""

import os
import stat

from tests.mount.posix.cases import case
from tests.mount.posix.observation import Observation, content, described, look, opened, outcome, put


@case
def unlinked_files_live_on() -> Observation:
    put("f", b"before")
    fd = os.open("f", os.O_RDWR)
    found: Observation = {"unlink": outcome(os.unlink, "f"), "gone": look("f")}
    found["read"] = os.pread(fd, 100, 0)
    found["write"] = os.pwrite(fd, b" after", 6)
    found["then"] = (os.pread(fd, 100, 0), described(os.fstat(fd)))
    found["truncate"] = (outcome(os.ftruncate, fd, 3), os.pread(fd, 100, 0), described(os.fstat(fd)))
    found["chmod"] = (outcome(os.fchmod, fd, 0o640), described(os.fstat(fd)))
    found["chown"] = outcome(os.fchown, fd, os.getuid(), os.getgid())
    found["utime"] = (outcome(os.utime, fd, ns=(10**9, 2 * 10**9)), os.fstat(fd).st_mtime_ns)
    found["fsync"] = (outcome(os.fsync, fd), outcome(os.fdatasync, fd))
    found["xattr"] = (outcome(os.setxattr, fd, "user.x", b"1"), outcome(os.getxattr, fd, "user.x"))
    found["listxattr"] = outcome(os.listxattr, fd)
    put("f", b"another of that name")
    found["other"] = (os.pread(fd, 100, 0), content("f"), os.fstat(fd).st_nlink, os.stat("f").st_nlink)
    found["access"] = outcome(os.access, f"/proc/self/fd/{fd}", os.W_OK)
    return found


@case
def unlinked_files_are_opened_again_through_proc() -> Observation:
    put("f", b"before")
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    path = f"/proc/self/fd/{fd}"
    found: Observation = {"read": outcome(content, path)}
    found["write"] = opened(path, os.O_WRONLY)
    found["stat"] = outcome(lambda: described(os.stat(path)))
    found["truncate"] = (outcome(os.truncate, path, 2), os.fstat(fd).st_size)
    found["creat"] = (opened(path, os.O_CREAT | os.O_TRUNC | os.O_RDWR), os.fstat(fd).st_size)
    found["chmod"] = (outcome(os.chmod, path, 0o600), oct(os.fstat(fd).st_mode))
    return found


@case
def removed_files_behind_path_descriptors() -> Observation:
    put("f", b"content")
    os.mkfifo("p")
    os.symlink("target", "l")
    found: Observation = {}
    for name in ("f", "p", "l"):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW)
        os.unlink(name)
        found[name] = outcome(lambda fd=fd: described(os.fstat(fd)))
        if name == "l":
            found["readlink"] = outcome(os.readlink, b"", dir_fd=fd)
        else:
            found[f"chmod {name}"] = outcome(os.chmod, f"/proc/self/fd/{fd}", 0o600)
            found[f"open {name}"] = opened(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK)
    return found


@case
def replaced_files_behind_descriptors() -> Observation:
    put("f", b"content")
    os.mkfifo("p")
    file, fifo = os.open("f", os.O_RDONLY), os.open("p", os.O_RDWR)
    path = os.open("f", os.O_PATH)
    put("new1")
    put("new2")
    os.rename("new1", "f")
    os.rename("new2", "p")
    found: Observation = {}
    for words, fd in (("file", file), ("fifo", fifo), ("path", path)):
        found[words] = outcome(lambda fd=fd: described(os.fstat(fd)))
        found[f"chmod {words}"] = outcome(os.chmod, f"/proc/self/fd/{fd}", 0o600)
    return found


@case
def removed_directories() -> Observation:
    os.makedirs("d")
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("d")
    os.rmdir("../d")
    found: Observation = {
        "stat": outcome(lambda: described(os.fstat(fd))),
        "stat .": outcome(lambda: described(os.stat("."))),
        "listdir": outcome(os.listdir, fd),
        "listdir .": outcome(os.listdir, "."),
        "creat": opened("f", os.O_CREAT | os.O_WRONLY),
        "mkdir": outcome(os.mkdir, "e"),
        "symlink": outcome(os.symlink, "x", "l"),
        "mknod": outcome(os.mknod, "n", stat.S_IFREG | 0o600),
        "lookup": look("f"),
        "unlink": outcome(os.unlink, "f"),
        "open": opened(".", os.O_RDONLY),
        "fsync": outcome(os.fsync, fd),
        "fchmod": outcome(os.fchmod, fd, 0o700),
        "mode": oct(os.fstat(fd).st_mode),
        "utime": outcome(os.utime, fd, ns=(1, 2)),
        "getcwd": outcome(os.getcwd),
        "xattr": outcome(os.setxattr, fd, "user.x", b"1"),
        "rmdir again": outcome(os.rmdir, "."),
    }
    put("../f")
    found["link into it"] = outcome(os.link, "../f", "g", dst_dir_fd=fd)
    found["rename into it"] = outcome(os.rename, "../f", "g", dst_dir_fd=fd)
    return found


@case
def a_directory_that_is_replaced_by_another() -> Observation:
    os.mkdir("a")
    os.mkdir("b")
    put("b/f", b"x")
    old, new = os.open("a", os.O_RDONLY), os.open("b", os.O_RDONLY)
    os.rename("b", "a")
    found: Observation = {
        "old": outcome(os.listdir, old),
        "new": outcome(os.listdir, new),
        "links": [outcome(lambda fd=fd: os.fstat(fd).st_nlink) for fd in (old, new)],
        "creat in the old one": outcome(os.open, "g", os.O_CREAT | os.O_WRONLY, dir_fd=old),
    }
    os.close(os.open("g", os.O_CREAT | os.O_WRONLY, dir_fd=new))
    found["creat in the new one"] = sorted(os.listdir("a"))
    return found


@case
def a_directory_made_again_under_the_same_name() -> Observation:
    found: Observation = {}
    for turn in range(5):
        os.mkdir("d")
        put("d/f", b"%d" % turn)
        found[str(turn)] = (os.listdir("d"), content("d/f"), look("d"))
        os.unlink("d/f")
        os.rmdir("d")
        put("d", b"a file")
        found[f"{turn}, a file"] = content("d")
        os.unlink("d")
    return found


@case
def removed_files_that_had_other_links() -> Observation:
    put("f", b"x")
    os.link("f", "g")
    fd, path = os.open("f", os.O_RDWR), os.open("f", os.O_PATH)
    os.unlink("f")
    found: Observation = {"one left": (described(os.fstat(fd)), described(os.fstat(path)))}
    os.write(fd, b"yy")
    found["other"] = content("g")
    os.chmod(f"/proc/self/fd/{path}", 0o640)
    found["mode"] = look("g")
    os.rename("g", "h")
    found["renamed"] = (described(os.fstat(fd)), content("h"))
    os.unlink("h")
    found["none left"] = (described(os.fstat(fd)), os.pread(fd, 10, 0))
    return found
