/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads "ports" and "functions" of a topology: what each is like, and "count" written out.
 */
#include "sim/topology-value.h"

#include <stdio.h>

static int read_bars(const struct value *in, struct topology_bar *bar) {
        static const char *const kinds[] = { "mem32", "mem64", "prefetch", "io" };
        struct value list;
        unsigned next = 0;
        size_t n;
        int r;

        if (!value_member(in, "bars", &list))
                return 0;
        memset(bar, 0, SIM_BARS * sizeof(*bar));
        r = value_array(&list, SIM_BARS, &n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                struct value v = value_element(&list, i), s;
                struct topology_bar b = {};
                size_t kind = 0;
                unsigned at = next;

                r = value_object(&v, SECTION_BAR);
                if (r >= 0)
                        r = member_small(&v, "bar", 0, SIM_BARS - 1, &at);
                if (r >= 0 && value_member(&v, "kind", &s))
                        r = value_choice(&s, kinds, ARRAY_SIZE(kinds), &kind);
                if (r < 0)
                        return r;
                b.io = kind == 3;
                b.wide = kind == 1 || kind == 2;
                b.prefetchable = kind == 2;
                if (!value_member(&v, "size", &s))
                        return value_missing(&v, "\"size\"");
                r = value_number(&s, b.io ? 4 : 16, b.io ? 256 : b.wide ? 1ULL << 42 : 1ULL << 31, &b.size);
                if (r < 0)
                        return r;
                if (b.size & (b.size - 1))
                        return bad(&s, "%llu is not a power of two", (unsigned long long) b.size);
                if (value_member(&v, "address", &s)) {
                        r = value_number(&s, 1, b.io ? 0xffff : b.wide ? (1ULL << 52) - 1 : UINT32_MAX, &b.address);
                        if (r < 0)
                                return r;
                        if (b.address & (b.size - 1))
                                return bad(&s, "%#llx is not aligned to the size", (unsigned long long) b.address);
                        b.given = true;
                }
                if (at >= SIM_BARS || (b.wide && at == SIM_BARS - 1))
                        return bad(&v, "there is no place left for it: BARs are 0 to 5, a 64-bit one takes two");
                if (bar[at].size || (at > 0 && bar[at - 1].wide) || (b.wide && bar[at + 1].size))
                        return bad(&v, "BAR %u is taken already", at);
                bar[at] = b;
                next = at + (b.wide ? 2 : 1);
        }
        return r;
}

static int read_ide(const struct value *in, struct topology_ide *ide) {
        struct value v;
        int r;

        if (!value_member(in, "ide", &v))
                return 0;
        if (json_object_is_type(v.o, json_type_boolean)) {
                *ide = json_object_get_boolean(v.o) ? (struct topology_ide){ .streams = 1, .addresses = 1 } : (struct topology_ide){};
                return 0;
        }
        *ide = (struct topology_ide){ .streams = 1, .addresses = 1 };
        r = value_object(&v, SECTION_IDE);
        if (r >= 0)
                r = member_small(&v, "streams", 1, 64, &ide->streams);
        if (r >= 0)
                r = member_small(&v, "links", 0, 8, &ide->links);
        if (r >= 0)
                r = member_small(&v, "addresses", 0, 3, &ide->addresses);
        return r;
}

static int check_name(const struct value *v, const char **ret) {
        return value_word(v, 32, ret);
}

/* What ports, functions and VFs have in common. */
static int read_kind(const struct value *v, struct topology_function *f) {
        struct value list;
        int r;

        r = member_ids(v, "ids", &f->vendor, &f->device);
        if (r >= 0)
                r = member_word_or_null(v, "driver", 48, &f->driver);
        if (r >= 0)
                r = read_bars(v, f->bar);
        if (r >= 0)
                r = member_small(v, "msix", 1, 2048, &f->msix);
        if (r >= 0)
                r = member_bool(v, "flr", &f->flr);
        if (r >= 0)
                r = member_bool(v, "tee_io", &f->tee_io);
        if (r >= 0)
                r = member_word_or_null(v, "model", 32, &f->model);
        if (r >= 0 && f->model && !sim_model_find(f->model))
                r = value_member(v, "model", &list) ? bad(&list, "there is no model \"%s\"", f->model) : -EINVAL;
        if (r >= 0)
                r = member_word_or_null(v, "net", 32, &f->net);
        if (r >= 0 && value_member(v, "disk", &list))
                r = value_names(&list, check_name, &f->disks);
        return r;
}

