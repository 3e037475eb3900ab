/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One map from the VMM's words to the table: what it asks is checked, room is found for it, and the kernel asked, now or later. */
#include <inttypes.h>
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

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
        bool unchecked;         /* nothing is known of the peer yet: whether it maps the file is for later */
        struct timespec deadline;
        char why[DMA_WHY];
};

static void request_done(struct request *q) {
        close_fd(q->fd);
        free(q->spans);
}

/* ---- checks ---- */

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

/*
 * Lock held; may be let go. What the peer maps of the file is remembered with the file, as long as it has any map.
 *
 * tdid brings the peer, and may be away: who connects meanwhile is not turned away for that. The first map waits a little, those behind it do not.
 */
static int check_peer(struct dma_client *c, struct request *q) {
        struct timespec deadline = dma_deadline(c->background > 0 ? 0 : c->patience < DMA_PEER_WAIT_MSEC ? c->patience : DMA_PEER_WAIT_MSEC);
        struct dma *d = c->d;
        int i, r;

        while (!d->peer)
                if (dma_wait(d, &deadline) < 0) {
                        q->unchecked = true;
                        snprintf(q->why, sizeof(q->why), "nothing is known of the process that the memory is of");
                        return dma_queue_start(c) < 0 ? -ENOTCONN : 0;
                }
        i = dma_find_file(d, q->dev, q->ino);
        if (i > 0 && d->files[i]->serial == d->peer->serial &&
            dma_is_mapped_by_peer(d->files[i]->spans, d->files[i]->n_spans, q->offset, q->size, q->why) == 0)
                return 0;
        r = dma_read_peer(d, q->dev, q->ino, &q->spans, &q->n_spans, &q->serial, q->why);
        return r < 0 ? r : dma_is_mapped_by_peer(q->spans, q->n_spans, q->offset, q->size, q->why);
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

/* ---- room ---- */

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
static int seek_room(struct dma_client *c, const struct range *r, struct request *q, struct dma_guard *claim) {
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
                /* The guest's memory wins over its devices' registers. */
                if (e && e->state == DMA_BAR) {
                        if (!claim->claims) {
                                claim->claims = true;
                                dma_guard(s, claim);
                        }
                        error = dma_bars_yield(s, e);
                        if (error == 0)
                                continue;
                        if (error != -EAGAIN) {
                                snprintf(q->why, sizeof(q->why), "another function's BAR is mapped there, and the kernel does not let go of it before the VM closes");
                                return error;
                        }
                        error = -EEXIST;
                } else if (!dma_guarded(s, r->first, range_last(r), true)) {
                        if (e && is_same(e, r) && (e->state == DMA_MAPPED || e->state == DMA_UNBACKED || e->background)) {
                                join(c, e);
                                return 1;
                        }
                        if (!e && !((q->unchecked || is_for_later(c, r)) && c->n_queue >= DMA_QUEUE_MAX))
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

static int find_room(struct dma_client *c, const struct range *r, struct request *q) {
        struct dma_guard claim = { .first = r->first, .last = range_last(r) };
        int error = seek_room(c, r, q, &claim);

        /* There may be several BARs in its way: those that have gone stay away until the last one has. */
        if (claim.claims)
                dma_unguard(c->space, &claim);
        return error;
}

/* ---- now or later ---- */

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
        bool later = j->unchecked || (is_for_later(c, &j->r) && dma_queue_start(c) == 0);
        int r;

        while (!later && dma_job_blocked(j))
                if (dma_wait(d, &q->deadline) < 0) {
                        later = dma_queue_start(c) == 0;
                        q->deadline = dma_deadline(c->patience);
                }
        if (later) {
                defer(c, j);
                dma_queue_add(c, j);
                return 0;
        }
        dma_job_begin(j);
        dma_unlock(d);
        dma_job_run(j, true);
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
                dma_file_learn(d, (unsigned) file, &q->spans, q->n_spans, q->serial);
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
        j->unchecked = q->unchecked;
        j->patience = j->unchecked ? dma_deadline(DMA_UNCHECKED_MSEC) : dma_job_patience(&r);
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
