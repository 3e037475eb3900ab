/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Puts the functions of a topology into a hierarchy: what is behind which port, bus numbers, VFs, addresses of BARs and windows. Everything
 * that firmware would have to refuse is refused here.
 */
#include "sim/topology.h"

#include <stdio.h>

#define MEMORY32_START 0x80000000ULL
#define MEMORY32_END 0xfe000000ULL
#define MEMORY64_START (1ULL << 40)
#define MEMORY64_END (1ULL << 51)
#define IO_START 0x1000ULL
#define IO_END 0x10000ULL
#define SMALL_BAR (1ULL << 20) /* a 64-bit BAR up to this goes below 4 GiB while there is room: bridges have no other window for it */

/* Who leads to each bus of a segment: a host bridge, a port, or a PF whose VFs are there. */
struct segment {
        uint16_t number;
        struct {
                const struct topology_bus *root;
                struct topology_function *port;
                const struct topology_function *pf;
        } bus[256];
};

struct place {
        struct sim_topology *t;
        struct topology_why *why;
        struct segment **segments;
        size_t n_segments;
};

static struct place *place_free(struct place *p) {
        for (size_t i = 0; i < p->n_segments; i++)
                free(p->segments[i]);
        free(p->segments);
        return NULL;
}

static struct segment *find_segment(struct place *p, uint16_t number) {
        for (size_t i = 0; i < p->n_segments; i++)
                if (p->segments[i]->number == number)
                        return p->segments[i];
        return NULL;
}

static uint32_t key(const struct topology_function *f) {
        return (uint32_t) f->segment << 16 | (uint32_t) f->bus << 8 | f->devfn;
}

static int by_key(const void *a, const void *b) {
        uint32_t x = key(a), y = key(b);

        return x < y ? -1 : x > y;
}

struct topology_function *topology_find(struct sim_topology *t, uint16_t segment, uint8_t bus, uint8_t devfn) {
        struct topology_function k = { .segment = segment, .bus = bus, .devfn = devfn };

        return t->n_functions ? bsearch(&k, t->functions, t->n_functions, sizeof(k), by_key) : NULL;
}

/* The functions of one bus stand together: the first of them, or the end. */
static struct topology_function *first_on(struct sim_topology *t, uint16_t segment, uint8_t bus) {
        struct topology_function k = { .segment = segment, .bus = bus };
        size_t low = 0, high = t->n_functions;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (by_key(&t->functions[middle], &k) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        /* No functions, no array: nothing may be added to NULL. */
        return t->n_functions ? t->functions + low : NULL;
}

static bool is_port(const struct topology_function *f) {
        return f->type == PORT_ROOT || f->type == PORT_UPSTREAM || f->type == PORT_DOWNSTREAM;
}

static const char *bdf_text(const struct topology_function *f, char buf[16]) {
        snprintf(buf, 16, "%04x:%02x:%02x.%d", f->segment, f->bus, f->devfn >> 3, f->devfn & 7);
        return buf;
}

/* ---- buses ---- */

static int take_roots(struct place *p) {
        struct sim_topology *t = p->t;

        if (t->n_buses == 0) {
                t->buses = calloc(1, sizeof(*t->buses));
                if (!t->buses)
                        return -ENOMEM;
                t->buses[0] = (struct topology_bus){ .end = 0xff, .numa_node = -1, .streams = 256 };
                t->n_buses = 1;
        }
        p->segments = calloc(t->n_buses, sizeof(*p->segments));
        if (!p->segments)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_buses; i++) {
                const struct topology_bus *b = &t->buses[i];
                struct topology_at top = { NULL, "buses", 0 }, at = { &top, NULL, i };
                struct segment *s = find_segment(p, b->segment);

                if (!s) {
                        s = calloc(1, sizeof(*s));
                        if (!s)
                                return -ENOMEM;
                        s->number = b->segment;
                        p->segments[p->n_segments++] = s;
                }
                for (size_t k = 0; k < i; k++)
                        if (t->buses[k].segment == b->segment && b->bus <= t->buses[k].end && t->buses[k].bus <= b->end)
                                return topology_bad(p->why, &at, "buses %02x to %02x overlap those of entry %zu", b->bus, b->end, k);
                s->bus[b->bus].root = b;
        }
        return 0;
}

