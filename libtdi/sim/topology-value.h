/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Values of a topology's JSON with their places, and their forms: words, numbers, addresses. What a "member_" function does not find
 * is left as it was. All: 0, -ENOMEM, or -EINVAL with the complaint written down.
 */
#ifndef TDI_SIM_TOPOLOGY_VALUE_H
#define TDI_SIM_TOPOLOGY_VALUE_H

#include <json-c/json.h>

#include "sim/topology.h"

enum value_section_id {
        SECTION_TOP,
        SECTION_BUS,
        SECTION_TSM,
        SECTION_DRIVER,
        SECTION_DISK,
        SECTION_PART,
        SECTION_NET,
        SECTION_PORT,
        SECTION_FUNCTION,
        SECTION_BAR,
        SECTION_SRIOV,
        SECTION_VF,
        SECTION_IDE,
        SECTION_RESERVED,
        SECTION_MAX,
};

/* The keys of each kind of object. */
struct value_section {
        const char *name;
        const char *keys[40];
};
extern const struct value_section value_sections[SECTION_MAX];

struct value_reader {
        struct sim_topology *t;
        struct topology_why *why;
};

/* A value and its place. */
struct value {
        struct value_reader *r;
        struct topology_at at;
        struct json_object *o;
};

/* In sight of the caller, so that a compiler sees that it is an error. */
#define bad(v, ...) ((void) topology_bad((v)->r->why, &(v)->at, __VA_ARGS__), -EINVAL)

bool value_member(const struct value *in, const char *key, struct value *ret);
struct value value_element(const struct value *in, size_t i);
int value_object(const struct value *v, enum value_section_id section);
int value_array(const struct value *v, size_t max, size_t *ret);
int value_text(const struct value *v, const char **ret);
int member_bool(const struct value *in, const char *key, bool *ret);
int value_number(const struct value *v, uint64_t min, uint64_t max, uint64_t *ret);
int member_number(const struct value *in, const char *key, uint64_t min, uint64_t max, uint64_t *ret);
int member_small(const struct value *in, const char *key, unsigned min, unsigned max, unsigned *ret);
int value_word(const struct value *v, size_t max, const char **ret);
int member_word(const struct value *in, const char *key, size_t max, const char **ret);
int member_word_or_null(const struct value *in, const char *key, size_t max, const char **ret);
int value_hex(const char *s, size_t digits, unsigned *ret);
int value_missing(const struct value *in, const char *key);
int member_ids(const struct value *in, const char *key, uint16_t *ret_vendor, uint16_t *ret_device);
int value_bdf(const struct value *v, uint16_t *ret_segment, uint8_t *ret_bus, uint8_t *ret_devfn);
int member_bus(const struct value *in, const char *key, uint8_t *ret, bool *ret_given);
int value_choice(const struct value *v, const char *const *words, size_t n, size_t *ret);
int value_names(const struct value *v, int (*check)(const struct value *v, const char **ret), struct topology_names *ret);
int member_reserved(const struct value *in, struct topology_reserved *w, unsigned *n_windows, unsigned max);

/* topology-function.c: "ports" and "functions". */
int topology_read_functions(const struct value *top);

#endif
