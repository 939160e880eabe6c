/*
 * What the kernel's FUSE can do and pyfuse3 cannot ask for: passthrough, opens without FLUSH, listings that
 * the kernel keeps, lookups in one directory side by side, shared mappings of files that are not cached, and
 * writes before which it does not ask for capabilities (see privileges.py), and new files whose mode the kernel
 * leaves as it was asked for: the umask does not count everywhere. It also tells which inode a request is about
 * where pyfuse3 does not (statfs).
 *
 * pyfuse3 calls libfuse through the dynamic linker. This module is loaded before it, into the global
 * scope, and defines three of the functions that it calls; each does its own part and then reaches the
 * original. Nothing else of libfuse or pyfuse3 is touched. Where the kernel or the privilege is lacking,
 * the originals do all the work.
 *
 * A handler says what it wants of an open in the upper half of the file handle that it returns:
 * bits 32 to 59 a backing id (0: none), bit 60 that a listing is to be kept, bit 61 that one that is kept is
 * still good, bit 62 that FLUSH is not needed. The kernel gets the lower half.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define FUSE_USE_VERSION 34
#include <dlfcn.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The protocol, as of Linux 6.9 (include/uapi/linux/fuse.h); older headers lack the last fields. */
struct in_header {
    uint32_t len, opcode;
    uint64_t unique, nodeid;
    uint32_t uid, gid, pid;
    uint16_t total_extlen, padding;
};
struct init_in {
    uint32_t major, minor, max_readahead, flags, flags2, unused[11];
};
struct out_header {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};
struct init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, max_stack_depth;
    uint32_t unused[6];
};
struct attr {
    uint64_t ino, size, blocks, atime, mtime, ctime;
    uint32_t atimensec, mtimensec, ctimensec, mode, nlink, uid, gid, rdev, blksize, flags;
};
struct entry_out {
    uint64_t nodeid, generation, entry_valid, attr_valid;
    uint32_t entry_valid_nsec, attr_valid_nsec;
    struct attr attr;
};
struct open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};
struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};

enum { OPCODE_INIT = 26, REPLY_BYTES = 4096 };
enum { INIT_EXT = 1u << 30, HANDLE_KILLPRIV_V2 = 1u << 28, PARALLEL_DIROPS = 1u << 18, DONT_MASK = 1u << 6 };
enum { DIRECT_IO_ALLOW_MMAP2 = 1u << 4, PASSTHROUGH2 = 1u << 5 };
enum { DIRECT_IO = 1 << 0, KEEP_CACHE = 1 << 1, CACHE_DIR = 1 << 3, NOFLUSH = 1 << 5, PASSTHROUGH = 1 << 7 };
#define WANTS_NO_FLUSH (1ULL << 62)
#define LISTING_IS_GOOD (1ULL << 61)
#define KEEPS_LISTING (1ULL << 60)
#define BACKING_ID(handle) ((int32_t)(((handle) & (KEEPS_LISTING - 1)) >> 32))
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

static int fuse_fd = -1;
static int wanted = 1;
static int negotiated = 0;
static uint64_t node = 0;

/* Lets the original answer INIT into a socket, adds what the kernel offers and csfs uses, sends it. */
static void answer_init(struct fuse_session *session, const struct fuse_buf *buffer,
                        void (*original)(struct fuse_session *, const struct fuse_buf *)) {
    const struct in_header *in = buffer->mem;
    const struct init_in *offer = (const void *)(in + 1);
    union {
        struct {
            struct out_header header;
            struct init_out init;
        } out;
        char bytes[REPLY_BYTES];
    } reply = {0};
    int fd = fuse_session_fd(session), pair[2];
    int device = dup(fd);

    if (device < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0) {
        if (device >= 0)
            close(device);
        original(session, buffer);
        return;
    }
    dup2(pair[0], fd);
    original(session, buffer);
    ssize_t length = recv(pair[1], reply.bytes, sizeof reply.bytes, MSG_DONTWAIT);
    dup2(device, fd);
    close(device);
    close(pair[0]);
    close(pair[1]);
    if (length < (ssize_t)sizeof reply.out.header)
        return;
    if (reply.out.header.error == 0) {
        int extended = (offer->flags & INIT_EXT) && in->len >= sizeof *in + 5 * sizeof(uint32_t);
        reply.out.init.flags |= offer->flags & (PARALLEL_DIROPS | HANDLE_KILLPRIV_V2 | DONT_MASK);
        if (extended) {
            reply.out.init.flags |= INIT_EXT;
            reply.out.init.flags2 |= offer->flags2 & DIRECT_IO_ALLOW_MMAP2;
            length = reply.out.header.len = sizeof reply.out;
        }
        if (wanted && extended && (offer->flags2 & PASSTHROUGH2)) {
            reply.out.init.flags2 |= PASSTHROUGH2;
            reply.out.init.max_stack_depth = 1;
            negotiated = 1;
        }
    }
    if (write(fd, reply.bytes, length) == length)
        fuse_fd = fd;
}

