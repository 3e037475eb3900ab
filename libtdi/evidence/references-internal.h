/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What reading and comparing reference values share. */
#ifndef TDI_EVIDENCE_REFERENCES_INTERNAL_H
#define TDI_EVIDENCE_REFERENCES_INTERNAL_H

#include "evidence/references.h"

struct evidence_references {
        struct json_object *file; /* owns all of the below; its form was checked. Only read: json-c's reference counts are not atomic */
        const char *name;
        bool complete;
        struct json_object *measurements, *tcb; /* NULL: there are none */
};

/* "hash" of a measurement's reference; NULL: it has none. */
const struct spdm_hash *evidence_reference_hash(struct json_object *o);

#endif
