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
        d->iommufd = -EBADF;
        d->said_end = &d->said;
        (void) pthread_mutex_init(&d->lock, NULL);
        (void) pthread_condattr_init(&attr);
        (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&d->changed, &attr);
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
        dma_lock(d);
        dma_peer_put(d, TAKE_PTR(d->peer));
        free_retired(d, true);
        dma_unlock(d);
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

int dma_client_new(struct dma *d, uint32_t ioas, dma_notify notify, void *userdata, struct dma_client **ret) {
        struct dma_client *c;
        int r;

        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->d = d;
        c->notify = notify;
        c->userdata = userdata;
        c->allowed = true;
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
        c->space->clients[c->slot] = NULL;
        dma_space_put(c->space);
        free_retired(d, false);
        dma_unlock(d);
        (void) pthread_cond_destroy(&c->work);
        free(c);
        return NULL;
}

/* ---- map ---- */

struct request {
        uint64_t iova, size, offset;
        bool readable, writable;
        int fd;
        bool backed;
        dev_t dev;
        ino_t ino;
        struct dma_span *spans; /* what the peer maps of the file, when it was read just now */
        size_t n_spans;
        uint64_t serial;
        struct timespec deadline;
        char why[DMA_WHY];
};

static void request_done(struct request *q) {
        close_fd(q->fd);
        free(q->spans);
}

static int check_numbers(struct request *q) {
        if ((q->iova | q->size) % RANGE_PAGE || (q->backed && q->offset % RANGE_PAGE)) {
                snprintf(q->why, sizeof(q->why), "address, size and offset must be multiples of 4096");
                return -EINVAL;
        }
        if (q->backed && !q->readable && !q->writable) {
                snprintf(q->why, sizeof(q->why), "neither reading nor writing is asked for");
                return -EINVAL;
        }
        return 0;
}

/* Lock held; may be let go. What the peer maps of the file is remembered with the file, as long as it has any map. */
static int check_peer(struct dma_client *c, struct request *q) {
        struct timespec deadline = dma_deadline(c->patience < DMA_PEER_WAIT_MSEC ? c->patience : DMA_PEER_WAIT_MSEC);
        struct dma *d = c->d;
        uint64_t first = q->offset >> RANGE_SHIFT, last = (q->offset + q->size - 1) >> RANGE_SHIFT;
        struct dma_peer *peer;
        int i, r;

        while (!d->peer)
                if (dma_wait(d, &deadline) < 0) {
                        snprintf(q->why, sizeof(q->why), "nothing is known of the process that the memory is of");
                        return -ENOTCONN;
                }
        i = dma_find_file(d, q->dev, q->ino);
        if (i > 0 && d->files[i]->serial == d->peer->serial && dma_spans_cover(d->files[i]->spans, d->files[i]->n_spans, first, last))
                return 0;
        peer = dma_peer_get(d);
        (void) pthread_mutex_unlock(&d->lock);
        (void) pthread_mutex_lock(&peer->reading);
        r = dma_read_maps(d->host, peer->maps, q->dev, q->ino, &q->spans, &q->n_spans);
        (void) pthread_mutex_unlock(&peer->reading);
        dma_lock(d);
        q->serial = peer->serial;
        dma_peer_put(d, peer);
        if (r < 0) {
                snprintf(q->why, sizeof(q->why), "the process's memory map cannot be read");
                return r;
        }
        if (!dma_spans_cover(q->spans, q->n_spans, first, last)) {
                snprintf(q->why, sizeof(q->why), "the process does not map 0x%" PRIx64 " bytes at offset 0x%" PRIx64
                         " of the file shared (share=on, and one file for each backend)", q->size, q->offset);
                return -EACCES;
        }
        return 0;
}

