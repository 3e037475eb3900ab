/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Spaces: their tables and windows, the files behind their maps, and who is counted. */
#include <inttypes.h>
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

#define WINDOWS_MAX 1024

/* ---- spaces ---- */

int dma_space_get(struct dma *d, uint32_t ioas, struct dma_space **ret) {
        struct dma_space **at = &d->spaces, *s;

        for (s = *at; s && s->ioas != ioas; s = *at)
                at = &s->next;
        if (!s) {
                s = calloc(1, sizeof(*s));
                if (!s)
                        return -ENOMEM;
                s->d = d;
                s->ioas = ioas;
                s->covered_first = 1;
                /* At the end: VMMs tell their functions of memory in the order in which they came, so the first has it first. */
                *at = s;
        }
        s->refs++;
        *ret = s;
        return 0;
}

static bool forget(struct range *r, void *userdata) {
        dma_entry_gone(userdata, r);
        return false;
}

/* What is left has no holder: the kernel would not let go of it. Whoever closes the VM empties the whole IOAS. */
void dma_space_put(struct dma_space *s) {
        struct dma *d = s->d;

        if (--s->refs > 0)
                return;
        (void) ranges_filter(&s->table, 0, RANGE_PAGE_MAX, forget, s);
        ranges_clear(&s->table);
        for (struct dma_space **at = &d->spaces; *at; at = &(*at)->next)
                if (*at == s) {
                        *at = s->next;
                        break;
                }
        free(s->windows);
        free(s->bars);
        if (s->granules.n > 0)
                dma_bars_retry(d);
        d->bar_granules -= s->granules.n;
        ranges_clear(&s->granules);
        free(s);
}

/* ---- IOVA windows ---- */

int dma_read_windows(struct dma_space *s) {
        struct tdi_iommu_ioas_iova_ranges cmd = { .size = sizeof(cmd), .ioas_id = s->ioas };
        _cleanup_free_ struct tdi_iommu_iova_range *ranges = NULL;
        struct dma_span *windows;
        uint32_t room = 16;
        int r;

        for (;;) {
                struct tdi_iommu_iova_range *more = reallocarray(ranges, room, sizeof(*ranges));

                if (!more)
                        return -ENOMEM;
                ranges = more;
                cmd.num_iovas = room;
                cmd.allowed_iovas = (uintptr_t) ranges;
                r = host_ioctl(s->d->host, s->d->iommufd, TDI_IOMMU_IOAS_IOVA_RANGES, &cmd);
                if (r != -EMSGSIZE || cmd.num_iovas <= room || cmd.num_iovas > WINDOWS_MAX)
                        break;
                room = cmd.num_iovas;
        }
        if (r < 0)
                return r;
        windows = calloc(cmd.num_iovas + (size_t) !cmd.num_iovas, sizeof(*windows));
        if (!windows)
                return -ENOMEM;
        for (uint32_t i = 0; i < cmd.num_iovas; i++)
                windows[i] = (struct dma_span){ ranges[i].start, ranges[i].last };
        dma_lock(s->d);
        free(s->windows);
        s->windows = windows;
        s->n_windows = cmd.num_iovas;
        (void) pthread_mutex_unlock(&s->d->lock);
        return 0;
}

bool dma_in_windows(const struct dma_space *s, uint64_t iova, uint64_t size) {
        return dma_spans_cover(s->windows, s->n_windows, iova, iova + size - 1);
}

/* The first address of the range that no window has, and the windows on either side. */
void dma_name_windows(const struct dma_space *s, uint64_t iova, uint64_t size, char why[static DMA_WHY]) {
        const struct dma_span *before = NULL, *after = NULL;
        uint64_t at = iova, last = iova + size - 1;
        size_t n;

        for (size_t i = 0; i < s->n_windows; i++) {
                const struct dma_span *w = &s->windows[i];

                if (w->first <= at && w->last >= at && w->last < last)
                        at = w->last + 1;
                if (w->last < at)
                        before = w;
                else if (w->first > at && !after)
                        after = w;
        }
        n = (size_t) snprintf(why, DMA_WHY, "0x%" PRIx64 " lies outside the IOVA windows of this IOMMU", at);
        if (before && n < DMA_WHY)
                n += (size_t) snprintf(why + n, DMA_WHY - n, ", above 0x%" PRIx64 "-0x%" PRIx64, before->first, before->last);
        if (after && n < DMA_WHY)
                snprintf(why + n, DMA_WHY - n, ", below 0x%" PRIx64 "-0x%" PRIx64, after->first, after->last);
}

