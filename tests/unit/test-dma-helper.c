/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Maps made by another process: both ends of its socket, and what becomes of maps when it is slow, gone, or talks nonsense. */
#include <sys/socket.h>

#include "dma-test.h"
#include "vm/vpci/dma-helper.h"

/* ---- a helper in a thread ---- */

struct helper {
        pthread_t thread;
        int socket, result;
};

static void *serve(void *userdata) {
        struct helper *h = userdata;

        h->result = dma_helper_serve(host, iommufd, h->socket);
        /* As by the end of the process. */
        h->socket = close_fd(h->socket);
        return NULL;
}

/* The other end of its socket. */
static int helper_start(struct helper *h) {
        int pair[2];

        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        *h = (struct helper){ .socket = pair[0] };
        require(pthread_create(&h->thread, NULL, serve, h) == 0);
        return pair[1];
}

static int helper_end(struct helper *h) {
        require(pthread_join(h->thread, NULL) == 0);
        return h->result;
}

static void wait_for_sleepers(unsigned id, unsigned n) {
        for (unsigned i = 0; i < 1000 && fault_number(id, "sleeping") != n; i++)
                (void) usleep(5000);
        check_int(fault_number(id, "sleeping"), n);
}

static void test_maps(void) {
        struct memory m = memory_new(64, 1);
        struct helper first, second;
        struct client x, y;
        unsigned id;
        uint64_t begin;

        dma_start();
        dma_set_peer(dma, new_peer_maps(), helper_start(&first));
        client_start(&x, 0);
        client_start(&y, 1);
        check_int(map_pages(&x, 0, 16, &m, 8), 0);
        id = fault("{\"call\": \"IOMMU_IOAS_COPY\", \"nth\": 2, \"errno\": \"ENOMEM\"}");
        check_int(map_pages(&y, 0, 16, &m, 8), 0);
        check_int(fault_number(id, "matched"), 1);
        check(seen(0, 15) == stamp(&m, 23));
        check(seen(1, 15) == stamp(&m, 23));
        check_int(unmap_pages(&y, 0, 16), 16);
        /* A copy that fails is mapped by itself, by the helper too. */
        check_int(map_pages(&y, 0, 16, &m, 8), 0);
        check(seen(1, 15) == stamp(&m, 23));
        check_int(fault_number(id, "fired"), 1);
        fault_end(id);
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"errno\": \"ENOMEM\"}");
        check_int(map_pages(&x, 100, 1, &m, 8), -ENOMEM);
        check(text_has(&x, "Cannot allocate memory"));
        check_int(unmap_pages(&x, 100, 1), 1);
        fault_end(id);

        /* Slow: the answer comes later; nobody else waits for it. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"delay_ms\": 5000, \"times\": 1}");
        begin = now_msec();
        check_int(map_pages(&x, 100, 4, &m, 0), 0);
        check(now_msec() - begin > 2900 && now_msec() - begin < 4000);
        check_int(told(&x, &x.master, 1), 3);
        check(dma_master(x.c) != DMA_MASTER_YES);
        begin = now_msec();
        check_int(map_pages(&y, 200, 4, &m, 0), 0);
        check(now_msec() - begin < 1000);
        check_int(dma_master(y.c), DMA_MASTER_YES);
        check_int(map_pages(&x, 200, 4, &m, 0), 0);
        check(gets_master(&x));
        check(seen(0, 100) == stamp(&m, 0));
        check(seen(0, 200) == stamp(&m, 0));
        fault_end(id);

        /* Another takes its place; what the first has begun it ends. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true, \"times\": 1}");
        check_int(map_pages(&x, 300, 4, &m, 0), 0);
        dma_set_peer(dma, new_peer_maps(), helper_start(&second));
        check_int(map_pages(&y, 300, 4, &m, 4), 0);
        check(seen(1, 300) == stamp(&m, 4));
        check(seen(0, 300) == UINT64_MAX);
        fault_end(id);
        check(gets_master(&x));
        check(seen(0, 300) == stamp(&m, 0));
        check_int(helper_end(&first), 0);
        client_end(&x);
        client_end(&y);
        dma_end();
        check_int(helper_end(&second), 0);
        memory_free(&m);
}

/* ---- what happens when it ends ---- */

