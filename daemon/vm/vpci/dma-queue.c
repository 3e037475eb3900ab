/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Maps that are made later: a queue and a thread for each client that needs one. */
#include <stdio.h>

#include "vm/vpci/dma-internal.h"
#include "vm/vpci/thread.h"

static struct dma_job *take_first(struct dma_client *c) {
        struct dma_job *j = c->queue;

        c->queue = j->next;
        if (!c->queue)
                c->queue_end = &c->queue;
        j->next = NULL;
        c->n_queue--;
        return j;
}

/* The check that had to wait for the peer. Lock held; may be let go: -EAGAIN when the queue has to be looked at again. */
static int check(struct dma_job *j, char why[static DMA_WHY]) {
        struct dma *d = j->client->d;
        const struct dma_file *f = d->files[j->r.file];
        struct dma_span *spans = NULL;
        dev_t dev = f->dev;
        ino_t ino = f->ino;
        uint64_t serial;
        size_t n = 0;
        int i;

        if (!d->peer) {
                struct timespec until = j->patience;

                /* The job may have gone when the wait is over. */
                if (!j->client->stop && !dma_is_over(&until)) {
                        (void) dma_wait(d, &until);
                        return -EAGAIN;
                }
                snprintf(why, DMA_WHY, "nothing is known of the process that the memory is of");
                return -ENOTCONN;
        }
        if (f->serial == d->peer->serial) {
                j->unchecked = false;
                j->patience = dma_job_patience(&j->r);
                return dma_is_mapped_by_peer(f->spans, f->n_spans, (uint64_t) j->r.offset << RANGE_SHIFT, range_bytes(&j->r), why);
        }
        /* What cannot be read is not mapped. The job and the file may have gone meanwhile. */
        (void) dma_read_peer(d, dev, ino, &spans, &n, &serial, why);
        i = dma_find_file(d, dev, ino);
        if (i > 0)
                dma_file_learn(d, (unsigned) i, &spans, n, serial);
        free(spans);
        return -EAGAIN;
}

static void *run(void *userdata) {
        struct dma_client *c = userdata;
        struct dma *d = c->d;
        char why[DMA_WHY];
        int r;

        dma_lock(d);
        for (;;) {
                struct dma_job *j = c->queue;

                if (!j) {
                        if (c->stop)
                                break;
                        (void) pthread_cond_wait(&c->work, &d->lock);
                        continue;
                }
                r = j->unchecked ? check(j, why) : 0;
                if (r == -EAGAIN)
                        continue;
                if (r < 0) {
                        dma_job_refuse(take_first(c), r, why);
                        /* It is told, and its file closed, with the lock let go. */
                        dma_unlock(d);
                        dma_lock(d);
                        continue;
                }
                /* Whoever unmaps may take it out of the queue meanwhile: it is looked at again. */
                if (dma_job_blocked(j)) {
                        struct timespec until = j->patience;

                        (void) dma_wait(d, dma_is_over(&until) ? NULL : &until);
                        continue;
                }
                (void) take_first(c);
                dma_job_begin(j);
                dma_changed(d);
                dma_unlock(d);
                dma_job_run(j, false);
                dma_lock(d);
                while (!j->done)
                        (void) dma_wait(d, NULL);
                (void) dma_job_free(j);
        }
        dma_unlock(d);
        return NULL;
}

int dma_queue_start(struct dma_client *c) {
        int r;

        if (c->has_thread)
                return 0;
        r = thread_start(&c->thread, run, c);
        c->has_thread = r == 0;
        return r < 0 ? -EAGAIN : 0;
}

void dma_queue_add(struct dma_client *c, struct dma_job *j) {
        *c->queue_end = j;
        c->queue_end = &j->next;
        c->n_queue++;
        (void) pthread_cond_signal(&c->work);
}

/* Jobs of @owner that nobody but @c waits for. */
static size_t cancel(struct dma_client *owner, struct dma_client *c, uint64_t first, uint64_t last, uint64_t *bytes) {
        struct dma_job **at = &owner->queue;
        size_t n = 0;

        while (*at) {
                struct dma_job *j = *at;
                struct range *e = dma_entry(c->space, j->r.first);

                if (j->r.first < first || range_last(&j->r) > last || e->holders != dma_bit(c)) {
                        at = &j->next;
                        continue;
                }
                *at = j->next;
                owner->n_queue--;
                owner->background--;
                *bytes += range_bytes(&j->r);
                dma_client_lost(c, e);
                dma_file_end(c->d, j->r.file);
                dma_remove_entry(c->space, j->r.first);
                (void) dma_job_free(j);
                n++;
        }
        owner->queue_end = at;
        return n;
}

size_t dma_queue_cancel(struct dma_client *c, uint64_t first, uint64_t last, uint64_t *bytes) {
        size_t n = 0;

        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++)
                if (c->space->clients[i])
                        n += cancel(c->space->clients[i], c, first, last, bytes);
        if (n > 0)
                dma_changed(c->d);
        return n;
}

void dma_queue_stop(struct dma_client *c) {
        struct dma *d = c->d;

        dma_lock(d);
        c->stop = true;
        (void) pthread_cond_signal(&c->work);
        dma_changed(d);
        dma_unlock(d);
        if (c->has_thread)
                (void) pthread_join(c->thread, NULL);
}
