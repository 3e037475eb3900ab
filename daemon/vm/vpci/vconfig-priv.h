/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shared by the files of the config filter: which register each bit belongs to (vconfig-caps.c finds out), what a write to it does in
 * each state (vconfig-rules.c says), and what is remembered (vconfig.c does it).
 */
#ifndef TDID_VPCI_VCONFIG_PRIV_H
#define TDID_VPCI_VCONFIG_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "vm/vpci/vconfig.h"

#define VCONFIG_SIZE_MAX 4096
#define VCONFIG_NAME_MAX 32

/* What a bit belongs to. Where capabilities overlap, which they must not, the later name here wins: it is the stricter one. */
enum vconfig_kind {
        KIND_GAP,          /* in no capability, below 0x100 */
        KIND_EXT_GAP,      /* in no capability, from 0x100 */
        KIND_OTHER,
        KIND_VENDOR,       /* vendor-specific capabilities, DVSEC */
        KIND_INTX,
        KIND_IO,
        KIND_MSI_MESSAGE,
        KIND_BAR,          /* and the ROM's */
        KIND_DEVCTL,       /* but for the enables of error messages and FLR */
        KIND_DEVCTL2,
        KIND_LINK,
        KIND_EXT_CONTROL,  /* extended capabilities without a name here */
        KIND_MSI_CONTROL,
        KIND_MSIX_CONTROL,
        KIND_VPD_STORE,
        KIND_ATS,
        KIND_BIST,
        KIND_MEM,
        KIND_MASTER,
        KIND_POWER,
        KIND_FLR,          /* of the Express and the AF capability */
        KIND_LIST,         /* names and links of capabilities: nothing that is found by a chain may change the chain */
        KIND_PASID,
        KIND_PRI,
        KIND_SRIOV,
        KIND_MAX,
};

enum vconfig_action {
        ACTION_PASS,
        ACTION_SHADOW,     /* the guest sees what it wrote, the hardware stays as it is */
        ACTION_SHADOW_OFF, /* the same for switching off; switching on passes */
        ACTION_SHADOW_ON,  /* the same for switching on; switching off passes */
        ACTION_DROP,       /* the guest sees that nothing happened */
        ACTION_WITHHOLD,   /* the hardware's bit is 0, the guest sees what it wrote; of bus master only, and not in the table */
};

#define VCONFIG_STATES (VCONFIG_ERROR + 1)

struct vconfig_rule {
        const char *name;
        enum vconfig_action action[VCONFIG_STATES];
        bool trigger;     /* writing 1 sets something off: what is dropped is written as 0, whatever the bit reads as */
        bool kept;        /* the kernel's own virtual register is the shadow: a write that is shadowed goes there */
        const char *hint; /* for the log: what to do about it */
};
extern const struct vconfig_rule vconfig_rules[KIND_MAX];

const char *vconfig_state_name(enum vconfig_state state);

struct vconfig_range {
        uint32_t bar;
        uint64_t at, size; /* 0: not there */
};

struct vconfig {
        TdiHost *host;
        int device; /* borrowed */
        uint64_t offset;
        size_t size;
        char name[VCONFIG_NAME_MAX];
        enum vconfig_illegal illegal;

        /* Found when it is made, and never changed. */
        uint8_t kind[VCONFIG_SIZE_MAX][8]; /* enum vconfig_kind of every bit */
        uint8_t fixed_mask[VCONFIG_SIZE_MAX], fixed_value[VCONFIG_SIZE_MAX]; /* links past what is hidden, and its place */
        struct vconfig_range msix_table, msix_pba;

        /* For any thread, without the lock. */
        atomic_int state;     /* enum vconfig_state */
        atomic_uint power;    /* D-state that was last written */
        atomic_bool wanted;
        atomic_int master; /* enum vconfig_master */
        atomic_uint_fast64_t dropped[KIND_MAX], shadowed[KIND_MAX];

        pthread_mutex_t lock; /* held across the kernel's work: only calls that may sleep take it */
        int settled;          /* the state that shadows were last looked at in; -1: look again */
        uint8_t shadow_mask[VCONFIG_SIZE_MAX], shadow_value[VCONFIG_SIZE_MAX];
        int64_t logged[KIND_MAX], minute; /* s, CLOCK_MONOTONIC */
        unsigned lines;
};

static inline uint16_t vconfig_get16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static inline uint32_t vconfig_get32(const uint8_t *p) {
        return vconfig_get16(p) | (uint32_t) vconfig_get16(p + 2) << 16;
}

/* Fills kind, fixed_* and msix_* from c->size bytes of config space as the kernel shows it. */
void vconfig_walk(struct vconfig *c, const uint8_t *config);
/* One line on what a write did, unless there have been enough of them; with the lock held. */
void vconfig_note(struct vconfig *c, enum vconfig_kind kind, enum vconfig_state state, bool dropped);

#endif
