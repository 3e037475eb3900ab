/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Peer-to-peer: the BARs of each function in the address spaces of the others, where the guest has placed them. Each is a dma-buf of one
 * range, which the kernel maps by its address (IOMMU_IOAS_MAP_FILE, vfio_pci_dma_buf_iommufd_map); nothing is pinned.
 *
 * What is wanted follows from where the BARs are and which spaces there are; what is there is in dma_space.bars. A thread of the VM's
 * makes the one like the other, and looks again whenever something has changed that it could not do. The guest's memory wins: a map
 * that needs the room takes it (dma_bars_yield()), and the BAR is back when that memory has gone.
 *
 * A map whose dma-buf was revoked is dead for good: a new placement, equal or not, has a new serial, and what has the old one goes first.
 */
#include <stdio.h>

#include "vm/vpci/dma-internal.h"
#include "vm/vpci/thread.h"

#define GRANULE_SHIFT 9 /* pages: what one page of the lowest page table covers */

/* The entry's offset in the table of the space says which it is. */
static size_t place_of(const struct dma_client *owner, size_t bar) {
        return (size_t) owner->number * DMA_BARS + bar;
}

/* Functions of one group reach each other past the IOMMU or not at all: what a space may have, all of its clients must. */
static bool takes_part(const struct dma_space *s) {
        return s->participants > s->closed && s->participants == s->members;
}

static const struct dma_bar *wanted(const struct dma_space *s, size_t place) {
        const struct dma_client *owner = s->d->clients[place / DMA_BARS];
        const struct dma_bar *b;

        if (!owner || !owner->peer_to_peer || owner->bars_withheld || owner->bars_closed || owner->space == s || !takes_part(s))
                return NULL;
        b = &owner->bars[place % DMA_BARS];
        return b->pages > 0 ? b : NULL;
}

static void look_again(struct dma *d) {
        d->bars_dirty = true;
        (void) pthread_cond_signal(&d->bars_work);
}

/* Whoever leaves that range makes the thread look. */
static void is_covered(struct dma_space *s, uint64_t first, uint64_t pages) {
        uint64_t last = first + pages - 1;
        bool none = s->covered_first > s->covered_last;

        s->covered_first = none || first < s->covered_first ? first : s->covered_first;
        s->covered_last = none || last > s->covered_last ? last : s->covered_last;
}

void dma_bars_room(struct dma_space *s, uint64_t first, uint64_t last) {
        if (first <= s->covered_last && last >= s->covered_first && s->covered_first <= s->covered_last)
                look_again(s->d);
}

void dma_bars_retry(struct dma *d) {
        d->bars_epoch++;
        look_again(d);
}

/* ---- one map ---- */

/* Lock held; let go meanwhile. It must be mapped, and nobody be at it. */
static int drop(struct dma_space *s, struct dma_bar_map *m) {
        struct dma_guard guard = { .first = m->first, .last = m->first + m->pages - 1, .unmaps = true, .bar = true };
        int r;

        m->busy = true;
        s->refs++;
        dma_guard(s, &guard);
        (void) pthread_mutex_unlock(&s->d->lock);
        r = dma_kernel_unmap(s->d, s->ioas, guard.first, guard.last);
        dma_lock(s->d);
        m->busy = false;
        if (r >= 0 || r == -ENOENT) {
                m->state = DMA_BAR_NOT;
                dma_remove_entry(s, guard.first);
                r = 0;
        } else
                m->state = DMA_BAR_STAYS;
        dma_unguard(s, &guard);
        dma_space_put(s);
        return r;
}

static int ask_kernel(const struct dma_space *s, int fd, uint64_t first, uint64_t pages) {
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE,
                .ioas_id = s->ioas,
                .fd = fd,
                .length = pages << RANGE_SHIFT,
                .iova = first << RANGE_SHIFT,
        };
        int r = host_ioctl(s->d->host, s->d->iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map);

        return r < 0 ? r : 0;
}

static void fail(const struct dma *d, struct dma_bar_map *m, int r) {
        m->state = DMA_BAR_FAILED;
        m->error = -r;
        m->epoch = d->bars_epoch;
}

