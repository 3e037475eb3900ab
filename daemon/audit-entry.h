/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Between the files of the audit, and the tests: an event and its values become an entry (audit.c), which goes out (audit-out.c). */
#ifndef TDID_AUDIT_ENTRY_H
#define TDID_AUDIT_ENTRY_H

#include "audit.h"

/* The longest value, and the longest entry: more than all fields of one event, with BDFs of as many functions as a VM may have. */
#define AUDIT_VALUE_MAX 1024
#define AUDIT_ENTRY_MAX 65536
/* Entries that are kept while the journal takes none. */
#define AUDIT_KEPT_MAX 1024
#define AUDIT_JOURNAL "/run/systemd/journal/socket"

enum audit_type {
        AUDIT_ABSENT,
        AUDIT_TEXT,
        AUDIT_NUMBER,
};

struct audit_value {
        enum audit_field field;
        enum audit_type type;
        const char *text;
        uint64_t number;
};

/* A field may come several times: one for each value. */
void audit_write(enum audit_event event, const struct audit_value *values, size_t n);

/* As audit_write() would: without line breaks and control characters, valid UTF-8, and, of an entry, without addresses. */
void audit_clean(const char *text, bool addresses, char buf[static AUDIT_VALUE_MAX]);
/* The message, as a row of the table has it. */
void audit_message(enum audit_event event, const struct audit_value *values, size_t n, bool addresses, char *buf, size_t size);
/* One entry in the journal's native protocol, or as a line of JSON; its size. */
size_t audit_native(enum audit_event event, const struct audit_value *values, size_t n, char buf[static AUDIT_ENTRY_MAX]);
size_t audit_json(enum audit_event event, const struct audit_value *values, size_t n, char buf[static AUDIT_ENTRY_MAX]);

/* As audit_open("journal"), with another socket. */
int audit_open_journal(sd_event *event, const char *socket);

#endif