/* Lock held; may be let go. The windows change with what is attached: none is refused by what was read long ago. */
static int check_windows(struct dma_client *c, struct request *q) {
        int r;

        if (dma_in_windows(c->space, q->iova, q->size))
                return 0;
        (void) pthread_mutex_unlock(&c->d->lock);
        r = dma_read_windows(c->space);
        dma_lock(c->d);
        if (r < 0)
                return r;
        if (dma_in_windows(c->space, q->iova, q->size))
                return 0;
        dma_name_windows(c->space, q->iova, q->size, q->why);
        return -EADDRNOTAVAIL;
}

static int check(struct dma_client *c, struct request *q) {
        int r;

        if (q->backed) {
                r = dma_check_file(c->d->host, q->fd, q->offset, q->size, q->readable, q->writable, &q->dev, &q->ino, q->why);
                if (r < 0)
                        return r;
                q->backed = r == 0;
        }
        if (!q->backed)
                return 0;
        dma_lock(c->d);
        r = check_peer(c, q);
        if (r == 0)
                r = check_windows(c, q);
        dma_unlock(c->d);
        return r;
}

/* The same memory is there already, by another client. */
static void join(struct dma_client *c, struct range *e) {
        e->holders |= dma_bit(c);
        dma_client_has(c, e);
        if (!e->background)
                (void) dma_unfail(c, e->first, range_last(e));
        dma_update_master(c);
}

/* Does it have to wait behind others of this client, or would it take long? */
static bool is_for_later(const struct dma_client *c, const struct range *r) {
        return r->file && (r->pages > DMA_LONG_PAGES || c->background > 0 || c->patience == 0);
}

static bool is_same(const struct range *e, const struct range *r) {
        return range_same(e, r) && (!r->file || (e->readable == r->readable && e->writable == r->writable));
}

/*
 * Finds room for the range: 0, 1 when it has joined an equal one, or why there is none. What is in the way by others may go, until the
 * deadline; what is in the way by this client itself does not.
 */
static int find_room(struct dma_client *c, const struct range *r, struct request *q) {
        struct dma_space *s = c->space;

        for (;;) {
                struct range *e = ranges_seek(&s->table, r->first, NULL);
                int error = -EEXIST;

                if (e && e->first > range_last(r))
                        e = NULL;
                if (e && (e->holders & dma_bit(c))) {
                        snprintf(q->why, sizeof(q->why), "it overlaps 0x%" PRIx64 ", 0x%" PRIx64 " bytes, of the same function",
                                 range_iova(e), range_bytes(e));
                        return -EEXIST;
                }
                if (!dma_guarded(s, r->first, range_last(r), true)) {
                        if (e && is_same(e, r) && (e->state == DMA_MAPPED || e->state == DMA_UNBACKED || e->background)) {
                                join(c, e);
                                return 1;
                        }
                        if (!e && !(is_for_later(c, r) && c->n_queue >= DMA_QUEUE_MAX))
                                return 0;
                        error = e ? -EEXIST : -EBUSY;
                }
                if (dma_wait(c->d, &q->deadline) < 0 && dma_is_over(&q->deadline)) {
                        snprintf(q->why, sizeof(q->why), error == -EBUSY ? "too many maps wait to be made"
                                                                         : "another function of the IOMMU group has other memory there");
                        return error;
                }
        }
}

/* From here on the client is told when it is done, or that it is not. */
static void defer(struct dma_client *c, struct dma_job *j) {
        j->background = true;
        dma_entry(c->space, j->r.first)->background = true;
        c->pending++;
        c->background++;
        dma_update_master(c);
}

