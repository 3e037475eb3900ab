/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of the journal: what is taken is whole and within its ranges. The function and boot are those of the corpus. */
#include "fuzz.h"
#include "journal.h"

#define BOOT "0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d11"
#define BDF "0000:01:00.0"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct journal_entry e = { .sequence = 77 };
        int r;

        r = journal_parse((const char *) data, size, BOOT, BDF, &e);
        if (r < 0) {
                must(r == -EBADMSG || r == -EPROTONOSUPPORT || r == -ESTALE);
                must(e.sequence == 77 && !e.vm_id && !e.values && !e.quarantine);
                return 0;
        }
        must(e.vm_id && json_object_is_type(e.values, json_type_object) && e.group >= -1);
        must(e.done >> ACTION_MAX == 0 && e.begun >> ACTION_MAX == 0);
        journal_entry_clear(&e);
        must(!e.vm_id && !e.values && !e.quarantine);
        return 0;
}
