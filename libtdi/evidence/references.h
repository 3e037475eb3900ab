/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reference values: what a device's measurements, and the DiceTcbInfo of its certificates, should be. A JSON file of the operator or the
 * vendor, read strictly; docs/evidence.md has the schema. Once read, they may be compared with by several threads.
 */
#ifndef TDI_EVIDENCE_REFERENCES_H
#define TDI_EVIDENCE_REFERENCES_H

#include "evidence/reason.h"
#include "evidence/spdm.h"
#include "model/json.h"

#define EVIDENCE_REFERENCES_SCHEMA "tdid-references/1"
#define EVIDENCE_REFERENCES_FILE_MAX (4u << 20) /* bytes */
#define EVIDENCE_REFERENCE_VALUES_MAX 1024u     /* of one index */
#define EVIDENCE_REFERENCE_TCBS_MAX 256u
/* Longer values stand in results with their beginning and their digest. */
#define EVIDENCE_VALUE_SHOWN 1024u /* bytes */

struct evidence_references;

/**
 * evidence_references_parse() - read reference values
 * @ret_error: what is wrong, and where: "measurements[3]: unknown key \"hahs\", did you mean \"hash\"?"; free() it; may be NULL
 *
 * Return: 0; -EBADMSG with @ret_error; -ENOMEM.
 */
int evidence_references_parse(const char *text, size_t size, struct evidence_references **ret, char **ret_error);
/**
 * evidence_references_load() - read reference values from a file
 * @ret_error: as above; also that it is no regular file, that everybody may write to it or that it is too long. Does not name the file
 *
 * Return: 0; -EBADMSG with @ret_error; -errno of opening and reading; -ENOMEM.
 */
int evidence_references_load(const char *path, struct evidence_references **ret, char **ret_error);
struct evidence_references *evidence_references_free(struct evidence_references *r);
DEFINE_CLEANUP(struct evidence_references *, evidence_references_free);
#define _cleanup_evidence_references_ _cleanup_(evidence_references_freep)

const char *evidence_references_name(const struct evidence_references *r);
bool evidence_references_complete(const struct evidence_references *r);

/**
 * evidence_references_compare() - hold measurements against reference values
 * @r:      NULL: there are none; then everything is listed as "unchecked"
 * @n:      what was negotiated
 * @m:      NULL: there are none
 * @dice:   array of dice.h's objects; those count that have "verified": true beside it, see verify-slots.c
 * @blocks: array to which the blocks are added, by index: {"index", "type", "hash" or "raw": true, "size", "value", "result", "expected"}; "result"
 *          is "matched", "mismatched", "missing", "unlisted" or "unchecked"
 * @tcb:    array to which each constraint on DiceTcbInfo is added, with its "result"
 *
 * Return: 0; -EBADMSG with @why (mismatch, missing, unlisted, no-measurements), the arrays filled in all the same.
 */
int evidence_references_compare(const struct evidence_references *r, const struct spdm_negotiated *n, const struct spdm_measurements *m, struct json_object *dice,
                                struct json_object *blocks, struct json_object *tcb, struct evidence_why *why);

/* "mutable-firmware"; NULL for a type that DSP0274 1.3 does not have. Static text. */
const char *evidence_measurement_type_to_string(uint8_t value_type);

#endif
