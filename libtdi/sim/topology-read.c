/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads a topology's JSON into lists: what the machine is, its host bridges, TSMs, drivers, disks and interfaces. What values mean
 * together (places, addresses, capabilities) is looked at elsewhere.
 */
#include "sim/topology-value.h"

#include <ctype.h>
#include <stdio.h>

static int read_bus(const struct value *v, struct topology_bus *b) {
        struct value s;
        const char *place;
        unsigned segment, bus, node = 0;
        bool given;
        int r;

        *b = (struct topology_bus){ .end = 0xff, .numa_node = -1, .streams = 256 };
        r = value_object(v, SECTION_BUS);
        if (r < 0)
                return r;
        if (!value_member(v, "bus", &s))
                return value_missing(v, "\"bus\"");
        r = value_text(&s, &place);
        if (r < 0)
                return r;
        if (strlen(place) != 7 || value_hex(place, 4, &segment) < 0 || place[4] != ':' || value_hex(place + 5, 2, &bus) < 0)
                return bad(&s, "\"%.40s\" is not of the form ssss:bb", place);
        b->segment = (uint16_t) segment;
        b->bus = (uint8_t) bus;
        r = member_bus(v, "end", &b->end, &given);
        if (r >= 0 && b->end < b->bus)
                r = bad(v, "ends before it starts");
        if (r >= 0 && value_member(v, "numa_node", &s)) {
                r = member_small(v, "numa_node", 0, 63, &node);
                b->numa_node = (int) node;
        }
        return r < 0 ? r : member_small(v, "streams", 0, 256, &b->streams);
}

static int check_bdf(const struct value *v, const char **ret) {
        uint16_t segment;
        uint8_t bus, devfn;
        int r;

        r = value_bdf(v, &segment, &bus, &devfn);
        return r < 0 ? r : value_text(v, ret);
}

static int read_tsm(const struct value *v, struct topology_tsm *tsm) {
        struct value s;
        char *end;
        int r;

        *tsm = (struct topology_tsm){ .parent = "tsm_host", .bind = true, .requests = true, .bind_locks = true, .loaded = true, .streams = 64 };
        r = value_object(v, SECTION_TSM);
        if (r < 0)
                return r;
        if (!value_member(v, "name", &s))
                return value_missing(v, "\"name\"");
        r = value_word(&s, 12, &tsm->name);
        if (r < 0)
                return r;
        if (!startswith(tsm->name, "tsm") || !isdigit((unsigned char) tsm->name[3]) || strtoul(tsm->name + 3, &end, 10) > 255 || *end ||
            (tsm->name[3] == '0' && tsm->name[4]))
                return bad(&s, "\"%s\" is no name that the kernel gives: tsm0, tsm1, …", tsm->name);
        r = member_word(v, "parent", 48, &tsm->parent);
        if (r >= 0)
                r = member_word_or_null(v, "driver", 48, &tsm->driver);
        if (r >= 0 && value_member(v, "accepts", &s)) {
                if (json_object_is_type(s.o, json_type_string) && streq(json_object_get_string(s.o), "all"))
                        tsm->all = true;
                else
                        r = value_names(&s, check_bdf, &tsm->accepts);
        }
        if (r >= 0)
                r = member_bool(v, "marks", &tsm->marks);
        if (r >= 0)
                r = member_bool(v, "bind", &tsm->bind);
        if (r >= 0)
                r = member_bool(v, "requests", &tsm->requests);
        if (r >= 0)
                r = member_bool(v, "bind_locks", &tsm->bind_locks);
        if (r >= 0)
                r = member_bool(v, "loaded", &tsm->loaded);
        if (r >= 0)
                r = member_small(v, "connect_ms", 0, 3600000, &tsm->connect_ms);
        if (r >= 0 && tsm->marks && tsm->all)
                r = bad(v, "\"marks\" needs a list of functions in \"accepts\"");
        return r < 0 ? r : member_small(v, "streams", 0, 255, &tsm->streams);
}

