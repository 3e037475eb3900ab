/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the host is and can do, looked at in a worker. */
#include "check/check.h"
#include "check/facts.h"
#include "worker/work.h"

/* args and values are those of facts_read(). */
int read_host_do(struct work *w) {
        facts_read(w->host, w->args, w->values);
        return 0;
}

/* args: "policy", "own" of struct check_input. values: "check": what check_run() found. */
int check_host_do(struct work *w) {
        struct check_input in = { .host = w->host };

        if (json_get_object(w->args, "policy", &in.policy) < 0)
                in.policy = NULL;
        if (json_get_array(w->args, "own", &in.own) < 0)
                in.own = NULL;
        json_set_take(w->values, "check", check_run(&in));
        return 0;
}
