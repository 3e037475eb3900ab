/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a device says of itself, raw, whichever way it came: the objects are numbered, and look, as those of the kernel's device-evidence
 * netlink family. Whoever collects makes one of these; whoever verifies takes one; the archive stores the objects as they are.
 */
#ifndef TDI_EVIDENCE_EVIDENCE_H
#define TDI_EVIDENCE_EVIDENCE_H

#include <stddef.h>
#include <stdint.h>

#include "util/util.h"

#define EVIDENCE_SLOTS 8u
#define EVIDENCE_NONCE 32u
#define EVIDENCE_OBJECT_MAX (16u << 20) /* bytes, as in the kernel's family */

enum evidence_type {
        /* 0 to 7: the certificate chain of that slot, as SPDM has it: u16 length, u16 reserved, hash of the root, DER certificates from the root down */
        EVIDENCE_SLOT0,
        EVIDENCE_VCA = 8,      /* GET_VERSION, VERSION, GET_CAPABILITIES, CAPABILITIES, NEGOTIATE_ALGORITHMS, ALGORITHMS: whole SPDM messages, one behind the other */
        EVIDENCE_MEASUREMENTS, /* the log L1/L2 without the VCA: GET_MEASUREMENTS, MEASUREMENTS, …; the last one has the signature */
        EVIDENCE_REPORT,       /* TDISP device interface report */
        EVIDENCE_CHALLENGE,    /* not of the kernel's family: B and C of M1/M2 (DSP0274): GET_DIGESTS … CHALLENGE, CHALLENGE_AUTH with its signature */
        _EVIDENCE_TYPE_MAX,
};

/** struct evidence - objects of one device, collected in one go */
struct evidence {
        struct evidence_object {
                uint8_t *data; /* malloc()ed, owned; NULL: there is none */
                size_t size;   /* bytes */
                const char *source; /* static text, and CLOCK_REALTIME; of whoever collects from several; NULL, 0: nobody has said */
                uint64_t time_usec;
        } objects[_EVIDENCE_TYPE_MAX];
        uint64_t time_usec;           /* when it was collected, CLOCK_REALTIME; 0: not known */
        uint8_t nonce[EVIDENCE_NONCE]; /* the one that was sent for the measurements */
        bool has_nonce;
};

/* Copies @data, at most EVIDENCE_OBJECT_MAX bytes, over what the object held. 0; -EFBIG; -ENOMEM. */
int evidence_set(struct evidence *e, enum evidence_type type, const void *data, size_t size);
/* Frees the objects, and zeroes it. */
void evidence_done(struct evidence *e);
#define _cleanup_evidence_ _cleanup_(evidence_done)

/* "slot0" … "slot7", "vca", "measurements", "report", "challenge": names in JSON and of files. Static text. */
const char *evidence_type_to_string(enum evidence_type type);
int evidence_type_from_string(const char *name);

#endif
