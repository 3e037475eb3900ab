/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* FUSE by hand: enough of it to open one file, and to read and write it. */
#include "stuck.h"

#include <err.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "holder.h"

#define FILE_NODE 2U
#define FILE_SIZE (BENCH_REGION(BENCH_CONFIG) + BENCH_CONFIG_SIZE)

static char request[FUSE_MIN_READ_BUFFER * 16];

static void answer(int fd, uint64_t unique, int error, const void *data, size_t size) {
        struct fuse_out_header out = { .len = (uint32_t) (sizeof(out) + size), .error = error, .unique = unique };
        struct iovec v[] = { { &out, sizeof(out) }, { (void *) (uintptr_t) data, size } };

        if (writev(fd, v, 2) < 0 && errno != ENOENT)
                err(1, "write /dev/fuse");
}

static struct fuse_attr attr_of(uint64_t node) {
        return (struct fuse_attr) {
                .ino = node,
                .mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666,
                .size = node == FUSE_ROOT_ID ? 0 : FILE_SIZE,
                .nlink = 1,
                .blksize = 4096,
        };
}

static void serve_read(int fd, int memory, const struct fuse_in_header *in) {
        const struct fuse_read_in *read_in = (const struct fuse_read_in *) (in + 1);
        static char data[64 * 1024];
        ssize_t n;

        if (read_in->offset == BENCH_REGION(0) + STUCK_OFFSET)
                return;
        n = pread(memory, data, read_in->size < sizeof(data) ? read_in->size : sizeof(data), (off_t) read_in->offset);
        answer(fd, in->unique, n < 0 ? -errno : 0, data, n < 0 ? 0 : (size_t) n);
}

static void serve_write(int fd, int memory, const struct fuse_in_header *in) {
        const struct fuse_write_in *write_in = (const struct fuse_write_in *) (in + 1);
        ssize_t n = pwrite(memory, write_in + 1, write_in->size, (off_t) write_in->offset);
        struct fuse_write_out out = { .size = n < 0 ? 0 : (uint32_t) n };

        answer(fd, in->unique, n < 0 ? -errno : 0, &out, n < 0 ? 0 : sizeof(out));
}

static void serve_one(int fd, int memory) {
        const struct fuse_in_header *in = (const struct fuse_in_header *) request;
        ssize_t n = read(fd, request, sizeof(request));

        if (n < 0 && errno == ENODEV)
                _exit(0);
        if (n < (ssize_t) sizeof(*in))
                return;
        switch (in->opcode) {
        case FUSE_INIT: {
                struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096 };

                answer(fd, in->unique, 0, &out, sizeof(out));
                return;
        }
        case FUSE_LOOKUP: {
                struct fuse_entry_out out = { .nodeid = FILE_NODE, .generation = 1, .entry_valid = 1000, .attr_valid = 1000, .attr = attr_of(FILE_NODE) };

                answer(fd, in->unique, 0, &out, sizeof(out));
                return;
        }
        case FUSE_GETATTR: {
                struct fuse_attr_out out = { .attr_valid = 1000, .attr = attr_of(in->nodeid) };

                answer(fd, in->unique, 0, &out, sizeof(out));
                return;
        }
        case FUSE_OPEN: {
                struct fuse_open_out out = { .fh = 1, .open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH };

                answer(fd, in->unique, 0, &out, sizeof(out));
                return;
        }
        case FUSE_READ:
                serve_read(fd, memory, in);
                return;
        case FUSE_WRITE:
                serve_write(fd, memory, in);
                return;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
        case FUSE_INTERRUPT:
                return;
        default:
                answer(fd, in->unique, in->opcode == FUSE_RELEASE ? 0 : -ENOSYS, NULL, 0);
                return;
        }
}

int stuck_start(struct stuck_device *s) {
        _cleanup_close_ int fuse = -EBADF;
        char options[128], path[96];
        int r = 0;

        *s = (struct stuck_device){ .fd = -EBADF, .memory = -EBADF };
        fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fuse < 0 || unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;
        strcpy(s->folder, "/tmp/tdid-bench-fuse-XXXXXX");
        if (!mkdtemp(s->folder))
                return -errno;
        snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", fuse, getuid(), getgid());
        if (mount("tdid-bench", s->folder, "fuse.tdid-bench", MS_NOSUID | MS_NODEV, options) < 0) {
                r = -errno;
                (void) rmdir(s->folder);
                return r;
        }
        s->memory = bench_memory_device();
        s->pid = fork();
        if (s->pid < 0)
                err(1, "fork");
        if (s->pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;)
                        serve_one(fuse, s->memory);
        }
        snprintf(path, sizeof(path), "%s/device", s->folder);
        s->fd = open(path, O_RDWR | O_CLOEXEC);
        if (s->fd < 0)
                err(1, "%s", path);
        return 0;
}

void stuck_end(struct stuck_device *s) {
        (void) kill(s->pid, SIGKILL);
        (void) waitpid(s->pid, NULL, 0);
        s->fd = close_fd(s->fd);
        s->memory = close_fd(s->memory);
        (void) umount2(s->folder, MNT_DETACH);
        (void) rmdir(s->folder);
}
