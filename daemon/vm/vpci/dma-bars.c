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

/* The entry's offset in the table of the space says which it is. */
static unsigned place_of(const struct dma_client *owner, unsigned bar) {
        return owner->number * DMA_BARS + bar;
}

static const struct dma_client *leader(const struct dma_space *s) {
        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++)
                if (s->clients[i] && s->clients[i]->peer_to_peer)
                        return s->clients[i];
        return NULL;
}

/* Functions of one group reach each other past the IOMMU or not at all: what a space may have, all of its clients must. */
static bool takes_part(const struct dma_space *s) {
        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++)
                if (s->clients[i] && !s->clients[i]->peer_to_peer)
                        return false;
        return leader(s);
}

static const struct dma_bar *wanted(const struct dma_space *s, unsigned place) {
        const struct dma_client *owner = s->d->clients[place / DMA_BARS];
        const struct dma_bar *b;

        if (!owner || !owner->peer_to_peer || owner->bars_withheld || owner->space == s || !takes_part(s))
                return NULL;
        b = &owner->bars[place % DMA_BARS];
        return b->pages > 0 ? b : NULL;
}

/* ---- one map ---- */

/* Lock held; let go meanwhile. It must be mapped, and nobody be at it. */
static int drop(struct dma_space *s, struct dma_bar_map *m) {
        struct dma_guard guard = { .first = m->first, .last = m->first + m->pages - 1, .unmaps = true };
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
        }
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

static void fail(struct dma_bar_map *m, int r) {
        m->state = DMA_BAR_FAILED;
        m->error = -r;
}

/* Lock held; let go meanwhile. Whether anything was done. */
static bool make(struct dma_space *s, struct dma_bar_map *m, unsigned place, const struct dma_bar *b) {
        struct range entry = { .first = b->first, .pages = b->pages, .offset = place, .state = DMA_BAR, .readable = true, .writable = true };
        uint64_t last = range_last(&entry);
        struct dma_guard guard = { .first = b->first, .last = last, .unmaps = true };
        const struct range *e = ranges_seek(&s->table, b->first, NULL);
        char why[DMA_WHY];
        int fd = b->fd, r;

        if ((e && e->first <= last) || dma_guarded(s, b->first, last, true) || dma_is_left(s, b->first, last)) {
                m->state = DMA_BAR_NOT;
                s->d->bars_covered = true;
                return false;
        }
        m->first = b->first;
        m->pages = b->pages;
        m->serial = b->serial;
        r = dma_in_windows(s, range_iova(&entry), range_bytes(&entry)) ? dma_add_entry(s, &entry, why) : -EADDRNOTAVAIL;
        if (r < 0) {
                fail(m, r);
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
                fail(m, r);
                dma_remove_entry(s, entry.first);
        }
        dma_unguard(s, &guard);
        dma_space_put(s);
        return true;
}

/* Lock held; may be let go: the space and the BAR may have gone then. Whether something was done. */
static bool settle_one(struct dma_space *s, unsigned place) {
        struct dma_bar_map *m = &s->bars[place];
        const struct dma_bar *b = wanted(s, place);

        if (m->busy)
                return false;
        if (m->state != DMA_BAR_NOT && (!b || b->serial != m->serial)) {
                if (m->state == DMA_BAR_MAPPED)
                        return drop(s, m) == 0;
                m->state = DMA_BAR_NOT;
        }
        return b && m->state == DMA_BAR_NOT && make(s, m, place, b);
}

/* ---- the thread ---- */

/* One look at everything. Spaces come and go while the lock is let go: they are found by their first client. */
static void settle_all(struct dma *d) {
        for (unsigned i = 0; i < DMA_FUNCTIONS_MAX; i++)
                for (unsigned place = 0; place < DMA_BAR_PLACES; place++) {
                        const struct dma_client *c = d->clients[i];

                        if (!c || !c->space->bars || leader(c->space) != c)
                                break;
                        if (settle_one(c->space, place))
                                d->bars_dirty = true;
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
                d->bars_dirty = d->bars_covered = false;
                settle_all(d);
        }
        (void) pthread_mutex_unlock(&d->lock);
        return NULL;
}

static void look_again(struct dma *d) {
        d->bars_dirty = true;
        (void) pthread_cond_signal(&d->bars_work);
}

