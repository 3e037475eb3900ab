/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process that maps: it takes lines with commands and answers each with a number, or "-" and the name of an errno. What it opens and maps it
 * keeps, so that it can have something since before a function was taken into custody. The scenarios of the mmap guard drive it.
 *
 *   open NAME r|w|rw|p PATH      reopen NEW r|w|rw|p NAME     dup NEW NAME      pass NEW NAME      close NAME
 *   mmap NAME LENGTH OFFSET      map NAME LENGTH OFFSET (kept)      unmap      read NAME LENGTH OFFSET
 *   watch NAME LENGTH TIME  tries to map it all the time, so many milliseconds; how often that worked
 *   closeall      every descriptor but those that it began with
 *   mem NAME      mknod PATH MAJOR MINOR      legacy NEW GROUP BDF
 *   netns FOLDER  a sysfs of a new network namespace there      pidns FOLDER  a procfs of a new pid namespace there, seen by a child in it
 *   unlink PATH      rmdir PATH      rename PATH PATH      umount PATH
 *   bench LENGTH COUNT NAME|- nanoseconds that a hundred mappings take, each undone at once, in the fastest of so many hundreds
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 5
#define FDS 64
#define BATCH 100
#define PCIIOC_MMAP_IS_MEM ('P' << 24 | 'C' << 16 | 'I' << 8 | 0x02) /* include/uapi/linux/pci.h */

static struct {
        char name[96];
        int fd;
} fds[FDS];

static void *kept;
static size_t kept_size;

static int *slot(const char *name) {
        for (int i = 0; i < FDS; i++)
                if (strcmp(fds[i].name, name) == 0)
                        return &fds[i].fd;
        for (int i = 0; i < FDS; i++)
                if (!fds[i].name[0]) {
                        snprintf(fds[i].name, sizeof(fds[i].name), "%s", name);
                        return &fds[i].fd;
                }
        fprintf(stderr, "mapper: too many descriptors\n");
        exit(2);
}

static int mode(const char *text) {
        return text[0] == 'p' ? O_PATH : strcmp(text, "rw") == 0 ? O_RDWR : text[0] == 'w' ? O_WRONLY : O_RDONLY;
}