/* The first time that the guest wants one there: it may not go on like that for ever. */
static int take_granule(struct dma_space *s, uint64_t first) {
        const struct range granule = { .first = first >> GRANULE_SHIFT, .pages = 1 };
        uint64_t most = s->d->n_peers > 64 ? UINT64_C(4) * s->d->n_peers * s->d->n_peers : 0;
        int r;

        if (s->d->bar_granules >= (most > s->d->limits.granules ? most : s->d->limits.granules)) {
                const struct range *e = ranges_seek(&s->granules, granule.first, NULL);

                return e && e->first == granule.first ? 0 : -EDQUOT;
        }
        r = ranges_insert(&s->granules, &granule);
        s->d->bar_granules += r == 0;
        return r == -EEXIST ? 0 : r;
}

/* Outside the windows as they were read last: they change with what is attached. Lock held; let go meanwhile. */
static void look_for_window(struct dma_space *s, struct dma_bar_map *m) {
        uint64_t serial = m->serial;

        s->refs++;
        (void) pthread_mutex_unlock(&s->d->lock);
        (void) dma_read_windows(s);
        dma_lock(s->d);
        if (m->state == DMA_BAR_FAILED && m->serial == serial && dma_in_windows(s, m->first << RANGE_SHIFT, m->pages << RANGE_SHIFT))
                m->state = DMA_BAR_NOT;
        dma_space_put(s);
}

/* Lock held; let go meanwhile. Whether anything was done. */
static bool make(struct dma_space *s, struct dma_bar_map *m, size_t place, const struct dma_bar *b) {
        struct range entry = { .first = b->first, .pages = b->pages, .offset = place, .state = DMA_BAR, .readable = true, .writable = true };
        uint64_t last = range_last(&entry);
        struct dma_guard guard = { .first = b->first, .last = last, .unmaps = true, .bar = true };
        const struct range *e = ranges_seek(&s->table, b->first, NULL);
        char why[DMA_WHY];
        int fd = b->fd, r;

        if ((e && e->first <= last) || dma_guarded(s, b->first, last, true) || dma_is_left(s, b->first, last) ||
            dma_is_claimed(s, b->first, last)) {
                is_covered(s, b->first, b->pages);
                return false;
        }
        m->first = b->first;
        m->pages = b->pages;
        m->serial = b->serial;
        if (!dma_in_windows(s, range_iova(&entry), range_bytes(&entry))) {
                fail(s->d, m, -EADDRNOTAVAIL);
                look_for_window(s, m);
                return true;
        }
        r = take_granule(s, b->first);
        if (r == 0)
                r = dma_add_entry(s, &entry, why);
        if (r < 0) {
                fail(s->d, m, r);
                return false;
        }
        m->state = DMA_BAR_MAPPED;
        m->busy = true;
        s->refs++;
        dma_guard(s, &guard);
        (void) pthread_mutex_unlock(&s->d->lock);
        r = ask_kernel(s, fd, entry.first, entry.pages);
        dma_lock(s->d);
        m->busy = false;
        if (r < 0) {
                fail(s->d, m, r);
                dma_remove_entry(s, entry.first);
        }
        dma_unguard(s, &guard);
        dma_space_put(s);
        return true;
}

/* Lock held; may be let go: the BAR may have gone then. Whether something was done. */
static bool settle_one(struct dma_space *s, size_t place) {
        struct dma_bar_map *m = &s->bars[place];
        const struct dma_bar *b = wanted(s, place);

        if (m->busy) {
                is_covered(s, m->first, m->pages);
                return false;
        }
        if (m->state == DMA_BAR_MAPPED && (!b || b->serial != m->serial))
                return drop(s, m) == 0;
        if (m->state == DMA_BAR_FAILED && (!b || b->serial != m->serial || m->epoch != s->d->bars_epoch))
                m->state = DMA_BAR_NOT;
        return b && m->state == DMA_BAR_NOT && make(s, m, place, b);
}

/* ---- the thread ---- */

/* Owners come and go while the lock is let go; what one that goes has there goes with it (dma_bars_leave). */
static void settle_space(struct dma_space *s) {
        s->covered_first = 1;
        s->covered_last = 0;
        for (size_t i = 0; i < DMA_FUNCTIONS_MAX; i++)
                for (size_t bar = 0; s->d->clients[i] && bar < DMA_BARS; bar++)
                        if (settle_one(s, i * DMA_BARS + bar))
                                s->d->bars_dirty = true;
}

/* One look at everything. */
static void settle_all(struct dma *d) {
        struct dma_space *next;

        for (struct dma_space *s = d->spaces; s; s = next) {
                s->refs++;
                if (s->bars)
                        settle_space(s);
                next = s->next;
                dma_space_put(s);
        }
}

