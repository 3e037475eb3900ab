/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loop: what comes on which socket, in which order it counts. A hang-up that happened before a call was made is dealt with before
 * that call, because whoever made it may know of the first: in a kernel it would be over.
 */
#include "sim/server.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define HANG_UP (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

/* ---- sources ---- */

int source_add(struct sim *sim, struct source *s, uint32_t events) {
        struct epoll_event e = { .events = events, .data.ptr = s };

        if (epoll_ctl(sim->epoll, EPOLL_CTL_ADD, s->fd, &e) < 0)
                return -errno;
        sim->n_sources++;
        return 0;
}

int source_change(struct sim *sim, struct source *s, uint32_t events) {
        struct epoll_event e = { .events = events, .data.ptr = s };

        return epoll_ctl(sim->epoll, EPOLL_CTL_MOD, s->fd, &e) < 0 ? -errno : 0;
}

void source_remove(struct sim *sim, struct source *s) {
        if (epoll_ctl(sim->epoll, EPOLL_CTL_DEL, s->fd, NULL) >= 0)
                sim->n_sources--;
}

void server_wake(struct sim *sim) {
        (void) eventfd_write(sim->wake.fd, 1);
}

void server_timer(struct sim *sim, uint64_t ms) {
        struct itimerspec t = { .it_value = { .tv_sec = (time_t) (ms / 1000), .tv_nsec = (long) (ms % 1000) * 1000000 } };

        uint64_t at = sim_now_us() + ms * 1000;

        if (sim->timer_at != 0 && sim->timer_at <= at)
                return;
        sim->timer_at = at;
        (void) timerfd_settime(sim->timer.fd, 0, &t, NULL);
}

/* Once a call sleeps, somebody has to see whether its caller still waits. */
void call_watch(struct call *k) {
        if (k->watched || k->source.fd < 0)
                return;
        if (source_add(k->c.sim, &k->source, EPOLLRDHUP) >= 0)
                k->watched = true;
}

/* ---- a round ---- */

/* The caller of something that sleeps has died. */
static void call_hung_up(struct sim *sim, struct call *k) {
        source_remove(sim, &k->source);
        k->c.gone = true;
        if (k->cond && k->interruptible)
                (void) pthread_cond_broadcast(k->cond);
}

static void take_signal(struct sim *sim) {
        struct signalfd_siginfo info;

        if (read(sim->signals.fd, &info, sizeof(info)) == (ssize_t) sizeof(info))
                sim->quit = true;
}

static void take_timer(struct sim *sim) {
        uint64_t n;

        if (read(sim->timer.fd, &n, sizeof(n)) < 0)
                return;
        sim->timer_at = 0;
        stuck_tick(sim);
}

/* One event. Messages are taken in the first pass only. True for a hang-up: others may have come before a message that was taken. */
static bool take(struct sim *sim, struct source *s, uint32_t events, bool first, struct call_list *calls) {
        bool hung_up = events & HANG_UP;
        struct call *k;
        eventfd_t n;

        switch (s->type) {
        case SOURCE_LISTENER:
                if (first)
                        connections_accept(sim);
                return false;
        case SOURCE_WAKE:
                (void) eventfd_read(s->fd, &n);
                return false;
        case SOURCE_TIMER:
                take_timer(sim);
                return false;
        case SOURCE_SIGNAL:
                take_signal(sim);
                return false;
        case SOURCE_CONNECTION:
                if (!hung_up && !first)
                        return false;
                if (!packet_receive(sim, s, hung_up, calls) || hung_up)
                        connection_drop(sim, (struct connection *) s);
                return hung_up;
        case SOURCE_ENDPOINT:
                if (!hung_up && !first)
                        return false;
                if (events & EPOLLOUT && !hung_up)
                        uevent_flush(((struct endpoint *) s)->file);
                if (events & EPOLLIN || hung_up)
                        (void) packet_receive(sim, s, hung_up, calls);
                if (hung_up)
                        endpoint_drop(sim, (struct endpoint *) s);
                return hung_up;
        case SOURCE_CALL:
                k = (struct call *) s;
                if (k->closing) {
                        if (first || hung_up)
                                packet_close_ready(sim, k, calls);
                        return first || hung_up;
                }
                /* -EBADF: it ended meanwhile. */
                if (hung_up && s->fd >= 0 && !k->c.gone)
                        call_hung_up(sim, k);
                return false;
        }
        return false;
}

