/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single values of a topology's JSON: types, ranges, forms, unknown keys; and how a complaint names its place.
 */
#include "sim/topology-value.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "model/json.h"

/* "about" is known everywhere: what a person has to say. */
const struct value_section value_sections[] = {
        [SECTION_TOP] = { "", { "schema", "platform", "boot_id", "unsafe_interrupts", "bind_module", "reset_ms", "iommu_type", "reserved", "buses",
                               "tsms", "drivers", "disks", "nets",
                "ports", "functions", "files", "faults" } },
        [SECTION_BUS] = { "buses", { "bus", "end", "numa_node", "streams" } },
        [SECTION_TSM] = { "tsms", { "name", "parent", "driver", "accepts", "marks", "bind", "requests", "bind_locks", "loaded", "connect_ms",
                                   "streams" } },
        [SECTION_DRIVER] = { "drivers", { "name", "any", "sriov", "loaded", "power" } },
        [SECTION_DISK] = { "disks", { "size", "multipath", "mount", "swap", "holder", "partitions" } },
        [SECTION_PART] = { "partitions", { "size", "mount", "swap", "holder" } },
        [SECTION_NET] = { "nets", { "interface", "mac", "up", "addresses", "netns", "upper" } },
        [SECTION_PORT] = { "ports", { "id", "bdf", "bus", "subordinate", "kind", "role", "ids", "driver", "group", "acs", "ide", "tee_io",
                                     "doe", "spdm_port", "flr", "hotplug",
                     "count", "step" } },
        [SECTION_FUNCTION] = { "functions", { "bdf", "bus", "role", "type", "secondary", "ids", "subsystem", "class", "revision", "driver",
                                              "bars", "msi", "msix", "intx", "pm", "aer", "acs", "flr", "bus_reset", "tee_io", "ide", "doe",
                                              "spdm_port", "serial", "sriov", "group", "reserved", "no_coherency", "model", "disk", "net", "config", "count", "step" } },
        [SECTION_BAR] = { "bars", { "bar", "size", "kind", "address" } },
        [SECTION_SRIOV] = { "sriov", { "total", "enabled", "offset", "stride", "vf" } },
        [SECTION_VF] = { "vf", { "ids", "driver", "bars", "msix", "flr", "tee_io", "model", "disk", "net" } },
        [SECTION_IDE] = { "ide", { "streams", "links", "addresses" } },
        [SECTION_RESERVED] = { "reserved", { "start", "end", "msi" } },
};

const char *sim_topology_key(size_t i, const char **ret_section) {
        for (size_t s = 0; s < SECTION_MAX; s++)
                for (size_t k = 0; value_sections[s].keys[k]; k++)
                        if (i-- == 0) {
                                *ret_section = value_sections[s].name;
                                return value_sections[s].keys[k];
                        }
        return NULL;
}

/* ---- places and complaints ---- */

static void write_place(const struct topology_at *at, char *buf, size_t size) {
        size_t n;

        if (!at)
                return;
        write_place(at->up, buf, size);
        n = strlen(buf);
        if (at->key)
                snprintf(buf + n, size - n, "%s%.60s", n ? "." : "", at->key);
        else
                snprintf(buf + n, size - n, "[%zu]", at->index);
}

static void __attribute__((__format__(__printf__, 3, 0))) complain(struct topology_why *why, const char *place, const char *format,
                                                                   va_list ap) {
        size_t n;

        if (why->size == 0)
                return;
        snprintf(why->text, why->size, "%s%s", place, *place ? ": " : "");
        n = strlen(why->text);
        vsnprintf(why->text + n, why->size - n, format, ap);
        /* The text may quote the input. */
        json_clean_text(why->text);
        for (char *c = why->text; *c; c++)
                if ((unsigned char) *c < ' ')
                        *c = '?';
}

int topology_bad(struct topology_why *why, const struct topology_at *at, const char *format, ...) {
        char place[256] = "";
        va_list ap;

        write_place(at, place, sizeof(place));
        va_start(ap, format);
        complain(why, place, format, ap);
        va_end(ap);
        return -EINVAL;
}

int topology_bad_function(struct topology_why *why, const struct topology_function *f, const char *key, const char *format, ...) {
        char place[256];
        va_list ap;

        snprintf(place, sizeof(place), "%s[%zu]%s%s", f->list, f->index, key ? "." : "", key ? key : "");
        va_start(ap, format);
        complain(why, place, format, ap);
        va_end(ap);
        return -EINVAL;
}

/* ---- values ---- */

bool value_member(const struct value *in, const char *key, struct value *ret) {
        struct json_object *o;

        if (!json_object_object_get_ex(in->o, key, &o))
                return false;
        *ret = (struct value){ in->r, { &in->at, key, 0 }, o };
        return true;
}

struct value value_element(const struct value *in, size_t i) {
        return (struct value){ in->r, { &in->at, NULL, i }, json_object_array_get_idx(in->o, i) };
}