static int take_ports(struct place *p) {
        for (size_t i = 0; i < p->t->n_functions; i++) {
                struct topology_function *f = &p->t->functions[i];
                const char *name = streq(f->list, "ports") ? "bus" : "secondary";
                struct segment *s = find_segment(p, f->segment);

                if (!s)
                        return topology_bad_function(p->why, f, "bdf", "there is no host bridge in segment %04x", f->segment);
                if (!is_port(f))
                        continue;
                if (f->secondary <= f->bus)
                        return topology_bad_function(p->why, f, name,
                                                     "bus %02x cannot be behind a port on bus %02x: a cycle, or against the order",
                                                     f->secondary, f->bus);
                if (s->bus[f->secondary].root)
                        return topology_bad_function(p->why, f, name, "bus %02x is a host bridge's", f->secondary);
                if (s->bus[f->secondary].port) {
                        char other[16];

                        return topology_bad_function(p->why, f, name, "bus %02x is behind port %s already", f->secondary,
                                                     bdf_text(s->bus[f->secondary].port, other));
                }
                s->bus[f->secondary].port = f;
        }
        return 0;
}

static int check_place(struct place *p, struct topology_function *f) {
        const struct topology_function *up = f->parent;
        char other[16];

        if (!up) {
                if (f->type == PORT_UPSTREAM || f->type == PORT_DOWNSTREAM)
                        return topology_bad_function(p->why, f, NULL, "a port of a switch cannot be on a root bus");
                if (f->type == PORT_ENDPOINT)
                        f->type = PORT_RC_ENDPOINT;
                return 0;
        }
        if (f->type == PORT_ROOT)
                return topology_bad_function(p->why, f, NULL, "a root port must be on a root bus");
        if (f->type == PORT_RC_ENDPOINT)
                return topology_bad_function(p->why, f, NULL, "an integrated endpoint must be on a root bus");
        if (up->type == PORT_UPSTREAM && f->type != PORT_DOWNSTREAM)
                return topology_bad_function(p->why, f, NULL, "only downstream ports can be behind the upstream port %s",
                                             bdf_text(up, other));
        if (f->type == PORT_DOWNSTREAM && up->type != PORT_UPSTREAM)
                return topology_bad_function(p->why, f, NULL, "a downstream port must be behind an upstream port");
        if (up->type != PORT_UPSTREAM && f->devfn > 7) {
                if (f->type == SIM_CONVENTIONAL || is_port(f))
                        return topology_bad_function(p->why, f, "bdf",
                                                     "behind a port there is only device 00, but for endpoints that know ARI");
                f->ari = true;
        }
        return 0;
}

static int link_up(struct place *p) {
        struct sim_topology *t = p->t;

        for (size_t i = 0; i < t->n_functions; i++) {
                struct topology_function *f = &t->functions[i];
                struct segment *s = find_segment(p, f->segment);
                int r;

                if (!s->bus[f->bus].root && !s->bus[f->bus].port)
                        return topology_bad_function(p->why, f, "bdf", "nothing leads to bus %04x:%02x", f->segment, f->bus);
                f->parent = s->bus[f->bus].port;
                if (f->behind && (!f->parent || !streq_ptr(f->parent->id, f->behind)))
                        return topology_bad_function(p->why, f, "bus", "bus %02x is not behind a port \"%s\"", f->bus, f->behind);
                r = check_place(p, f);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < t->n_functions; i++) {
                struct topology_function *f = &t->functions[i];
                const struct topology_function *zero = topology_find(t, f->segment, f->bus, f->ari ? 0 : f->devfn & ~7);

                if (!zero)
                        return topology_bad_function(p->why, f, "bdf",
                                                     "there is no function 0 of its device: nobody would look for others");
                if ((f->devfn & 7) || f->ari) {
                        f->multifunction = true;
                        t->functions[zero - t->functions].multifunction = true;
                        t->functions[zero - t->functions].ari |= f->ari;
                }
        }
        return 0;
}

struct vf {
        uint32_t key;
        const struct topology_function *pf;
};

static int by_vf(const void *a, const void *b) {
        const struct vf *x = a, *y = b;

        return x->key < y->key ? -1 : x->key > y->key;
}

