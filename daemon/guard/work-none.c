/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A worker that was built without the mmap guard. */
#include "worker/work.h"

#include <stdio.h>

#define BUILT_WITHOUT "this tdid was built without it (-Dguard=disabled, or no clang or libbpf was there)"

int guard_look_do(struct work *w) {
        snprintf(w->text, sizeof(w->text), "%s", BUILT_WITHOUT);
        return -EOPNOTSUPP;
}

int guard_sweep_do(_unused_ struct work *w) {
        return 0;
}

int guard_on_do(struct work *w) {
        return work_fail(w, -EOPNOTSUPP, BUILT_WITHOUT, "guard %s", w->bdf);
}

/* What another build has pinned stays: nothing here can take a function out of it. */
int guard_on_undo(_unused_ struct work *w) {
        return 0;
}

int guard_on_probe(_unused_ struct work *w) {
        return 0;
}

int guard_take_device(_unused_ struct work *w) {
        return 0;
}

void guard_let_write(_unused_ struct work *w, _unused_ bool yes) {
}
