/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of a guest to its TSM about a TDI, which the VMM passes on. What is in them is between guest and TSM, in the platform's own
 * format; tdid looks at none of it. But it has to know what a request is for: some change the TDISP state, and with it what the VMM may
 * change of the function, so the VMM, which has decoded the guest's call, says so (enum tdi_request_kind).
 *
 * A VMM gets a socket for them (tdi_client_open_requests()), on which a request costs one round trip: tdi_request(). On the wire it is a
 * SOCK_SEQPACKET socket; each packet is one of the structs below and the data behind it, in the byte order of the machine. Answers come
 * in the order of requests. A sender that does not read its answers is not read from either.
 *
 * This file needs no tdid at run time, and no D-Bus.
 */
#ifndef TDI_REQUEST_H
#define TDI_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include <tdi/enums.h>

#ifdef __cplusplus
extern "C" {
#endif

/** enum tdi_request_kind - what a request is for; the scope of the kernel (enum pci_tsm_req_scope) follows from it */
enum tdi_request_kind {
        TDI_REQUEST_INFO,         /* information: changes nothing */
        TDI_REQUEST_REPORT,       /* information: the answer is the device interface report of TDISP, as the device gave it */
        TDI_REQUEST_STATE_CHANGE, /* may change the TDISP state, to what is not known: for platforms whose requests cannot be told apart */
        TDI_REQUEST_LOCK,         /* state change to CONFIG_LOCKED */
        TDI_REQUEST_START,        /* state change to RUN */
        TDI_REQUEST_STOP,         /* state change to CONFIG_UNLOCKED */
        TDI_REQUEST_KIND_MAX,
        TDI_REQUEST_KIND_INVALID = -22
};

/** The longest request and the longest answer, in bytes. A platform may take less. */
#define TDI_REQUEST_SIZE_MAX 65536u

/** struct tdi_request_header - of a request on the wire; the data follows */
struct tdi_request_header {
        uint32_t size;    /* sizeof(struct tdi_request_header) */
        uint32_t kind;    /* enum tdi_request_kind */
        uint64_t id;      /* comes back with the answer */
        uint32_t out_max; /* room for the answer's data, at most TDI_REQUEST_SIZE_MAX */
        uint32_t op;      /* as in struct tdi_request */
};

/** struct tdi_answer_header - of an answer on the wire; the data follows */
struct tdi_answer_header {
        uint32_t size;     /* sizeof(struct tdi_answer_header) */
        int32_t error;     /* 0 or a negative errno; then there is no data */
        uint64_t id;       /* of the request */
        uint64_t tsm_code; /* the TSM's own word, for the guest; with an error too */
};

/* Names on the bus, as "info", "state-change"; NULL out of range. Thread-safe, as the next two are. */
const char *tdi_request_kind_to_string(enum tdi_request_kind kind);
/* TDI_REQUEST_KIND_INVALID for what is no name. */
enum tdi_request_kind tdi_request_kind_from_string(const char *name);
/* The TDISP state that the TDI has after it; TDI_TDISP_UNKNOWN for one that may change it to any, TDI_TDISP_INVALID for one that does not. */
enum tdi_tdisp tdi_request_target(enum tdi_request_kind kind);

/** struct tdi_request - one request; zero it, set @size and what is needed */
struct tdi_request {
        size_t size;        /* sizeof(struct tdi_request) */
        enum tdi_request_kind kind;
        const void *in;     /* @in_size bytes for the TSM */
        size_t in_size;     /* at most TDI_REQUEST_SIZE_MAX */
        uint32_t op;        /* its number where the kernel tells requests apart (IOMMU_VDEVICE_TSM_REQ); 0: the usual one of its kind */
        void *out;          /* room for @out_size bytes, may be NULL when that is 0 */
        size_t out_size;    /* at most TDI_REQUEST_SIZE_MAX */
        int timeout_msec;   /* for the answer, in milliseconds; -1: as long as it takes */
        size_t out_used;    /* out: bytes of answer */
        uint64_t tsm_code;  /* out: the TSM's own word, for the guest; with an error too, 0 when it came to none */
};

/**
 * tdi_request() - send a request on such a socket and wait for the answer
 * @socket: from tdi_client_open_requests(); stays the caller's. One request at a time on one socket: who has threads opens
 *          one for each. After -ETIMEDOUT close it: an answer to nobody's question may still come.
 *
 * Return: 0, or a negative errno. From tdid: -ENOTCONN (the TDI is not bound, or not any more), -EPERM (this kind is not allowed),
 * -EBUSY (a device access of the VMM is under way that the request would lock out), -EMSGSIZE (longer than TDI_REQUEST_SIZE_MAX, or than the room
 * for it), -EOPNOTSUPP (its TSM takes none), -EINVAL (also for an operation that is not of its kind, for none where there is no usual one, and for any
 * where the kernel knows none), -ETIMEDOUT, -ECONNRESET (the function was detached, or the VM is gone), -EBADMSG (not such a socket). Anything else
 * is what the TSM says.
 */
int tdi_request(int socket, struct tdi_request *request);

#ifdef __cplusplus
}
#endif

#endif