/* ---- files ---- */

int dma_find_file(const struct dma *d, dev_t dev, ino_t ino) {
        for (int i = 1; i < DMA_FILES_MAX; i++)
                if (d->files[i] && d->files[i]->ino == ino && d->files[i]->dev == dev)
                        return i;
        return -ENOENT;
}

int dma_get_file(struct dma *d, dev_t dev, ino_t ino) {
        int i = dma_find_file(d, dev, ino);

        if (i < 0) {
                for (i = 1; i < DMA_FILES_MAX && d->files[i]; i++)
                        ;
                if (i == DMA_FILES_MAX)
                        return -ENOSPC;
                d->files[i] = calloc(1, sizeof(struct dma_file));
                if (!d->files[i])
                        return -ENOMEM;
                d->files[i]->dev = dev;
                d->files[i]->ino = ino;
                d->files[i]->fd = -EBADF;
        }
        d->files[i]->entries++;
        return i;
}

void dma_put_file(struct dma *d, unsigned file) {
        struct dma_file *f = d->files[file];

        if (--f->entries > 0)
                return;
        dma_close_later(d, f->fd);
        free(f->spans);
        free(f);
        d->files[file] = NULL;
}

int dma_file_begin(struct dma *d, unsigned file, int fd) {
        struct dma_file *f = d->files[file];

        if (f->jobs++ == 0)
                f->fd = fd;
        else
                dma_close_later(d, fd);
        return f->fd;
}

void dma_file_end(struct dma *d, unsigned file) {
        struct dma_file *f = d->files[file];

        if (--f->jobs == 0) {
                dma_close_later(d, f->fd);
                f->fd = -EBADF;
        }
}

void dma_file_learn(struct dma *d, unsigned file, struct dma_span **spans, size_t n, uint64_t serial) {
        struct dma_file *f = d->files[file];

        if (!d->peer || d->peer->serial != serial)
                return;
        free(f->spans);
        f->spans = TAKE_PTR(*spans);
        f->n_spans = n;
        f->serial = serial;
}

/* ---- the peer ---- */

struct dma_peer *dma_peer_get(struct dma *d) {
        if (d->peer)
                d->peer->refs++;
        return d->peer;
}

/* Freeing a helper joins its thread, which may be who calls this. */
void dma_peer_put(struct dma *d, struct dma_peer *p) {
        if (!p || --p->refs > 0)
                return;
        p->maps = close_fd(p->maps);
        p->next = d->retired;
        d->retired = p;
}

int dma_read_peer(struct dma *d, dev_t dev, ino_t ino, struct dma_span **ret, size_t *ret_n, uint64_t *ret_serial, char why[static DMA_WHY]) {
        struct dma_peer *peer = dma_peer_get(d);
        int r;

        (void) pthread_mutex_unlock(&d->lock);
        (void) pthread_mutex_lock(&peer->reading);
        r = dma_read_maps(d->host, peer->maps, dev, ino, ret, ret_n);
        (void) pthread_mutex_unlock(&peer->reading);
        dma_lock(d);
        *ret_serial = peer->serial;
        dma_peer_put(d, peer);
        if (r < 0)
                snprintf(why, DMA_WHY, "the process's memory map cannot be read");
        return r;
}

/* ---- entries ---- */

/* An entry of another space that is the same memory at the same address; NULL when there is none. */
static struct range *elsewhere(const struct dma_space *s, const struct range *r) {
        for (struct dma_space *other = s->d->spaces; other; other = other->next)
                if (other != s) {
                        struct range *found = ranges_seek(&other->table, r->first, NULL);

                        if (found && range_same(found, r))
                                return found;
                }
        return NULL;
}