static void *run(void *userdata) {
        struct dma *d = userdata;

        dma_lock(d);
        while (!d->bars_stop) {
                if (!d->bars_dirty) {
                        (void) pthread_cond_wait(&d->bars_work, &d->lock);
                        continue;
                }
                d->bars_dirty = false;
                settle_all(d);
        }
        (void) pthread_mutex_unlock(&d->lock);
        return NULL;
}

/* ---- clients ---- */

/* A number whose BARs the kernel has not let go of somewhere is nobody else's. */
static bool is_free(const struct dma *d, size_t number) {
        if (d->clients[number])
                return false;
        for (const struct dma_space *s = d->spaces; s; s = s->next)
                for (size_t i = 0; s->bars && i < DMA_BARS; i++)
                        if (s->bars[number * DMA_BARS + i].state == DMA_BAR_STAYS)
                                return false;
        return true;
}

static int join(struct dma_client *c) {
        struct dma *d = c->d;
        unsigned number = 0;
        int r;

        while (number < DMA_FUNCTIONS_MAX && !is_free(d, number))
                number++;
        if (number == DMA_FUNCTIONS_MAX)
                return -EUSERS;
        if (!c->space->bars) {
                c->space->bars = calloc(DMA_BAR_PLACES, sizeof(*c->space->bars));
                if (!c->space->bars)
                        return -ENOMEM;
        }
        if (!d->bars_thread_there) {
                r = thread_start(&d->bars_thread, run, d);
                if (r < 0)
                        return r;
                d->bars_thread_there = true;
        }
        for (size_t i = 0; i < DMA_BARS; i++)
                c->bars[i] = (struct dma_bar){ .fd = -EBADF };
        c->number = number;
        c->peer_to_peer = true;
        c->space->participants++;
        d->clients[number] = c;
        d->n_peers++;
        return 0;
}

void dma_bars_join(struct dma_client *c, bool peer_to_peer) {
        if (peer_to_peer)
                (void) join(c);
        c->space->members++;
        dma_bars_retry(c->d);
}

/* What the kernel has not let go of is tried once more. */
static void try_again(struct dma_space *s, size_t first, size_t n) {
        for (size_t i = first; s->bars && i < first + n; i++)
                if (s->bars[i].state == DMA_BAR_STAYS && !s->bars[i].busy)
                        s->bars[i].state = DMA_BAR_MAPPED;
}

static void try_all_again(struct dma_client *c) {
        for (struct dma_space *s = c->d->spaces; s; s = s->next)
                try_again(s, place_of(c, 0), DMA_BARS);
}

/* The next map that the client has a part in: of its own BARs, and, when no one else takes part in its space, of those of others there. */
static struct dma_bar_map *next_of(struct dma_client *c, struct dma_space **ret) {
        for (struct dma_space *s = c->d->spaces; s; s = s->next) {
                bool all = s == c->space && s->participants == 0;
                size_t first = all ? 0 : place_of(c, 0), n = all ? DMA_BAR_PLACES : DMA_BARS;

                for (size_t i = first; s->bars && i < first + n; i++)
                        if (s->bars[i].state == DMA_BAR_MAPPED) {
                                *ret = s;
                                return &s->bars[i];
                        }
        }
        return NULL;
}

void dma_bars_leave(struct dma_client *c) {
        struct dma_space *s = c->space;
        struct dma_bar_map *m;

        s->members--;
        dma_bars_retry(c->d);
        if (!c->peer_to_peer)
                return;
        s->participants--;
        s->closed -= c->bars_closed;
        c->peer_to_peer = false;
        try_all_again(c);
        if (s->participants == 0)
                try_again(s, 0, DMA_BAR_PLACES);
        while ((m = next_of(c, &s))) {
                if (m->busy)
                        (void) dma_wait(c->d, NULL);
                else
                        (void) drop(s, m);
        }
        for (size_t i = 0; i < DMA_BARS; i++)
                dma_close_later(c->d, TAKE_FD(c->bars[i].fd));
        c->d->clients[c->number] = NULL;
        c->d->n_peers--;
}

void dma_bars_stop(struct dma *d) {
        dma_lock(d);
        d->bars_stop = true;
        (void) pthread_cond_signal(&d->bars_work);
        (void) pthread_mutex_unlock(&d->lock);
        if (d->bars_thread_there)
                (void) pthread_join(d->bars_thread, NULL);
}

int dma_bars_yield(struct dma_space *s, const struct range *e) {
        struct dma_bar_map *m = &s->bars[e->offset];

        if (m->busy)
                return -EAGAIN;
        is_covered(s, m->first, m->pages);
        return drop(s, m);
}

/* ---- what the function says ---- */