static int read_vf(const struct value *in, struct topology_function *pf) {
        struct topology_function *f;
        struct value v;
        int r = 0;

        f = calloc(1, sizeof(*f));
        if (!f)
                return -ENOMEM;
        pf->vf = f;
        *f = (struct topology_function){
                .segment = pf->segment, .is_vf = true, .type = PORT_ENDPOINT, .flr = true, .role = "",
                .vendor = pf->vendor, .device = pf->device, .subvendor = pf->subvendor, .subdevice = pf->subdevice,
                .class = pf->class, .revision = pf->revision, .list = pf->list, .index = pf->index, .json = in->o,
        };
        if (!value_member(in, "vf", &v))
                return 0;
        r = value_object(&v, SECTION_VF);
        if (r < 0)
                return r;
        f->json = v.o;
        r = read_kind(&v, f);
        if (r < 0)
                return r;
        if (f->vendor != pf->vendor)
                return bad(&v, "a virtual function has the vendor of its physical function, %04x", pf->vendor);
        for (unsigned i = 0; i < SIM_BARS; i++) {
                if (f->bar[i].io || (f->bar[i].size && f->bar[i].size < 4096))
                        return bad(&v, "BAR %u of a virtual function must be memory of at least 4096 bytes", i);
                if (f->bar[i].given)
                        return bad(&v, "the address of BAR %u follows from the physical function", i);
        }
        return 0;
}

static int read_sriov(const struct value *in, struct topology_function *f) {
        struct value v, s;
        int r;

        if (!value_member(in, "sriov", &v))
                return 0;
        if (f->type != PORT_ENDPOINT && f->type != PORT_RC_ENDPOINT)
                return bad(&v, "only an endpoint has virtual functions");
        r = value_object(&v, SECTION_SRIOV);
        if (r < 0)
                return r;
        if (!value_member(&v, "total", &s))
                return value_missing(&v, "\"total\"");
        f->vf_offset = 1;
        f->vf_stride = 1;
        r = value_number(&s, 1, 4096, &(uint64_t){ 0 });
        if (r >= 0)
                r = member_small(&v, "total", 1, 4096, &f->vf_total);
        if (r >= 0)
                r = member_small(&v, "enabled", 0, f->vf_total, &f->vf_enabled);
        if (r >= 0)
                r = member_small(&v, "offset", 1, 0xffff, &f->vf_offset);
        if (r >= 0)
                r = member_small(&v, "stride", 1, 0xffff, &f->vf_stride);
        if (r >= 0)
                r = read_vf(&v, f);
        return r;
}

static int read_raw(const struct value *in, struct topology_function *f) {
        /* What the bytes say already. */
        static const char *const excluded[] = { "ids", "subsystem", "class", "revision", "type", "msi", "msix", "intx", "pm", "aer", "acs",
                                               "flr",
                                                "tee_io", "ide", "doe", "serial", "sriov", "secondary" };
        struct value v, unused;
        const char *s;
        size_t n = 0;
        int r;

        if (!value_member(in, "config", &v))
                return 0;
        r = value_text(&v, &s);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(excluded); i++)
                if (value_member(in, excluded[i], &unused))
                        return bad(&unused, "the bytes of \"config\" say this already");
        f->raw = calloc(1, SIM_CONFIG_SIZE);
        if (!f->raw)
                return -ENOMEM;
        for (; *s; s++) {
                unsigned byte;

                if (*s == ' ' || *s == '\n')
                        continue;
                if (n >= SIM_CONFIG_SIZE)
                        return bad(&v, "more than 4096 bytes");
                if (!s[1] || value_hex(s, 2, &byte) < 0)
                        return bad(&v, "byte %zu is not two hexadecimal digits", n);
                f->raw[n++] = (uint8_t) byte;
                s++;
        }
        if (n != 256 && n != SIM_CONFIG_SIZE)
                return bad(&v, "%zu bytes; config space has 256 or 4096", n);
        f->raw_size = n;
        return topology_config_decode(f, in->r->why);
}

