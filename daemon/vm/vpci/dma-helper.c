/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The holder's end of the helper process: requests go out from any thread, one thread takes the answers. */
#include "vm/vpci/dma-helper.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include "vm/vpci/thread.h"

/* How often answers that are overdue are looked for. */
#define TICK_MSEC 500

struct call {
        struct call *next;
        uint32_t id;
        uint64_t due; /* ms */
        bool late;
        dma_helper_done done;
        void *userdata;
};

struct dma_helper {
        int socket;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        pthread_t thread;
        bool has_thread, ending, gone;
        unsigned late;      /* answers that are overdue */
        struct call *calls; /* taken out by the thread alone */
        uint32_t last_id;
};

static uint64_t now_msec(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000 + (uint64_t) t.tv_nsec / 1000000;
}

int dma_helper_new(int socket, struct dma_helper **ret) {
        _cleanup_close_ int fd = socket;
        struct dma_helper *h;

        if (fd < 0)
                return -EBADF;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->socket = TAKE_FD(fd);
        (void) pthread_mutex_init(&h->lock, NULL);
        (void) pthread_cond_init(&h->changed, NULL);
        *ret = h;
        return 0;
}

/* ---- answers ---- */

/* Takes the call of an answer out of the list; NULL for an answer that nobody waits for. */
static struct call *take(struct dma_helper *h, uint32_t id) {
        for (struct call **at = &h->calls; *at; at = &(*at)->next)
                if ((*at)->id == id) {
                        struct call *c = *at;

                        *at = c->next;
                        if (c->late)
                                h->late--;
                        return c;
                }
        return NULL;
}

static void finish(struct call *c, int r) {
        c->done(r, c->userdata);
        free(c);
}

/* The process is gone, or speaks something else: no answer comes any more. Lock held, and again afterwards. */
static void give_up(struct dma_helper *h) {
        h->gone = true;
        while (h->calls) {
                struct call *c = take(h, h->calls->id);

                (void) pthread_mutex_unlock(&h->lock);
                finish(c, -EPIPE);
                (void) pthread_mutex_lock(&h->lock);
        }
}

/* Lock held, and again afterwards. */
static void find_late(struct dma_helper *h) {
        uint64_t now = now_msec();
        struct call *c;

        do {
                for (c = h->calls; c; c = c->next)
                        if (!c->late && c->due <= now)
                                break;
                if (c) {
                        c->late = true;
                        h->late++;
                        (void) pthread_mutex_unlock(&h->lock);
                        c->done(-EINPROGRESS, c->userdata);
                        (void) pthread_mutex_lock(&h->lock);
                }
        } while (c);
}

/* One answer, or a tick without one; -EPIPE at the end. Lock held, and again afterwards. */
static int take_answer(struct dma_helper *h) {
        struct pollfd p = { h->socket, POLLIN, 0 };
        struct dma_helper_reply reply;
        /* By the calls that the holder may make (confine.c): recv(2) is none of them. */
        struct iovec iov = { &reply, sizeof(reply) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct call *c;
        ssize_t n;

        (void) pthread_mutex_unlock(&h->lock);
        (void) poll(&p, 1, TICK_MSEC);
        n = recvmsg(h->socket, &m, MSG_DONTWAIT | MSG_TRUNC);
        (void) pthread_mutex_lock(&h->lock);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n != (ssize_t) sizeof(reply) || reply.r > 0 || reply.r == -EINPROGRESS)
                return -EPIPE;
        c = take(h, reply.id);
        if (!c)
                return -EPIPE;
        (void) pthread_mutex_unlock(&h->lock);
        finish(c, reply.r);
        (void) pthread_mutex_lock(&h->lock);
        return 0;
}

static void *run(void *userdata) {
        struct dma_helper *h = userdata;

        (void) pthread_mutex_lock(&h->lock);
        for (;;) {
                while (!h->calls && !h->ending)
                        (void) pthread_cond_wait(&h->changed, &h->lock);
                if (!h->calls)
                        break;
                if (take_answer(h) < 0)
                        give_up(h);
                find_late(h);
        }
        (void) shutdown(h->socket, SHUT_RDWR);
        (void) pthread_mutex_unlock(&h->lock);
        return NULL;
}

/* ---- requests ---- */

static int send_request(int socket, const struct dma_helper_request *request, int fd) {
        union {
                struct cmsghdr align;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec iov = { (void *) (uintptr_t) request, sizeof(*request) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (fd >= 0) {
                struct cmsghdr *h;

                m.msg_control = &control;
                m.msg_controllen = sizeof(control.room);
                h = CMSG_FIRSTHDR(&m);
                h->cmsg_level = SOL_SOCKET;
                h->cmsg_type = SCM_RIGHTS;
                h->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(h), &fd, sizeof(int));
        }
        do
                n = sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
        return 0;
}

int dma_helper_submit(struct dma_helper *h, struct dma_helper_request *request, int fd, unsigned overdue, dma_helper_done done,
                      void *userdata) {
        struct call *c;
        int r = 0;

        c = malloc(sizeof(*c));
        if (!c)
                return -ENOMEM;
        (void) pthread_mutex_lock(&h->lock);
        if (h->ending || h->gone || h->late > 0)
                r = h->ending ? -ESHUTDOWN : h->gone ? -EPIPE : -ETIMEDOUT;
        if (r == 0 && !h->has_thread) {
                r = thread_start(&h->thread, run, h);
                h->has_thread = r == 0;
        }
        if (r == 0) {
                request->id = ++h->last_id;
                *c = (struct call){ h->calls, request->id, now_msec() + overdue, false, done, userdata };
                r = send_request(h->socket, request, fd);
                if (r == -EPIPE)
                        h->gone = true;
        }
        if (r == 0) {
                if (!h->calls)
                        (void) pthread_cond_signal(&h->changed);
                h->calls = c;
                c = NULL;
        }
        (void) pthread_mutex_unlock(&h->lock);
        free(c);
        return r;
}

/* ---- end ---- */

void dma_helper_end(struct dma_helper *h) {
        (void) pthread_mutex_lock(&h->lock);
        h->ending = true;
        if (!h->calls)
                (void) shutdown(h->socket, SHUT_RDWR);
        (void) pthread_cond_signal(&h->changed);
        (void) pthread_mutex_unlock(&h->lock);
}

bool dma_helper_idle(struct dma_helper *h) {
        bool idle;

        (void) pthread_mutex_lock(&h->lock);
        idle = !h->calls;
        (void) pthread_mutex_unlock(&h->lock);
        return idle;
}

struct dma_helper *dma_helper_free(struct dma_helper *h) {
        if (!h)
                return NULL;
        dma_helper_end(h);
        if (h->has_thread)
                (void) pthread_join(h->thread, NULL);
        close_fd(h->socket);
        (void) pthread_cond_destroy(&h->changed);
        (void) pthread_mutex_destroy(&h->lock);
        free(h);
        return NULL;
}
