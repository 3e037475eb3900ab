/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of the guest to its TSM (tdi/request.h): sockets that tdid has given to the VM's owner, and one thread a function that passes
 * what comes there to the bind provider, one request at a time. The sockets are there as long as the function is served, whether
 * it is bound or not. What is in a request is the TSM's business; how many there are, how large, and of which kind, is ours.
 */
#ifndef TDID_VPCI_REQUESTS_H
#define TDID_VPCI_REQUESTS_H

#include "provider.h"
#include "model/json.h"

struct function;
struct requests;

/* How many requests the functions of a VM may make: one for all of them. */
struct request_rate {
        pthread_mutex_t lock;
        unsigned per_second;     /* that many, and as many at once after a second without; 0: no limit */
        uint64_t next;           /* CLOCK_MONOTONIC in ns: when there would be one more, without the burst */
        uint64_t log_since;      /* the same: the log's second */
        unsigned logged, unlogged;
};

/* @rate stays the caller's, and outlives it. */
int requests_new(struct function *f, TdiHost *host, struct request_rate *rate, struct requests **ret);
/* Its thread ends first, which takes as long as the TSM takes for a request that is under way. */
struct requests *requests_free(struct requests *r);

/*
 * One more socket, taken on success. @kinds: a bit for each enum tdi_request_kind that may come there; @own: tdid asks, for itself; @label: what the log
 * calls its VM. -ENOSPC: there are REQUEST_SOCKETS_MAX, or as many of tdid's own as there can be, which the others leave room for. Quick.
 */
#define REQUEST_SOCKETS_MAX 8
#define REQUEST_SOCKETS_OWN 2
int requests_add(struct requests *r, int socket, unsigned kinds, bool own, const char *label);
/* Which way they go: the provider's binding, the function's virtual device where it has one, and the name that its operations have for the platform. */
struct request_path {
        const struct provider *provider;
        int binding;
        uint32_t vdevice, tvm_arch;
};
/* They go that way, of which the descriptor is taken. Quick. */
void requests_bind(struct requests *r, const struct request_path *path);
/* They go nowhere any more. -EAGAIN: one is under way; no other follows, ask again. Quick. */
int requests_unbind(struct requests *r);

/* {"sockets", "passed", "refused", "failed", "delayed", "mean_ns", "slowest_ns", "last": {"kind", "error", "tsm_code"} or null}. Quick. */
struct json_object *requests_describe(struct requests *r);

#endif
