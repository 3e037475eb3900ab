/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The requester of SPDM (DSP0274 1.1 to 1.3): asks a device for its certificate chains, a signature with the key of one, and its
 * measurements. What it collects is well-formed and belongs together; whether to believe it is for the verifier to say, who gets the
 * messages as they went over the wire.
 */
#ifndef TDI_EVIDENCE_SPDM_REQUESTER_H
#define TDI_EVIDENCE_SPDM_REQUESTER_H

#include "evidence/spdm.h"

#define SPDM_TIMEOUT_USEC UINT64_C(60000000)
#define SPDM_MESSAGES_MAX 2048u /* eight chains of 64 KiB in portions of 1 KiB, and as many again */
#define SPDM_CHAIN_MAX 65535u

/** struct spdm_transport - the way to a device; see spdm_doe_open(), spdm_tcp_open() */
struct spdm_transport {
        /*
         * Sends a message and waits at most @usec for the answer, of at most @max bytes. 0; -EBADMSG with @why (transport, timeout,
         * too-long).
         */
        int (*exchange)(struct spdm_transport *t, const void *request, size_t size, void *response, size_t max, size_t *ret_size, uint64_t usec,
                        struct evidence_why *why);
        uint64_t (*now)(struct spdm_transport *t);              /* in µs; NULL: CLOCK_MONOTONIC */
        void (*sleep)(struct spdm_transport *t, uint64_t usec); /* NULL: clock_nanosleep(2) */
        size_t max_message;    /* the longest one, bytes; at least 256 */
        size_t alignment;      /* answers may be filled up to a multiple of it with zeros; a power of two, 1: they are not */
        uint64_t latency_usec; /* given to each answer on top of what the device says it needs */
};

enum spdm_measure {
        SPDM_MEASURE_NOTHING,
        SPDM_MEASURE_AT_ONCE,    /* one by one after all if the answer is too large for the way */
        SPDM_MEASURE_ONE_BY_ONE,
};

/** struct spdm_wanted - what to ask for; zeroed: all chains and nothing else */
struct spdm_wanted {
        uint8_t slots;          /* bit mask: these must have a chain; 0: those that have one */
        uint8_t slot;           /* whose leaf signs; must have a chain if anything is signed */
        bool challenge;
        uint8_t summary;        /* measurement summary in CHALLENGE_AUTH: 0 none, 1 TCB, 0xff all */
        enum spdm_measure measure;
        bool sign_measurements;
        bool raw;               /* raw bit streams in place of digests, 1.2 and later */
        const uint8_t *nonce;   /* EVIDENCE_NONCE bytes for the measurements; NULL: random */
        uint8_t version_min, version_max; /* 0: 1.1; 0: 1.3 */
        uint32_t hashes, asyms; /* masks of what to offer, as in the tables; 0: all */
        uint64_t timeout_usec;  /* for everything; 0: SPDM_TIMEOUT_USEC */
        unsigned messages;      /* how many may be sent; 0: SPDM_MESSAGES_MAX */
};

/**
 * spdm_collect() - talk to a device until everything wanted is there
 * @ret: what was collected, of the caller; untouched on failure. Holds what it held before in objects that SPDM has not.
 *
 * Blocks as long as the timeout says: for a worker. Sends no chunks and understands none: CHUNK_CAP is not set, so that DSP0274 (1.2 and
 * later, "Large SPDM message transfer mechanism") forbids the device to answer with more than DataTransferSize; where all measurements
 * are more than that, they are asked for one by one.
 *
 * Return: 0; -EBADMSG with @why; -EINVAL: there is no such slot, or the transport is too narrow; -ENOMEM; -EIO: no random numbers.
 */
int spdm_collect(struct spdm_transport *t, const struct spdm_wanted *wanted, struct evidence *ret, struct evidence_why *why);

#endif
