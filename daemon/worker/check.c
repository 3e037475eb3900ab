/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the host is and can do, looked at in a worker. */
#include "check/facts.h"
#include "worker/work.h"

/* args and values are those of facts_read(). */
int read_host_do(struct work *w) {
        facts_read(w->host, w->args, w->values);
        return 0;
}