void fuse_session_process_buf(struct fuse_session *session, const struct fuse_buf *buffer) {
    static __typeof__(&fuse_session_process_buf) original;
    if (!original)
        original = (__typeof__(original))dlsym(RTLD_NEXT, "fuse_session_process_buf");
    const struct in_header *in = buffer->mem;
    node = buffer->flags & FUSE_BUF_IS_FD ? 0 : in->nodeid;
    if (fuse_fd < 0 && !(buffer->flags & FUSE_BUF_IS_FD) && in->opcode == OPCODE_INIT)
        answer_init(session, buffer, original);
    else
        original(session, buffer);
}

static struct open_out opened(const struct fuse_file_info *info) {
    struct open_out out = {.fh = (uint32_t)info->fh};
    out.backing_id = BACKING_ID(info->fh);
    out.open_flags = (out.backing_id ? PASSTHROUGH : 0) | (info->fh & WANTS_NO_FLUSH ? NOFLUSH : 0) |
                     (info->direct_io ? DIRECT_IO : 0) | (info->keep_cache ? KEEP_CACHE : 0) |
                     (info->fh & KEEPS_LISTING ? CACHE_DIR : 0) |
                     (info->fh & LISTING_IS_GOOD ? KEEP_CACHE : 0);
    return out;
}

int fuse_reply_open(fuse_req_t request, const struct fuse_file_info *info) {
    static __typeof__(&fuse_reply_open) original;
    if (!original)
        original = (__typeof__(original))dlsym(RTLD_NEXT, "fuse_reply_open");
    if (!(info->fh >> 32))
        return original(request, info);
    struct open_out out = opened(info);
    return fuse_reply_buf(request, (const char *)&out, sizeof out);
}

static void set_timeout(double seconds, uint64_t *whole, uint32_t *nanoseconds) {
    double floor_seconds = floor(seconds);
    *whole = (uint64_t)floor_seconds;
    *nanoseconds = (uint32_t)((seconds - floor_seconds) * 1e9);
}

int fuse_reply_create(fuse_req_t request, const struct fuse_entry_param *entry,
                      const struct fuse_file_info *info) {
    static __typeof__(&fuse_reply_create) original;
    if (!original)
        original = (__typeof__(original))dlsym(RTLD_NEXT, "fuse_reply_create");
    if (!(info->fh >> 32))
        return original(request, entry, info);
    struct {
        struct entry_out entry;
        struct open_out open;
    } out = {.open = opened(info)};
    const struct stat *stat = &entry->attr;
    out.entry.nodeid = entry->ino;
    out.entry.generation = entry->generation;
    set_timeout(entry->entry_timeout, &out.entry.entry_valid, &out.entry.entry_valid_nsec);
    set_timeout(entry->attr_timeout, &out.entry.attr_valid, &out.entry.attr_valid_nsec);
    out.entry.attr = (struct attr){
        .ino = stat->st_ino,
        .size = (uint64_t)stat->st_size,
        .blocks = (uint64_t)stat->st_blocks,
        .atime = (uint64_t)stat->st_atim.tv_sec,
        .mtime = (uint64_t)stat->st_mtim.tv_sec,
        .ctime = (uint64_t)stat->st_ctim.tv_sec,
        .atimensec = (uint32_t)stat->st_atim.tv_nsec,
        .mtimensec = (uint32_t)stat->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)stat->st_ctim.tv_nsec,
        .mode = stat->st_mode,
        .nlink = (uint32_t)stat->st_nlink,
        .uid = stat->st_uid,
        .gid = stat->st_gid,
        .rdev = (uint32_t)stat->st_rdev,
        .blksize = (uint32_t)stat->st_blksize,
    };
    return fuse_reply_buf(request, (const char *)&out, sizeof out);
}

static PyObject *py_want(PyObject *self, PyObject *argument) {
    (void)self;
    int truth = PyObject_IsTrue(argument);
    if (truth < 0)
        return NULL;
    wanted = truth;
    Py_RETURN_NONE;
}

static PyObject *py_in_use(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyBool_FromLong(fuse_fd >= 0);
}

static PyObject *py_negotiated(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyBool_FromLong(negotiated);
}

static PyObject *py_register(PyObject *self, PyObject *argument) {
    (void)self;
    struct backing_map map = {.fd = (int32_t)PyLong_AsLong(argument)};
    if (PyErr_Occurred())
        return NULL;
    int id = ioctl(fuse_fd, BACKING_OPEN, &map);
    if (id < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(id);
}

static PyObject *py_unregister(PyObject *self, PyObject *argument) {
    (void)self;
    uint32_t id = (uint32_t)PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred())
        return NULL;
    if (ioctl(fuse_fd, BACKING_CLOSE, &id) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *py_node(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    return PyLong_FromUnsignedLongLong(node);
}

static PyMethodDef methods[] = {
    {"want_passthrough", py_want, METH_O, "Whether to ask for passthrough at INIT."},
    {"in_use", py_in_use, METH_NOARGS, "Whether this module has seen INIT: its functions are called."},
    {"negotiated", py_negotiated, METH_NOARGS, "Whether the kernel agreed to passthrough."},
    {"register", py_register, METH_O, "A backing id for an open file. Raises OSError."},
    {"unregister", py_unregister, METH_O, "Gives a backing id back. Raises OSError."},
    {"node", py_node, METH_NOARGS, "The inode that the last request is about; 0 if that is not known."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_kernel", "FUSE features beyond pyfuse3.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__kernel(void) {
    return PyModule_Create(&module);
}
