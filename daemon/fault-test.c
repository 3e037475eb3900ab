/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fault points of test builds, armed by the environment. */
#include "fault.h"

#include <signal.h>
#include <stdio.h>
#include <tdi/bdf.h>

#include "util/util.h"

static bool is_armed(const char *action, const char *verb, const char *when) {
        const char *armed = getenv("TDID_TEST_KILL");
        char here[128];

        if (!armed)
                return false;
        snprintf(here, sizeof(here), "%s:%s:%s", action, verb, when);
        return streq(armed, here);
}

void fault_point(const char *action, const char *verb, const char *when) {
        if (is_armed(action, verb, when))
                (void) raise(SIGKILL);
}

void fault_point_within(const char *action, const char *verb, const char *when) {
        pid_t parent = getppid();

        if (!is_armed(action, verb, when) || parent <= 1)
                return;
        (void) kill(parent, SIGKILL);
        /* What comes next finds no tdid. */
        while (getppid() == parent)
                (void) usleep(1000);
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

unsigned fault_newer(const char *what) {
        const char *armed = getenv("TDID_TEST_NEWER");
        char name[16];
        unsigned n;

        if (!armed || sscanf(armed, "%15[^:]:%u", name, &n) != 2 || (!streq(name, what) && !streq(name, "all")))
                return 0;
        return n;
}
