/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The helper process: a thread for each request under way, since any of them may sleep in the kernel as long as it takes to allocate a guest's
 * memory. It touches no page itself: pinning allocates them, in this process's cgroup.
 */
#include <pthread.h>
#include <sys/socket.h>

#include "host/abi/iommufd.h"
#include "vm/vpci/dma-helper.h"
#include "vm/vpci/thread.h"

#define RIGHTS (TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE)

/* So many wait for requests at most: more threads are started when all are busy, and end when they are not needed. */
#define IDLE_MAX 2

struct serving {
        TdiHost *host;
        int iommufd, socket;
        pthread_mutex_t lock; /* of the rest */
        pthread_cond_t changed;
        unsigned threads, idle;
        bool ended;
        int result;
};

struct work {
        struct serving *s;
        struct dma_helper_request q;
        int fd;
};

static int map_it(const struct work *w) {
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | w->q.flags,
                .ioas_id = w->q.ioas,
                .fd = w->fd,
                .start = w->q.offset,
                .length = w->q.size,
                .iova = w->q.iova,
        };
        struct tdi_iommu_ioas_copy copy = {
                .size = sizeof(copy),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | w->q.flags,
                .dst_ioas_id = w->q.ioas,
                .src_ioas_id = w->q.source,
                .length = w->q.size,
                .dst_iova = w->q.iova,
                .src_iova = w->q.iova,
        };

        return w->q.op == DMA_HELPER_MAP ? host_ioctl(w->s->host, w->s->iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map)
                                         : host_ioctl(w->s->host, w->s->iommufd, TDI_IOMMU_IOAS_COPY, &copy);
}

static void do_work(struct work *w) {
        struct dma_helper_reply reply = { .id = w->q.id };
        struct serving *s = w->s;
        ssize_t n;

        reply.r = map_it(w);
        if (reply.r > 0)
                reply.r = 0;
        w->fd = close_fd(w->fd);
        do
                n = send(s->socket, &reply, sizeof(reply), MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        /* Nobody knows of it. */
        if (n < 0 && reply.r == 0) {
                struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = w->q.ioas, .iova = w->q.iova, .length = w->q.size };

                (void) host_ioctl(s->host, s->iommufd, TDI_IOMMU_IOAS_UNMAP, &unmap);
        }
}

/* 1 with a request; 0 at the end. */
static int receive(int socket, struct dma_helper_request *ret, int *ret_fd) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { ret, sizeof(*ret) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        _cleanup_close_ int fd = -EBADF;
        size_t fds = 0;
        ssize_t n;

        do
                n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n == 0 || errno == ECONNRESET ? 0 : -errno;
        for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h))
                if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
                        /* There is room for two of them, whatever was asked for. */
                        for (size_t i = 0; i < (h->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++, fds++) {
                                close_fd(fd);
                                memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
                        }
        if (n != (ssize_t) sizeof(*ret) || fds > 1 || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                return -EBADMSG;
        if ((ret->op != DMA_HELPER_MAP && ret->op != DMA_HELPER_COPY) || (ret->op == DMA_HELPER_MAP) != (fd >= 0) ||
            (ret->flags & ~(uint32_t) RIGHTS) || ret->reserved || ret->size == 0 || ret->iova + ret->size - 1 < ret->iova)
                return -EBADMSG;
        *ret_fd = TAKE_FD(fd);
        return 1;
}

static void *run(void *userdata);

/* Lock held. Where no other thread can be started, requests wait for this one, and are done all the same. */
static void have_another(struct serving *s) {
        pthread_t thread = 0;

        if (s->idle > 0 || s->threads >= DMA_HELPER_THREADS || thread_start(&thread, run, s) < 0)
                return;
        (void) pthread_detach(thread);
        s->threads++;
}

static void *run(void *userdata) {
        struct serving *s = userdata;

        (void) pthread_mutex_lock(&s->lock);
        while (!s->ended && s->idle < IDLE_MAX) {
                struct work w = { .s = s };
                int r;

                s->idle++;
                (void) pthread_mutex_unlock(&s->lock);
                r = receive(s->socket, &w.q, &w.fd);
                (void) pthread_mutex_lock(&s->lock);
                s->idle--;
                if (r > 0) {
                        have_another(s);
                        (void) pthread_mutex_unlock(&s->lock);
                        do_work(&w);
                        (void) pthread_mutex_lock(&s->lock);
                } else if (!s->ended) {
                        s->ended = true;
                        s->result = r;
                        /* The others do not wait for what nobody takes any more; what is under way is still answered. */
                        (void) shutdown(s->socket, SHUT_RD);
                }
        }
        s->threads--;
        (void) pthread_cond_signal(&s->changed);
        (void) pthread_mutex_unlock(&s->lock);
        return NULL;
}

int dma_helper_serve(TdiHost *host, int iommufd, int socket) {
        struct serving s = { .host = host, .iommufd = iommufd, .socket = socket, .threads = 1 };

        (void) pthread_mutex_init(&s.lock, NULL);
        (void) pthread_cond_init(&s.changed, NULL);
        (void) run(&s);
        (void) pthread_mutex_lock(&s.lock);
        while (s.threads > 0)
                (void) pthread_cond_wait(&s.changed, &s.lock);
        (void) pthread_mutex_unlock(&s.lock);
        (void) pthread_cond_destroy(&s.changed);
        (void) pthread_mutex_destroy(&s.lock);
        return s.result;
}