void dma_bars_changed(struct dma *d) {
        if (d->bars_covered)
                look_again(d);
}

/* ---- clients ---- */

int dma_client_join_peers(struct dma_client *c) {
        struct dma *d = c->d;
        unsigned number = 0;
        int r = 0;

        dma_lock(d);
        while (number < DMA_FUNCTIONS_MAX && d->clients[number])
                number++;
        if (number == DMA_FUNCTIONS_MAX)
                r = -EUSERS;
        if (r == 0 && !c->space->bars) {
                c->space->bars = calloc(DMA_BAR_PLACES, sizeof(*c->space->bars));
                r = c->space->bars ? 0 : -ENOMEM;
        }
        if (r == 0 && !d->bars_thread_there) {
                r = thread_start(&d->bars_thread, run, d);
                d->bars_thread_there = r >= 0;
        }
        if (r >= 0) {
                for (unsigned i = 0; i < DMA_BARS; i++)
                        c->bars[i] = (struct dma_bar){ .fd = -EBADF };
                c->number = number;
                c->peer_to_peer = true;
                d->clients[number] = c;
                look_again(d);
        }
        (void) pthread_mutex_unlock(&d->lock);
        return r;
}

/* The next of those that the client has a part in: its own BARs, and, if it is the last of its space, those of others there. */
static struct dma_bar_map *next_of(struct dma_client *c, bool last, struct dma_space **ret) {
        for (struct dma_space *s = c->d->spaces; s; s = s->next)
                for (unsigned i = 0; s->bars && i < DMA_BAR_PLACES; i++)
                        if (s->bars[i].state == DMA_BAR_MAPPED && (i / DMA_BARS == c->number || (last && s == c->space))) {
                                *ret = s;
                                return &s->bars[i];
                        }
        return NULL;
}

void dma_bars_leave(struct dma_client *c) {
        struct dma_space *s = c->space;
        struct dma_bar_map *m;
        bool last = true;

        if (!c->peer_to_peer)
                return;
        for (unsigned i = 0; i < DMA_BARS; i++)
                c->bars[i].pages = 0;
        for (unsigned i = 0; i < DMA_CLIENTS_MAX; i++)
                last = last && (!s->clients[i] || s->clients[i] == c);
        c->peer_to_peer = false;
        while ((m = next_of(c, last, &s))) {
                if (m->busy)
                        (void) dma_wait(c->d, NULL);
                else if (drop(s, m) < 0) {
                        /* Nobody's from here on: it goes with the IOAS. */
                        m->state = DMA_BAR_NOT;
                        dma_entry(s, m->first)->state = DMA_MAPPED;
                }
        }
        for (unsigned i = 0; i < DMA_BARS; i++)
                dma_close_later(c->d, TAKE_FD(c->bars[i].fd));
        c->d->clients[c->number] = NULL;
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
        s->d->bars_covered = true;
        return drop(s, m);
}

/* ---- what the function says ---- */

bool dma_client_has_bar(struct dma_client *c, unsigned bar) {
        bool has;

        dma_lock(c->d);
        has = !c->peer_to_peer || c->bars[bar].fd >= 0 || c->bars[bar].error;
        (void) pthread_mutex_unlock(&c->d->lock);
        return has;
}

void dma_client_give_bar(struct dma_client *c, unsigned bar, int dmabuf) {
        dma_lock(c->d);
        if (dmabuf < 0)
                c->bars[bar].error = -dmabuf;
        else
                c->bars[bar].fd = dmabuf;
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

int dma_client_withhold_bars(struct dma_client *c, bool withhold) {
        struct dma *d = c->d;
        int r = 0;

        dma_lock(d);
        if (c->bars_withheld != withhold)
                look_again(d);
        c->bars_withheld = withhold;
        for (const struct dma_space *s = d->spaces; s && withhold && c->peer_to_peer; s = s->next)
                for (unsigned i = 0; s->bars && i < DMA_BARS; i++)
                        if (s->bars[place_of(c, i)].state == DMA_BAR_MAPPED)
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
                        if (m && m->state == DMA_BAR_FAILED && m->serial == b->serial) {
                                failed++;
                                error = m->error;
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
