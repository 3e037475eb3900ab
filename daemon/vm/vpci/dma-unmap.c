/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Unmapping. The kernel unmaps all that lies wholly in a range by one call: so one call for every run of entries that go, up to the
 * next one that stays. The guard keeps others out of the whole range until the kernel is done; what they hold there stays theirs.
 */
#include "vm/vpci/dma-internal.h"

/* Entries that one call takes away, and that the table loses without letting go of the lock. */
#define RUN_MAX 8192

struct run {
        uint64_t first, last;
        size_t n;
};

/* What a filter takes away. */
struct dropping {
        struct dma_client *c;
        uint64_t bytes;
};

/* The next job, from @j on, by which the kernel maps in the range what only the client holds. */
static struct dma_job *find_running(const struct dma_client *c, struct dma_job *j, uint64_t first, uint64_t last) {
        while (j && (j->leaver || j->r.first < first || range_last(&j->r) > last || dma_entry(c->space, j->r.first)->holders != dma_bit(c)))
                j = j->next_running;
        return j;
}

/* Is anything that the client has left still there? */
static bool has_left(const struct dma_client *c) {
        for (const struct dma_job *j = c->space->running; j; j = j->next_running)
                if (j->leaver == c)
                        return true;
        return false;
}

/*
 * The kernel takes too long: the client need not wait for it, because a VMM would take no notice of an error. What is being mapped leaves the
 * table, and is unmapped when the job ends. It is pending until then, and what is mapped there next waits for it. Its pages are no longer
 * among those that the VM may have, but of such pages there are no more than of those. Whether all of it has gone.
 */
static bool leave(struct dma_client *c, uint64_t first, uint64_t last, uint64_t *bytes) {
        struct dma_space *s = c->space;
        struct dma *d = c->d;

        for (struct dma_job *j = find_running(c, s->running, first, last); j; j = find_running(c, j->next_running, first, last)) {
                struct ranges_at at;
                struct range *e = ranges_seek(&s->table, j->r.first, &at);

                if (d->left_bytes > d->limits.bytes || range_bytes(e) > d->limits.bytes - d->left_bytes)
                        return false;
                d->left_bytes += range_bytes(e);
                *bytes += range_bytes(e);
                dma_client_lost(c, e);
                c->pending++;
                /* The job needs the file until its end. */
                d->files[e->file]->entries++;
                dma_entry_gone(s, e);
                ranges_remove(&s->table, at);
                j->leaver = c;
                j->hold = (struct dma_guard){ .first = j->r.first, .last = range_last(&j->r), .leaves = true };
                dma_guard(s, &j->hold);
        }
        dma_update_master(c);
        return true;
}

/* The next entries to unmap, from @from on. What the kernel has and that stays ends it. */
static struct run next_run(const struct dma_client *c, uint64_t from, uint64_t first, uint64_t last, size_t max) {
        struct run run = {};
        struct ranges_at at;

        for (struct range *e = ranges_seek(&c->space->table, from, &at); e && e->first <= last; e = ranges_next(&c->space->table, &at)) {
                if (e->state == DMA_UNBACKED)
                        continue;
                if (e->state == DMA_MAPPED && e->holders == dma_bit(c) && e->first >= first && range_last(e) <= last) {
                        if (run.n == 0)
                                run.first = e->first;
                        run.last = range_last(e);
                        if (++run.n == max)
                                break;
                } else if (run.n > 0)
                        break;
        }
        return run;
}

static bool drop_mapped(struct range *r, void *userdata) {
        struct dropping *dropping = userdata;

        if (r->state != DMA_MAPPED || r->holders != dma_bit(dropping->c))
                return true;
        dropping->bytes += range_bytes(r);
        dma_client_lost(dropping->c, r);
        dma_entry_gone(dropping->c->space, r);
        return false;
}

/* What others hold too, and what the kernel knows nothing of. */
static bool drop_hold(struct range *r, void *userdata) {
        struct dropping *dropping = userdata;
        struct dma_client *c = dropping->c;

        if (!(r->holders & dma_bit(c)) || (r->holders == dma_bit(c) && r->state != DMA_UNBACKED))
                return true;
        dropping->bytes += range_bytes(r);
        dma_client_lost(c, r);
        r->holders &= ~dma_bit(c);
        if (r->holders)
                return true;
        dma_entry_gone(c->space, r);
        return false;
}

/* The kernel has stopped somewhere in the run: entry by entry, to know which are left. The lock is let go meanwhile. */
static int unmap_each(struct dma_client *c, struct run run, bool force, uint64_t *bytes) {
        int error = 0, r;

        for (uint64_t at = run.first;;) {
                struct dropping dropping = { .c = c };
                /* Nothing of this client's changes meanwhile: the guard is on it. */
                struct run one = next_run(c, at, run.first, run.last, 1);

                if (one.n == 0)
                        break;
                (void) pthread_mutex_unlock(&c->d->lock);
                r = dma_kernel_unmap(c->d, c->space->ioas, one.first, one.last);
                dma_lock(c->d);
                if (r >= 0 || r == -ENOENT)
                        (void) ranges_filter(&c->space->table, one.first, one.last, drop_mapped, &dropping);
                else {
                        error = r;
                        if (force) {
                                struct range *e = dma_entry(c->space, one.first);

                                dma_client_lost(c, e);
                                e->holders = 0;
                        }
                }
                *bytes += dropping.bytes;
                at = one.last + 1;
        }
        return error;
}

static int unmap_runs(struct dma_client *c, uint64_t first, uint64_t last, bool force, uint64_t *bytes) {
        struct dropping dropping = { .c = c };
        int error = 0, r;

        for (uint64_t at = first; at <= last;) {
                struct run run = next_run(c, at, first, last, RUN_MAX);

                if (run.n == 0)
                        break;
                (void) pthread_mutex_unlock(&c->d->lock);
                r = dma_kernel_unmap(c->d, c->space->ioas, run.first, run.last);
                dma_lock(c->d);
                if (r < 0) {
                        r = unmap_each(c, run, force, bytes);
                        if (r < 0)
                                error = r;
                } else
                        (void) ranges_filter(&c->space->table, run.first, run.last, drop_mapped, &dropping);
                at = run.last + 1;
        }
        (void) ranges_filter(&c->space->table, first, last, drop_hold, &dropping);
        *bytes += dropping.bytes;
        return error;
}

int dma_unmap_range(struct dma_client *c, uint64_t first, uint64_t last, const struct timespec *deadline, uint64_t *bytes) {
        struct dma_guard guard = { .first = first, .last = last, .unmaps = true };
        struct dma_space *s = c->space;
        int r;

        while (dma_guarded_memory(s, first, last))
                if (dma_wait(c->d, deadline) < 0)
                        return -EBUSY;
        dma_guard(s, &guard);
        while (dma_guarded(s, first, last, false) || find_running(c, s->running, first, last) || (!deadline && has_left(c)))
                if (dma_wait(c->d, deadline) < 0) {
                        if (!dma_guarded(s, first, last, false) && leave(c, first, last, bytes))
                                break;
                        dma_unguard(s, &guard);
                        return -EBUSY;
                }
        (void) dma_queue_cancel(c, first, last, bytes);
        r = unmap_runs(c, first, last, !deadline, bytes);
        dma_unguard(s, &guard);
        return r;
}