static int check_vfs(struct place *p) {
        struct sim_topology *t = p->t;
        _cleanup_free_ struct vf *vfs = NULL;
        size_t n = t->n_functions, k = 0;

        for (size_t i = 0; i < t->n_functions; i++) {
                const struct topology_function *f = &t->functions[i];

                n += f->vf_total;
                if (n > TOPOLOGY_FUNCTIONS_MAX)
                        return topology_bad_function(p->why, f, "sriov.total", "too many functions: with virtual ones at most %d",
                                                     TOPOLOGY_FUNCTIONS_MAX);
        }
        vfs = calloc(n + 1, sizeof(*vfs));
        if (!vfs)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_functions; i++) {
                const struct topology_function *f = &t->functions[i];
                struct segment *s = find_segment(p, f->segment);

                for (unsigned v = 0; v < f->vf_total; v++) {
                        unsigned rid = topology_vf_rid(f, v), bus = rid >> 8;
                        struct topology_function *there;

                        if (rid > 0xffff)
                                return topology_bad_function(p->why, f, "sriov", "virtual function %u would be beyond the last bus", v);
                        if (bus != f->bus && (s->bus[bus].root || s->bus[bus].port))
                                return topology_bad_function(p->why, f, "sriov",
                                                             "virtual function %u would be on bus %02x, which is another's", v,
                                                                     bus);
                        there = topology_find(t, f->segment, (uint8_t) bus, (uint8_t) rid);
                        if (there)
                                return topology_bad_function(p->why, f, "sriov",
                                                             "virtual function %u would be at %04x:%02x:%02x.%u, where %s[%zu] is", v,
                                                             f->segment, bus, rid >> 3 & 0x1f, rid & 7, there->list, there->index);
                        if (bus != f->bus) {
                                if (s->bus[bus].pf && s->bus[bus].pf->bus != f->bus)
                                        return topology_bad_function(p->why, f, "sriov",
                                                                     "virtual function %u would be on bus %02x, which is another's", v,
                                                                     bus);
                                s->bus[bus].pf = f;
                        }
                        vfs[k++] = (struct vf){ (uint32_t) f->segment << 16 | rid, f };
                }
        }
        qsort(vfs, k, sizeof(*vfs), by_vf);
        for (size_t i = 1; i < k; i++)
                if (vfs[i].key == vfs[i - 1].key)
                        return topology_bad_function(p->why, vfs[i].pf, "sriov", "a virtual function would be at %04x:%02x:%02x.%u twice",
                                                     vfs[i].key >> 16,
                                                     vfs[i].key >> 8 & 0xff, vfs[i].key >> 3 & 0x1f, vfs[i].key & 7);
        return 0;
}

/* Ports from the highest bus down, so that what is behind a port is known before it. */
static int number_buses(struct place *p) {
        for (size_t i = 0; i < p->n_segments; i++) {
                struct segment *s = p->segments[i];
                const struct topology_bus *root = NULL;

                for (int b = 255; b >= 0; b--) {
                        struct topology_function *port = s->bus[b].port;
                        unsigned last = port ? port->secondary : 0;

                        if (!port)
                                continue;
                        for (unsigned k = last + 1; k < 256; k++) {
                                const struct topology_function *child = s->bus[k].port;
                                bool mine = (child && child->bus == port->secondary) || (s->bus[k].pf &&
                                                                                         s->bus[k].pf->bus == port->secondary);

                                if (mine)
                                        last = child && child->subordinate > k ? child->subordinate : k;
                        }
                        if (port->subordinate_given && port->subordinate < last)
                                return topology_bad_function(p->why, port, "subordinate", "bus %02x is behind this port too", last);
                        if (!port->subordinate_given)
                                port->subordinate = (uint8_t) last;
                }
                for (unsigned b = 0; b < 256; b++) {
                        const struct topology_function *port = s->bus[b].port;

                        if (s->bus[b].root)
                                root = s->bus[b].root;
                        if (port && (!root || port->subordinate > root->end))
                                return topology_bad_function(p->why, port, NULL, "bus %02x behind it is beyond its host bridge's last bus",
                                                             port->subordinate);
                        for (unsigned k = port ? port->secondary + 1u : 256; k <= (port ? port->subordinate : 0u); k++) {
                                const struct topology_function *in = s->bus[k].port;

                                if (s->bus[k].root)
                                        return topology_bad_function(p->why, port, NULL,
                                                                     "buses %02x to %02x behind it overlap a host bridge's",
                                                                     port->secondary,
                                                                     port->subordinate);
                                while (in && in != port)
                                        in = in->parent;
                                if (s->bus[k].port && !in)
                                        return topology_bad_function(p->why, port, NULL,
                                                                     "buses %02x to %02x behind it overlap bus %02x of another port",
                                                                     port->secondary, port->subordinate, k);
                        }
                }
        }
        return 0;
}