static int read_driver(const struct value *v, struct topology_driver *d) {
        static const char *const powers[] = { "on", "auto" };
        size_t power = 0;
        struct value s;
        int r;

        *d = (struct topology_driver){ .loaded = true };
        r = value_object(v, SECTION_DRIVER);
        if (r < 0)
                return r;
        if (!value_member(v, "name", &s))
                return value_missing(v, "\"name\"");
        r = value_word(&s, 48, &d->name);
        if (r >= 0 && (streq(d->name, "vfio-pci") || streq(d->name, "pcieport")))
                r = bad(&s, "\"%s\" is always there", d->name);
        if (r >= 0)
                r = member_bool(v, "any", &d->any);
        if (r >= 0)
                r = member_bool(v, "sriov", &d->sriov);
        if (r >= 0)
                r = member_bool(v, "loaded", &d->loaded);
        if (r >= 0 && value_member(v, "power", &s)) {
                r = value_choice(&s, powers, ARRAY_SIZE(powers), &power);
                d->runtime_pm = power == 1;
        }
        return r;
}

static int path_or_null(const struct value *in, const char *key, const char **ret) {
        struct value v;
        int r;

        if (!value_member(in, key, &v) || !v.o)
                return 0;
        r = value_text(&v, ret);
        if (r < 0)
                return r;
        if (**ret != '/' || strlen(*ret) > 200)
                return bad(&v, "must be an absolute path of at most 200 characters");
        for (const char *c = *ret; *c; c++)
                if (!isgraph((unsigned char) *c) || *c == '\\')
                        return bad(&v, "has a character that mountinfo would have to escape");
        return 0;
}

static int read_users(const struct value *v, struct topology_part *p) {
        int r;

        r = path_or_null(v, "mount", &p->mount);
        if (r >= 0)
                r = member_bool(v, "swap", &p->swap);
        if (r >= 0)
                r = member_word_or_null(v, "holder", 31, &p->holder);
        if (r >= 0 && !!p->mount + !!p->holder + p->swap > 1)
                r = bad(v, "a disk has one of \"mount\", \"swap\" and \"holder\"");
        return r;
}

static int read_disk(const struct value *v, struct topology_disk *d) {
        uint64_t used = 0;
        struct value s;
        size_t n;
        int r;

        *d = (struct topology_disk){ .name = v->at.key, .size = 16 << 20 };
        if (json_object_is_type(v->o, json_type_string))
                r = value_number(v, 4096, 1ULL << 46, &d->size);
        else {
                r = value_object(v, SECTION_DISK);
                if (r >= 0)
                        r = member_number(v, "size", 4096, 1ULL << 46, &d->size);
                if (r >= 0)
                        r = member_bool(v, "multipath", &d->multipath);
                if (r >= 0)
                        r = read_users(v, &d->whole);
        }
        if (r < 0)
                return r;
        if (d->size % 512)
                return bad(v, "the size is not a multiple of 512");
        d->whole.sectors = d->size / 512;
        if (!json_object_is_type(v->o, json_type_object) || !value_member(v, "partitions", &s))
                return 0;
        r = value_array(&s, 127, &n);
        if (r < 0)
                return r;
        if (n && (d->whole.mount || d->whole.swap || d->whole.holder))
                return bad(&s, "the whole disk is in use: it cannot have partitions");
        d->parts = calloc(n ? n : 1, sizeof(*d->parts));
        if (!d->parts)
                return -ENOMEM;
        d->n_parts = n;
        for (size_t i = 0; i < n; i++) {
                struct value p = value_element(&s, i), size;
                uint64_t bytes = 0;

                r = value_object(&p, SECTION_PART);
                if (r >= 0 && !value_member(&p, "size", &size))
                        r = value_missing(&p, "\"size\"");
                if (r >= 0)
                        r = member_number(&p, "size", 512, d->size, &bytes);
                if (r >= 0)
                        r = read_users(&p, &d->parts[i]);
                if (r < 0)
                        return r;
                d->parts[i].sectors = bytes / 512;
                used += bytes / 512;
        }
        if (used > d->whole.sectors)
                return bad(&s, "are larger than the disk");
        return 0;
}

static int check_address(const struct value *v, const char **ret) {
        int r;

        r = value_text(v, ret);
        if (r < 0)
                return r;
        if (!**ret || strlen(*ret) > 45 || strspn(*ret, "0123456789abcdefABCDEF.:") != strlen(*ret))
                return bad(v, "\"%.45s\" is no IP address", *ret);
        return 0;
}

