/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of the engine share: rules as they are kept, and the way from a text to them. */
#ifndef TDID_POLICY_PRIVATE_H
#define TDID_POLICY_PRIVATE_H

#include <json-c/json.h>

#include "model/json.h"
#include "policy/policy.h"

/* What a key of "match" is compared with. */
struct value {
        uint64_t number, mask; /* the fact & mask is the number */
        const char *glob;      /* names of VMs */
        unsigned pair;         /* evidence: index of a pair */
        bool is_signed;
};

struct condition {
        uint8_t key;   /* enum policy_key */
        bool by_bits;  /* the fact, an enum, is one of @bits; else one of the values fits */
        uint16_t n;
        uint32_t bits;
        union {
                struct value one; /* n is 1 */
                const struct value *values;
        };
};

struct need {
        unsigned pair;
        bool is_signed;
        uint64_t max_age_usec;
};

/* Bits of a rule's rank, the most specific first. Those of several forms have one bit a form. */
enum rank {
        RANK_ACCESS, RANK_MODE, RANK_PLATFORM, RANK_OWNER, RANK_VM_PATTERN, RANK_VM_NAME, RANK_SRIOV, RANK_TEE_IO, RANK_PATH, RANK_CLASS_2, RANK_CLASS_4,
        RANK_CLASS_6, RANK_VENDOR, RANK_ID, RANK_SUBSYSTEM, RANK_EVIDENCE, RANK_SERIAL, RANK_BDF,
};

struct rule {
        struct policy_rule public;
        uint32_t rank;
        struct condition *conditions; /* in the order of enum policy_key */
        unsigned n_conditions;
        unsigned requires, permits;
        const struct need *needs;
        size_t n_needs;
        bool has_limits;
        uint64_t limits[_POLICY_LIMIT_MAX];
        uint32_t ide_reserve;
        enum policy_config_write on_illegal_config_write;
        const char *source; /* as it was written, without its white space */
};

struct pair {
        const char *anchor, *references; /* paths */
        /* the first rule that names it: where, policy_check() alone knows */
        const char *file;
        struct json_place anchor_place, references_place;
};

struct policy {
        unsigned refs;
        struct block *blocks; /* memory of all that is below, but for the arrays */

        struct rule *rules; /* by rank, the highest first; then as files and rules come */
        size_t n_rules, room_rules;

        struct pair pairs[POLICY_PAIRS_MAX];
        size_t n_pairs;

        struct file {
                const char *path;
                bool masked;
        } *files;
        size_t n_files, room_files;
};

/* Lives as long as the policy, zeroed; NULL: no memory. */
void *policy_alloc(struct policy *p, size_t size);
const char *policy_strdup(struct policy *p, const char *text);
struct policy *policy_new(void);
/* -ENOMEM, or its index */
int policy_add_file(struct policy *p, const char *path, bool masked);
/* The last step: puts rules in order. */
int policy_sort(struct policy *p); /* 0, -ENOMEM */

/* ---- reading ---- */

#define READER_DEPTH 8

struct reader {
        struct policy *policy;
        const char *path, *text;
        size_t size;
        struct json_step steps[READER_DEPTH]; /* the way to what is being read */
        size_t n_steps;
        struct json_object *anchors, *references; /* the file's own names; NULL: none */
        void *owners;                             /* tsearch(3): names of users that were looked up, for as long as one load takes */

        /* Where errors go. With @more reading goes on behind one, with the next rule. */
        void (*tell)(const struct policy_error *e, void *userdata);
        void *userdata;
        bool more;
};

void reader_done(struct reader *r);

/* Says what is wrong with what the steps lead to. -EBADMSG */
int reader_complain(struct reader *r, bool at_key, const char *format, ...) _printf_(3, 4);
int reader_complain_at(struct reader *r, struct json_place at, const char *format, ...) _printf_(3, 4);
int reader_place(const struct reader *r, bool at_key, struct json_place *ret);
/* An object, with no other keys than these? 0; -EBADMSG, told with the nearest of them. */
int reader_check_keys(struct reader *r, struct json_object *o, const char *const keys[], size_t n);
/* The index of what @o says among the names; -EBADMSG, told. */
int reader_choice(struct reader *r, struct json_object *o, const char *const names[], size_t n);
static inline void reader_enter(struct reader *r, const char *key, size_t index) {
        if (r->n_steps < READER_DEPTH)
                r->steps[r->n_steps] = (struct json_step){ key, index };
        r->n_steps++;
}
static inline void reader_leave(struct reader *r) {
        r->n_steps--;
}

/* Adds the rules of a text. 0; -EBADMSG, told; -E2BIG, told; -ENOMEM. */
int policy_parse(struct reader *r);

/* "match", which the reader stands at: conditions and rank of the rule. */
int parse_match(struct reader *r, struct json_object *match, struct rule *rule);
/* One value of a key of "match", that the reader stands at: 0, -EBADMSG (told), -ENOMEM. @ret_rank: bits that it contributes. */
int value_parse(struct reader *r, enum policy_key key, struct json_object *o, struct value *ret, uint32_t *ret_rank);
/* "tdx", …: -EINVAL for what is none. */
int platform_index(const char *name);
const char *platform_name(size_t i); /* NULL behind the last */
/* The index of a pair of what stands under "anchor" and "references" of @o, which the reader stands at. */
int pair_parse(struct reader *r, struct json_object *o, unsigned *ret);

/* ---- folders ---- */

/* Reads every file that counts, in the order of names. */
int policy_read_dirs(const char *const dirs[], size_t n_dirs, struct reader *r);
int policy_read_file(const char *path, struct reader *r, size_t *total);

/* ---- asking ---- */

/* What a pair is worth with the proofs at hand. */
struct standing {
        bool known, signed_known;
        uint64_t newest, signed_newest; /* usec */
};
bool condition_holds(const struct condition *c, const struct policy_facts *f, const struct standing *standings);

#endif
