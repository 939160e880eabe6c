/*
 * Preloaded into a daemon: counts every call that changes a file or a directory, over all threads, and on
 * demand kills the process before or after one of them, or makes some fail. Calls that only read may be made
 * to fail as well; they are not counted.
 *
 * A test and the daemon share `struct control` through a file (see control.py, which has the same layout).
 * Calls on anything but regular files and directories are not counted (the FUSE device, pipes), nor are
 * those on standard output and error, where the log goes.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

enum kind {
    OPEN = 1, WRITE, TRUNCATE, ALLOCATE, SYNC, RENAME, LINK, UNLINK, RMDIR, MKDIR, MKNOD, SYMLINK, CHMOD, CHOWN,
    UTIME, XATTR,
    LOOK, READ, STAT, LIST /* these change nothing */
};
enum { ENTRIES = 8192, PATH_BYTES = 252, WITHIN_BYTES = 256 };

struct entry {
    uint32_t kind;
    char path[PATH_BYTES]; /* its end, if it is longer */
};

struct control {
    atomic_uint armed;
    atomic_uint count;      /* calls so far */
    uint32_t kill_at;       /* the number of the call, from 1; 0: none */
    uint32_t kill_after;    /* 0: before it, 1: after it */
    uint32_t fail_kinds;    /* bits 1 << kind */
    uint32_t fail_errno;    /* 0: none fails */
    uint32_t fail_at;       /* the number among those that may fail, from 1 */
    uint32_t fail_always;   /* 1: all from there on */
    atomic_uint matched;    /* calls so far that may fail */
    char within[WITHIN_BYTES]; /* only calls on paths that begin so may fail */
    struct entry entries[ENTRIES];
};

static struct control *control;

__attribute__((constructor)) static void begin(void)
{
    /* What the process starts is none of ours. */
    unsetenv("LD_PRELOAD");
}

/* Called by a process of its own accord, after a fork for instance. Returns 0, or an errno. */
int interpose_by(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return errno;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int code = found == MAP_FAILED ? errno : 0;
    close(fd);
    if (code == 0)
        control = found;
    return code;
}

struct step {
    uint32_t number; /* 0: not counted */
    int error;
};

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

/* The path of a descriptor, with a name below it. */
static void path_of(int fd, const char *name, char *path)
{
    char link[64];
    ssize_t length = 0;
    int above;
    int read_chars = 0;
    if (name && sscanf(name, "/proc/self/fd/%d%n", &above, &read_chars) == 1) {
        fd = above;
        name += read_chars;
        name += *name == '/';
    }
    if ((!name || *name != '/') && fd != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, PATH_MAX - 1);
        if (length < 0)
            length = 0;
    }
    path[length] = 0;
    if (name && *name)
        snprintf(path + length, PATH_MAX - length, "%s%s", length ? "/" : "", name);
}

/* Whether a call is one of those that are to fail; its errno. */
static int failing(enum kind kind, const char *path)
{
    if (!control->fail_errno || !(control->fail_kinds & 1u << kind) ||
        strncmp(path, control->within, strlen(control->within)) != 0)
        return 0;
    uint32_t matched = atomic_fetch_add(&control->matched, 1) + 1;
    int meant = matched == control->fail_at || (control->fail_always && matched > control->fail_at);
    return meant ? (int)control->fail_errno : 0;
}

static struct step counted(enum kind kind, int fd, const char *name)
{
    struct step step = {0, 0};
    char path[PATH_MAX + 2];
    path_of(fd, name, path);
    step.number = atomic_fetch_add(&control->count, 1) + 1;
    struct entry *entry = &control->entries[(step.number - 1) % ENTRIES];
    size_t length = strlen(path);
    const char *end = length < PATH_BYTES ? path : path + length - PATH_BYTES + 1;
    entry->kind = kind;
    strncpy(entry->path, end, PATH_BYTES - 1);
    entry->path[PATH_BYTES - 1] = 0;
    if (step.number == control->kill_at && !control->kill_after)
        die();
    step.error = failing(kind, path);
    return step;
}

static struct step at_name(enum kind kind, int fd, const char *name)
{
    struct step none = {0, 0};
    return control && control->armed ? counted(kind, fd, name) : none;
}

static struct step at_fd(enum kind kind, int fd)
{
    struct step none = {0, 0};
    struct stat found;
    if (!control || !control->armed || fd == STDOUT_FILENO || fd == STDERR_FILENO || fstat(fd, &found) != 0 ||
        !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode)))
        return none;
    return counted(kind, fd, NULL);
}

static int reads(enum kind kind)
{
    return control && control->armed && control->fail_kinds & 1u << kind;
}

/* A call that reads: it fails, or is none of ours. */
static struct step reading(enum kind kind, int fd, const char *name)
{
    struct step step = {0, 0};
    char path[PATH_MAX + 2];
    if (reads(kind)) {
        path_of(fd, name, path);
        step.error = failing(kind, path);
    }
    return step;
}

