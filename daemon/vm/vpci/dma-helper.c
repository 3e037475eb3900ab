/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The holder's end of the helper process: requests go out from any thread. One at a time takes the answers: who has asked and waits, for a little
 * while, as most answers come at once and waking another thread for them costs as much again; else a thread of the helper's own.
 */
#include "vm/vpci/dma-helper.h"

#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include "vm/vpci/clock.h"
#include "vm/vpci/thread.h"

/* How often answers that are overdue are looked for. */
#define TICK_MSEC 500

struct call {
        struct call *next;
        uint32_t id;
        uint64_t due; /* ms */
        bool late;
        int r;        /* when answered */
        dma_helper_done done;
        void *userdata;
};

struct dma_helper {
        int socket;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        pthread_t thread;
        bool has_thread, ending, gone;
        bool receiving;     /* somebody takes answers */
        unsigned late;      /* answers that are overdue */
        struct call *calls; /* taken out by whoever does */
        struct call *answered; /* those whose end is the thread's to tell: it may take long, and is nobody else's business */
        uint32_t last_id;
};

static uint64_t now_msec(void) {
        return now_nsec() / 1000000;
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

/* Of a call that has been taken out. @own: the one that the caller waits for, 0: the caller is the thread. Lock held, and again afterwards. */
static void finish(struct dma_helper *h, struct call *c, int r, uint32_t own) {
        if (own != 0 && c->id != own) {
                c->r = r;
                c->next = h->answered;
                h->answered = c;
                (void) pthread_cond_signal(&h->changed);
                return;
        }
        (void) pthread_mutex_unlock(&h->lock);
        c->done(r, c->userdata);
        free(c);
        (void) pthread_mutex_lock(&h->lock);
}

/* The process is gone, or speaks something else: no answer comes any more. Lock held, and again afterwards. */
static void give_up(struct dma_helper *h, uint32_t own) {
        h->gone = true;
        while (h->calls)
                finish(h, take(h, h->calls->id), -EPIPE, own);
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

/* One answer, or none within so many ms; -EPIPE at the end. Lock held, and again afterwards. */
static int take_answer(struct dma_helper *h, int msec, uint32_t own) {
        struct pollfd p = { h->socket, POLLIN, 0 };
        struct dma_helper_reply reply;
        /* By the calls that the holder may make (confine.c): recv(2) is none of them. */
        struct iovec iov = { &reply, sizeof(reply) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
        struct call *c;
        ssize_t n;

        (void) pthread_mutex_unlock(&h->lock);
        (void) poll(&p, 1, msec);
        n = recvmsg(h->socket, &m, MSG_DONTWAIT | MSG_TRUNC);
        (void) pthread_mutex_lock(&h->lock);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n != (ssize_t) sizeof(reply) || reply.r > 0 || reply.r == -EINPROGRESS)
                return -EPIPE;
        c = take(h, reply.id);
        if (!c)
                return -EPIPE;
        finish(h, c, reply.r, own);
        return 0;
}

static void *run(void *userdata) {
        struct dma_helper *h = userdata;

        (void) pthread_mutex_lock(&h->lock);
        for (;;) {
                struct call *c;

                while (!h->answered && (h->calls ? h->receiving : !h->ending))
                        (void) pthread_cond_wait(&h->changed, &h->lock);
                c = h->answered;
                if (c) {
                        h->answered = c->next;
                        finish(h, c, c->r, 0);
                        continue;
                }
                if (!h->calls)
                        break;
                h->receiving = true;
                if (take_answer(h, TICK_MSEC, 0) < 0)
                        give_up(h, 0);
                find_late(h);
                h->receiving = false;
        }
        (void) shutdown(h->socket, SHUT_RDWR);
        (void) pthread_mutex_unlock(&h->lock);
        return NULL;
}

static bool is_called(const struct dma_helper *h, uint32_t id) {
        for (const struct call *c = h->calls; c; c = c->next)
                if (c->id == id)
                        return true;
        return false;
}

void dma_helper_take(struct dma_helper *h, uint32_t id, unsigned msec) {
        uint64_t end = now_msec() + msec, now;

        (void) pthread_mutex_lock(&h->lock);
        while (is_called(h, id) && (now = now_msec()) < end)
                if (take_answer(h, (int) (end - now), id) < 0)
                        give_up(h, id);
        find_late(h);
        h->receiving = false;
        /* What is left, or the end, is the thread's. */
        (void) pthread_cond_signal(&h->changed);
        (void) pthread_mutex_unlock(&h->lock);
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
                      void *userdata, bool *take) {
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
                *c = (struct call){ h->calls, request->id, now_msec() + overdue, false, 0, done, userdata };
                r = send_request(h->socket, request, fd);
                if (r == -EPIPE)
                        h->gone = true;
        }
        if (take)
                *take = r == 0 && !h->receiving;
        if (r == 0) {
                if (take && *take)
                        h->receiving = true;
                else if (!h->calls)
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
        idle = !h->calls && !h->answered;
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
