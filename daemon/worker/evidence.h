/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an answer with evidence is made of, for it that is asked for now and it that the archive has. */
#ifndef TDID_WORKER_EVIDENCE_H
#define TDID_WORKER_EVIDENCE_H

#include "evidence/evidence.h"
#include "worker/work.h"

/* args: "verify": the pairs. Puts "proofs" into the values and "verified" into @evidence; 0 whatever it proves. */
int evidence_verify_all(struct work *w, const struct evidence *e, const uint8_t *nonce, struct json_object *evidence);
/* The objects one behind the other in a sealed memfd, which goes out, and where each is: "objects" of @evidence; "digest" of the values. */
int evidence_put_objects(struct work *w, const struct evidence *e, struct json_object *evidence);
/* @evidence as text, in a sealed memfd, which goes out. */
int evidence_put_text(struct work *w, struct json_object *evidence);

#endif