/* As another process would get it. */
static int pass(int fd) {
        union {
                struct cmsghdr header;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        int pair[2], got = -1;

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
                return -1;
        control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        if (sendmsg(pair[0], &m, 0) == 1 && recvmsg(pair[1], &m, 0) == 1)
                memcpy(&got, CMSG_DATA(&control.header), sizeof(got));
        close(pair[0]);
        close(pair[1]);
        return got;
}

/* The device by way of its group and a container: no node is behind this descriptor. */
static int legacy(const char *group, const char *bdf) {
        int container = open("/dev/vfio/vfio", O_RDWR), g, fd;
        char path[64];

        snprintf(path, sizeof(path), "/dev/vfio/%.32s", group);
        g = container < 0 ? -1 : open(path, O_RDWR);
        if (g < 0 || ioctl(g, VFIO_GROUP_SET_CONTAINER, &container) < 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
                fd = -1;
        else
                fd = ioctl(g, VFIO_GROUP_GET_DEVICE_FD, bdf);
        if (fd < 0) {
                int e = errno;

                close(g);
                close(container);
                errno = e;
        }
        return fd;
}

static int new_namespace(int flags, const char *type, const char *folder) {
        if (unshare(flags | CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -1;
        if (flags & CLONE_NEWPID) {
                int status;
                pid_t pid;

                fflush(NULL);
                pid = fork();
                if (pid < 0)
                        return -1;
                if (pid > 0) {
                        (void) waitpid(pid, &status, 0);
                        exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
                }
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        }
        return mount(type, folder, type, 0, NULL);
}

/* The fastest of so many batches: the others were interrupted by what else the machine does, and the shorter they are the fewer. */
static long bench(const char *name, size_t length, long count) {
        int fd = strcmp(name, "-") == 0 ? -1 : *slot(name), flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
        long best = -1;

        for (long i = 0; i < count; i++) {
                struct timespec from, to;
                long spent;

                clock_gettime(CLOCK_MONOTONIC, &from);
                for (int k = 0; k < BATCH; k++) {
                        void *p = mmap(NULL, length, PROT_READ, flags, fd, 0);

                        if (p == MAP_FAILED)
                                return -1;
                        (void) munmap(p, length);
                }
                clock_gettime(CLOCK_MONOTONIC, &to);
                spent = (to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec;
                if (best < 0 || spent < best)
                        best = spent;
        }
        return best;
}

static long map(char **w, int keep) {
        size_t length = strtoul(w[2], NULL, 0);
        void *p = mmap(NULL, length, PROT_READ, MAP_SHARED, *slot(w[1]), (off_t) strtoull(w[3], NULL, 0));

        if (p == MAP_FAILED)
                return -1;
        if (keep) {
                kept = p;
                kept_size = length;
        } else
                (void) munmap(p, length);
        return 0;
}

static long watch(char **w) {
        struct timespec now, end;
        long n = 0;

        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_nsec += atol(w[3]) % 1000 * 1000000;
        end.tv_sec += atol(w[3]) / 1000 + end.tv_nsec / 1000000000;
        do {
                void *p = mmap(NULL, strtoul(w[2], NULL, 0), PROT_READ, MAP_SHARED, *slot(w[1]), 0);

                if (p != MAP_FAILED) {
                        n++;
                        (void) munmap(p, strtoul(w[2], NULL, 0));
                }
                clock_gettime(CLOCK_MONOTONIC, &now);
                usleep(100);
        } while (now.tv_sec < end.tv_sec);
        return n;
}

static long run(char **w) {
        char path[64], room[4096];

        if (strcmp(w[0], "open") == 0)
                return (*slot(w[1]) = open(w[3], mode(w[2]) | O_CLOEXEC)) < 0 ? -1 : 0;
        if (strcmp(w[0], "reopen") == 0) {
                snprintf(path, sizeof(path), "/proc/self/fd/%d", *slot(w[3]));
                return (*slot(w[1]) = open(path, mode(w[2]) | O_CLOEXEC)) < 0 ? -1 : 0;
        }
        if (strcmp(w[0], "dup") == 0)
                return (*slot(w[1]) = dup(*slot(w[2]))) < 0 ? -1 : 0;
        if (strcmp(w[0], "pass") == 0)
                return (*slot(w[1]) = pass(*slot(w[2]))) < 0 ? -1 : 0;
        if (strcmp(w[0], "watch") == 0)
                return watch(w);
        if (strcmp(w[0], "closeall") == 0) {
                memset(fds, 0, sizeof(fds));
                return close_range(3, ~0U, 0);
        }
        if (strcmp(w[0], "close") == 0)
                return close(*slot(w[1]));
        if (strcmp(w[0], "mmap") == 0 || strcmp(w[0], "map") == 0)
                return map(w, w[0][1] == 'a');
        if (strcmp(w[0], "unmap") == 0)
                return munmap(kept, kept_size);
        if (strcmp(w[0], "read") == 0) {
                size_t n = strtoul(w[2], NULL, 0);

                return pread(*slot(w[1]), room, n < sizeof(room) ? n : sizeof(room), (off_t) strtoull(w[3], NULL, 0));
        }
        if (strcmp(w[0], "mem") == 0)
                return ioctl(*slot(w[1]), PCIIOC_MMAP_IS_MEM);
        if (strcmp(w[0], "mknod") == 0)
                return mknod(w[1], S_IFCHR | 0600, makedev((unsigned) atoi(w[2]), (unsigned) atoi(w[3])));
        if (strcmp(w[0], "legacy") == 0)
                return (*slot(w[1]) = legacy(w[2], w[3])) < 0 ? -1 : 0;
        if (strcmp(w[0], "netns") == 0)
                return new_namespace(CLONE_NEWNET, "sysfs", w[1]);
        if (strcmp(w[0], "pidns") == 0)
                return new_namespace(CLONE_NEWPID, "proc", w[1]);
        if (strcmp(w[0], "unlink") == 0)
                return unlink(w[1]);
        if (strcmp(w[0], "rmdir") == 0)
                return rmdir(w[1]);
        if (strcmp(w[0], "rename") == 0)
                return rename(w[1], w[2]);
        if (strcmp(w[0], "umount") == 0)
                return umount2(w[1], MNT_DETACH);
        if (strcmp(w[0], "bench") == 0)
                return bench(w[3], strtoul(w[1], NULL, 0), atol(w[2]));
        fprintf(stderr, "mapper: unknown command %s\n", w[0]);
        exit(2);
}

int main(void) {
        char line[1024];

        while (fgets(line, sizeof(line), stdin)) {
                char none[] = "", *words[WORDS] = { none, none, none, none, none }, *save = NULL, *s = strtok_r(line, " \n", &save);
                long r;

                for (int i = 0; s && i < WORDS; s = strtok_r(NULL, " \n", &save))
                        words[i++] = s;
                r = run(words);
                if (r < 0)
                        printf("-%s\n", strerrorname_np(errno));
                else
                        printf("%ld\n", r);
                fflush(stdout);
        }
        return 0;
}
