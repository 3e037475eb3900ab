/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The room's door: what its callers may do, and how a map gets into the table. */
#include <inttypes.h>
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

/* ---- the VM ---- */

int dma_new(TdiHost *host, const struct dma_limits *limits, struct dma **ret) {
        pthread_condattr_t attr;
        struct dma *d;

        d = calloc(1, sizeof(*d));
        if (!d)
                return -ENOMEM;
        d->host = host;
        d->limits = *limits;
        if (d->limits.granules == 0)
                d->limits.granules = DMA_GRANULES;
        d->iommufd = -EBADF;
        d->said_end = &d->said;
        (void) pthread_mutex_init(&d->lock, NULL);
        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&d->changed, &attr);
        (void) pthread_cond_init(&d->bars_work, NULL);
        (void) pthread_condattr_destroy(&attr);
        *ret = d;
        return 0;
}

/* Of peers that were replaced; all of them, or those that do not sleep. Lock held, and again afterwards. */
static void free_retired(struct dma *d, bool all) {
        struct dma_peer **at = &d->retired;

        while (*at) {
                struct dma_peer *p = *at;

                if (!all && p->helper && !dma_helper_idle(p->helper)) {
                        at = &p->next;
                        continue;
                }
                *at = p->next;
                (void) pthread_mutex_unlock(&d->lock);
                (void) dma_helper_free(p->helper);
                (void) pthread_mutex_destroy(&p->reading);
                free(p);
                dma_lock(d);
                /* Others may have come to the list, or gone from it. */
                at = &d->retired;
        }
}

struct dma *dma_free(struct dma *d) {
        if (!d)
                return NULL;
        dma_bars_stop(d);
        dma_lock(d);
        dma_peer_put(d, TAKE_PTR(d->peer));
        free_retired(d, true);
        dma_unlock(d);
        (void) pthread_cond_destroy(&d->bars_work);
        (void) pthread_cond_destroy(&d->changed);
        (void) pthread_mutex_destroy(&d->lock);
        free(d);
        return NULL;
}

void dma_set_iommufd(struct dma *d, int iommufd) {
        d->iommufd = iommufd;
}

static void replace_peer(struct dma *d, struct dma_peer *p) {
        struct dma_peer *before;

        dma_lock(d);
        if (p)
                p->serial = ++d->last_serial;
        before = d->peer;
        d->peer = p;
        if (before && before->helper)
                dma_helper_end(before->helper);
        dma_peer_put(d, before);
        dma_changed(d);
        /* Nobody is told anything here, and the descriptor that may wait to be closed is one of /proc. */
        (void) pthread_mutex_unlock(&d->lock);
}

void dma_set_peer(struct dma *d, int maps, int helper) {
        struct dma_peer *p;
        int fd = maps;

        /* It has ended: the next one is waited for. */
        if (maps < 0) {
                close_fd(helper);
                replace_peer(d, NULL);
                return;
        }
        p = calloc(1, sizeof(*p));
        if (!p || (helper >= 0 && dma_helper_new(helper, &p->helper) < 0)) {
                /* As without a peer: its maps fail. */
                if (!p)
                        close_fd(helper);
                free(p);
                close_fd(fd);
                return;
        }
        p->refs = 1;
        p->maps = fd;
        (void) pthread_mutex_init(&p->reading, NULL);
        replace_peer(d, p);
}

/* ---- clients ---- */

int dma_client_new(struct dma *d, uint32_t ioas, bool peer_to_peer, dma_notify notify, void *userdata, struct dma_client **ret) {
        struct dma_client *c;
        int r;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->d = d;
        c->notify = notify;
        c->userdata = userdata;
        c->master = DMA_MASTER_YES;
        c->patience = DMA_WAIT_MSEC;
        c->queue_end = &c->queue;
        dma_lock(d);
        free_retired(d, false);
        r = dma_space_get(d, ioas, &c->space);
        if (r < 0) {
                dma_unlock(d);
                free(c);
                return r;
        }
        while (c->slot < DMA_CLIENTS_MAX && c->space->clients[c->slot])
                c->slot++;
        if (c->slot < DMA_CLIENTS_MAX)
                c->space->clients[c->slot] = c;
        else
                r = -EUSERS;
        dma_unlock(d);
        if (r == 0)
                r = dma_read_windows(c->space);
        if (r < 0) {
                dma_lock(d);
                if (c->slot < DMA_CLIENTS_MAX)
                        c->space->clients[c->slot] = NULL;
                dma_space_put(c->space);
                dma_unlock(d);
                free(c);
                return r;
        }
        (void) pthread_cond_init(&c->work, NULL);
        dma_lock(d);
        dma_bars_join(c, peer_to_peer);
        dma_unlock(d);
        *ret = c;
        return 0;
}