static int take(struct value_reader *r, struct topology_function *f) {
        struct sim_topology *t = r->t;

        if (t->n_functions >= t->room) {
                struct topology_function *p;
                size_t room = t->room ? t->room * 2 : 64;

                p = reallocarray(t->functions, room, sizeof(*p));
                if (!p)
                        return -ENOMEM;
                t->functions = p;
                t->room = room;
        }
        t->functions[t->n_functions++] = *f;
        return 0;
}

static void drop(struct topology_function *f) {
        if (f->vf) {
                free(f->vf->disks.names);
                free(f->vf);
        }
        free(f->disks.names);
        free(f->raw);
}

static int duplicate(const struct topology_function *f, struct topology_function *ret) {
        *ret = *f;
        ret->raw = NULL;
        ret->vf = NULL;
        ret->disks = (struct topology_names){};
        if (f->raw) {
                ret->raw = malloc(SIM_CONFIG_SIZE);
                if (!ret->raw)
                        goto no_memory;
                memcpy(ret->raw, f->raw, SIM_CONFIG_SIZE);
        }
        if (f->disks.n) {
                ret->disks.names = calloc(f->disks.n, sizeof(char *));
                if (!ret->disks.names)
                        goto no_memory;
                memcpy(ret->disks.names, f->disks.names, f->disks.n * sizeof(char *));
                ret->disks.n = f->disks.n;
        }
        if (f->vf) {
                struct topology_function vf;
                int r = duplicate(f->vf, &vf);

                ret->vf = r < 0 ? NULL : malloc(sizeof(vf));
                if (!ret->vf) {
                        if (r >= 0)
                                drop(&vf);
                        goto no_memory;
                }
                *ret->vf = vf;
        }
        return 0;
no_memory:
        drop(ret);
        return -ENOMEM;
}

/* Writes "count" out: routing ids go up by the step, secondary buses by one. */
static int multiply(const struct value *v, struct topology_function *f) {
        static const char *const steps[] = { "bus", "device", "function" };
        static const unsigned sizes[] = { 256, 8, 1 };
        unsigned count = 1, rid = (unsigned) f->bus << 8 | f->devfn;
        size_t step = f->secondary ? 2 : 0;
        struct value s;
        int r;

        r = member_small(v, "count", 1, TOPOLOGY_FUNCTIONS_MAX, &count);
        if (r >= 0 && value_member(v, "step", &s))
                r = value_choice(&s, steps, ARRAY_SIZE(steps), &step);
        for (unsigned i = 0; i < count && r >= 0; i++) {
                struct topology_function one;

                if (v->r->t->n_functions >= TOPOLOGY_FUNCTIONS_MAX)
                        return bad(v, "too many functions: at most %d", TOPOLOGY_FUNCTIONS_MAX);
                if (rid > 0xffff)
                        return bad(v, "number %u of \"count\" is beyond the last bus", i);
                if (f->secondary && (f->secondary + i > 0xff || (f->subordinate_given && f->subordinate + i > 0xff)))
                        return bad(v, "number %u of \"count\" has no bus number left", i);
                r = duplicate(f, &one);
                if (r < 0)
                        return r;
                one.bus = (uint8_t) (rid >> 8);
                one.devfn = (uint8_t) rid;
                one.number = i;
                if (f->secondary) {
                        one.secondary = (uint8_t) (f->secondary + i);
                        one.subordinate = f->subordinate_given ? (uint8_t) (f->subordinate + i) : 0;
                }
                for (unsigned b = 0; b < SIM_BARS; b++)
                        if (i && one.bar[b].given)
                                r = bad(v, "BARs with an address and \"count\" do not go together");
                if (r >= 0)
                        r = take(v->r, &one);
                if (r < 0)
                        drop(&one);
                rid += sizes[step];
        }
        return r;
}

static int read_place(const struct value *v, struct topology_function *f) {
        struct value s;

        if (!value_member(v, "bdf", &s))
                return value_missing(v, "\"bdf\"");
        return value_bdf(&s, &f->segment, &f->bus, &f->devfn);
}