int dma_add_entry(struct dma_space *s, struct range *r, char why[static DMA_WHY]) {
        struct dma *d = s->d;
        int error;

        /* A BAR takes nothing from what the guest's memory may have. */
        if (r->state == DMA_BAR)
                return ranges_insert(&s->table, r);
        if (d->maps >= d->limits.maps) {
                snprintf(why, DMA_WHY, "the VM's limit of %" PRIu64 " maps is reached", d->limits.maps);
                return -ENOSPC;
        }
        /* Equal maps of other spaces have their pages in common: one of them is counted. */
        r->counted = r->file && !elsewhere(s, r);
        if (r->counted && (d->bytes > d->limits.bytes || range_bytes(r) > d->limits.bytes - d->bytes)) {
                snprintf(why, DMA_WHY, "the VM may have 0x%" PRIx64 " bytes pinned, and has 0x%" PRIx64, d->limits.bytes, d->bytes);
                return -EDQUOT;
        }
        error = ranges_insert(&s->table, r);
        if (error < 0)
                return error;
        d->maps++;
        if (r->counted)
                d->bytes += range_bytes(r);
        return 0;
}

void dma_entry_gone(struct dma_space *s, const struct range *r) {
        struct dma *d = s->d;

        dma_bars_room(s, r->first, range_last(r));
        if (r->state == DMA_BAR)
                return;
        d->maps--;
        if (r->counted) {
                struct range *heir = elsewhere(s, r);

                if (heir && !heir->counted)
                        heir->counted = true;
                else
                        d->bytes -= range_bytes(r);
        }
        if (r->file)
                dma_put_file(d, r->file);
}

struct range *dma_entry(struct dma_space *s, uint64_t first) {
        struct range *r = ranges_seek(&s->table, first, NULL);

        return r && r->first == first ? r : NULL;
}

void dma_remove_entry(struct dma_space *s, uint64_t first) {
        struct ranges_at at;
        struct range *r = ranges_seek(&s->table, first, &at);

        if (!r || r->first != first)
                return;
        dma_entry_gone(s, r);
        ranges_remove(&s->table, at);
}

void dma_client_has(struct dma_client *c, const struct range *r) {
        if (r->state == DMA_UNBACKED) {
                c->unbacked++;
                c->unbacked_bytes += range_bytes(r);
                return;
        }
        c->maps++;
        c->bytes += range_bytes(r);
        c->pending += r->background;
}

void dma_client_lost(struct dma_client *c, const struct range *r) {
        if (r->state == DMA_UNBACKED) {
                c->unbacked--;
                c->unbacked_bytes -= range_bytes(r);
                return;
        }
        c->maps--;
        c->bytes -= range_bytes(r);
        c->pending -= r->background;
}

/* ---- guards ---- */

bool dma_guarded(const struct dma_space *s, uint64_t first, uint64_t last, bool unmaps) {
        for (const struct dma_guard *g = s->guards; g; g = g->next)
                if (!g->leaves && !g->claims && g->unmaps == unmaps && g->first <= last && g->last >= first)
                        return true;
        return false;
}

bool dma_is_claimed(const struct dma_space *s, uint64_t first, uint64_t last) {
        for (const struct dma_guard *g = s->guards; g; g = g->next)
                if (g->claims && g->first <= last && g->last >= first)
                        return true;
        return false;
}

bool dma_guarded_memory(const struct dma_space *s, uint64_t first, uint64_t last) {
        for (const struct dma_guard *g = s->guards; g; g = g->next)
                if (!g->leaves && g->unmaps && !g->bar && g->first <= last && g->last >= first)
                        return true;
        return false;
}

bool dma_is_left(const struct dma_space *s, uint64_t first, uint64_t last) {
        for (const struct dma_guard *g = s->guards; g; g = g->next)
                if (g->leaves && g->first <= last && g->last >= first)
                        return true;
        return false;
}

void dma_guard(struct dma_space *s, struct dma_guard *g) {
        g->next = s->guards;
        s->guards = g;
}

void dma_unguard(struct dma_space *s, struct dma_guard *g) {
        for (struct dma_guard **at = &s->guards; *at; at = &(*at)->next)
                if (*at == g) {
                        *at = g->next;
                        break;
                }
        dma_bars_room(s, g->first, g->last);
        dma_changed(s->d);
}

/* ---- the kernel ---- */

int dma_kernel_unmap(struct dma *d, uint32_t ioas, uint64_t first, uint64_t last) {
        struct tdi_iommu_ioas_unmap cmd = {
                .size = sizeof(cmd),
                .ioas_id = ioas,
                .iova = first << RANGE_SHIFT,
                .length = (last - first + 1) << RANGE_SHIFT,
        };

        return host_ioctl(d->host, d->iommufd, TDI_IOMMU_IOAS_UNMAP, &cmd);
}
