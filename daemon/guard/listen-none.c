/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tdid that was built without the mmap guard. */
#include "guard/guard.h"

const bool guard_is_built_in = false;

void guard_listen(_unused_ Manager *m, _unused_ const char *set) {
}

struct guard_listener *guard_listener_free(_unused_ struct guard_listener *l) {
        return NULL;
}

struct json_object *guard_read_refusals(_unused_ struct guard_listener *l, _unused_ uint32_t function) {
        return NULL;
}