static void bridge_defaults(struct topology_function *f) {
        f->class = 0x060400;
        f->pm = f->aer = true;
        if (f->type == PORT_ROOT) {
                f->vendor = 0x1b36;
                f->device = 0x000c;
        } else {
                f->vendor = 0x104c;
                f->device = f->type == PORT_UPSTREAM ? 0x8232 : 0x8233;
        }
        f->acs = f->type != PORT_UPSTREAM;
        f->msi = 1;
        f->driver = "pcieport";
}

/* When it is known whether there is a mailbox. */
static int read_spdm_port(const struct value *in, struct topology_function *f) {
        struct value v;

        if (!value_member(in, "spdm_port", &v))
                return 0;
        if (!f->doe)
                return bad(&v, "it has no mailbox by which to reach a responder: \"doe\"");
        return member_small(in, "spdm_port", 1, UINT16_MAX, &f->spdm_port);
}

static int read_port(const struct value *v, struct topology_function *f) {
        static const char *const kinds[] = { "root", "upstream", "downstream" };
        static const uint8_t types[] = { PORT_ROOT, PORT_UPSTREAM, PORT_DOWNSTREAM };
        bool given = false;
        size_t kind = 0;
        struct value s;
        int r;

        r = value_object(v, SECTION_PORT);
        if (r >= 0)
                r = read_place(v, f);
        if (r >= 0 && value_member(v, "kind", &s))
                r = value_choice(&s, kinds, ARRAY_SIZE(kinds), &kind);
        if (r < 0)
                return r;
        f->type = types[kind];
        bridge_defaults(f);
        r = member_word(v, "id", 32, &f->id);
        if (r >= 0)
                r = member_bus(v, "bus", &f->secondary, &given);
        if (r >= 0 && !given)
                r = value_missing(v, "\"bus\"");
        if (r >= 0)
                r = member_bus(v, "subordinate", &f->subordinate, &f->subordinate_given);
        if (r >= 0)
                r = member_word(v, "role", 32, &f->role);
        if (r >= 0)
                r = read_kind(v, f);
        if (r >= 0)
                r = member_word_or_null(v, "group", 32, &f->group);
        if (r >= 0)
                r = member_bool(v, "acs", &f->acs);
        if (r >= 0)
                r = member_bool(v, "doe", &f->doe);
        if (r >= 0)
                r = read_spdm_port(v, f);
        if (r >= 0)
                r = member_bool(v, "hotplug", &f->hotplug);
        if (r >= 0)
                r = read_ide(v, &f->ide);
        if (r >= 0 && f->secondary == 0)
                r = bad(v, "bus 00 cannot be behind a port");
        return r < 0 ? r : multiply(v, f);
}

static const char *const types[] = { "endpoint", "legacy-endpoint", "rc-endpoint", "pci", "upstream", "downstream", "root" };
static const uint8_t type_numbers[] = { PORT_ENDPOINT, PORT_LEGACY_ENDPOINT, PORT_RC_ENDPOINT, SIM_CONVENTIONAL, PORT_UPSTREAM,
                                       PORT_DOWNSTREAM, PORT_ROOT };

static int read_capabilities(const struct value *v, struct topology_function *f) {
        struct value s;
        int r;

        r = member_ids(v, "subsystem", &f->subvendor, &f->subdevice);
        if (r >= 0 && value_member(v, "class", &s)) {
                unsigned class = 0;
                const char *t;

                r = value_text(&s, &t);
                if (r >= 0 && (strlen(t) != 6 || value_hex(t, 6, &class) < 0))
                        r = bad(&s, "\"%.40s\" is not six hexadecimal digits", t);
                f->class = class;
        }
        if (r >= 0) {
                unsigned revision = f->revision;

                r = member_small(v, "revision", 0, 0xff, &revision);
                f->revision = (uint8_t) revision;
        }
        if (r >= 0)
                r = member_small(v, "msi", 1, 32, &f->msi);
        if (r >= 0 && (f->msi & (f->msi - 1)))
                r = bad(v, "the number of MSI vectors must be a power of two");
        if (r >= 0)
                r = member_bool(v, "intx", &f->intx);
        if (r >= 0)
                r = member_bool(v, "pm", &f->pm);
        if (r >= 0)
                r = member_bool(v, "aer", &f->aer);
        if (r >= 0)
                r = member_bool(v, "acs", &f->acs);
        if (r >= 0)
                r = member_bool(v, "doe", &f->doe);
        if (r >= 0)
                r = read_ide(v, &f->ide);
        return r;
}