static void test_gone(void) {
        struct memory m = memory_new(64, 1);
        struct dma_helper_request q;
        struct helper h;
        struct client x;
        int pair[2];
        unsigned id;

        dma_start();
        client_start(&x, 0);
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        dma_set_peer(dma, new_peer_maps(), pair[0]);
        /* With a request that it has taken, and with none. */
        check_int(map_pages(&x, 0, UINT64_C(70000), &m, 0), -ENXIO);
        check_int(unmap_pages(&x, 0, 70000), 70000);
        check_int(map_pages(&x, 0, 16, &m, 0), 0);
        check_int(recv(pair[1], &q, sizeof(q), 0), sizeof(q));
        check_int(q.op, DMA_HELPER_MAP);
        check_int(q.ioas, spaces[0]);
        check_int(q.size, 16 * PAGE);
        check_int(q.flags, TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE);
        check_int(map_pages(&x, 32, 16, &m, 0), 0);
        check_int(described(&x, "pending"), 2);
        close_fd(pair[1]);
        check_int(told(&x, &x.failed, 3), 3);
        check(text_has(&x, "Broken pipe"));
        check_int(described(&x, "pending") + described(&x, "maps"), 0);
        check_int(map_pages(&x, 64, 1, &m, 0), -EPIPE);
        check_int(unmap_pages(&x, 0, 100), 33);
        check_int(dma_master(x.c), DMA_MASTER_YES);
        /* Never by this process, whose cgroup is another. */
        check(seen(0, 0) == UINT64_MAX);
        dma_set_peer(dma, new_peer_maps(), helper_start(&h));
        check_int(map_pages(&x, 0, 16, &m, 0), 0);

        /* The holder goes while it maps: nothing is left of that. */
        id = fault("{\"call\": \"IOMMU_IOAS_MAP_FILE\", \"never\": true, \"times\": 1}");
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);

        struct helper other = { .socket = pair[0] };
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { &q, sizeof(q) };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control.room) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
        memcpy(CMSG_DATA(c), &m.fd, sizeof(int));
        q.iova = 500 * PAGE;
        require(pthread_create(&other.thread, NULL, serve, &other) == 0);
        check_int(sendmsg(pair[1], &msg, 0), sizeof(q));
        wait_for_sleepers(id, 1);
        close_fd(pair[1]);
        fault_end(id);
        check_int(helper_end(&other), 0);
        check(seen(0, 500) == UINT64_MAX);
        client_end(&x);
        dma_end();
        check_int(helper_end(&h), 0);
        memory_free(&m);
}

/* ---- nonsense ---- */

static unsigned answers;
static int last_answer;

static void on_done(int r, _unused_ void *userdata) {
        __atomic_store_n(&last_answer, r, __ATOMIC_RELAXED);
        __atomic_add_fetch(&answers, 1, __ATOMIC_RELEASE);
}

static int wait_for_answer(unsigned n) {
        for (unsigned i = 0; i < 1000 && __atomic_load_n(&answers, __ATOMIC_ACQUIRE) < n; i++)
                (void) usleep(5000);
        check_int(__atomic_load_n(&answers, __ATOMIC_ACQUIRE), n);
        return __atomic_load_n(&last_answer, __ATOMIC_RELAXED);
}