/* ---- addresses ---- */

struct range {
        uint64_t start, end; /* end exclusive */
        const struct topology_function *f;
        unsigned bar;
};

struct pool {
        uint64_t next, end;
        struct range *given; /* sorted */
        size_t n_given;
};

struct pools {
        struct place *p;
        struct pool io, memory, wide;
};

static int by_start(const void *a, const void *b) {
        const struct range *x = a, *y = b;

        return x->start < y->start ? -1 : x->start > y->start;
}

static bool overlaps_given(const struct pool *pool, uint64_t start, uint64_t end, uint64_t *ret_end) {
        size_t low = 0, high = pool->n_given;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (pool->given[middle].end <= start)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low >= pool->n_given || pool->given[low].start >= end)
                return false;
        *ret_end = pool->given[low].end;
        return true;
}

static bool allocate(struct pool *pool, uint64_t size, uint64_t align, uint64_t *ret) {
        uint64_t at = pool->next, past;

        for (;;) {
                at = (at + align - 1) & ~(align - 1);
                if (at > pool->end || size > pool->end - at)
                        return false;
                if (!overlaps_given(pool, at, at + size, &past))
                        break;
                at = past;
        }
        pool->next = at + size;
        *ret = at;
        return true;
}

static int place_bar(struct pools *pools, const struct topology_function *f, struct topology_bar *bar, uint64_t align) {
        if (bar->given)
                return 0;
        if (bar->io ? allocate(&pools->io, bar->size, align, &bar->address) :
            (!bar->wide || (!bar->prefetchable && bar->size <= SMALL_BAR)) && allocate(&pools->memory, bar->size, align, &bar->address))
                return 0;
        if (bar->wide && allocate(&pools->wide, bar->size, align, &bar->address))
                return 0;
        return topology_bad_function(pools->p->why, f, "bars", "there are no addresses left for a BAR of %llu bytes",
                                     (unsigned long long) bar->size);
}

static void align_pools(struct pools *pools) {
        pools->memory.next = (pools->memory.next + 0xfffff) & ~0xfffffULL;
        pools->wide.next = (pools->wide.next + 0xfffff) & ~0xfffffULL;
        pools->io.next = (pools->io.next + 0xfff) & ~0xfffULL;
}

static void widen(struct topology_window *w, uint64_t start, uint64_t size, uint64_t unit) {
        uint64_t end = (start + size - 1) | (unit - 1);

        start &= ~(unit - 1);
        if (w->start > w->end) {
                w->start = start;
                w->end = end;
                return;
        }
        if (start < w->start)
                w->start = start;
        if (end > w->end)
                w->end = end;
}

/* The windows of every port above must let the BAR through. */
static void open_windows(struct topology_function *f, const struct topology_bar *bar) {
        for (struct topology_function *up = f->parent; up; up = up->parent) {
                if (bar->io)
                        widen(&up->io, bar->address, bar->size, 0x1000);
                else if (bar->address >> 32)
                        widen(&up->prefetch, bar->address, bar->size, 0x100000);
                else
                        widen(&up->memory, bar->address, bar->size, 0x100000);
        }
}

static int place_bus(struct pools *pools, uint16_t segment, uint8_t bus) {
        struct sim_topology *t = pools->p->t;
        struct topology_function *first = first_on(t, segment, bus), *end = t->n_functions ? t->functions + t->n_functions : NULL;
        int r = 0;

        for (struct topology_function *f = first; f < end && f->segment == segment && f->bus == bus && r >= 0; f++) {
                for (unsigned i = 0; i < SIM_BARS && r >= 0; i++) {
                        if (!f->bar[i].size)
                                continue;
                        r = place_bar(pools, f, &f->bar[i], f->bar[i].size);
                        if (r >= 0)
                                open_windows(f, &f->bar[i]);
                }
                for (unsigned i = 0; i < SIM_BARS && f->vf && r >= 0; i++) {
                        struct topology_bar *all = &f->vf_bar[i];

                        if (!f->vf->bar[i].size)
                                continue;
                        *all = f->vf->bar[i];
                        all->size *= f->vf_total;
                        r = place_bar(pools, f, all, f->vf->bar[i].size);
                        if (r >= 0)
                                open_windows(f, all);
                }
        }
        /* What is behind ports comes after what is here, each in megabytes of its own. */
        for (struct topology_function *f = first; f < end && f->segment == segment && f->bus == bus && r >= 0; f++)
                if (is_port(f)) {
                        align_pools(pools);
                        r = place_bus(pools, segment, f->secondary);
                        align_pools(pools);
                }
        return r;
}