static int read_function(const struct value *v, struct topology_function *f) {
        struct value s;
        size_t type = 0;
        bool given = false;
        int r;

        r = value_object(v, SECTION_FUNCTION);
        if (r >= 0)
                r = read_place(v, f);
        if (r >= 0 && value_member(v, "type", &s))
                r = value_choice(&s, types, ARRAY_SIZE(types), &type);
        if (r < 0)
                return r;
        f->type = type_numbers[type];
        f->bus_reset = true;
        f->pm = f->aer = f->type != SIM_CONVENTIONAL;
        f->class = 0xff0000;
        if (f->type == PORT_ROOT || f->type == PORT_UPSTREAM || f->type == PORT_DOWNSTREAM) {
                bridge_defaults(f);
                r = member_bus(v, "secondary", &f->secondary, &given);
                if (r >= 0 && (!given || f->secondary == 0))
                        r = bad(v, "a port needs \"secondary\", the number of the bus behind it, which is not 00");
        } else if (value_member(v, "secondary", &s))
                r = bad(&s, "only a port has a bus behind it");
        if (r >= 0)
                r = member_word(v, "role", 32, &f->role);
        if (r >= 0)
                r = member_word(v, "bus", 32, &f->behind);
        if (r >= 0)
                r = read_kind(v, f);
        if (r < 0)
                return r;
        if (streq_ptr(f->model, "edu")) {
                if (!f->vendor) {
                        f->vendor = 0x1234;
                        f->device = 0x11e8;
                }
                f->class = 0x00ff00;
                f->revision = 0x10;
                if (!value_member(v, "bars", &s))
                        /* Of 32 bits on the conventional device that it is by birth. */
                        f->bar[0] = (struct topology_bar){ .size = 1 << 20, .wide = f->type != SIM_CONVENTIONAL };
                if (!f->msix)
                        f->msi = 1;
                f->intx = true;
        } else if (f->disks.n)
                f->class = 0x010802;
        else if (f->net)
                f->class = 0x020000;
        r = read_capabilities(v, f);
        if (r >= 0)
                r = member_word_or_null(v, "group", 32, &f->group);
        if (r >= 0)
                r = member_bool(v, "bus_reset", &f->bus_reset);
        if (r >= 0)
                r = member_bool(v, "no_coherency", &f->no_coherency);
        if (r >= 0)
                r = member_reserved(v, f->reserved, &f->n_reserved, ARRAY_SIZE(f->reserved));
        if (r >= 0)
                r = read_raw(v, f);
        if (r >= 0)
                r = read_spdm_port(v, f);
        if (r >= 0)
                r = member_number(v, "serial", 1, UINT64_MAX, &f->serial);
        if (r >= 0 && !f->vendor)
                r = bad(v, "needs \"ids\" or \"config\"");
        if (r >= 0 && (f->vendor == 0xffff || f->vendor == 0))
                r = bad(v, "vendor %04x says that there is nothing", f->vendor);
        if (r >= 0 && f->type == SIM_CONVENTIONAL && (f->tee_io || f->ide.streams || f->doe || f->aer || f->acs || f->flr))
                r = bad(v, "a conventional function has none of \"tee_io\", \"ide\", \"doe\", \"aer\", \"acs\", \"flr\"");
        if (r >= 0)
                r = read_sriov(v, f);
        return r < 0 ? r : multiply(v, f);
}

static int read_list(const struct value *top, const char *key, int (*read)(const struct value *v, struct topology_function *f)) {
        struct value list;
        size_t n;
        int r;

        if (!value_member(top, key, &list))
                return 0;
        r = value_array(&list, TOPOLOGY_FUNCTIONS_MAX, &n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                struct value v = value_element(&list, i);
                struct topology_function f = { .role = "", .list = key, .index = i, .json = v.o };

                r = read(&v, &f);
                drop(&f);
        }
        return r;
}

int topology_read_functions(const struct value *top) {
        int r;

        r = read_list(top, "ports", read_port);
        return r < 0 ? r : read_list(top, "functions", read_function);
}
