/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A file that never answers: a FUSE file system whose server opens one file and then goes silent.
 *
 *      fuse_hang FOLDER
 *
 * Mounts itself on FOLDER, opens FOLDER/file, and sends that descriptor over standard input, which must be a UNIX socket.
 * From then on stat, read, ioctl and poll of the descriptor hang. Closing it does not: the file is opened with
 * FOPEN_NOFLUSH, because otherwise every process that merely carries the descriptor would hang, the bus first of all.
 * Unmounts and ends when the socket is closed.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char request[FUSE_MIN_READ_BUFFER * 4];

static void answer(int fd, const struct fuse_in_header *in, int error, const void *data, size_t size) {
        char buf[512];
        struct fuse_out_header *out = (struct fuse_out_header *) buf;

        *out = (struct fuse_out_header) { .len = (uint32_t) (sizeof(*out) + size), .error = error, .unique = in->unique };
        if (size > 0)
                memcpy(buf + sizeof(*out), data, size);
        if (write(fd, buf, out->len) < 0 && errno != ENOENT)
                err(1, "write /dev/fuse");
}

static struct fuse_attr attr_of(uint64_t node) {
        return (struct fuse_attr) {
                .ino = node,
                .mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0666,
                .nlink = 1,
                .blksize = 4096,
        };
}

/* Serves what mounting and opening need; returns 1 when the file is open. Attributes are never valid, so stat asks again. */
static int serve(int fd) {
        const struct fuse_in_header *in = (const struct fuse_in_header *) request;
        ssize_t n;

        n = read(fd, request, sizeof(request));
        if (n < (ssize_t) sizeof(*in))
                err(1, "read /dev/fuse");
        switch (in->opcode) {
        case FUSE_INIT: {
                struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION, .max_write = 4096 };

                answer(fd, in, 0, &out, sizeof(out));
                return 0;
        }
        case FUSE_LOOKUP: {
                struct fuse_entry_out out = { .nodeid = 2, .generation = 1, .attr = attr_of(2) };

                answer(fd, in, 0, &out, sizeof(out));
                return 0;
        }
        case FUSE_GETATTR: {
                struct fuse_attr_out out = { .attr = attr_of(in->nodeid) };

                answer(fd, in, 0, &out, sizeof(out));
                return 0;
        }
        case FUSE_OPEN: {
                struct fuse_open_out out = { .fh = 1, .open_flags = FOPEN_DIRECT_IO | FOPEN_NOFLUSH };

                answer(fd, in, 0, &out, sizeof(out));
                return 1;
        }
        default:
                answer(fd, in, -ENOSYS, NULL, 0);
                return 0;
        }
}

static void send_fd(int socket, int fd) {
        char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
        if (sendmsg(socket, &msg, 0) < 0)
                err(1, "send the descriptor");
}

int main(int argc, char **argv) {
        char options[128], path[512];
        struct pollfd gone = { .fd = STDIN_FILENO };
        int fd;
        pid_t child;

        if (argc != 2) {
                fprintf(stderr, "usage: fuse_hang FOLDER <SOCKET\n");
                return 2;
        }
        fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
        if (fd < 0)
                err(1, "/dev/fuse");
        snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
        if (mount("hang", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
                err(1, "mount on %s", argv[1]);
        /* The opener is a process of its own: it would wait for itself otherwise. */
        child = fork();
        if (child < 0)
                err(1, "fork");
        if (child == 0) {
                int file;

                close(fd);
                snprintf(path, sizeof(path), "%s/file", argv[1]);
                file = open(path, O_RDWR | O_CLOEXEC);
                if (file < 0)
                        err(1, "%s", path);
                send_fd(STDIN_FILENO, file);
                _exit(0);
        }
        while (serve(fd) == 0)
                ;
        (void) waitpid(child, NULL, 0);
        while (poll(&gone, 1, -1) < 0 && errno == EINTR)
                ;
        /* Ends whatever still waits for us, with ENOTCONN. */
        close(fd);
        (void) umount2(argv[1], MNT_DETACH);
        return 0;
}
