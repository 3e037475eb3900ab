/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Policies and facts for tests, from the JSON of truth.json. */
#ifndef TDID_POLICY_TEST_H
#define TDID_POLICY_TEST_H

#include <tdi/bdf.h>

#include "model/json.h"
#include "policy/policy.h"
#include "test.h"

#define NOW (UINT64_C(1800000000) * 1000000)

/* Facts with room for what they point to. */
struct facts {
        struct policy_facts facts;
        uint32_t path[8];
        struct policy_proof proofs[8];
};

static inline uint32_t test_bdf(const char *text) {
        struct tdi_bdf bdf;

        require(tdi_bdf_parse(text, &bdf) == 0);
        return tdi_bdf_number(bdf);
}

static inline void test_ids(const char *text, uint16_t *vendor, uint16_t *device) {
        require(sscanf(text, "%4hx:%4hx", vendor, device) == 2);
}


static inline void facts_of_device(struct facts *f, struct json_object *o) {
        const char *text;
        struct json_object *list;
        unsigned b[8];

        f->facts.has_device = true;
        f->facts.bdf = test_bdf(json_str_or(o, "bdf", ""));
        test_ids(json_str_or(o, "id", ""), &f->facts.vendor, &f->facts.device);
        test_ids(json_str_or(o, "subsystem", ""), &f->facts.subsystem_vendor, &f->facts.subsystem_device);
        f->facts.class = (uint32_t) strtoul(json_str_or(o, "class", ""), NULL, 16);
        f->facts.tee_io = json_bool_or(o, "tee_io", false);
        text = json_str_or(o, "sriov", "none");
        f->facts.sriov = streq(text, "pf") ? POLICY_SRIOV_PF : streq(text, "vf") ? POLICY_SRIOV_VF : POLICY_SRIOV_NONE;
        require(streq(text, policy_sriov_to_string(f->facts.sriov)));
        if (json_get_str(o, "serial", &text) == 0) {
                require(sscanf(text, "%2x-%2x-%2x-%2x-%2x-%2x-%2x-%2x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &b[6], &b[7]) == 8);
                f->facts.has_serial = true;
                for (unsigned i = 0; i < 8; i++)
                        f->facts.serial = f->facts.serial << 8 | b[i];
        }
        require(json_get_array(o, "path", &list) == 0 && json_object_array_length(list) <= ARRAY_SIZE(f->path));
        f->facts.path = f->path;
        for (f->facts.n_path = 0; f->facts.n_path < json_object_array_length(list); f->facts.n_path++)
                f->path[f->facts.n_path] = test_bdf(json_object_get_string(json_object_array_get_idx(list, f->facts.n_path)));
}

static inline void facts_of_case(struct facts *f, struct json_object *devices, struct json_object *o) {
        struct json_object *v;
        const char *text;

        *f = (struct facts){ .facts = { .now_usec = NOW, .platform = "plain" } };
        if (json_get_str(o, "device", &text) == 0) {
                require(json_get_object(devices, text, &v) == 0);
                facts_of_device(f, v);
        }
        f->facts.owner = (uint32_t) json_u64_or(o, "owner", 0);
        f->facts.vm = json_str_or(o, "vm", NULL);
        f->facts.platform = json_str_or(o, "platform", "plain");
        text = json_str_or(o, "mode", NULL);
        f->facts.mode = !text ? POLICY_MODE_UNKNOWN : streq(text, "early") ? POLICY_MODE_EARLY : POLICY_MODE_LATE;
        require(streq_ptr(text, policy_mode_to_string(f->facts.mode)));
        text = json_str_or(o, "access", NULL);
        f->facts.access = !text ? POLICY_ACCESS_UNKNOWN : streq(text, "vpci") ? POLICY_ACCESS_VPCI : POLICY_ACCESS_HANDOFF;
        require(streq_ptr(text, policy_access_to_string(f->facts.access)));
        text = json_str_or(o, "ide", NULL);
        f->facts.ide_secure = !text ? POLICY_UNKNOWN : streq(text, "secure") ? POLICY_YES : POLICY_NO;
        if (json_object_object_get_ex(o, "guard", &v))
                f->facts.guard = json_object_get_boolean(v) ? POLICY_YES : POLICY_NO;
        f->facts.association = json_bool_or(o, "association", false);
        f->facts.proofs = f->proofs;
        if (json_get_array(o, "proofs", &v) < 0)
                return;
        require(json_object_array_length(v) <= ARRAY_SIZE(f->proofs));
        for (; f->facts.n_proofs < json_object_array_length(v); f->facts.n_proofs++) {
                struct json_object *proof = json_object_array_get_idx(v, f->facts.n_proofs);

                f->proofs[f->facts.n_proofs] = (struct policy_proof){
                        .anchor = json_str_or(proof, "anchor", ""),
                        .references = json_str_or(proof, "references", NULL),
                        .time_usec = NOW - (uint64_t) json_i64_or(proof, "age", 0) * 1000000,
                        .is_signed = json_bool_or(proof, "signed", false),
                        .why = json_str_or(proof, "why", NULL),
                };
        }
}

/* {"NAME.json": [rules]} */
static inline struct policy *policy_of_files(struct json_object *files) {
        struct policy_text texts[8];
        char *copies[8], message[1024];
        struct policy *p = NULL;
        struct policy_error why;
        size_t n = 0;

        json_object_object_foreach(files, name, rules) {
                struct json_object *file = json_new();

                require(n < ARRAY_SIZE(texts));
                json_set_str(file, "schema", POLICY_SCHEMA);
                json_set_take(file, "rules", json_object_get(rules));
                copies[n] = strdup(json_object_to_json_string_ext(file, JSON_C_TO_STRING_PLAIN));
                require(copies[n]);
                texts[n] = (struct policy_text){ name, copies[n], strlen(copies[n]) };
                n++;
                json_object_put(file);
        }
        if (policy_load_texts(texts, n, &p, &why) < 0) {
                fprintf(stderr, "%s\n", policy_error_format(&why, message, sizeof(message)));
                require(p);
        }
        while (n > 0)
                free(copies[--n]);
        return p;
}

#endif
