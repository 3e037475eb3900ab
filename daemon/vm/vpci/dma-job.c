/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One map, from the question to the kernel to its end. Equal memory that another space has is copied from there (IOMMU_IOAS_COPY), which
 * pins nothing anew; where that fails it is mapped from its file. With a helper the answer comes in the helper's thread.
 */
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

/* What a map may take before it is thought to be stuck: so long, and so long for each GiB. */
#define OVERDUE_MSEC 20000
#define OVERDUE_MSEC_GIB 2000
/* So long the thread that asks takes the answer itself. */
#define TAKE_MSEC 100

struct dma_job *dma_job_free(struct dma_job *j) {
        if (j)
                free(j->why);
        free(j);
        return NULL;
}

unsigned dma_job_overdue(const struct range *r) {
        uint64_t msec = OVERDUE_MSEC + (range_bytes(r) >> 30) * OVERDUE_MSEC_GIB;

        return msec < UINT32_MAX ? (unsigned) msec : UINT32_MAX;
}

struct timespec dma_job_patience(const struct range *r) {
        return dma_deadline(dma_job_overdue(r));
}

/* ---- before ---- */

/* Another space's job for the same memory that the kernel works on: its end is worth waiting for, but for one that is stuck. */
static bool runs_elsewhere(const struct dma_job *j) {
        for (const struct dma_space *s = j->client->d->spaces; s; s = s->next) {
                if (s == j->client->space)
                        continue;
                for (const struct dma_job *other = s->running; other; other = other->next_running)
                        if (range_same(&other->r, &j->r))
                                return true;
        }
        return false;
}

bool dma_job_blocked(const struct dma_job *j) {
        const struct dma_space *s = j->client->space;

        return dma_guarded(s, j->r.first, range_last(&j->r), true) || dma_is_left(s, j->r.first, range_last(&j->r)) ||
               (runs_elsewhere(j) && !dma_is_over(&j->patience));
}

static struct dma_space *find_source(const struct dma_job *j) {
        /* There was none when it was counted, just now. */
        if (j->r.counted && !j->background)
                return NULL;
        for (struct dma_space *s = j->client->d->spaces; s; s = s->next) {
                const struct range *found;

                if (s == j->client->space)
                        continue;
                found = ranges_seek(&s->table, j->r.first, NULL);
                /* A copy may not have more rights than the pages were pinned with. */
                if (found && found->state == DMA_MAPPED && range_same(found, &j->r) && found->writable >= j->r.writable &&
                    !dma_guarded(s, found->first, range_last(found), true))
                        return s;
        }
        return NULL;
}

void dma_job_begin(struct dma_job *j) {
        struct dma_space *s = j->client->space;
        struct range *e = dma_entry(s, j->r.first);

        e->state = DMA_RUNNING;
        j->next_running = s->running;
        s->running = j;
        j->source = find_source(j);
        if (j->source) {
                j->guard = (struct dma_guard){ .first = j->r.first, .last = range_last(&j->r) };
                dma_guard(j->source, &j->guard);
        }
}

/* ---- after ---- */

/* The kernel says EINVAL of what it has reserved: which window is it? Lock not held. */
static int explain(const struct dma_job *j, int r, char why[static DMA_WHY]) {
        struct dma_space *s = j->client->space;

        snprintf(why, DMA_WHY, "IOMMU_IOAS_MAP_FILE failed");
        if (r != -EINVAL || dma_read_windows(s) < 0)
                return r;
        dma_lock(s->d);
        if (!dma_in_windows(s, range_iova(&j->r), range_bytes(&j->r))) {
                dma_name_windows(s, range_iova(&j->r), range_bytes(&j->r), why);
                r = -EADDRNOTAVAIL;
        }
        (void) pthread_mutex_unlock(&s->d->lock);
        return r;
}

static void end_well(struct dma_space *s, struct range *e) {
        bool was_background = e->background;

        e->state = DMA_MAPPED;
        e->background = false;
        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++) {
                struct dma_client *c = s->clients[i];

                if (!c || !(e->holders & dma_bit(c)))
                        continue;
                c->pending -= was_background;
                (void) dma_unfail(c, e->first, range_last(e));
                dma_update_master(c);
        }
}

/* Who was told that it would be mapped is told that it is not; who waits for the result hears it from dma_map(). */
static void end_badly(struct dma_space *s, struct range r, int error, const char *why) {
        dma_remove_entry(s, r.first);
        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++) {
                struct dma_client *c = s->clients[i];

                if (!c || !(r.holders & dma_bit(c)))
                        continue;
                dma_client_lost(c, &r);
                if (r.background)
                        dma_fail(c, range_iova(&r), range_bytes(&r), error, why);
        }
}

/* It was unmapped before it was mapped. */
static void end_left(struct dma_space *s, struct dma_job *j) {
        s->d->left_bytes -= range_bytes(&j->r);
        dma_put_file(s->d, j->r.file);
        j->leaver->pending--;
        dma_update_master(j->leaver);
        dma_unguard(s, &j->hold);
}

