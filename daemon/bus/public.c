/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What any local user may know of a failure. The whole text names processes, mount points and files, and is for root and the VM's
 * owner. Nothing of it is copied here: only words that are public in themselves, where it contains them.
 */
#include <stdio.h>

#include "bus/bus.h"
#include "device.h"

#define ERRNO_MAX 133

const char *public_errno(const char *text) {
        char word[32];

        for (int e = 1; e <= ERRNO_MAX; e++) {
                const char *name = strerrorname_np(e);

                if (!name)
                        continue;
                snprintf(word, sizeof(word), "(%s)", name);
                if (strstr(text, word))
                        return name;
        }
        return "";
}

void public_job_text(const Job *j, char *buf, size_t size) {
        const char *text = strempty(j->text), *name = public_errno(text), *object = j->n_objects > 0 ? j->objects[0] : "";
        char others[32] = "";

        if (j->n_objects > 1)
                snprintf(others, sizeof(others), " and %zu more", j->n_objects - 1);
        for (size_t i = 0; i < j->n_objects && *others; i++)
                if (strstr(text, j->objects[i])) {
                        object = j->objects[i];
                        *others = '\0';
                }
        snprintf(buf, size, "%s of %s%s: %s%s%s%s; Describe() of the job tells root and the VM's owner more", job_kind_to_string(j->kind), object,
                 others, tdi_error_to_name(j->error), *name ? " (" : "", name, *name ? ")" : "");
}

void public_quarantine(const Custody *c, bool gone, char *buf, size_t size) {
        const char *driver = json_str_or(c->values, "driver", ""), *name;
        size_t n = 0;

        if (gone)
                n = (size_t) snprintf(buf, size, "the function has gone from the host, Restore forgets it: ");
        /* Not of a step that failed, but tdid's own words about its journal (journal.c, recover.c). */
        if (c->frozen || startswith(c->quarantine, "its journal ")) {
                snprintf(buf + n, size - n, "%s", c->quarantine);
                return;
        }
        name = public_errno(c->quarantine);
        snprintf(buf + n, size - n, "could not be given back%s%s: %s failed%s%s%s; Describe() tells root and the VM's owner more",
                 *driver ? " to its driver " : "", driver, custody_action_name(c), *name ? " (" : "", name, *name ? ")" : "");
}