void dma_client_clear(struct dma_client *c) {
        struct dma *d = c->d;
        uint64_t bytes = 0;
        int r;

        dma_lock(d);
        r = dma_unmap_range(c, 0, RANGE_PAGE_MAX, NULL, &bytes);
        if (r < 0) {
                char text[DMA_WHY];

                snprintf(text, sizeof(text), "IOMMU_IOAS_UNMAP of IOAS %u failed: %s; the memory stays mapped until the VM closes",
                         c->space->ioas, strerror(-r));
                dma_say(c, DMA_EVENT_FAILED, text);
        }
        d->maps -= c->failed.n;
        ranges_clear(&c->failed);
        c->failed_lost = false;
        dma_update_master(c);
        c->told_unbacked = false;
        c->told_failed = 0;
        dma_unlock(d);
}

struct dma_client *dma_client_free(struct dma_client *c) {
        struct dma *d;

        if (!c)
                return NULL;
        d = c->d;
        dma_client_clear(c);
        /* What other clients of the space have come to wait for is still made. */
        dma_queue_stop(c);
        dma_lock(d);
        while (c->background > 0 || c->telling > 0)
                (void) dma_wait(d, NULL);
        dma_bars_leave(c);
        c->space->clients[c->slot] = NULL;
        dma_space_put(c->space);
        free_retired(d, false);
        dma_unlock(d);
        (void) pthread_cond_destroy(&c->work);
        free(c);
        return NULL;
}

/* ---- unmap ---- */

/* Does it end in the middle of something that the client has? */
static bool is_cut(const struct dma_client *c, uint64_t iova, uint64_t last) {
        const struct range *e;

        e = ranges_seek(&c->space->table, iova >> RANGE_SHIFT, NULL);
        if (e && (e->holders & dma_bit(c)) && range_iova(e) < iova)
                return true;
        e = ranges_seek(&c->space->table, last >> RANGE_SHIFT, NULL);
        return e && (e->holders & dma_bit(c)) && range_iova(e) <= last && last - range_iova(e) < range_bytes(e) - 1;
}

void dma_client_lose(struct dma_client *c) {
        dma_lock(c->d);
        c->failed_lost = true;
        dma_update_master(c);
        dma_unlock(c->d);
}

void dma_client_set_patience(struct dma_client *c, unsigned msec) {
        c->patience = msec < DMA_WAIT_MSEC ? msec : DMA_WAIT_MSEC;
}

static int unmap(struct dma_client *c, uint64_t iova, uint64_t last, uint64_t *bytes) {
        struct timespec deadline = dma_deadline(c->patience);
        uint64_t first_page = iova >> RANGE_SHIFT, last_page = last >> RANGE_SHIFT, failed;
        int r = 0;

        /* Whole pages; a part of one at either end can only be of what has failed. */
        first_page += !!(iova % RANGE_PAGE);
        if ((last + 1) % RANGE_PAGE == 0 || last_page > 0) {
                last_page -= (last + 1) % RANGE_PAGE != 0;
                if (first_page <= last_page)
                        r = dma_unmap_range(c, first_page, last_page, &deadline, bytes);
        }
        if (r < 0)
                return r;
        failed = dma_unfail(c, iova >> RANGE_SHIFT, last >> RANGE_SHIFT);
        /* All of it unmapped: more than could be noted is no longer there either. */
        if (iova == 0 && last == UINT64_MAX)
                c->failed_lost = false;
        /* A client that has not heard of the failure unmaps what it believes to be there. */
        if (*bytes == 0)
                *bytes = failed > RANGE_PAGE_MAX ? UINT64_MAX : failed << RANGE_SHIFT;
        dma_update_master(c);
        return 0;
}

int dma_unmap(struct dma_client *c, uint64_t iova, uint64_t size, uint64_t *ret_unmapped) {
        uint64_t bytes = 0, last = iova + (size - 1);
        int r;

        if (size == 0 || last < iova)
                return -EINVAL;
        dma_lock(c->d);
        r = is_cut(c, iova, last) ? -EINVAL : unmap(c, iova, last, &bytes);
        dma_unlock(c->d);
        if (r < 0)
                return r;
        if (bytes == 0)
                return -ENOENT;
        if (ret_unmapped)
                *ret_unmapped = bytes;
        return 0;
}

int dma_unmap_all(struct dma_client *c, uint64_t *ret_unmapped) {
        uint64_t bytes = 0;
        int r;

        dma_lock(c->d);
        r = unmap(c, 0, UINT64_MAX, &bytes);
        dma_unlock(c->d);
        if (r == 0 && ret_unmapped)
                *ret_unmapped = bytes;
        return r;
}