static void end(struct dma_job *j, int r) {
        struct dma_client *c = j->client;
        struct dma_space *s = c->space;
        struct dma *d = c->d;
        char why[DMA_WHY] = "";

        /* It may have ended between the kernel's answer and its own. */
        if (r == -EPIPE)
                (void) dma_kernel_unmap(d, s->ioas, j->r.first, range_last(&j->r));
        /* Pages that are pinned cannot be sealed any more (memfd_wait_for_pins): the check before was not the last word, this is. */
        if (r < 0)
                r = explain(j, r, why);
        else if (j->r.writable) {
                r = dma_check_seals(j->fd, why);
                if (r < 0)
                        (void) dma_kernel_unmap(d, s->ioas, j->r.first, range_last(&j->r));
        }
        if (r < 0)
                j->why = strdup(why);
        dma_lock(d);
        if (j->leaver && r == 0) {
                (void) pthread_mutex_unlock(&d->lock);
                (void) dma_kernel_unmap(d, s->ioas, j->r.first, range_last(&j->r));
                dma_lock(d);
        }
        for (struct dma_job **at = &s->running; *at; at = &(*at)->next_running)
                if (*at == j) {
                        *at = j->next_running;
                        break;
                }
        dma_file_end(d, j->r.file);
        if (j->leaver)
                end_left(s, j);
        else if (r == 0)
                end_well(s, dma_entry(s, j->r.first));
        else
                end_badly(s, *dma_entry(s, j->r.first), r, why);
        if (j->background) {
                c->background--;
                (void) pthread_cond_signal(&c->work);
        }
        j->result = r;
        j->done = true;
        dma_changed(d);
        if (j->left)
                (void) dma_job_free(j);
        dma_unlock(d);
}

void dma_job_refuse(struct dma_job *j, int r, const char *why) {
        struct dma_client *c = j->client;

        dma_file_end(c->d, j->r.file);
        end_badly(c->space, *dma_entry(c->space, j->r.first), r, why);
        c->background--;
        dma_changed(c->d);
        (void) dma_job_free(j);
}

/* One answer of the kernel. Whether it has to be asked again, for the file itself. */
static bool answered(struct dma_job *j, int r) {
        bool copied = false;

        if (j->source) {
                dma_lock(j->client->d);
                dma_unguard(j->source, &j->guard);
                j->source = NULL;
                (void) pthread_mutex_unlock(&j->client->d->lock);
                copied = true;
        }
        if (copied && r < 0)
                return true;
        end(j, r);
        return false;
}

/* ---- the question ---- */

static int ask_kernel(const struct dma_job *j, uint32_t flags) {
        struct dma *d = j->client->d;
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = flags | TDI_IOMMU_IOAS_MAP_FIXED_IOVA,
                .ioas_id = j->client->space->ioas,
                .fd = j->fd,
                .start = (uint64_t) j->r.offset << RANGE_SHIFT,
                .length = range_bytes(&j->r),
                .iova = range_iova(&j->r),
        };
        struct tdi_iommu_ioas_copy copy = {
                .size = sizeof(copy),
                .flags = map.flags,
                .dst_ioas_id = map.ioas_id,
                .length = map.length,
                .dst_iova = map.iova,
                .src_iova = map.iova,
        };
        int r;

        if (j->source) {
                copy.src_ioas_id = j->source->ioas;
                r = host_ioctl(d->host, d->iommufd, TDI_IOMMU_IOAS_COPY, &copy);
        } else
                r = host_ioctl(d->host, d->iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map);
        return r < 0 ? r : 0;
}

/* It is told of like a failure, and cleared by its end. Lock not held. */
static void overdue(struct dma_job *j) {
        struct dma_space *s = j->client->space;
        struct range r;

        dma_lock(s->d);
        if (!j->leaver) {
                r = *dma_entry(s, j->r.first);
                for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++)
                        if (s->clients[i] && (r.holders & dma_bit(s->clients[i])))
                                dma_fail(s->clients[i], range_iova(&r), range_bytes(&r), -ETIMEDOUT,
                                         "the process that maps in the VMM's cgroup does not answer");
        }
        dma_unlock(s->d);
}

static void on_answer(int r, void *userdata) {
        struct dma_job *j = userdata;

        if (r == -EINPROGRESS)
                overdue(j);
        else if (answered(j, r))
                dma_job_run(j, false);
}

/* 1: on_answer() has it from here on, and may have ended it. */
static int ask_helper(struct dma_job *j, struct dma_helper *h, uint32_t flags, bool waits) {
        struct dma_helper_request q = {
                .op = j->source ? DMA_HELPER_COPY : DMA_HELPER_MAP,
                .ioas = j->client->space->ioas,
                .source = j->source ? j->source->ioas : 0,
                .flags = flags,
                .iova = range_iova(&j->r),
                .size = range_bytes(&j->r),
                .offset = (uint64_t) j->r.offset << RANGE_SHIFT,
        };
        bool take = false;
        int r;

        r = dma_helper_submit(h, &q, j->source ? -EBADF : j->fd, dma_job_overdue(&j->r), on_answer, j, waits ? &take : NULL);
        if (take)
                dma_helper_take(h, q.id, TAKE_MSEC);
        return r < 0 ? r : 1;
}

void dma_job_run(struct dma_job *j, bool waits) {
        struct dma *d = j->client->d;
        uint32_t flags = (j->r.readable ? TDI_IOMMU_IOAS_MAP_READABLE : 0) | (j->r.writable ? TDI_IOMMU_IOAS_MAP_WRITEABLE : 0);
        struct dma_peer *peer;
        bool replaced;
        int r;

        do {
                dma_lock(d);
                peer = dma_peer_get(d);
                (void) pthread_mutex_unlock(&d->lock);
                r = peer && peer->helper ? ask_helper(j, peer->helper, flags, waits) : ask_kernel(j, flags);
                dma_lock(d);
                /* A helper that was replaced meanwhile takes nothing: its successor does. */
                replaced = r == -ESHUTDOWN && peer != d->peer;
                dma_peer_put(d, peer);
                (void) pthread_mutex_unlock(&d->lock);
        } while (replaced || (r <= 0 && answered(j, r)));
}
