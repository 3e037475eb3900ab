/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The kernel's iterators over all mappings and descriptors: what was there before the guard. They see every process that this one's pid
 * namespace has, those of namespaces below it included, and compare as the guard does; no path or name is read.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guard/set.h"
#include "util/util.h"

#define AGAIN_MAX 100000 /* a million objects each */

static int fail(char why[static GUARD_WHY_MAX], int r, const char *what) {
        snprintf(why, GUARD_WHY_MAX, "could not %s: %s (%s)", what, strerror(-r), strerrorname_np(-r));
        return r;
}

static int run(int program, int tid, guard_found_func each, void *userdata, const char *what, char why[static GUARD_WHY_MAX]) {
        union bpf_iter_link_info info = { .task = { .tid = (__u32) tid } };
        LIBBPF_OPTS(bpf_link_create_opts, opts);
        _cleanup_close_ int link = -EBADF, fd = -EBADF;
        struct guard_found found[64];
        size_t have = 0;
        ssize_t n;

        if (tid != 0) {
                opts.iter_info = &info;
                opts.iter_info_len = sizeof(info);
        }
        link = bpf_link_create(program, 0, BPF_TRACE_ITER, &opts);
        if (link < 0)
                return fail(why, -errno, what);
        fd = bpf_iter_create(link);
        if (fd < 0)
                return fail(why, -errno, what);
        for (unsigned again = 0;;) {
                n = read(fd, (char *) found + have, sizeof(found) - have);
                /* It has looked at many objects without finding any, and lets others run (bpf_seq_read). */
                if (n < 0 && (errno == EAGAIN || errno == EINTR) && again++ < AGAIN_MAX)
                        continue;
                if (n < 0)
                        return fail(why, -errno, what);
                if (n == 0)
                        return 0;
                have += (size_t) n;
                for (size_t i = 0; each && i < have / sizeof(*found); i++)
                        each(&found[i], userdata);
                memmove(found, (char *) found + have - have % sizeof(*found), have % sizeof(*found));
                have %= sizeof(*found);
        }
}

int guard_learn(struct guard_set *s, int tid, char why[static GUARD_WHY_MAX]) {
        return run(s->learn, tid, NULL, NULL, "look at open VFIO devices", why);
}

int guard_find_mappings(struct guard_set *s, guard_found_func each, void *userdata, char why[static GUARD_WHY_MAX]) {
        return run(s->mappings, 0, each, userdata, "look for mappings in all processes", why);
}

int guard_find_writers(struct guard_set *s, guard_found_func each, void *userdata, char why[static GUARD_WHY_MAX]) {
        return run(s->writers, 0, each, userdata, "look for descriptors in all processes", why);
}
