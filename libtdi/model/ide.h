/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The IDE extended capability (PCIe 6, 7.9.26; include/uapi/linux/pci_regs.h): where it is in config space, and what its stream blocks
 * say. It reads through the caller, a double word at a time: on a real device each is a transaction on the link, and what lies beyond
 * the 256 bytes that everybody may read may be out of reach. Pure otherwise; any thread may call it.
 */
#ifndef TDI_MODEL_IDE_H
#define TDI_MODEL_IDE_H

#include "util/util.h"

/* The double word at @at (a multiple of 4, below 4096), little endian taken care of: 0, or a negative errno when it cannot be read. */
typedef int (*ide_read)(void *userdata, unsigned at, uint32_t *ret);

struct ide_capability {
        unsigned at;            /* offset in config space */
        unsigned n_link;        /* link stream blocks, 0 where link streams are not supported */
        unsigned n_selective;   /* the same of selective ones */
        uint8_t algorithms;     /* the field of the capability register: 0 is AES-GCM with 256 bits, others are reserved */
        bool selective_config;  /* selective streams carry configuration requests too */
        bool tee_limited;       /* they can be limited to a TEE's traffic */
};

/* What the field says, for people. */
const char *ide_algorithm(const struct ide_capability *c);

struct ide_block {
        bool enabled;
        uint8_t id;             /* stream id */
        uint8_t status;         /* the state field of the status register: 0 insecure, 2 secure, others reserved */
        bool integrity_failed;  /* the other end has reported a failed integrity check. Stays until software clears it, which Linux does
                                   not: what ends a stream is seen in its status, and one that is secure has had new keys since then */
        bool has_rids;          /* a selective stream's requester IDs, where its association is valid */
        uint16_t rid_first, rid_last;
};

/* What one end of a stream is like, for people and for policy. Only the first is secure. */
enum ide_state {
        IDE_SECURE,
        IDE_INSECURE,           /* enabled, and the port says that it is not secure */
        IDE_OFF,                /* not enabled: a reset leaves it so */
        IDE_FAILED,             /* the same, and an integrity check has failed before */
        IDE_MISMATCHED,         /* enabled for another stream, or another partner */
        IDE_UNKNOWN,            /* config space cannot be read, or has no such block */
        IDE_STATE_MAX,
        IDE_STATE_INVALID = -22
};

const char *ide_state_to_string(enum ide_state state);
enum ide_state ide_state_from_string(const char *name);

/**
 * ide_find() - finds the capability
 *
 * Return: 0; -ENOENT when the function has none; -ENODATA when extended config space reads as all ones (it is hidden, or the
 * function has gone); -EBADMSG when the chain leads nowhere; or what @read answered.
 */
int ide_find(ide_read read, void *userdata, struct ide_capability *ret);

/* Reads a block by its index: 0; -ENOENT for an index that the capability does not have; -EBADMSG when it is beyond config space;
 * -ENODATA when it reads as all ones; or what @read answered. */
int ide_read_link(ide_read read, void *userdata, const struct ide_capability *c, unsigned index, struct ide_block *ret);
int ide_read_selective(ide_read read, void *userdata, const struct ide_capability *c, unsigned index, struct ide_block *ret);

/* The state of a block that shall be of the stream whose partner has requester ID @rid. */
enum ide_state ide_state_of(const struct ide_block *b, uint16_t rid);

/* A stream is as good as its worse end: 1 secure, 0 not secure, -1 unknown. */
int ide_is_secure(enum ide_state a, enum ide_state b);

#endif