bool dma_client_has_peers(struct dma_client *c) {
        bool has;

        dma_lock(c->d);
        has = c->peer_to_peer;
        (void) pthread_mutex_unlock(&c->d->lock);
        return has;
}

bool dma_client_has_bar(struct dma_client *c, unsigned bar) {
        bool has;

        dma_lock(c->d);
        has = !c->peer_to_peer || c->bars[bar].fd >= 0 || c->bars[bar].never;
        (void) pthread_mutex_unlock(&c->d->lock);
        return has;
}

void dma_client_give_bar(struct dma_client *c, unsigned bar, int dmabuf) {
        dma_lock(c->d);
        c->bars[bar].error = dmabuf < 0 ? -dmabuf : 0;
        if (dmabuf >= 0)
                c->bars[bar].fd = dmabuf;
        /* Room there may be next time. */
        c->bars[bar].never = dmabuf < 0 && dmabuf != -EMFILE && dmabuf != -ENFILE && dmabuf != -ENOMEM;
        (void) pthread_mutex_unlock(&c->d->lock);
}

void dma_client_place_bars(struct dma_client *c, const struct dma_place places[DMA_BARS], bool revoked) {
        struct dma *d = c->d;
        bool changed = false;

        dma_lock(d);
        for (unsigned i = 0; i < DMA_BARS; i++) {
                struct dma_bar *b = &c->bars[i];
                uint64_t first = places[i].iova >> RANGE_SHIFT, pages = c->peer_to_peer && b->fd >= 0 ? places[i].size >> RANGE_SHIFT : 0;

                if (pages == b->pages && (pages == 0 || (first == b->first && !revoked)))
                        continue;
                b->first = first;
                b->pages = pages;
                b->serial = ++d->last_bar;
                changed = true;
        }
        if (changed)
                look_again(d);
        (void) pthread_mutex_unlock(&d->lock);
}

void dma_client_close_bars(struct dma_client *c) {
        dma_lock(c->d);
        if (c->peer_to_peer && !c->bars_closed) {
                c->bars_closed = true;
                c->space->closed++;
                try_all_again(c);
                look_again(c->d);
        }
        (void) pthread_mutex_unlock(&c->d->lock);
}

int dma_client_withhold_bars(struct dma_client *c, bool withhold) {
        struct dma *d = c->d;
        int r = 0;

        dma_lock(d);
        c->bars_withheld = withhold;
        if (c->peer_to_peer) {
                try_all_again(c);
                look_again(d);
        }
        for (const struct dma_space *s = d->spaces; s && withhold && c->peer_to_peer; s = s->next)
                for (unsigned i = 0; s->bars && i < DMA_BARS; i++)
                        if (s->bars[place_of(c, i)].state == DMA_BAR_MAPPED || s->bars[place_of(c, i)].state == DMA_BAR_STAYS)
                                r = -EAGAIN;
        (void) pthread_mutex_unlock(&d->lock);
        return r;
}

struct json_object *dma_bars_describe(const struct dma_client *c) {
        struct json_object *list = json_new_array();

        for (unsigned i = 0; i < DMA_BARS; i++) {
                const struct dma_bar *b = &c->bars[i];
                unsigned spaces = 0, mapped = 0, failed = 0;
                int error = b->error;
                struct json_object *o;

                if (b->pages == 0 && !b->error)
                        continue;
                for (const struct dma_space *s = c->d->spaces; s && b->pages > 0; s = s->next) {
                        const struct dma_bar_map *m = s->bars && wanted(s, place_of(c, i)) ? &s->bars[place_of(c, i)] : NULL;

                        spaces += m != NULL;
                        mapped += m && m->state == DMA_BAR_MAPPED && m->serial == b->serial && !m->busy;
                        if (m && ((m->state == DMA_BAR_FAILED && m->serial == b->serial) || m->state == DMA_BAR_STAYS)) {
                                failed++;
                                error = m->state == DMA_BAR_STAYS ? EBUSY : m->error;
                        }
                }
                o = json_new();
                json_set_u64(o, "bar", i);
                dma_set_hex(o, "iova", b->first << RANGE_SHIFT);
                dma_set_hex(o, "size", b->pages << RANGE_SHIFT);
                json_set_u64(o, "spaces", spaces);
                json_set_u64(o, "mapped", mapped);
                json_set_u64(o, "failed", failed);
                json_set_take(o, "error", error ? json_object_new_string(strerror(error)) : NULL);
                json_push_take(list, o);
        }
        return list;
}