static int read_net(const struct value *v, struct topology_net *n) {
        struct value s;
        int r;

        *n = (struct topology_net){ .name = v->at.key, .interface = "eth%d" };
        r = value_object(v, SECTION_NET);
        if (r >= 0)
                r = member_word(v, "interface", 14, &n->interface);
        if (r >= 0 && strchr(n->interface, '%')) {
                const char *p = strchr(n->interface, '%');

                if (!streq(p, "%d"))
                        r = bad(v, "the only pattern in \"interface\" is \"%%d\" at its end");
        }
        if (r >= 0 && value_member(v, "mac", &s)) {
                unsigned byte;

                r = value_text(&s, &n->mac);
                if (r >= 0 && strlen(n->mac) != 17)
                        r = bad(&s, "is no MAC address");
                for (unsigned i = 0; i < 17 && r >= 0; i += 3)
                        if (value_hex(n->mac + i, 2, &byte) < 0 || (i < 15 && n->mac[i + 2] != ':'))
                                r = bad(&s, "is no MAC address");
        }
        if (r >= 0)
                r = member_bool(v, "up", &n->up);
        if (r >= 0)
                r = member_bool(v, "netns", &n->elsewhere);
        if (r >= 0)
                r = member_word_or_null(v, "upper", 15, &n->upper);
        if (r >= 0 && value_member(v, "addresses", &s))
                r = value_names(&s, check_address, &n->addresses);
        return r;
}

/* ---- the whole ---- */