static void done(struct step step)
{
    if (step.number && step.number == control->kill_at && control->kill_after)
        die();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define AROUND(step_, call)                 \
    do {                                    \
        struct step step = step_;           \
        if (step.error) {                   \
            errno = step.error;             \
            return -1;                      \
        }                                   \
        __typeof__(call) result = call;     \
        int code = errno;                   \
        done(step);                         \
        errno = code;                       \
        return result;                      \
    } while (0)

static int makes(int flags)
{
    return flags & (O_CREAT | O_TRUNC) || (flags & O_TMPFILE) == O_TMPFILE;
}

#define OPENS(name)                                                     \
    int name(const char *path, int flags, ...)                          \
    {                                                                   \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                   \
        if (!makes(flags))                                              \
            AROUND(reading(LOOK, AT_FDCWD, path), REAL(name)(path, flags, mode)); \
        AROUND(at_name(OPEN, AT_FDCWD, path), REAL(name)(path, flags, mode)); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                                  \
    int name(int at, const char *path, int flags, ...)                  \
    {                                                                   \
        va_list more;                                                   \
        va_start(more, flags);                                          \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                   \
        if (!makes(flags))                                              \
            AROUND(reading(LOOK, at, path), REAL(name)(at, path, flags, mode)); \
        AROUND(at_name(OPEN, at, path), REAL(name)(at, path, flags, mode)); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define WRAP(type, name, parameters, step, arguments) \
    type name parameters { AROUND(step, REAL(name) arguments); }

WRAP(int, creat, (const char *path, mode_t mode), at_name(OPEN, AT_FDCWD, path), (path, mode))

WRAP(ssize_t, write, (int fd, const void *from, size_t n), at_fd(WRITE, fd), (fd, from, n))
WRAP(ssize_t, writev, (int fd, const struct iovec *from, int n), at_fd(WRITE, fd), (fd, from, n))
WRAP(ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), at_fd(WRITE, fd), (fd, from, n, at))
WRAP(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), at_fd(WRITE, fd), (fd, from, n, at))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *from, int n, off_t at), at_fd(WRITE, fd), (fd, from, n, at))
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *from, int n, off64_t at), at_fd(WRITE, fd),
     (fd, from, n, at))
WRAP(ssize_t, pwritev2, (int fd, const struct iovec *from, int n, off_t at, int flags), at_fd(WRITE, fd),
     (fd, from, n, at, flags))
WRAP(ssize_t, pwritev64v2, (int fd, const struct iovec *from, int n, off64_t at, int flags), at_fd(WRITE, fd),
     (fd, from, n, at, flags))
WRAP(ssize_t, copy_file_range,
     (int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags), at_fd(WRITE, to),
     (from, from_at, to, to_at, n, flags))
WRAP(ssize_t, sendfile, (int to, int from, off_t *at, size_t n), at_fd(WRITE, to), (to, from, at, n))
WRAP(ssize_t, sendfile64, (int to, int from, off64_t *at, size_t n), at_fd(WRITE, to), (to, from, at, n))
WRAP(ssize_t, splice, (int from, off64_t *from_at, int to, off64_t *to_at, size_t n, unsigned flags),
     at_fd(WRITE, to), (from, from_at, to, to_at, n, flags))

WRAP(int, truncate, (const char *path, off_t size), at_name(TRUNCATE, AT_FDCWD, path), (path, size))
WRAP(int, truncate64, (const char *path, off64_t size), at_name(TRUNCATE, AT_FDCWD, path), (path, size))
WRAP(int, ftruncate, (int fd, off_t size), at_fd(TRUNCATE, fd), (fd, size))
WRAP(int, ftruncate64, (int fd, off64_t size), at_fd(TRUNCATE, fd), (fd, size))
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t n), at_fd(ALLOCATE, fd), (fd, mode, at, n))
WRAP(int, fallocate64, (int fd, int mode, off64_t at, off64_t n), at_fd(ALLOCATE, fd), (fd, mode, at, n))

/* These two return the errno. */
int posix_fallocate(int fd, off_t at, off_t n)
{
    struct step step = at_fd(ALLOCATE, fd);
    int result = step.error ? step.error : REAL(posix_fallocate)(fd, at, n);
    done(step);
    return result;
}
int posix_fallocate64(int fd, off64_t at, off64_t n)
{
    struct step step = at_fd(ALLOCATE, fd);
    int result = step.error ? step.error : REAL(posix_fallocate64)(fd, at, n);
    done(step);
    return result;
}

WRAP(int, fsync, (int fd), at_fd(SYNC, fd), (fd))
WRAP(int, fdatasync, (int fd), at_fd(SYNC, fd), (fd))
WRAP(int, syncfs, (int fd), at_fd(SYNC, fd), (fd))
WRAP(int, sync_file_range, (int fd, off64_t at, off64_t n, unsigned flags), at_fd(SYNC, fd), (fd, at, n, flags))
WRAP(int, msync, (void *at, size_t n, int flags), at_name(SYNC, AT_FDCWD, "(mapped)"), (at, n, flags))

WRAP(int, rename, (const char *old, const char *new), at_name(RENAME, AT_FDCWD, new), (old, new))
WRAP(int, renameat, (int from, const char *old, int to, const char *new), at_name(RENAME, to, new),
     (from, old, to, new))
