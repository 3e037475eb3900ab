/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "confine.h"

#include "filter.h"
#include "worker/confine.h"

static const int allowed[] = {
        /* The loop. */
        SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(signalfd4), SCMP_SYS(inotify_init1),
        SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(gettimeofday), SCMP_SYS(sendmmsg), SCMP_SYS(accept4),
        SCMP_SYS(getgroups), SCMP_SYS(getresuid), SCMP_SYS(getresgid), SCMP_SYS(getcwd), SCMP_SYS(name_to_handle_at),
        /* Starting workers and, without systemd, holders; and what a program calls until it runs. */
        SCMP_SYS(execve), SCMP_SYS(setsid), SCMP_SYS(chdir), SCMP_SYS(arch_prctl), SCMP_SYS(set_tid_address), SCMP_SYS(setrlimit),
};

int daemon_confine(bool simulated) {
        _cleanup_filter_ scmp_filter_ctx filter = NULL;
        int r;

        if (FILTER_SANITIZED)
                return 0;
        r = filter_new(&filter);
        if (r == 0)
                r = worker_allow(filter, WORKER_ANY, simulated);
        if (r == 0)
                r = filter_allow(filter, allowed, ARRAY_SIZE(allowed));
        return r < 0 ? r : filter_load(filter);
}
