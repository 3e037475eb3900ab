/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of tdid.conf: all or nothing, and what is refused is described. */
#include "config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct config defaults, c;
        _cleanup_free_ char *text = NULL;
        int r;

        config_default(&defaults);
        c = defaults;
        r = config_parse((const char *) data, size, "F", &c, &text);
        if (r < 0) {
                must(r == -EBADMSG && text && startswith(text, "F"));
                must(memcmp(&c, &defaults, sizeof(c)) == 0);
                return 0;
        }
        must(!text);
        must(c.vms >= 1 && c.vms <= 4096 && c.vms_per_user >= 1 && c.functions >= 1 && c.functions <= 256 && c.keepers >= 1 && c.jobs >= 16 &&
             c.workers >= 4 && c.claim >= 1 && c.claim <= 3600 && c.open >= 1 && c.connect >= 1 && c.prepare >= 1 && c.close >= 1 && c.handoff <= 1);
        return 0;
}