int value_object(const struct value *v, enum value_section_id section) {
        if (!json_object_is_type(v->o, json_type_object))
                return bad(v, "must be an object");
        json_object_object_foreach(v->o, key, unused) {
                bool known = streq(key, "about");

                (void) unused;
                for (size_t i = 0; value_sections[section].keys[i] && !known; i++)
                        known = streq(key, value_sections[section].keys[i]);
                if (!known) {
                        struct topology_at at = { &v->at, key, 0 };

                        return topology_bad(v->r->why, &at, "unknown key");
                }
        }
        return 0;
}

int value_array(const struct value *v, size_t max, size_t *ret) {
        if (!json_object_is_type(v->o, json_type_array))
                return bad(v, "must be an array");
        *ret = json_object_array_length(v->o);
        if (*ret > max)
                return bad(v, "too many: %zu, at most %zu", *ret, max);
        return 0;
}

/* Strings cannot hold NUL: the strict reader refuses them. */
int value_text(const struct value *v, const char **ret) {
        if (!json_object_is_type(v->o, json_type_string))
                return bad(v, "must be a string");
        *ret = json_object_get_string(v->o);
        return 0;
}

int member_bool(const struct value *in, const char *key, bool *ret) {
        struct value v;

        if (!value_member(in, key, &v))
                return 0;
        if (!json_object_is_type(v.o, json_type_boolean))
                return bad(&v, "must be true or false");
        *ret = json_object_get_boolean(v.o);
        return 0;
}

/* A number, or one in a string: "0x1000", "64K", "1M", "2G", "1T". */
int value_number(const struct value *v, uint64_t min, uint64_t max, uint64_t *ret) {
        uint64_t n;

        if (json_object_is_type(v->o, json_type_int)) {
                int64_t i = json_object_get_int64(v->o);

                if (i < 0)
                        return bad(v, "must not be negative");
                n = json_object_get_uint64(v->o);
        } else if (json_object_is_type(v->o, json_type_string)) {
                const char *s = json_object_get_string(v->o), *units = "KMGT", *unit;
                char *end;

                if (!isdigit((unsigned char) *s))
                        return bad(v, "\"%.40s\" is no number", s);
                errno = 0;
                n = strtoull(s, &end, startswith(s, "0x") ? 16 : 10);
                if (errno)
                        return bad(v, "\"%.40s\" is too large", s);
                if (*end && (unit = strchr(units, *end))) {
                        unsigned shift = 10 * (unsigned) (unit - units + 1);

                        if (n > UINT64_MAX >> shift)
                                return bad(v, "\"%.40s\" is too large", s);
                        n <<= shift;
                        end++;
                }
                if (*end)
                        return bad(v, "\"%.40s\" is no number", s);
        } else
                return bad(v, "must be a number");
        if (n < min || n > max)
                return bad(v, "%llu is not from %llu to %llu", (unsigned long long) n, (unsigned long long) min, (unsigned long long) max);
        *ret = n;
        return 0;
}

int member_number(const struct value *in, const char *key, uint64_t min, uint64_t max, uint64_t *ret) {
        struct value v;

        return value_member(in, key, &v) ? value_number(&v, min, max, ret) : 0;
}

int member_small(const struct value *in, const char *key, unsigned min, unsigned max, unsigned *ret) {
        uint64_t n = *ret;
        int r = member_number(in, key, min, max, &n);

        if (r >= 0)
                *ret = (unsigned) n;
        return r;
}

/* A word that can be a file's name. */
int value_word(const struct value *v, size_t max, const char **ret) {
        const char *s;
        int r;

        r = value_text(v, &s);
        if (r < 0)
                return r;
        if (!*s || strlen(s) > max || *s == '.')
                return bad(v, "\"%.40s\" is no name of 1 to %zu characters", s, max);
        for (const char *c = s; *c; c++)
                if (!isalnum((unsigned char) *c) && !strchr("._-+:!%", *c))
                        return bad(v, "\"%.40s\" has a character that a name cannot have", s);
        *ret = s;
        return 0;
}

int member_word(const struct value *in, const char *key, size_t max, const char **ret) {
        struct value v;

        return value_member(in, key, &v) ? value_word(&v, max, ret) : 0;
}

/* The same, or null. */
int member_word_or_null(const struct value *in, const char *key, size_t max, const char **ret) {
        struct value v;

        if (!value_member(in, key, &v))
                return 0;
        if (!v.o) {
                *ret = NULL;
                return 0;
        }
        return value_word(&v, max, ret);
}