/* The rest of a map that the kernel has a part in. Lock held; may be let go. */
static int make(struct dma_client *c, struct dma_job *j, struct request *q) {
        struct dma *d = c->d;
        bool later = is_for_later(c, &j->r) && dma_queue_start(c) == 0;
        int r;

        while (!later && dma_job_blocked(j))
                if (dma_wait(d, &q->deadline) < 0) {
                        later = dma_queue_start(c) == 0;
                        q->deadline = dma_deadline(DMA_WAIT_MSEC);
                }
        if (later) {
                defer(c, j);
                dma_queue_add(c, j);
                return 0;
        }
        dma_job_begin(j);
        dma_unlock(d);
        dma_job_run(j);
        dma_lock(d);
        while (!j->done && dma_wait(d, &q->deadline) == 0)
                ;
        if (!j->done) {
                /* The helper is slow: its answer comes when it comes. */
                j->left = true;
                defer(c, j);
                return 0;
        }
        r = j->result;
        if (j->why)
                snprintf(q->why, sizeof(q->why), "%s", j->why);
        (void) dma_job_free(j);
        return r;
}

/* Lock held; may be let go. */
static int put(struct dma_client *c, struct request *q) {
        struct dma *d = c->d;
        struct range r = {
                .first = q->iova >> RANGE_SHIFT,
                .pages = q->size >> RANGE_SHIFT,
                .state = q->backed ? DMA_QUEUED : DMA_UNBACKED,
                .readable = q->readable,
                .writable = q->writable,
                .holders = dma_bit(c),
        };
        struct dma_job *j = NULL;
        int error, file = 0;

        if (q->backed) {
                j = calloc(1, sizeof(*j));
                file = j ? dma_get_file(d, q->dev, q->ino) : -ENOMEM;
                if (file < 0) {
                        free(j);
                        return file;
                }
                if (q->spans && d->peer && d->peer->serial == q->serial) {
                        struct dma_file *f = d->files[file];

                        free(f->spans);
                        f->spans = TAKE_PTR(q->spans);
                        f->n_spans = q->n_spans;
                        f->serial = q->serial;
                }
                r.offset = q->offset >> RANGE_SHIFT;
                r.file = (unsigned) file;
        }
        error = find_room(c, &r, q);
        if (error == 0)
                error = dma_add_entry(c->space, &r, q->why);
        /* Also when it has joined another: that one has what is needed. */
        if (error != 0) {
                if (j)
                        dma_put_file(d, (unsigned) file);
                free(j);
                return error < 0 ? error : 0;
        }
        dma_client_has(c, &r);
        if (!j) {
                (void) dma_unfail(c, r.first, range_last(&r));
                dma_update_master(c);
                return 0;
        }
        j->client = c;
        j->r = r;
        j->fd = dma_file_begin(d, (unsigned) file, TAKE_FD(q->fd));
        return make(c, j, q);
}

/* The first of a connection is worth a word: a device that reaches for it fails. */
static void tell_unbacked(struct dma_client *c, const struct request *q) {
        char text[DMA_WHY];

        if (c->told_unbacked)
                return;
        c->told_unbacked = true;
        snprintf(text, sizeof(text), "guest memory at 0x%" PRIx64 ", 0x%" PRIx64 " bytes, has no descriptor that a device could reach it by",
                 q->iova, q->size);
        dma_say(c, DMA_EVENT_UNBACKED, text);
}

int dma_map(struct dma_client *c, uint64_t iova, uint64_t size, int fd, uint64_t offset, bool readable, bool writable) {
        _cleanup_(request_done) struct request q = {
                .iova = iova,
                .size = size,
                .offset = offset,
                .readable = readable,
                .writable = writable,
                .fd = fd,
                .backed = fd >= 0,
                .deadline = dma_deadline(c->patience),
        };
        int r;

        /* No range at all: nothing that could be unmapped again. */
        if (size == 0 || iova + (size - 1) < iova)
                return -EINVAL;
        r = check_numbers(&q);
        if (r == 0)
                r = check(c, &q);
        dma_lock(c->d);
        if (r == 0)
                r = put(c, &q);
        if (r < 0)
                dma_fail(c, iova, size, r, q.why);
        else if (!q.backed)
                tell_unbacked(c, &q);
        dma_unlock(c->d);
        return r;
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
