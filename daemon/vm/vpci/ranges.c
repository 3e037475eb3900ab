/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Chunks are never empty, and a slot's address is always that of its chunk's first entry. */
#include "vm/vpci/ranges.h"

#define CHUNK_MAX 63
/* Two neighbours with no more entries than this become one. */
#define MERGE_MAX (CHUNK_MAX * 3 / 4)

struct range_chunk {
        size_t n;
        struct range e[CHUNK_MAX];
};

void ranges_clear(struct ranges *t) {
        for (size_t i = 0; i < t->n_slots; i++)
                free(t->slots[i].chunk);
        free(t->slots);
        *t = (struct ranges){};
}

size_t ranges_memory(const struct ranges *t) {
        return t->n_slots * sizeof(struct range_chunk) + t->room * sizeof(*t->slots);
}

/* ---- finding ---- */

/* The chunk that has @page, or would: the last one that begins at it or before; the first one when all begin later. */
static size_t slot_of(const struct ranges *t, uint64_t page) {
        size_t low = 0, high = t->n_slots;

        while (high - low > 1) {
                size_t middle = low + (high - low) / 2;

                if (t->slots[middle].first <= page)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

/* The first entry of a chunk that ends at @page or after it. */
static size_t seek_in(const struct range_chunk *c, uint64_t page) {
        size_t low = 0, high = c->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (range_last(&c->e[middle]) < page)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

struct range *ranges_seek(const struct ranges *t, uint64_t page, struct ranges_at *ret) {
        struct ranges_at at;

        if (t->n_slots == 0)
                return NULL;
        at.slot = slot_of(t, page);
        at.i = seek_in(t->slots[at.slot].chunk, page);
        if (at.i == t->slots[at.slot].chunk->n) {
                at.slot++;
                at.i = 0;
                if (at.slot == t->n_slots)
                        return NULL;
        }
        if (ret)
                *ret = at;
        return &t->slots[at.slot].chunk->e[at.i];
}

struct range *ranges_next(const struct ranges *t, struct ranges_at *at) {
        if (++at->i == t->slots[at->slot].chunk->n) {
                at->slot++;
                at->i = 0;
        }
        return at->slot < t->n_slots ? &t->slots[at->slot].chunk->e[at->i] : NULL;
}

/* ---- chunks ---- */

static void touch(struct ranges *t, size_t slot) {
        t->slots[slot].first = t->slots[slot].chunk->e[0].first;
}

/* A new, empty chunk at an index; its address is the caller's to set. */
static int add_chunk(struct ranges *t, size_t slot) {
        struct range_chunk *c;

        if (t->n_slots == t->room) {
                size_t room = t->room ? t->room * 2 : 4;
                struct range_slot *slots = reallocarray(t->slots, room, sizeof(*slots));

                if (!slots)
                        return -ENOMEM;
                t->slots = slots;
                t->room = room;
        }
        c = malloc(sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->n = 0;
        memmove(t->slots + slot + 1, t->slots + slot, (t->n_slots - slot) * sizeof(*t->slots));
        t->slots[slot].chunk = c;
        t->n_slots++;
        return 0;
}

static void remove_chunk(struct ranges *t, size_t slot) {
        free(t->slots[slot].chunk);
        t->n_slots--;
        memmove(t->slots + slot, t->slots + slot + 1, (t->n_slots - slot) * sizeof(*t->slots));
}

/* Moves the last k entries of a chunk to the front of the next one. */
static void move_up(struct ranges *t, size_t slot, size_t k) {
        struct range_chunk *c = t->slots[slot].chunk, *next = t->slots[slot + 1].chunk;

        memmove(next->e + k, next->e, next->n * sizeof(*next->e));
        memcpy(next->e, c->e + c->n - k, k * sizeof(*c->e));
        next->n += k;
        c->n -= k;
        touch(t, slot + 1);
}

/* Moves the first k entries of a chunk to the end of the one before. */
static void move_down(struct ranges *t, size_t slot, size_t k) {
        struct range_chunk *c = t->slots[slot].chunk, *before = t->slots[slot - 1].chunk;

        memcpy(before->e + before->n, c->e, k * sizeof(*c->e));
        before->n += k;
        c->n -= k;
        memmove(c->e, c->e + k, c->n * sizeof(*c->e));
        if (c->n > 0)
                touch(t, slot);
}

/* A full chunk gives to a neighbour that has room, or is split: so chunks are well filled whatever the order. */
static int make_room(struct ranges *t, size_t slot) {
        int r;

        if (slot + 1 < t->n_slots && t->slots[slot + 1].chunk->n <= MERGE_MAX) {
                move_up(t, slot, (CHUNK_MAX - t->slots[slot + 1].chunk->n + 1) / 2);
                return 0;
        }
        if (slot > 0 && t->slots[slot - 1].chunk->n <= MERGE_MAX) {
                move_down(t, slot, (CHUNK_MAX - t->slots[slot - 1].chunk->n + 1) / 2);
                return 0;
        }
        r = add_chunk(t, slot + 1);
        if (r < 0)
                return r;
        move_up(t, slot, CHUNK_MAX / 2);
        return 0;
}

/* After a removal: drops a chunk that is empty, joins one with a neighbour when both are thin. */
static void tidy(struct ranges *t, size_t slot) {
        struct range_chunk *c = t->slots[slot].chunk;

        if (c->n == 0) {
                remove_chunk(t, slot);
                return;
        }
        touch(t, slot);
        if (slot > 0 && t->slots[slot - 1].chunk->n + c->n <= MERGE_MAX) {
                move_down(t, slot, c->n);
                remove_chunk(t, slot);
        } else if (slot + 1 < t->n_slots && t->slots[slot + 1].chunk->n + c->n <= MERGE_MAX) {
                move_up(t, slot, c->n);
                remove_chunk(t, slot);
        }
}

/* ---- changing ---- */

int ranges_insert(struct ranges *t, const struct range *r) {
        struct ranges_at at = {};
        const struct range *after;
        struct range_chunk *c;
        int error;

        after = ranges_seek(t, r->first, &at);
        if (after && after->first <= range_last(r))
                return -EEXIST;
        if (!after) {
                /* At the end, where full chunks stay full. */
                if (t->n_slots == 0 || t->slots[t->n_slots - 1].chunk->n == CHUNK_MAX) {
                        error = add_chunk(t, t->n_slots);
                        if (error < 0)
                                return error;
                }
                at.slot = t->n_slots - 1;
                at.i = t->slots[at.slot].chunk->n;
        } else if (t->slots[at.slot].chunk->n == CHUNK_MAX) {
                error = make_room(t, at.slot);
                if (error < 0)
                        return error;
                (void) ranges_seek(t, r->first, &at);
        }
        c = t->slots[at.slot].chunk;
        memmove(c->e + at.i + 1, c->e + at.i, (c->n - at.i) * sizeof(*c->e));
        c->e[at.i] = *r;
        c->n++;
        touch(t, at.slot);
        t->n++;
        return 0;
}

void ranges_remove(struct ranges *t, struct ranges_at at) {
        struct range_chunk *c = t->slots[at.slot].chunk;

        c->n--;
        memmove(c->e + at.i, c->e + at.i + 1, (c->n - at.i) * sizeof(*c->e));
        t->n--;
        tidy(t, at.slot);
}

size_t ranges_filter(struct ranges *t, uint64_t first, uint64_t last, bool (*keep)(struct range *r, void *userdata), void *userdata) {
        size_t begin, read, write, removed = 0;
        struct ranges_at at;

        if (first > last || !ranges_seek(t, first, &at))
                return 0;
        begin = write = at.slot;
        for (read = at.slot; read < t->n_slots && t->slots[read].first <= last; read++) {
                struct range_chunk *c = t->slots[read].chunk, *before = write > begin ? t->slots[write - 1].chunk : NULL;
                size_t n = 0;

                for (size_t i = 0; i < c->n; i++) {
                        struct range *r = &c->e[i];

                        if (r->first >= first && range_last(r) <= last && !keep(r, userdata))
                                continue;
                        if (i != n)
                                c->e[n] = *r;
                        n++;
                }
                removed += c->n - n;
                c->n = n;
                if (before && before->n + n <= MERGE_MAX) {
                        memcpy(before->e + before->n, c->e, n * sizeof(*c->e));
                        before->n += n;
                        n = 0;
                }
                if (n == 0) {
                        free(c);
                        continue;
                }
                t->slots[write].chunk = c;
                touch(t, write);
                write++;
        }
        memmove(t->slots + write, t->slots + read, (t->n_slots - read) * sizeof(*t->slots));
        t->n_slots -= read - write;
        t->n -= removed;
        /* The edges may suit chunks that were not looked at. */
        if (removed > 0 && write < t->n_slots)
                tidy(t, write);
        if (removed > 0 && begin < t->n_slots)
                tidy(t, begin);
        return removed;
}