static int collect_given(struct place *p, bool io, struct pool *pool) {
        struct sim_topology *t = p->t;
        size_t room = 0;

        for (size_t i = 0; i < t->n_functions; i++)
                for (unsigned b = 0; b < SIM_BARS; b++)
                        room += t->functions[i].bar[b].given && t->functions[i].bar[b].io == io;
        pool->given = calloc(room + 1, sizeof(*pool->given));
        if (!pool->given)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_functions; i++)
                for (unsigned b = 0; b < SIM_BARS; b++) {
                        const struct topology_bar *bar = &t->functions[i].bar[b];

                        if (bar->given && bar->io == io)
                                pool->given[pool->n_given++] = (struct range){ bar->address, bar->address + bar->size, &t->functions[i],
                                                                              b };
                }
        qsort(pool->given, pool->n_given, sizeof(*pool->given), by_start);
        for (size_t i = 0; i < pool->n_given; i++) {
                const struct range *a = &pool->given[i], *last = i ? &pool->given[i - 1] : NULL;
                char other[16];

                if (last && a->start < last->end)
                        return topology_bad_function(p->why, a->f, "bars", "BAR %u at %#llx overlaps BAR %u of %s", a->bar,
                                                     (unsigned long long) a->start,
                                                     last->bar, bdf_text(last->f, other));
                for (unsigned k = 0; k < t->n_reserved && !io; k++)
                        if (t->reserved[k].msi && a->start <= t->reserved[k].end && t->reserved[k].start < a->end)
                                return topology_bad_function(p->why, a->f, "bars", "BAR %u at %#llx overlaps the window of interrupts",
                                                             a->bar,
                                                             (unsigned long long) a->start);
        }
        return 0;
}

static int place_addresses(struct place *p) {
        struct pools pools = { .p = p, .io = { .next = IO_START, .end = IO_END }, .memory = { .next = MEMORY32_START, .end = MEMORY32_END },
                               .wide = { .next = MEMORY64_START, .end = MEMORY64_END } };
        int r;

        for (size_t i = 0; i < p->t->n_functions; i++) {
                struct topology_function *f = &p->t->functions[i];

                f->memory.start = f->prefetch.start = f->io.start = 1;
                f->memory.end = f->prefetch.end = f->io.end = 0;
        }
        r = collect_given(p, true, &pools.io);
        if (r >= 0)
                r = collect_given(p, false, &pools.memory);
        pools.wide.given = pools.memory.given;
        pools.wide.n_given = pools.memory.n_given;
        for (size_t i = 0; i < p->t->n_buses && r >= 0; i++)
                r = place_bus(&pools, p->t->buses[i].segment, p->t->buses[i].bus);
        free(pools.io.given);
        free(pools.memory.given);
        return r;
}

int topology_place(struct sim_topology *t, struct topology_why *why) {
        struct place p = { .t = t, .why = why };
        int r;

        if (t->n_functions)
                qsort(t->functions, t->n_functions, sizeof(*t->functions), by_key);
        for (size_t i = 1; i < t->n_functions; i++) {
                const struct topology_function *a = &t->functions[i - 1], *b = &t->functions[i];
                const struct topology_function *later = streq(a->list, b->list) ? (a->index > b->index ? a : b) : streq(a->list,
                                                                                                                        "functions") ? a :
                                                                                                                                b;
                const struct topology_function *earlier = later == a ? b : a;
                char bdf[16];

                if (key(a) == key(b))
                        return topology_bad_function(why, later, "bdf", "%s is there twice: see %s[%zu]", bdf_text(b, bdf), earlier->list,
                                                     earlier->index);
        }
        r = take_roots(&p);
        if (r >= 0)
                r = take_ports(&p);
        if (r >= 0)
                r = link_up(&p);
        if (r >= 0)
                r = check_vfs(&p);
        if (r >= 0)
                r = number_buses(&p);
        if (r >= 0)
                r = place_addresses(&p);
        place_free(&p);
        return r;
}