static void test_bad_helper(void) {
        static const struct {
                const char *what;
                struct dma_helper_reply reply;
                size_t size;
        } cases[] = {
                { "nothing", {}, 0 },
                { "too short", { 1, 0 }, 4 },
                { "nobody's", { 2, 0 }, sizeof(struct dma_helper_reply) },
                { "no errno", { 1, 1 }, sizeof(struct dma_helper_reply) },
                { "no answer", { 1, -EINPROGRESS }, sizeof(struct dma_helper_reply) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct dma_helper_request q = { .op = DMA_HELPER_COPY, .size = PAGE };
                struct dma_helper *h;
                int pair[2];

                test_about("%s", cases[i].what);
                answers = 0;
                require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
                require(dma_helper_new(pair[0], &h) == 0);
                check_int(dma_helper_submit(h, &q, -EBADF, 60000, on_done, NULL, NULL), 0);
                check(!dma_helper_idle(h));
                check_int(send(pair[1], &cases[i].reply, cases[i].size, MSG_NOSIGNAL), cases[i].size);
                check_int(wait_for_answer(1), -EPIPE);
                check_int(dma_helper_submit(h, &q, -EBADF, 60000, on_done, NULL, NULL), -EPIPE);
                check(!dma_helper_free(h));
                close_fd(pair[1]);
        }
        test_about("%s", "");
}

/* Who waits takes the answers, for a while; then the thread does. */
static void test_take(void) {
        struct dma_helper_request first = { .op = DMA_HELPER_COPY, .size = PAGE }, second = first, third = first;
        struct dma_helper_reply reply = {};
        bool take = false, also = true;
        struct dma_helper *h;
        int pair[2];

        answers = 0;
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        require(dma_helper_new(pair[0], &h) == 0);
        check_int(dma_helper_submit(h, &first, -EBADF, 60000, on_done, NULL, &take), 0);
        check(take);
        check_int(dma_helper_submit(h, &second, -EBADF, 60000, on_done, NULL, &also), 0);
        check(!also);
        reply.id = second.id;
        check_int(send(pair[1], &reply, sizeof(reply), 0), sizeof(reply));
        reply.id = first.id;
        check_int(send(pair[1], &reply, sizeof(reply), 0), sizeof(reply));
        (void) usleep(50000);
        check_int(__atomic_load_n(&answers, __ATOMIC_ACQUIRE), 0);
        dma_helper_take(h, first.id, 10000);
        /* The other's end may take long, and is told by the thread. */
        check_int(wait_for_answer(2), 0);
        check(dma_helper_idle(h));
        /* It does not come in time: it is not lost. */
        check_int(dma_helper_submit(h, &third, -EBADF, 60000, on_done, NULL, &take), 0);
        check(take);
        dma_helper_take(h, third.id, 50);
        reply.id = third.id;
        check_int(send(pair[1], &reply, sizeof(reply), 0), sizeof(reply));
        check_int(wait_for_answer(3), 0);
        /* The process dies meanwhile. */
        check_int(dma_helper_submit(h, &first, -EBADF, 60000, on_done, NULL, &take), 0);
        check(take);
        close_fd(pair[1]);
        dma_helper_take(h, first.id, 10000);
        check_int(wait_for_answer(4), -EPIPE);
        check(!dma_helper_free(h));
}

static void test_overdue(void) {
        struct dma_helper_request q = { .op = DMA_HELPER_COPY, .size = PAGE };
        struct dma_helper_reply reply = {};
        struct dma_helper *h;
        unsigned n = 0;
        int pair[2], r;

        answers = 0;
        require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        require(dma_helper_new(pair[0], &h) == 0);
        check_int(dma_helper_submit(h, &q, -EBADF, 100, on_done, NULL, NULL), 0);
        check_int(wait_for_answer(1), -EINPROGRESS);
        /* Nobody else waits for it. */
        check_int(dma_helper_submit(h, &q, -EBADF, 100, on_done, NULL, NULL), -ETIMEDOUT);
        reply.id = 1;
        check_int(send(pair[1], &reply, sizeof(reply), 0), sizeof(reply));
        check_int(wait_for_answer(2), 0);
        /* It does not read: there is an end to what is sent. */
        do
                r = dma_helper_submit(h, &q, -EBADF, 60000, on_done, NULL, NULL);
        while (r == 0 && ++n < 100000);
        check_int(r, -EAGAIN);
        dma_helper_end(h);
        check_int(dma_helper_submit(h, &q, -EBADF, 100, on_done, NULL, NULL), -ESHUTDOWN);
        close_fd(pair[1]);
        check(!dma_helper_free(h));
        check_int(wait_for_answer(2 + n), -EPIPE);
        check_int(dma_helper_new(-EBADF, &h), -EBADF);
}

static void test_bad_holder(void) {
        static const struct {
                const char *what;
                struct dma_helper_request q;
                size_t size;
                unsigned fds;
        } cases[] = {
                { "too short", { .op = DMA_HELPER_COPY, .size = PAGE }, 20 },
                { "no call", { .op = 7, .size = PAGE }, sizeof(struct dma_helper_request) },
                { "no descriptor", { .op = DMA_HELPER_MAP, .size = PAGE }, sizeof(struct dma_helper_request) },
                { "a descriptor", { .op = DMA_HELPER_COPY, .size = PAGE }, sizeof(struct dma_helper_request), 1 },
                { "two descriptors", { .op = DMA_HELPER_MAP, .size = PAGE }, sizeof(struct dma_helper_request), 2 },
                { "three descriptors", { .op = DMA_HELPER_MAP, .size = PAGE }, sizeof(struct dma_helper_request), 3 },
                { "flags", { .op = DMA_HELPER_COPY, .size = PAGE, .flags = 1 }, sizeof(struct dma_helper_request) },
                { "reserved", { .op = DMA_HELPER_COPY, .size = PAGE, .reserved = 1 }, sizeof(struct dma_helper_request) },
                { "empty", { .op = DMA_HELPER_COPY }, sizeof(struct dma_helper_request) },
                { "wraps", { .op = DMA_HELPER_COPY, .iova = PAGE, .size = UINT64_MAX }, sizeof(struct dma_helper_request) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                union {
                        struct cmsghdr align;
                        char room[CMSG_SPACE(sizeof(int) * 3)];
                } control = {};
                struct iovec iov = { (void *) (uintptr_t) &cases[i].q, cases[i].size };
                struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
                unsigned fds = settled_fds();
                struct helper h;
                int fd;

                test_about("%s", cases[i].what);
                fd = helper_start(&h);
                if (cases[i].fds > 0) {
                        msg.msg_control = &control;
                        msg.msg_controllen = CMSG_SPACE(sizeof(int) * cases[i].fds);
                        control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                                          .cmsg_len = CMSG_LEN(sizeof(int) * cases[i].fds) };
                        for (unsigned k = 0; k < cases[i].fds; k++)
                                memcpy(CMSG_DATA(&control.align) + k * sizeof(int), &iommufd, sizeof(int));
                }
                check_int(sendmsg(fd, &msg, 0), cases[i].size);
                check_int(helper_end(&h), -EBADMSG);
                close_fd(fd);
                check_fds(fds);
        }
        test_about("%s", "");
}

int main(void) {
        unsigned fds;

        machine_start();
        fds = settled_fds();
        test_maps();
        test_gone();
        test_bad_helper();
        test_take();
        test_overdue();
        test_bad_holder();
        check_fds(fds);
        machine_end();
        return test_end();
}
