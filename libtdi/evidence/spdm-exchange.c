/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sends requests, waits as long as the device may take, and deals with ERROR (DSP0274, "ERROR response message"). */
#include "evidence/spdm-exchange.h"

#include <time.h>

#define USEC_PER_SEC UINT64_C(1000000)
#define BUSY_USEC UINT64_C(5000) /* doubled each time, up to: */
#define BUSY_USEC_MAX UINT64_C(100000)

uint64_t spdm_now(struct spdm_transport *t) {
        struct timespec ts;

        if (t->now)
                return t->now(t);
        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / 1000;
}

/* Nothing is waited for beyond the deadline. */
static int wait_for(struct spdm_exchange *x, uint64_t usec, enum evidence_reason reason, struct evidence_why *why) {
        struct timespec ts = { .tv_sec = (time_t) (usec / USEC_PER_SEC), .tv_nsec = (long) (usec % USEC_PER_SEC) * 1000 };
        uint64_t at = spdm_now(x->transport);

        if (at >= x->deadline || usec >= x->deadline - at)
                return evidence_refuse(why, reason, "request 0x%02x: the device wants to be asked again in %llu µs, which is too late", x->request[1],
                                       (unsigned long long) usec);
        if (x->transport->sleep)
                x->transport->sleep(x->transport, usec);
        else
                while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
                        ;
        return 0;
}

void spdm_request_add(struct spdm_exchange *x, const void *data, size_t size) {
        memcpy(x->request + x->request_size, data, size);
        x->request_size += size;
}

void spdm_request_add_number(struct spdm_exchange *x, uint64_t value, size_t size) {
        for (size_t i = 0; i < size; i++)
                x->request[x->request_size++] = (uint8_t) (value >> 8 * i);
}

void spdm_request(struct spdm_exchange *x, uint8_t code, uint8_t param1, uint8_t param2) {
        const uint8_t header[SPDM_HEADER] = { x->n.version, code, param1, param2 };

        x->request_size = 0;
        spdm_request_add(x, header, sizeof(header));
}

static int exchange(struct spdm_exchange *x, const void *request, size_t size, struct evidence_why *why) {
        uint64_t at = spdm_now(x->transport), usec = x->transport->latency_usec;
        int r;

        if (x->messages_left == 0)
                return evidence_refuse(why, EVIDENCE_TIMEOUT, "request 0x%02x: more messages than are allowed", x->request[1]);
        if (at >= x->deadline)
                return evidence_refuse(why, EVIDENCE_TIMEOUT, "request 0x%02x: the time for everything is over", x->request[1]);
        x->messages_left--;
        if (x->crypto_time)
                usec += UINT64_C(1) << x->n.ct_exponent;
        if (usec > x->deadline - at)
                usec = x->deadline - at;
        r = x->transport->exchange(x->transport, request, size, x->response, x->transport->max_message, &x->response_size, usec, why);
        if (r < 0)
                return r;
        return x->response_size < SPDM_HEADER ? spdm_short(why, "response", SPDM_HEADER, x->response_size) : 0;
}

static int busy(struct spdm_exchange *x, struct evidence_why *why) {
        uint64_t usec = BUSY_USEC << (x->busy < 8 ? x->busy : 8);

        if (++x->busy > SPDM_BUSY_MAX)
                return evidence_refuse(why, EVIDENCE_BUSY, "request 0x%02x: ERROR(Busy) for the %uth time", x->request[1], x->busy);
        x->interrupted = true;
        return wait_for(x, usec < BUSY_USEC_MAX ? usec : BUSY_USEC_MAX, EVIDENCE_BUSY, why);
}