int value_hex(const char *s, size_t digits, unsigned *ret) {
        unsigned n = 0;

        for (size_t i = 0; i < digits; i++) {
                if (!isxdigit((unsigned char) s[i]))
                        return -EINVAL;
                n = n << 4 | (unsigned) (isdigit((unsigned char) s[i]) ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
        }
        *ret = n;
        return 0;
}

int value_missing(const struct value *in, const char *key) {
        return bad(in, "%s is missing", key);
}

/* "1b36:0010" */
int member_ids(const struct value *in, const char *key, uint16_t *ret_vendor, uint16_t *ret_device) {
        unsigned vendor, device;
        struct value v;
        const char *s;
        int r;

        if (!value_member(in, key, &v))
                return 0;
        r = value_text(&v, &s);
        if (r < 0)
                return r;
        if (strlen(s) != 9 || value_hex(s, 4, &vendor) < 0 || s[4] != ':' || value_hex(s + 5, 4, &device) < 0)
                return bad(&v, "\"%.40s\" is not of the form vvvv:dddd", s);
        *ret_vendor = (uint16_t) vendor;
        *ret_device = (uint16_t) device;
        return 0;
}

/* "0000:01:00.0" */
int value_bdf(const struct value *v, uint16_t *ret_segment, uint8_t *ret_bus, uint8_t *ret_devfn) {
        unsigned segment, bus, device, function;
        const char *s;
        int r;

        r = value_text(v, &s);
        if (r < 0)
                return r;
        if (strlen(s) != 12 || value_hex(s, 4, &segment) < 0 || s[4] != ':' || value_hex(s + 5, 2, &bus) < 0 || s[7] != ':' ||
            value_hex(s + 8, 2, &device) < 0 ||
            device > 0x1f || s[10] != '.' || value_hex(s + 11, 1, &function) < 0 || function > 7)
                return bad(v, "\"%.40s\" is not of the form ssss:bb:dd.f", s);
        *ret_segment = (uint16_t) segment;
        *ret_bus = (uint8_t) bus;
        *ret_devfn = (uint8_t) (device << 3 | function);
        return 0;
}

int member_bus(const struct value *in, const char *key, uint8_t *ret, bool *ret_given) {
        struct value v;
        const char *s;
        unsigned n;
        int r;

        if (!value_member(in, key, &v))
                return 0;
        r = value_text(&v, &s);
        if (r < 0)
                return r;
        if (strlen(s) != 2 || value_hex(s, 2, &n) < 0)
                return bad(&v, "\"%.40s\" is no bus number of two hexadecimal digits", s);
        *ret = (uint8_t) n;
        *ret_given = true;
        return 0;
}

int value_choice(const struct value *v, const char *const *words, size_t n, size_t *ret) {
        char all[160] = "";
        const char *s;
        int r;

        r = value_text(v, &s);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                if (streq(s, words[i])) {
                        *ret = i;
                        return 0;
                }
                snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s\"%s\"", i ? ", " : "", words[i]);
        }
        return bad(v, "\"%.40s\" is none of %s", s, all);
}

/* "x" or ["x", "y"] */
int value_names(const struct value *v, int (*check)(const struct value *v, const char **ret), struct topology_names *ret) {
        size_t n;
        int r;

        if (!json_object_is_type(v->o, json_type_array)) {
                const char *one;

                r = check(v, &one);
                if (r < 0)
                        return r;
                ret->names = calloc(1, sizeof(*ret->names));
                if (!ret->names)
                        return -ENOMEM;
                ret->names[0] = one;
                ret->n = 1;
                return 0;
        }
        r = value_array(v, TOPOLOGY_LIST_MAX, &n);
        if (r < 0)
                return r;
        ret->names = calloc(n ? n : 1, sizeof(*ret->names));
        if (!ret->names)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                struct value e = value_element(v, i);

                r = check(&e, &ret->names[i]);
                if (r < 0)
                        return r;
                ret->n = i + 1;
        }
        return 0;
}

int member_reserved(const struct value *in, struct topology_reserved *w, unsigned *n_windows, unsigned max) {
        struct value list;
        size_t n;
        int r;

        if (!value_member(in, "reserved", &list))
                return 0;
        r = value_array(&list, max, &n);
        *n_windows = 0;
        for (size_t i = 0; r >= 0 && i < n; i++) {
                struct value v = value_element(&list, i), unused;

                w[i].start = w[i].end = 0;
                w[i].msi = false;
                r = value_object(&v, SECTION_RESERVED);
                if (r >= 0 && (!value_member(&v, "start", &unused) || !value_member(&v, "end", &unused)))
                        r = value_missing(&v, "\"start\" or \"end\"");
                if (r >= 0)
                        r = member_number(&v, "start", 0, UINT64_MAX, &w[i].start);
                if (r >= 0)
                        r = member_number(&v, "end", 0, UINT64_MAX, &w[i].end);
                if (r >= 0)
                        r = member_bool(&v, "msi", &w[i].msi);
                if (r >= 0 && w[i].end < w[i].start)
                        r = bad(&v, "ends before it starts");
                for (unsigned k = 0; k < i && r >= 0; k++)
                        if (w[i].start <= w[k].end && w[k].start <= w[i].end)
                                r = bad(&v, "overlaps the window of entry %u", k);
                if (r >= 0)
                        *n_windows = (unsigned) i + 1;
        }
        return r;
}

