/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A request and its response, with all the ERRORs that may come before it; for the requester only. */
#ifndef TDI_EVIDENCE_SPDM_EXCHANGE_H
#define TDI_EVIDENCE_SPDM_EXCHANGE_H

#include "evidence/spdm-message.h"
#include "evidence/spdm-requester.h"

#define SPDM_BUSY_MAX 16u      /* ERROR(Busy) in one collection */
#define SPDM_NOT_READY_MAX 16u /* RESPOND_IF_READY for one request */
#define SPDM_RDT_EXPONENT_MAX SPDM_CT_EXPONENT_MAX
#define SPDM_REQUEST_MAX 64u   /* bytes; the longest has 45 */

#define SPDM_ERROR_INVALID_REQUEST 0x01u
#define SPDM_ERROR_VERSION_MISMATCH 0x41u
#define SPDM_ERROR_RESPONSE_TOO_LARGE 0x0du
#define SPDM_ERROR_LARGE_RESPONSE 0x0fu

/* Messages one behind the other. */
struct spdm_log {
        uint8_t *data;
        size_t size, allocated;
};

struct spdm_exchange {
        struct spdm_transport *transport;
        uint64_t deadline;
        unsigned messages_left, busy;
        bool crypto_time; /* the device has said how long it may take */
        struct spdm_negotiated n;
        bool interrupted; /* the last request was answered Busy at first: who keeps L1/L2 over that is not agreed on */
        uint8_t *response;
        size_t response_size;
        uint8_t request[SPDM_REQUEST_MAX];
        size_t request_size;
};

/* The transport's clock, in µs. */
uint64_t spdm_now(struct spdm_transport *t);

/* A new request: its header. More is added to request[] and request_size. */
void spdm_request(struct spdm_exchange *x, uint8_t code, uint8_t param1, uint8_t param2);
void spdm_request_add(struct spdm_exchange *x, const void *data, size_t size);
void spdm_request_add_number(struct spdm_exchange *x, uint64_t value, size_t size);

/*
 * Sends the request until there is a response that is not Busy or ResponseNotReady, and gives a reader of it.
 * @tolerated: error codes, ended by 0, that are returned and not refused; NULL: none
 *
 * Return: 0; one of @tolerated; -ESTALE: the device wants everything from the start; -EBADMSG with @why.
 */
int spdm_ask(struct spdm_exchange *x, const uint8_t *tolerated, struct spdm_reader *ret, struct evidence_why *why);

/*
 * The response was read until @r: nothing but filling may be left. Both messages are put behind @log, unless that is NULL.
 * Return: 0; -EBADMSG with @why; -ENOMEM.
 */
int spdm_answered(struct spdm_exchange *x, const struct spdm_reader *r, const char *name, struct spdm_log *log, struct evidence_why *why);

int spdm_log_add(struct spdm_log *log, const void *data, size_t size);
void spdm_log_done(struct spdm_log *log);

#endif
