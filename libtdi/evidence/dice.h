/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a layer of a device says of the next one in its certificates: DiceTcbInfo and DiceMultiTcbInfo (TCG, DICE Attestation Architecture
 * 1.1 and 1.2), decoded. Whether it is what somebody wants says references.h.
 */
#ifndef TDI_EVIDENCE_DICE_H
#define TDI_EVIDENCE_DICE_H

#include <openssl/x509.h>

#include "evidence/reason.h"
#include "model/json.h"

#define DICE_OID_TCB_INFO "2.23.133.5.4.1"
#define DICE_OID_MULTI_TCB_INFO "2.23.133.5.4.5"

/* a certificate's */
#define DICE_TCB_INFOS_MAX 32u
#define DICE_FWIDS_MAX 16u
#define DICE_REGISTERS_MAX 64u
#define DICE_BYTES_MAX 1024u /* vendorInfo, type */

/**
 * dice_decode() - one extension's value as JSON
 * @multi: DiceMultiTcbInfo rather than DiceTcbInfo
 * @array: where the objects go, one for each DiceTcbInfo; unchanged on error
 *
 * {"vendor", "model", "version", "svn", "layer", "index", "fwids": [{"hash", "digest"}], "flags": [NAME], "flags_mask": [NAME], "vendor_info",
 * "type", "registers": [{"name", "number", "digests"}]}, each only where the device has it. Bytes are hex, numbers above 2^53 "0x…".
 *
 * Return: 0; -EBADMSG with @why (dice).
 */
int dice_decode(const void *der, size_t size, bool multi, struct json_object *array, struct evidence_why *why);

/* All of a certificate's; each object also gets "certificate": @index. 0 when it has none; -EBADMSG with @why (dice). */
int dice_of_certificate(const X509 *x, size_t index, struct json_object *array, struct evidence_why *why);

/* "debug" and so on: bit 0 to 3 of the flags, NULL for the others. Static text. */
const char *dice_flag_to_string(unsigned bit);

#endif
