/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* No fault points: what is installed on real hosts. */
#include "fault.h"

#include "util/util.h"

void fault_point(_unused_ const char *action, _unused_ const char *verb, _unused_ const char *when) {
}

void fault_point_within(_unused_ const char *action, _unused_ const char *verb, _unused_ const char *when) {
}

int fault_fails(_unused_ const char *action, _unused_ const char *verb, _unused_ const char *bdf) {
        return 0;
}

unsigned fault_newer(_unused_ const char *what) {
        return 0;
}
