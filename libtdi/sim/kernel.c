/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Threads, sleeping and files of the simulated kernel. One lock is held by whichever thread runs code of the model; the sleeping
 * functions below are the only places where it is given up.
 */
#include "sim/server.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* A thread that found nothing to do for so long ends, unless it is one of the last few. */
#define IDLE_US (2 * 1000000ULL)
#define THREADS_KEPT 2

/* Sanitizers make frames several times as large. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE (1024UL * 1024)
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define STACK_SIZE (1024UL * 1024)
#endif
#endif
#ifndef STACK_SIZE
#define STACK_SIZE (128UL * 1024)
#endif

struct worker {
        pthread_cond_t cond;
        struct call *call; /* to be run next */
        LIST_ENTRY(worker) link;
};

static _Thread_local struct call *current;

struct call *call_current(void) {
        return current;
}

uint64_t sim_now_us(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

struct sim_machine *sim_machine(struct sim *sim) {
        return sim->machine;
}

void sim_set_machine(struct sim *sim, struct sim_machine *machine) {
        sim->machine = machine;
}

void sim_lock(struct sim *sim) {
        (void) pthread_mutex_lock(&sim->lock);
}

void sim_unlock(struct sim *sim) {
        (void) pthread_mutex_unlock(&sim->lock);
}

void sim_log(struct sim *sim, const char *format, ...) {
        uint64_t t = sim_now_us() - sim->born;
        char text[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        fprintf(stderr, "[%5llu.%06llu] %s\n", (unsigned long long) (t / 1000000), (unsigned long long) (t % 1000000), text);
}

/* ---- calls and their threads ---- */

struct call *call_new(struct sim *sim, void (*run)(struct call *k)) {
        struct call *k = calloc(1, sizeof(*k));

        if (!k)
                return NULL;
        k->source = (struct source){ .type = SOURCE_CALL, .fd = -EBADF };
        k->c.sim = sim;
        k->run = run;
        k->started = sim_now_us();
        return k;
}

struct call *call_free(struct call *k) {
        struct sim *sim;

        if (!k)
                return NULL;
        sim = k->c.sim;
        k->source.fd = close_fd(k->source.fd);
        for (unsigned i = 0; i < k->n_fds; i++)
                close_fd(k->fds[i]);
        if (k->connection)
                connection_unref(sim, k->connection);
        if (k->peer) {
                k->peer->calls--;
                peer_put(sim, k->peer);
        }
        free(k->payload);
        free(k);
        return NULL;
}

void call_settle(struct call *k) {
        if (!k->unsettled)
                return;
        k->unsettled = false;
        if (--k->c.sim->n_unsettled == 0)
                (void) pthread_cond_signal(&k->c.sim->settled);
}

static void call_run(struct call *k) {
        struct sim *sim = k->c.sim;

        TAILQ_INSERT_TAIL(&sim->calls, k, link);
        current = k;
        k->run(k);
        current = NULL;
        TAILQ_REMOVE(&sim->calls, k, link);
        call_settle(k);
        if (k->quits) {
                sim->quit = true;
                server_wake(sim);
        }
        if (!k->watched) {
                call_free(k);
                return;
        }
        /* The loop may have an event of this socket in its hands. */
        source_remove(sim, &k->source);
        k->source.fd = close_fd(k->source.fd);
        TAILQ_INSERT_TAIL(&sim->done, k, link);
}

/* Waits for work: the thread that was busy last is the first to get some, so that those too many have time to end. */
static struct call *next_call(struct sim *sim, struct worker *w) {
        uint64_t until = sim_now_us() + IDLE_US;
        struct timespec t = { .tv_sec = (time_t) (until / 1000000), .tv_nsec = (long) (until % 1000000) * 1000 };
        struct call *k = TAILQ_FIRST(&sim->queue);
        int r = 0;

        if (k) {
                TAILQ_REMOVE(&sim->queue, k, queue);
                sim->n_queued--;
                return k;
        }
        w->call = NULL;
        LIST_INSERT_HEAD(&sim->idle, w, link);
        sim->n_idle++;
        while (!w->call && !sim->ending && r != ETIMEDOUT)
                r = pthread_cond_clockwait(&w->cond, &sim->lock, CLOCK_MONOTONIC, &t);
        if (w->call)
                return w->call;
        LIST_REMOVE(w, link);
        sim->n_idle--;
        return NULL;
}

static void *worker(void *data) {
        struct worker w = { .cond = PTHREAD_COND_INITIALIZER };
        struct sim *sim = data;

        sim_lock(sim);
        for (;;) {
                struct call *k = next_call(sim, &w);

                if (k) {
                        call_run(k);
                        (void) pthread_cond_broadcast(&sim->ended);
                } else if (sim->ending || sim->n_idle >= THREADS_KEPT)
                        break;
        }
        sim->n_threads--;
        (void) pthread_cond_broadcast(&sim->ended);
        (void) pthread_cond_destroy(&w.cond);
        sim_unlock(sim);
        return NULL;
}

void threads_end(struct sim *sim) {
        struct worker *w;

        sim->ending = true;
        LIST_FOREACH(w, &sim->idle, link)
                (void) pthread_cond_signal(&w->cond);
        while (sim->n_threads > 0)
                (void) pthread_cond_wait(&sim->ended, &sim->lock);
}

static int start_thread(struct sim *sim) {
        pthread_attr_t attr;
        pthread_t thread;
        int r;

        r = pthread_attr_init(&attr);
        if (r != 0)
                return -r;
        (void) pthread_attr_setstacksize(&attr, STACK_SIZE);
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        r = pthread_create(&thread, &attr, worker, sim);
        (void) pthread_attr_destroy(&attr);
        if (r != 0)
                return -r;
        sim->n_threads++;
        return 0;
}

void call_submit(struct call *k) {
        struct sim *sim = k->c.sim;
        struct worker *w = LIST_FIRST(&sim->idle);

        if (w) {
                LIST_REMOVE(w, link);
                sim->n_idle--;
                w->call = k;
                (void) pthread_cond_signal(&w->cond);
                return;
        }
        TAILQ_INSERT_TAIL(&sim->queue, k, queue);
        sim->n_queued++;
        /* Without a new thread it waits until another call has ended; nobody may wait for it then. */
        if (start_thread(sim) < 0) {
                sim_log(sim, "no thread for a call: %u there are, %u calls wait", sim->n_threads, sim->n_queued);
                call_settle(k);
        }
}

static void run_func(struct call *k) {
        k->func(&k->c, k->data);
}

int sim_run(struct sim *sim, void (*func)(struct sim_call *c, void *data), void *data) {
        struct call *k = call_new(sim, run_func);

        if (!k)
                return -ENOMEM;
        k->func = func;
        k->data = data;
        call_submit(k);
        return 0;
}

/* ---- sleeping ---- */

/* From here on this thread's call counts as one that sleeps. */
static struct call *fall_asleep(pthread_cond_t *cond, bool interruptible) {
        struct call *k = current;

        if (!k)
                return NULL;
        call_watch(k);
        if (!interruptible)
                stuck_sleep(k, false);
        k->cond = cond;
        k->interruptible = interruptible;
        call_settle(k);
        return k;
}

int call_sleep(struct sim_call *c, pthread_cond_t *cond, bool interruptible, uint64_t absolute) {
        struct timespec t = { .tv_sec = (time_t) (absolute / 1000000), .tv_nsec = (long) (absolute % 1000000) * 1000 };
        struct call *k = fall_asleep(cond, interruptible);
        struct sim *sim = c->sim;
        int r;

        if (interruptible && c->gone)
                r = EINTR;
        else {
                sim->n_sleeping++;
                r = absolute ? pthread_cond_clockwait(cond, &sim->lock, CLOCK_MONOTONIC, &t) : pthread_cond_wait(cond, &sim->lock);
                sim->n_sleeping--;
        }
        if (k)
                k->cond = NULL;
        if (interruptible && c->gone)
                r = EINTR;
        return -r;
}

void sim_wait_init(struct sim_wait *w) {
        (void) pthread_cond_init(&w->cond, NULL);
}

void sim_wait_done(struct sim_wait *w) {
        (void) pthread_cond_destroy(&w->cond);
}

void sim_wait(struct sim_call *c, struct sim_wait *w) {
        (void) call_sleep(c, &w->cond, false, 0);
}

int sim_wait_timeout(struct sim_call *c, struct sim_wait *w, uint64_t milliseconds) {
        return call_sleep(c, &w->cond, false, sim_now_us() + milliseconds * 1000);
}

void sim_wake(struct sim_wait *w) {
        (void) pthread_cond_broadcast(&w->cond);
}

void sim_sleep(struct sim_call *c, uint64_t milliseconds) {
        uint64_t until = sim_now_us() + milliseconds * 1000;
        pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

        while (call_sleep(c, &cond, false, until) != -ETIMEDOUT)
                ;
        (void) pthread_cond_destroy(&cond);
}

void sim_outside(struct sim_call *c, void (*func)(void *data), void *data) {
        pthread_cond_t cond = PTHREAD_COND_INITIALIZER; /* nobody signals it */
        struct call *k = fall_asleep(&cond, false);
        struct sim *sim = c->sim;

        sim->n_sleeping++;
        sim_unlock(sim);
        func(data);
        sim_lock(sim);
        sim->n_sleeping--;
        if (k)
                k->cond = NULL;
        (void) pthread_cond_destroy(&cond);
}

/* ---- sleeping locks ---- */

struct sim_waiter {
        pthread_cond_t cond;
        bool write, granted;
        struct sim_waiter *next;
};

void sim_rwsem_init(struct sim_rwsem *l) {
        *l = (struct sim_rwsem){};
}

void sim_rwsem_done(_unused_ struct sim_rwsem *l) {
        assert(!l->writer && l->readers == 0 && !l->first);
}

static bool rwsem_free(const struct sim_rwsem *l, bool write) {
        return !l->writer && (!write || l->readers == 0);
}

static void rwsem_take(struct sim_rwsem *l, bool write) {
        if (write)
                l->writer = true;
        else
                l->readers++;
}

/* Hands the lock to whoever is first, and to all readers right behind a reader: rwsem_mark_wake(). */
static void rwsem_grant(struct sim_rwsem *l) {
        while (l->first && rwsem_free(l, l->first->write)) {
                struct sim_waiter *w = l->first;

                l->first = w->next;
                if (!l->first)
                        l->last = NULL;
                if (w->write)
                        l->waiting_writers--;
                rwsem_take(l, w->write);
                w->granted = true;
                (void) pthread_cond_signal(&w->cond);
        }
}

static void rwsem_forget(struct sim_rwsem *l, struct sim_waiter *w) {
        struct sim_waiter **p = &l->first, *before = NULL;

        while (*p != w) {
                before = *p;
                p = &before->next;
        }
        *p = w->next;
        if (l->last == w)
                l->last = before;
        if (w->write)
                l->waiting_writers--;
        rwsem_grant(l);
}

static int rwsem_down(struct sim_call *c, struct sim_rwsem *l, bool write, bool interruptible) {
        struct sim_waiter w = { .cond = PTHREAD_COND_INITIALIZER, .write = write };
        int r = 0;

        if (!l->first && rwsem_free(l, write)) {
                rwsem_take(l, write);
                return 0;
        }
        /* It stands in the queue no longer than this call lasts. */
        if (l->last)
                l->last->next = &w;
        else
                l->first = &w; // cppcheck-suppress autoVariables
        l->last = &w; // cppcheck-suppress autoVariables
        if (write)
                l->waiting_writers++;
        while (!w.granted && r != -EINTR)
                r = call_sleep(c, &w.cond, interruptible, 0);
        /* Granted and killed at the same time: it has the lock, as in the kernel. */
        if (w.granted)
                r = 0;
        else
                rwsem_forget(l, &w);
        (void) pthread_cond_destroy(&w.cond);
        return r;
}

void sim_down_read(struct sim_call *c, struct sim_rwsem *l) {
        (void) rwsem_down(c, l, false, false);
}

int sim_down_read_interruptible(struct sim_call *c, struct sim_rwsem *l) {
        return rwsem_down(c, l, false, true);
}

void sim_down_write(struct sim_call *c, struct sim_rwsem *l) {
        (void) rwsem_down(c, l, true, false);
}

int sim_down_write_interruptible(struct sim_call *c, struct sim_rwsem *l) {
        return rwsem_down(c, l, true, true);
}

bool sim_try_down_write(_unused_ struct sim_call *c, struct sim_rwsem *l) {
        if (l->first || !rwsem_free(l, true))
                return false;
        rwsem_take(l, true);
        return true;
}

void sim_up_read(_unused_ struct sim_call *c, struct sim_rwsem *l) {
        assert(l->readers > 0);
        l->readers--;
        rwsem_grant(l);
}

void sim_up_write(_unused_ struct sim_call *c, struct sim_rwsem *l) {
        assert(l->writer);
        l->writer = false;
        rwsem_grant(l);
}

/* ---- files ---- */

struct sim_file *sim_file_new(struct sim_call *c, const struct sim_file_ops *ops, void *data, int flags, const char *name,
                              const char *device) {
        struct open_file *o;
        struct peer *p;

        p = peer_get(c->sim, c->pid);
        if (!p)
                return NULL;
        o = calloc(1, sizeof(*o));
        if (!o) {
                peer_put(c->sim, p);
                return NULL;
        }
        o->f = (struct sim_file){ .ops = ops, .sim = c->sim, .data = data, .flags = flags, .opener = c->pid, .refs = 1 };
        snprintf(o->f.name, sizeof(o->f.name), "%s", strempty(name));
        snprintf(o->f.device, sizeof(o->f.device), "%s", strempty(device));
        p->files++;
        TAILQ_INSERT_TAIL(&c->sim->files, o, link);
        c->sim->n_files++;
        return &o->f;
}

struct sim_file *sim_file_get(struct sim_file *f) {
        assert(f->refs > 0);
        f->refs++;
        return f;
}

struct sim_file *sim_file_put(struct sim_call *c, struct sim_file *f) {
        struct open_file *o = (struct open_file *) f;
        struct sim *sim;
        struct peer *p;

        if (!f)
                return NULL;
        assert(f->refs > 0);
        if (--f->refs > 0)
                return NULL;
        sim = f->sim;
        if (f->ops && f->ops->release)
                f->ops->release(c, f);
        if (!o->tree)
                trace_release(c, f);
        TAILQ_REMOVE(&sim->files, o, link);
        sim->n_files--;
        p = peer_get(sim, f->opener);
        if (p) {
                if (p->files > 0)
                        p->files--;
                peer_put(sim, p);
        }
        free(o);
        return NULL;
}