/* Waits as long as the device says, and asks with its token until there is something else. */
static int respond_if_ready(struct spdm_exchange *x, struct evidence_why *why) {
        for (unsigned i = 0; i < SPDM_NOT_READY_MAX; i++) {
                const uint8_t *p = x->response;
                uint8_t request[SPDM_HEADER] = { x->n.version, SPDM_RESPOND_IF_READY };
                int r;

                if (x->response_size < 8)
                        return spdm_short(why, "ERROR(ResponseNotReady)", 8, x->response_size);
                if (x->request[1] == SPDM_GET_VERSION || x->request[1] == SPDM_GET_CAPABILITIES || x->request[1] == SPDM_NEGOTIATE_ALGORITHMS)
                        return evidence_refuse(why, EVIDENCE_NOT_READY, "request 0x%02x: ERROR(ResponseNotReady), which is not allowed here",
                                               x->request[1]);
                if (p[5] != x->request[1])
                        return evidence_refuse(why, EVIDENCE_NOT_READY, "request 0x%02x: ERROR(ResponseNotReady) about the request 0x%02x",
                                               x->request[1], p[5]);
                if (p[4] > SPDM_RDT_EXPONENT_MAX)
                        return evidence_refuse(why, EVIDENCE_NOT_READY, "request 0x%02x: RDTExponent is %u, expected at most %u", x->request[1], p[4],
                                               SPDM_RDT_EXPONENT_MAX);
                request[2] = p[5];
                request[3] = p[6];
                r = wait_for(x, UINT64_C(1) << p[4], EVIDENCE_NOT_READY, why);
                if (r < 0)
                        return r;
                r = exchange(x, request, sizeof(request), why);
                if (r < 0)
                        return r;
                if (x->response[1] != SPDM_ERROR || x->response[2] != SPDM_ERROR_NOT_READY)
                        return 0;
        }
        return evidence_refuse(why, EVIDENCE_NOT_READY, "request 0x%02x: still not ready after %u times", x->request[1], SPDM_NOT_READY_MAX);
}

static int error(struct spdm_exchange *x, const uint8_t *tolerated, struct evidence_why *why) {
        uint8_t code = x->response[2];

        for (; tolerated && *tolerated; tolerated++)
                if (*tolerated == code)
                        return code;
        if (code == SPDM_ERROR_RESYNCH)
                return -ESTALE;
        return evidence_refuse(why, EVIDENCE_DEVICE_ERROR, "request 0x%02x: ERROR with the code 0x%02x, data 0x%02x", x->request[1], code, x->response[3]);
}

int spdm_ask(struct spdm_exchange *x, const uint8_t *tolerated, struct spdm_reader *ret, struct evidence_why *why) {
        x->interrupted = false;
        for (;;) {
                int r = exchange(x, x->request, x->request_size, why);

                if (r == 0 && x->response[1] == SPDM_ERROR && x->response[2] == SPDM_ERROR_NOT_READY)
                        r = respond_if_ready(x, why);
                if (r < 0)
                        return r;
                if (x->response[1] != SPDM_ERROR) {
                        *ret = (struct spdm_reader){ x->response, x->response_size };
                        return 0;
                }
                /* A device that has settled on no version yet may speak 1.0. */
                if (x->response[0] != x->n.version && x->response[0] != SPDM_1_0 && x->response[2] != SPDM_ERROR_VERSION_MISMATCH)
                        return evidence_refuse(why, EVIDENCE_WRONG_VERSION, "ERROR: version 0x%02x in the header, expected 0x%02x", x->response[0],
                                               x->n.version);
                if (x->response[2] != SPDM_ERROR_BUSY)
                        return error(x, tolerated, why);
                r = busy(x, why);
                if (r < 0)
                        return r;
        }
}

int spdm_answered(struct spdm_exchange *x, const struct spdm_reader *r, const char *name, struct spdm_log *log, struct evidence_why *why) {
        size_t size = x->response_size - r->left, fill = -size & (x->transport->alignment - 1);
        bool zeros = true;
        int e;

        for (size_t i = 0; i < r->left; i++)
                zeros = zeros && r->p[i] == 0;
        if (r->left > fill || !zeros)
                return evidence_refuse(why, EVIDENCE_TRAILING, "%s: %zu bytes behind its end at %zu", name, r->left, size);
        if (!log)
                return 0;
        e = spdm_log_add(log, x->request, x->request_size);
        return e < 0 ? e : spdm_log_add(log, x->response, size);
}

int spdm_log_add(struct spdm_log *log, const void *data, size_t size) {
        if (size > log->allocated - log->size) {
                size_t allocated = 2 * (log->size + size);
                uint8_t *p;

                if (allocated > 2 * (size_t) EVIDENCE_OBJECT_MAX)
                        return -ENOMEM;
                p = realloc(log->data, allocated);
                if (!p)
                        return -ENOMEM;
                log->data = p;
                log->allocated = allocated;
        }
        memcpy(log->data + log->size, data, size);
        log->size += size;
        return 0;
}

void spdm_log_done(struct spdm_log *log) {
        free(log->data);
        *log = (struct spdm_log){};
}