WRAP(int, renameat2, (int from, const char *old, int to, const char *new, unsigned flags),
     at_name(RENAME, to, new), (from, old, to, new, flags))
WRAP(int, link, (const char *old, const char *new), at_name(LINK, AT_FDCWD, new), (old, new))
WRAP(int, linkat, (int from, const char *old, int to, const char *new, int flags), at_name(LINK, to, new),
     (from, old, to, new, flags))
WRAP(int, unlink, (const char *path), at_name(UNLINK, AT_FDCWD, path), (path))
WRAP(int, unlinkat, (int at, const char *name, int flags),
     at_name(flags & AT_REMOVEDIR ? RMDIR : UNLINK, at, name), (at, name, flags))
WRAP(int, rmdir, (const char *path), at_name(RMDIR, AT_FDCWD, path), (path))
WRAP(int, mkdir, (const char *path, mode_t mode), at_name(MKDIR, AT_FDCWD, path), (path, mode))
WRAP(int, mkdirat, (int at, const char *name, mode_t mode), at_name(MKDIR, at, name), (at, name, mode))
WRAP(int, mknod, (const char *path, mode_t mode, dev_t device), at_name(MKNOD, AT_FDCWD, path),
     (path, mode, device))
WRAP(int, mknodat, (int at, const char *name, mode_t mode, dev_t device), at_name(MKNOD, at, name),
     (at, name, mode, device))
WRAP(int, symlink, (const char *target, const char *path), at_name(SYMLINK, AT_FDCWD, path), (target, path))
WRAP(int, symlinkat, (const char *target, int at, const char *name), at_name(SYMLINK, at, name),
     (target, at, name))

WRAP(int, chmod, (const char *path, mode_t mode), at_name(CHMOD, AT_FDCWD, path), (path, mode))
WRAP(int, fchmod, (int fd, mode_t mode), at_fd(CHMOD, fd), (fd, mode))
WRAP(int, fchmodat, (int at, const char *name, mode_t mode, int flags), at_name(CHMOD, at, name),
     (at, name, mode, flags))
WRAP(int, chown, (const char *path, uid_t uid, gid_t gid), at_name(CHOWN, AT_FDCWD, path), (path, uid, gid))
WRAP(int, lchown, (const char *path, uid_t uid, gid_t gid), at_name(CHOWN, AT_FDCWD, path), (path, uid, gid))
WRAP(int, fchown, (int fd, uid_t uid, gid_t gid), at_fd(CHOWN, fd), (fd, uid, gid))
WRAP(int, fchownat, (int at, const char *name, uid_t uid, gid_t gid, int flags), at_name(CHOWN, at, name),
     (at, name, uid, gid, flags))
WRAP(int, utimensat, (int at, const char *name, const struct timespec times[2], int flags),
     at_name(UTIME, at, name), (at, name, times, flags))
WRAP(int, futimens, (int fd, const struct timespec times[2]), at_fd(UTIME, fd), (fd, times))

WRAP(int, setxattr, (const char *path, const char *name, const void *from, size_t n, int flags),
     at_name(XATTR, AT_FDCWD, path), (path, name, from, n, flags))
WRAP(int, lsetxattr, (const char *path, const char *name, const void *from, size_t n, int flags),
     at_name(XATTR, AT_FDCWD, path), (path, name, from, n, flags))
WRAP(int, fsetxattr, (int fd, const char *name, const void *from, size_t n, int flags), at_fd(XATTR, fd),
     (fd, name, from, n, flags))
WRAP(int, removexattr, (const char *path, const char *name), at_name(XATTR, AT_FDCWD, path), (path, name))
WRAP(int, lremovexattr, (const char *path, const char *name), at_name(XATTR, AT_FDCWD, path), (path, name))
WRAP(int, fremovexattr, (int fd, const char *name), at_fd(XATTR, fd), (fd, name))

WRAP(ssize_t, read, (int fd, void *to, size_t n), reading(READ, fd, NULL), (fd, to, n))
WRAP(ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), reading(READ, fd, NULL), (fd, to, n, at))
WRAP(int, stat64, (const char *path, struct stat64 *to), reading(STAT, AT_FDCWD, path), (path, to))
WRAP(int, lstat64, (const char *path, struct stat64 *to), reading(STAT, AT_FDCWD, path), (path, to))
WRAP(int, fstat64, (int fd, struct stat64 *to), reading(STAT, fd, NULL), (fd, to))
WRAP(int, fstatat64, (int at, const char *name, struct stat64 *to, int flags), reading(STAT, at, name),
     (at, name, to, flags))

/* These say that they failed by a null pointer. */
DIR *fdopendir(int fd)
{
    struct step step = reading(LIST, fd, NULL);
    errno = step.error;
    return step.error ? NULL : REAL(fdopendir)(fd);
}
struct dirent64 *readdir64(DIR *directory)
{
    struct step step = reading(LIST, reads(LIST) ? dirfd(directory) : -1, NULL);
    if (step.error) {
        errno = step.error;
        return NULL;
    }
    return REAL(readdir64)(directory);
}
