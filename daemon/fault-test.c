/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fault points of test builds, armed by the environment. */
#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <tdi/bdf.h>

#include "util/util.h"

void fault_point(const char *action, const char *verb, const char *when) {
        const char *armed = getenv("TDID_TEST_KILL");
        char here[128];

        if (!armed)
                return;
        snprintf(here, sizeof(here), "%s:%s:%s", action, verb, when);
        if (streq(armed, here))
                (void) raise(SIGKILL);
}

int fault_fails(const char *action, const char *verb, const char *bdf) {
        const char *armed = getenv("TDID_TEST_FAIL");
        char name[64], armed_verb[16], label[32] = "", own[TDI_BDF_MAX];
        struct tdi_bdf parsed;
        int error;

        if (!armed || sscanf(armed, "%63[^:]:%15[^:]:%d:%31s", name, armed_verb, &error, label) < 3)
                return 0;
        if (!streq(name, action) || !streq(armed_verb, verb))
                return 0;
        if (label[0] && (tdi_bdf_parse(bdf, &parsed) < 0 || !streq(tdi_bdf_to_label(parsed, own), label)))
                return 0;
        return -error;
}
