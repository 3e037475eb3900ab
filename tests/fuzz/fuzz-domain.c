/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of what tdid-hook reads of a libvirt domain: what it takes is complete and within the limits. */
#include "domain.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        for (enum domain_part part = DOMAIN_WHO; part <= DOMAIN_ALL; part++) {
                struct domain d = { .n_functions = 12345 };
                char *error = NULL;
                uid_t uid;
                gid_t gid;
                int r;

                r = domain_read((const char *) data, size, part, &d, &error);
                must(r == 0 || r == -EINVAL);
                must((r < 0) == (error != NULL));
                free(error);
                if (r < 0) {
                        must(d.n_functions == 12345);
                        continue;
                }
                must(!d.ours || (d.name && strlen(d.uuid) == 36 && !strchr(d.uuid, '/')));
                must(d.n_functions <= DOMAIN_FUNCTIONS_MAX && (part == DOMAIN_ALL || d.n_functions == 0));
                for (size_t i = 0; i < d.n_functions; i++)
                        must(d.functions[i].size == sizeof(d.functions[i]) && d.functions[i].guest_rid <= UINT16_MAX);
                /* Without a name in it: to look for users is not what this is about. */
                if (d.dac_label && d.dac_label[0] == '+' && strstr(d.dac_label, ":+") && !d.vmm_user && !d.vmm_group) {
                        r = domain_ids(&d, &uid, &gid, &error);
                        must((r < 0) == (error != NULL));
                        free(error);
                }
                domain_done(&d);
        }
        return 0;
}
