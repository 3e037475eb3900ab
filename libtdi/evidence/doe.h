/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Data Object Exchange (PCIe 6, 6.30): the mailbox in a function's extended config space through which it speaks SPDM. The kernel has
 * its own idea of these mailboxes, and is tainted when user space writes to one: whoever calls this has decided that nobody else does.
 */
#ifndef TDI_EVIDENCE_DOE_H
#define TDI_EVIDENCE_DOE_H

#include "evidence/spdm-requester.h"
#include "host/host.h"

#define DOE_VENDOR_PCISIG 0x0001u
#define DOE_TYPE_DISCOVERY 0x00u
#define DOE_TYPE_CMA_SPDM 0x01u
#define DOE_HEADER 8u /* bytes: vendor, type, length */
#define DOE_OBJECT_MAX (1u << 20) /* bytes: 2^18 double words */
#define DOE_USEC UINT64_C(1000000) /* within which a mailbox has to answer (6.30.2) */
#define DOE_SPDM_MAX 4560u /* bytes of a message: with the header less than what emulated mailboxes hold */

/** struct doe_access - config space of one function; reads and writes of aligned double words. Negative errno on failure. */
struct doe_access {
        int (*read)(void *userdata, unsigned offset, uint32_t *ret);
        int (*write)(void *userdata, unsigned offset, uint32_t value);
        uint64_t (*now)(void *userdata); /* µs */
        void (*sleep)(void *userdata, uint64_t usec);
        void *userdata;
};

/* Where the mailbox is that takes objects of that type of the PCI-SIG's. 0; -EBADMSG with @why. */
int doe_find(const struct doe_access *a, uint8_t type, unsigned *ret_offset, struct evidence_why *why);

/*
 * Sends @size bytes as an object of @type, filled up to double words, and receives one of the same type: its contents, at most @max
 * bytes, a multiple of four. After a failure the mailbox has been aborted. 0; -EBADMSG with @why.
 */
int doe_exchange(const struct doe_access *a, unsigned offset, uint8_t type, const void *request, size_t size, void *response, size_t max, size_t *ret_size,
                 uint64_t usec, struct evidence_why *why);

/* The header of an object of the PCI-SIG's with @size bytes in it, and back: how many bytes are in it. -EBADMSG with @why. */
void doe_header_make(uint8_t type, size_t size, uint8_t ret[static DOE_HEADER]);
int doe_header_check(const uint8_t header[static DOE_HEADER], uint8_t type, size_t max, size_t *ret_size, struct evidence_why *why);

/**
 * spdm_doe_open() - SPDM over a function's mailbox
 * @config: path of the function's config file in sysfs
 *
 * Return: 0; -EBADMSG with @why; -ENOMEM.
 */
int spdm_doe_open(TdiHost *host, const char *config, struct spdm_transport **ret, struct evidence_why *why);
struct spdm_transport *spdm_doe_close(struct spdm_transport *t);
DEFINE_CLEANUP(struct spdm_transport *, spdm_doe_close);

#endif
