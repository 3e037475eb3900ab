/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be seen of a client. */
#include <inttypes.h>
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

enum dma_master dma_master(const struct dma_client *c) {
        enum dma_master master;

        dma_lock(c->d);
        master = dma_find_master(c);
        (void) pthread_mutex_unlock(&c->d->lock);
        return master;
}

uint64_t dma_pinned(struct dma *d) {
        uint64_t bytes;

        dma_lock(d);
        bytes = d->bytes;
        (void) pthread_mutex_unlock(&d->lock);
        return bytes;
}

/* Addresses go beyond what a JSON number keeps. */
void dma_set_hex(struct json_object *o, const char *key, uint64_t value) {
        char text[24];

        snprintf(text, sizeof(text), "0x%" PRIx64, value);
        json_set_str(o, key, text);
}

static struct json_object *describe_range(const struct range *r) {
        struct json_object *o = json_new();

        dma_set_hex(o, "iova", range_iova(r));
        dma_set_hex(o, "size", range_bytes(r));
        return o;
}

static struct json_object *describe_failed(const struct dma_client *c) {
        struct json_object *list = json_new_array();
        struct ranges_at at;
        unsigned n = 0;

        for (struct range *r = ranges_seek(&c->failed, 0, &at); r && n < DMA_FIRST; r = ranges_next(&c->failed, &at), n++) {
                struct json_object *o = describe_range(r);

                json_set_u64(o, "errno", r->offset);
                json_set_str(o, "error", strerror((int) r->offset));
                json_push_take(list, o);
        }
        return list;
}

static struct json_object *describe_unbacked(const struct dma_client *c) {
        struct json_object *o = json_new(), *first = json_new_array();
        struct ranges_at at;
        unsigned n = 0;

        json_set_u64(o, "ranges", c->unbacked);
        json_set_u64(o, "bytes", c->unbacked_bytes);
        for (struct range *r = ranges_seek(&c->space->table, 0, &at); r && n < DMA_FIRST && n < c->unbacked;
             r = ranges_next(&c->space->table, &at))
                if (r->state == DMA_UNBACKED && (r->holders & dma_bit(c))) {
                        json_push_take(first, describe_range(r));
                        n++;
                }
        json_set_take(o, "first", first);
        return o;
}

static struct json_object *describe_windows(const struct dma_client *c) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < c->space->n_windows && i < DMA_FIRST; i++) {
                struct json_object *o = json_new();

                dma_set_hex(o, "start", c->space->windows[i].first);
                dma_set_hex(o, "last", c->space->windows[i].last);
                json_push_take(list, o);
        }
        return list;
}

struct json_object *dma_client_describe(struct dma_client *c) {
        struct json_object *o = json_new();

        dma_lock(c->d);
        json_set_u64(o, "ioas", c->space->ioas);
        json_set_u64(o, "maps", c->maps);
        json_set_u64(o, "bytes", c->bytes);
        json_set_u64(o, "pending", c->pending);
        json_set_u64(o, "failed_ranges", c->failed.n);
        json_set_take(o, "failed", describe_failed(c));
        json_set_take(o, "unbacked", describe_unbacked(c));
        json_set_take(o, "windows", describe_windows(c));
        json_set_take(o, "peer_to_peer", c->peer_to_peer ? dma_bars_describe(c) : NULL);
        (void) pthread_mutex_unlock(&c->d->lock);
        return o;
}