#define READ_ARRAY(top, what, max, function)                                                            \
        ({                                                                                              \
                struct value _list;                                                                     \
                size_t _n = 0;                                                                          \
                int _r = 0;                                                                             \
                if (value_member(top, #what, &_list))                                                         \
                        _r = value_array(&_list, max, &_n);                                                   \
                if (_r >= 0 && _n) {                                                                    \
                        t->what = calloc(_n, sizeof(*t->what));                                         \
                        _r = t->what ? 0 : -ENOMEM;                                                     \
                }                                                                                       \
                for (size_t _i = 0; _i < _n && _r >= 0; _i++) {                                         \
                        struct value _v = value_element(&_list, _i);                                          \
                        t->n_##what = _i + 1;                                                           \
                        _r = function(&_v, &t->what[_i]);                                               \
                }                                                                                       \
                _r;                                                                                     \
        })

#define READ_MEMBERS(top, what, function)                                                               \
        ({                                                                                              \
                struct value _o;                                                                        \
                int _r = 0;                                                                             \
                if (value_member(top, #what, &_o)) {                                                          \
                        if (!json_object_is_type(_o.o, json_type_object))                               \
                                _r = bad(&_o, "must be an object");                                     \
                        else {                                                                          \
                                t->what = calloc((size_t) json_object_object_length(_o.o) + 1, sizeof(*t->what)); \
                                _r = t->what ? 0 : -ENOMEM;                                             \
                                if (_r >= 0)                                                            \
                                        _r = read_##what(&_o, t, function);                             \
                        }                                                                               \
                }                                                                                       \
                _r;                                                                                     \
        })

static int member_name(const struct value *v) {
        struct json_object *o = json_object_new_string(v->at.key);
        struct value as_text = { v->r, v->at, o };
        const char *unused;
        int r;

        if (!o)
                return -ENOMEM;
        r = value_word(&as_text, 32, &unused);
        json_object_put(o);
        return r;
}

static int read_disks(const struct value *in, struct sim_topology *t, int (*read)(const struct value *v, struct topology_disk *d)) {
        json_object_object_foreach(in->o, key, o) {
                struct value v = { in->r, { &in->at, key, 0 }, o };
                int r;

                if (streq(key, "about"))
                        continue;
                r = member_name(&v);
                if (r >= 0)
                        r = read(&v, &t->disks[t->n_disks++]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_nets(const struct value *in, struct sim_topology *t, int (*read)(const struct value *v, struct topology_net *n)) {
        json_object_object_foreach(in->o, key, o) {
                struct value v = { in->r, { &in->at, key, 0 }, o };
                int r;

                if (streq(key, "about"))
                        continue;
                r = member_name(&v);
                if (r >= 0)
                        r = read(&v, &t->nets[t->n_nets++]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_machine(const struct value *top, struct sim_topology *t) {
        static const char *const platforms[] = { "tdx", "sev-snp", "cca", "pkvm", "plain" };
        static const char *const iommu_types[] = { "DMA", "DMA-FQ", "identity" };
        struct value v;
        const char *s;
        size_t i;
        int r;

        if (!value_member(top, "schema", &v))
                return bad(top, "\"schema\" is missing: it must be \"%s\"", TOPOLOGY_SCHEMA);
        r = value_choice(&v, (const char *const[]){ TOPOLOGY_SCHEMA }, 1, &i);
        if (r < 0)
                return r;
        if (!value_member(top, "platform", &v))
                return bad(top, "\"platform\" is missing");
        r = value_choice(&v, platforms, ARRAY_SIZE(platforms), &i);
        if (r < 0)
                return r;
        snprintf(t->platform, sizeof(t->platform), "%s", platforms[i]);
        if (value_member(top, "boot_id", &v)) {
                r = value_text(&v, &s);
                if (r >= 0 && (strlen(s) != 36 || strspn(s, "0123456789abcdef-") != 36))
                        r = bad(&v, "is no UUID in lower case");
                if (r < 0)
                        return r;
                snprintf(t->boot_id, sizeof(t->boot_id), "%s", s);
        }
        t->iommu_type = "DMA-FQ";
        if (value_member(top, "iommu_type", &v)) {
                r = value_choice(&v, iommu_types, ARRAY_SIZE(iommu_types), &i);
                if (r < 0)
                        return r;
                t->iommu_type = iommu_types[i];
        }
        r = member_bool(top, "unsafe_interrupts", &t->unsafe_interrupts);
        if (r >= 0)
                r = member_bool(top, "bind_module", &t->bind_module);
        if (r >= 0)
                r = member_small(top, "reset_ms", 0, 3600000, &t->reset_ms);
        return r;
}

/* Where the IOMMU has its doorbells, unless the topology says otherwise. */
static void default_windows(struct sim_topology *t) {
        bool arm = streq(t->platform, "cca") || streq(t->platform, "pkvm");

        t->n_reserved = 1;
        t->reserved[0].start = arm ? 0x8000000 : 0xfee00000;
        t->reserved[0].end = arm ? 0x80fffff : 0xfeefffff;
        t->reserved[0].msi = true;
}

/* Text, or {"link": target}. */
static int check_file(const struct value *v) {
        const char *text;
        struct value s;

        if (!json_object_is_type(v->o, json_type_object))
                return value_text(v, &text);
        if (!value_member(v, "link", &s) || json_object_object_length(v->o) != 1)
                return bad(v, "must be a text, or an object with \"link\" only");
        return value_text(&s, &text);
}

static int read_files(const struct value *top, struct sim_topology *t) {
        struct value files;

        if (!value_member(top, "files", &files))
                return 0;
        if (!json_object_is_type(files.o, json_type_object))
                return bad(&files, "must be an object");
        json_object_object_foreach(files.o, key, o) {
                struct value v = { files.r, { &files.at, key, 0 }, o };
                int r;

                if (streq(key, "about"))
                        continue;
                if (*key != '/' || strlen(key) > 200 || strstr(key, "//") || strstr(key, "/.") || key[strlen(key) - 1] == '/')
                        return bad(&v, "must be an absolute path of at most 200 characters, without empty parts and such that begin with a dot");
                r = check_file(&v);
                if (r < 0)
                        return r;
        }
        t->files = files.o;
        return 0;
}

static int check_faults(const struct value *top) {
        struct value list;
        size_t n;
        int r;

        if (!value_member(top, "faults", &list))
                return 0;
        r = value_array(&list, TOPOLOGY_LIST_MAX, &n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                struct value v = value_element(&list, i);

                if (!json_object_is_type(v.o, json_type_object))
                        r = bad(&v, "must be an object");
        }
        return r;
}

int topology_read(struct sim_topology *t, struct json_object *json, struct topology_why *why) {
        struct value_reader reader = { t, why };
        struct value top = { &reader, { NULL, "", 0 }, json };
        int r;

        if (!json_object_is_type(json, json_type_object))
                return topology_bad(why, NULL, "a topology is an object");
        r = value_object(&top, SECTION_TOP);
        if (r >= 0)
                r = read_machine(&top, t);
        if (r >= 0) {
                default_windows(t);
                r = member_reserved(&top, t->reserved, &t->n_reserved, ARRAY_SIZE(t->reserved));
        }
        if (r >= 0)
                r = READ_ARRAY(&top, buses, TOPOLOGY_BUSES_MAX, read_bus);
        if (r >= 0)
                r = READ_ARRAY(&top, tsms, 16, read_tsm);
        if (r >= 0)
                r = READ_ARRAY(&top, drivers, 256, read_driver);
        if (r >= 0)
                r = READ_MEMBERS(&top, disks, read_disk);
        if (r >= 0)
                r = READ_MEMBERS(&top, nets, read_net);
        if (r >= 0)
                r = topology_read_functions(&top);
        if (r >= 0)
                r = read_files(&top, t);
        if (r >= 0)
                r = check_faults(&top);
        return r;
}