static int make_room(struct sim *sim) {
        size_t wanted = sim->n_sources + 64;
        struct epoll_event *t;

        if (sim->events_room >= wanted)
                return 0;
        t = reallocarray(sim->events, wanted * 2, sizeof(*t));
        if (!t)
                return -ENOMEM;
        sim->events = t;
        sim->events_room = wanted * 2;
        return 0;
}

static void free_done(struct sim *sim) {
        struct call *k;

        while ((k = TAILQ_FIRST(&sim->done))) {
                TAILQ_REMOVE(&sim->done, k, link);
                call_free(k);
        }
}

int sim_round(struct sim *sim, int timeout) {
        struct call_list calls = TAILQ_HEAD_INITIALIZER(calls);
        bool again = true, first = true;
        struct call *k;
        int n, r;

        sim_lock(sim);
        free_done(sim);
        r = make_room(sim);
        if (r < 0 || sim->quit) {
                sim_unlock(sim);
                return r < 0 ? r : 1;
        }
        sim_unlock(sim);
        n = epoll_wait(sim->epoll, sim->events, (int) sim->events_room, timeout);
        r = n < 0 && errno != EINTR ? -errno : 0;
        sim_lock(sim);
        /*
         * What was taken may have been sent by somebody who knew of a hang-up that this look at the sockets was too early for: look
         * again until there is none.
         */
        while (n > 0 && again) {
                again = first || n == (int) sim->events_room;
                for (int i = 0; i < n; i++)
                        again |= take(sim, sim->events[i].data.ptr, sim->events[i].events, first, &calls);
                first = false;
                /* Within a round no array is freed that another look still needs. */
                if (again)
                        n = epoll_wait(sim->epoll, sim->events, (int) sim->events_room, 0);
        }
        while ((k = TAILQ_FIRST(&calls))) {
                TAILQ_REMOVE(&calls, k, queue);
                call_submit(k);
        }
        if (sim->quit)
                r = r < 0 ? r : 1;
        sim_unlock(sim);
        return r;
}

/* ---- the whole ---- */

/* As many descriptors as there can be: each open file of every client is one. */
static size_t raise_limit(void) {
        struct rlimit l;
        FILE *f;

        if (getrlimit(RLIMIT_NOFILE, &l) < 0)
                return 1024;
        f = fopen("/proc/sys/fs/nr_open", "re");
        if (f) {
                unsigned long long most;

                if (fscanf(f, "%llu", &most) == 1 && most > l.rlim_max)
                        (void) setrlimit(RLIMIT_NOFILE, &(struct rlimit){ most, most });
                (void) fclose(f);
        }
        if (getrlimit(RLIMIT_NOFILE, &l) >= 0 && l.rlim_cur < l.rlim_max)
                (void) setrlimit(RLIMIT_NOFILE, &(struct rlimit){ l.rlim_max, l.rlim_max });
        if (getrlimit(RLIMIT_NOFILE, &l) < 0)
                return 1024;
        return l.rlim_cur;
}

static int open_sources(struct sim *sim) {
        sim->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (sim->epoll < 0)
                return -errno;
        sim->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (sim->wake.fd < 0)
                return -errno;
        sim->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (sim->timer.fd < 0)
                return -errno;
        sim->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return 0;
}

