/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What it costs a VMM to have 2 MiB of guest memory mapped and unmapped again by way of a vPCI socket, and the least that it could cost: the
 * same two calls by its own hand, and two turns of an empty message between two processes.
 *
 *      dma_pair SOCKET IOMMUFD IOAS ROUNDS
 *
 * IOMMUFD is the number of an inherited descriptor, IOAS an address space in it that a function is attached to. Prints one line of
 * JSON: the medians of both, in µs, measured in turns.
 */
#include <err.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "host/abi/iommufd.h"
#include "vm/vpci/wire.h"

#define SIZE (UINT64_C(2) << 20)
#define IOVA UINT64_C(0x10000000)
/* The size of a DMA_MAP, and of its answer. */
#define REQUEST_SIZE 48
#define REPLY_SIZE 16

static int memory;

static double now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}

static void receive(int fd, void *buf, size_t size) {
        if (recv(fd, buf, size, MSG_WAITALL) != (ssize_t) size)
                errx(1, "the server has hung up");
}

/* ---- by way of the socket ---- */

struct request {
        struct vu_header h;
        union {
                struct vu_dma_map map;
                struct vu_dma_unmap unmap;
                struct vu_version version;
        };
};

static void ask(int server, uint16_t command, struct request *q, size_t size, int fd) {
        union {
                struct cmsghdr head;
                char room[CMSG_SPACE(sizeof(int))];
        } control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
        struct iovec iov = { q, sizeof(q->h) + size };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        static uint16_t id;
        struct vu_header reply;
        char rest[4096];

        q->h = (struct vu_header){ .id = id, .command = command, .size = (uint32_t) (sizeof(q->h) + size) };
        id++;
        if (fd >= 0) {
                memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
                m.msg_control = &control;
                m.msg_controllen = sizeof(control.room);
        }
        if (sendmsg(server, &m, MSG_NOSIGNAL) != (ssize_t) iov.iov_len)
                err(1, "send");
        receive(server, &reply, sizeof(reply));
        if (reply.flags & VU_FLAGS_ERROR)
                errx(1, "command %u: %s", command, strerror((int) reply.error));
        if (reply.size < sizeof(reply) || reply.size - sizeof(reply) > sizeof(rest))
                errx(1, "command %u: an answer of %u bytes", command, reply.size);
        if (reply.size > sizeof(reply))
                receive(server, rest, reply.size - sizeof(reply));
}

static int connect_to(const char *path) {
        struct sockaddr_un name = { .sun_family = AF_UNIX };
        struct request q = { .version = { 0, 1 } };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || snprintf(name.sun_path, sizeof(name.sun_path), "%s", path) >= (int) sizeof(name.sun_path) ||
            connect(fd, (struct sockaddr *) &name, sizeof(name)) < 0)
                err(1, "connect to %s", path);
        ask(fd, VU_VERSION, &q, sizeof(q.version), -1);
        return fd;
}

static void served(int server) {
        struct request map = { .map = { .argsz = sizeof(map.map), .flags = VU_DMA_READABLE | VU_DMA_WRITABLE, .address = IOVA, .size = SIZE } };
        struct request unmap = { .unmap = { .argsz = sizeof(unmap.unmap), .address = IOVA, .size = SIZE } };

        ask(server, VU_DMA_MAP, &map, sizeof(map.map), memory);
        ask(server, VU_DMA_UNMAP, &unmap, sizeof(unmap.unmap), -1);
}

/* ---- by hand ---- */

static int start_peer(void) {
        int pair[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                err(1, "socketpair");
        pid = fork();
        if (pid < 0)
                err(1, "fork");
        if (pid == 0) {
                char buf[REQUEST_SIZE] = { 0 };

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                while (recv(pair[1], buf, REQUEST_SIZE, MSG_WAITALL) == REQUEST_SIZE && send(pair[1], buf, REPLY_SIZE, MSG_NOSIGNAL) == REPLY_SIZE)
                        ;
                _exit(0);
        }
        return pair[0];
}

static void turn(int peer) {
        char buf[REQUEST_SIZE] = { 0 };

        if (send(peer, buf, REQUEST_SIZE, MSG_NOSIGNAL) != REQUEST_SIZE)
                err(1, "send");
        receive(peer, buf, REPLY_SIZE);
}

static void bare(int peer, int iommufd, uint32_t ioas) {
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE,
                .ioas_id = ioas,
                .fd = memory,
                .length = SIZE,
                .iova = IOVA,
        };
        struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = ioas, .iova = IOVA, .length = SIZE };

        turn(peer);
        if (ioctl(iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map) < 0)
                err(1, "IOMMU_IOAS_MAP_FILE");
        turn(peer);
        if (ioctl(iommufd, TDI_IOMMU_IOAS_UNMAP, &unmap) < 0)
                err(1, "IOMMU_IOAS_UNMAP");
}

/* ---- */

static int compare(const void *a, const void *b) {
        double x = *(const double *) a, y = *(const double *) b;

        return (x > y) - (x < y);
}

static double median(double *list, size_t n) {
        qsort(list, n, sizeof(*list), compare);
        return list[n / 2];
}

int main(int argc, char **argv) {
        int server, peer, iommufd = argc == 5 ? atoi(argv[2]) : -1;
        size_t n = argc == 5 ? strtoul(argv[4], NULL, 10) : 0;
        double *with = calloc(n + 1, sizeof(*with)), *without = calloc(n + 1, sizeof(*without));
        void *mapped;

        if (n == 0 || !with || !without)
                errx(2, "usage: dma_pair SOCKET IOMMUFD IOAS ROUNDS");
        memory = memfd_create("guest-ram", MFD_CLOEXEC);
        if (memory < 0 || ftruncate(memory, SIZE) < 0)
                err(1, "a memfd");
        mapped = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory, 0);
        if (mapped == MAP_FAILED)
                err(1, "mmap");
        server = connect_to(argv[1]);
        peer = start_peer();
        /* The first one warms up. */
        for (size_t i = 0; i <= n; i++) {
                double begin = now(), middle;

                served(server);
                middle = now();
                bare(peer, iommufd, (uint32_t) strtoul(argv[3], NULL, 10));
                if (i > 0) {
                        with[i - 1] = middle - begin;
                        without[i - 1] = now() - middle;
                }
        }
        printf("{\"served\": %.3f, \"bare\": %.3f}\n", median(with, n), median(without, n));
        free(with);
        free(without);
        return 0;
}
