/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The journal: one file per function in custody, STATE/journal/0000_01_00_0.json, so that what was begun can be undone by
 * whoever comes next. Beside it a .lock file, which is locked for as long as any worker acts on the function, even one whose
 * tdid has died.
 */
#ifndef TDID_JOURNAL_H
#define TDID_JOURNAL_H

#include "custody.h"

/* 2: prepare.socket; 3: prepare.viommu, prepare.vdevice, prepare.withdraw, bind.lock, bind.tsm; 4: open.associate, bind.connect, bind.requests */
#define JOURNAL_VERSION 4
#define JOURNAL_SIZE_MAX (64UL * 1024)

/* What a file said. */
struct journal_entry {
        char *vm_id;
        uint64_t sequence;
        int32_t group;
        uint32_t done, begun; /* bits of enum custody_action */
        struct json_object *values;
        char *quarantine;
};

void journal_entry_clear(struct journal_entry *e);

/* The parser alone: 0; -EBADMSG (garbled), -EPROTONOSUPPORT (a newer version), -ESTALE (another boot: nothing of it is left). */
int journal_parse(const char *text, size_t size, const char *boot_id, const char *bdf, struct journal_entry *ret);

/* temp file, fsync, rename, fsync of the folder */
int journal_write(Custody *c);
int journal_remove(Custody *c);

/* Loads every file: makes a custody of each, quarantined where the file cannot be trusted. */
int journal_load(Manager *m);

/* Locks a function for a worker: the descriptor to hand down; -EWOULDBLOCK while an earlier worker lives. */
int journal_lock(Manager *m, struct tdi_bdf bdf);

#endif
