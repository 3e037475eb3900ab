/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of verification share: one judgement on its way. */
#ifndef TDI_EVIDENCE_VERIFY_INTERNAL_H
#define TDI_EVIDENCE_VERIFY_INTERNAL_H

#include "evidence/verify.h"

struct verdict {
        const struct evidence *e;
        const struct evidence_rules *rules;
        time_t time;
        struct evidence_why why; /* the first thing that is wrong */
        bool has_vca;
        struct spdm_negotiated n;
        struct evidence_chain *chains[EVIDENCE_SLOTS];
        struct evidence_why slots[EVIDENCE_SLOTS]; /* what is wrong with each; EVIDENCE_OK only for those with a chain */
        struct json_object *result, *checked, *not_checked, *dice; /* dice: the used slot's, borrowed */
};

_printf_(2, 3) void verdict_checked(struct verdict *v, const char *format, ...);
_printf_(2, 3) void verdict_not_checked(struct verdict *v, const char *format, ...);
/* The first reason stays. */
void verdict_refuse(struct verdict *v, const struct evidence_why *why);

void verdict_put_hex(struct json_object *o, const char *key, const void *data, size_t size);
void verdict_put_why(struct json_object *o, const struct evidence_why *why);

/* Judges all chains, into "slots". 0; -ENOMEM. */
int verdict_slots(struct verdict *v);

#endif
