/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Maps that are made later: a queue and a thread for each client that needs one. */
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

static void *run(void *userdata) {
        struct dma_client *c = userdata;
        struct dma *d = c->d;

        dma_lock(d);
        for (;;) {
                struct dma_job *j = c->queue;

                if (!j) {
                        if (c->stop)
                                break;
                        (void) pthread_cond_wait(&c->work, &d->lock);
                        continue;
                }
                /* Whoever unmaps may take it out of the queue meanwhile: it is looked at again. */
                if (dma_job_blocked(j)) {
                        (void) dma_wait(d, dma_is_over(&j->patience) ? NULL : &j->patience);
                        continue;
                }
                (void) take_first(c);
                dma_job_begin(j);
                dma_changed(d);
                dma_unlock(d);
                dma_job_run(j);
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
        dma_unlock(d);
        if (c->has_thread)
                (void) pthread_join(c->thread, NULL);
}