int sim_new(struct sim **ret) {
        struct sim *sim = calloc(1, sizeof(*sim));
        int r;

        if (!sim)
                return -ENOMEM;
        (void) pthread_mutex_init(&sim->lock, NULL);
        (void) pthread_cond_init(&sim->ended, NULL);
        (void) pthread_cond_init(&sim->settled, NULL);
        (void) pthread_cond_init(&sim->drained, NULL);
        TAILQ_INIT(&sim->queue);
        TAILQ_INIT(&sim->calls);
        TAILQ_INIT(&sim->done);
        TAILQ_INIT(&sim->files);
        TAILQ_INIT(&sim->faults);
        sim->born = sim_now_us();
        sim->epoll = sim->reserve = sim->trace = -EBADF;
        sim->listener.fd = sim->signals.fd = -EBADF;
        sim->wake = (struct source){ .type = SOURCE_WAKE, .fd = -EBADF };
        sim->timer = (struct source){ .type = SOURCE_TIMER, .fd = -EBADF };
        sim->fd_limit = raise_limit();
        tree_init(sim);
        sim->packet = malloc(sizeof(struct sim_request) + SIM_PAYLOAD_MAX);
        sim->ring = calloc(RING_ENTRIES, sizeof(*sim->ring));
        r = sim->packet && sim->ring ? open_sources(sim) : -ENOMEM;
        if (r >= 0)
                r = source_add(sim, &sim->wake, EPOLLIN);
        if (r >= 0)
                r = source_add(sim, &sim->timer, EPOLLIN);
        if (r < 0) {
                (void) sim_free(sim);
                return r;
        }
        *ret = sim;
        return 0;
}

static void hang_up_all(struct sim *sim) {
        struct connection *c, *next;

        for (c = LIST_FIRST(&sim->connections); c; c = next) {
                next = LIST_NEXT(c, link);
                if (c->source.fd >= 0)
                        connection_drop(sim, c);
        }
        for (size_t i = 0; i < ENDPOINT_BUCKETS; i++)
                while (sim->endpoints[i])
                        endpoint_drop(sim, sim->endpoints[i]);
}

bool sim_stop(struct sim *sim) {
        struct call *k, *next;
        unsigned waited = 0;
        bool gone;

        if (sim->path) {
                (void) unlink(sim->path);
                free(sim->path);
                sim->path = NULL;
        }
        sim_lock(sim);
        (void) fault_clear(sim, 0);
        for (k = TAILQ_FIRST(&sim->calls); k; k = next) {
                next = TAILQ_NEXT(k, link);
                if (k->closing) {
                        k->closing = false;
                        TAILQ_REMOVE(&sim->calls, k, link);
                        k->silent = true;
                        call_submit(k);
                }
        }
        hang_up_all(sim);
        /* Who was woken just now still counts as asleep: all are given some time. */
        while (!(TAILQ_EMPTY(&sim->calls) && TAILQ_EMPTY(&sim->queue)) &&
               (waited++ < 30 || sim->n_queued + sim->n_threads - sim->n_idle > sim->n_sleeping)) {
                uint64_t at = sim_now_us() + 10000;
                struct timespec t = { .tv_sec = (time_t) (at / 1000000), .tv_nsec = (long) (at % 1000000) * 1000 };

                (void) pthread_cond_clockwait(&sim->ended, &sim->lock, CLOCK_MONOTONIC, &t);
        }
        free_done(sim);
        gone = TAILQ_EMPTY(&sim->calls) && TAILQ_EMPTY(&sim->queue) && TAILQ_EMPTY(&sim->files);
        sim_unlock(sim);
        return gone;
}

struct sim *sim_free(struct sim *sim) {
        if (!sim)
                return NULL;
        sim_lock(sim);
        threads_end(sim);
        (void) fault_clear(sim, 0);
        (void) trace_start(sim, NULL);
        tree_free(sim);
        sim_unlock(sim);
        close_fd(sim->epoll);
        close_fd(sim->listener.fd);
        close_fd(sim->wake.fd);
        close_fd(sim->timer.fd);
        close_fd(sim->signals.fd);
        close_fd(sim->reserve);
        for (size_t i = 0; i < PEER_BUCKETS; i++)
                while (sim->peers[i]) {
                        struct peer *p = sim->peers[i];

                        sim->peers[i] = p->next;
                        free(p);
                }
        (void) pthread_cond_destroy(&sim->ended);
        (void) pthread_cond_destroy(&sim->settled);
        (void) pthread_cond_destroy(&sim->drained);
        (void) pthread_mutex_destroy(&sim->lock);
        free(sim->packet);
        free(sim->ring);
        free(sim->events);
        free(sim);
        return NULL;
}
