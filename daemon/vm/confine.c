/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory limit and system call filter of a holder. */
#include "vm/confine.h"

#include <errno.h>
#include <sys/resource.h>

#include "filter.h"
#include "host/tdid_bind.h"

/* Maps of a guest's memory in 4 KiB pieces are most of it (vpci/dma.h), and the threads' stacks count. */
#define DATA_MAX (512UL * 1024 * 1024)

/* Its connections, and what its clients wait for. */
static const int allowed[] = { SCMP_SYS(accept4), SCMP_SYS(eventfd2) };
/* A simulated device is reached by messages, each with a reply socket of its own (libtdi/host/sim.c). */
static const int simulated_too[] = { SCMP_SYS(socketpair), SCMP_SYS(sendto) };

int confine(bool simulated) {
        struct rlimit data = { DATA_MAX, DATA_MAX };
        _cleanup_filter_ scmp_filter_ctx filter = NULL;
        int r;

        if (FILTER_SANITIZED)
                return 0;
        if (setrlimit(RLIMIT_DATA, &data) < 0 || setrlimit(RLIMIT_CORE, &(struct rlimit){}) < 0)
                return -errno;
        r = filter_new(&filter);
        if (r == 0)
                r = filter_allow_basics(filter);
        if (r == 0)
                r = filter_allow(filter, allowed, ARRAY_SIZE(allowed));
        if (r == 0)
                r = filter_allow_vfio(filter);
        /* Of the bind provider's calls only the guest's requests: to bind and unbind is a worker's. */
        if (r == 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_EQ, TDID_BIND_IOC_REQUEST));
        if (r == 0 && simulated)
                r = filter_allow(filter, simulated_too, ARRAY_SIZE(simulated_too));
        return r < 0 ? r : filter_load(filter);
}
