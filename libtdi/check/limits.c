/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Limits of descriptors and memory. */
#include <stdio.h>

#include "check/internal.h"

#define UNIT_NOFILE 65536 /* LimitNOFILE= of tdid.service */
#define CAP_IPC_LOCK 14

/* The number in a line "Key:   12 kB" of a file of /proc; -ENOENT. */
static int field(const char *text, const char *key, int base, uint64_t *ret) {
        size_t n = strlen(key);

        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (strncmp(line, key, n) == 0 && line[n] == ':') {
                        *ret = strtoull(line + n + 1, NULL, base);
                        return 0;
                }
        }
        return -ENOENT;
}

static int read_field(TdiHost *host, const char *path, const char *key, int base, uint64_t *ret) {
        _cleanup_free_ char *text = NULL;
        int r = host_read_file(host, path, 1 << 20, &text, NULL);

        return r < 0 ? r : field(text, key, base, ret);
}

static const char *const memlock_remedies[] = {
        "Give tdid CAP_IPC_LOCK, as its unit does: a container has to be allowed it (--cap-add=IPC_LOCK).",
        NULL,
};

/* iommufd counts what it pins against the limit of the user, unless that may lock memory (iopt_pages_alloc, capable(CAP_IPC_LOCK)). */
static void check_memlock(struct check *c) {
        uint64_t caps;
        int r = read_field(c->host, "/proc/1/status", "CapBnd", 16, &caps);

        if (r < 0)
                check_say(c, CHECK_SKIP, NULL, "reading CapBnd in /proc/1/status: %s", check_error(r));
        else if (caps & UINT64_C(1) << CAP_IPC_LOCK)
                check_say(c, CHECK_PASS, NULL, "tdid may pin guest memory whatever RLIMIT_MEMLOCK says (CAP_IPC_LOCK)");
        else
                check_say(c, CHECK_WARN, memlock_remedies[0], "CAP_IPC_LOCK is not to be had here: guests larger than RLIMIT_MEMLOCK cannot be mapped");
}

static const char *const nofile_remedies[] = {
        "Raise it: 'sysctl fs.nr_open=1048576', and the same in /etc/sysctl.d.",
        NULL,
};

static void check_nofile(struct check *c) {
        uint64_t n;
        int r = host_read_u64(c->host, "/proc/sys/fs/nr_open", &n);

        if (r < 0)
                check_say(c, CHECK_SKIP, NULL, "reading /proc/sys/fs/nr_open: %s", check_error(r));
        else if (n < UNIT_NOFILE)
                check_say(c, CHECK_WARN, nofile_remedies[0], "fs.nr_open is %llu, and tdid.service wants %d: it has fewer VMs then", (unsigned long long) n, UNIT_NOFILE);
        else
                check_say(c, CHECK_PASS, NULL, "fs.nr_open is %llu, of which tdid.service wants %d", (unsigned long long) n, UNIT_NOFILE);
}

static const char *const memcg_remedies[] = {
        "Use cgroup v2 with its memory controller (systemd.unified_cgroup_hierarchy=1, no cgroup_disable=memory).",
        NULL,
};

static void check_memcg(struct check *c) {
        char text[512];
        ssize_t n = host_read_text(c->host, "/sys/fs/cgroup/cgroup.controllers", text, sizeof(text));

        if (is_denied((int) n))
                check_skip_denied(c, "reading /sys/fs/cgroup/cgroup.controllers");
        else if (n < 0)
                check_say(c, CHECK_WARN, memcg_remedies[0], "there is no cgroup v2 (%s): guest memory that is mapped for functions is charged to nobody", check_error((int) n));
        else if (check_has_word(text, "memory"))
                check_say(c, CHECK_PASS, NULL, "guest memory is charged to its VMM's cgroup");
        else
                check_say(c, CHECK_WARN, memcg_remedies[0], "cgroup v2 has no memory controller: guest memory that is mapped for functions is charged to nobody");
}

static const char *const hugepage_remedies[] = {
        "Reserve more of them (vm.nr_hugepages), or see with 'grep Huge /proc/meminfo' what has them; guests without need none.",
        NULL,
};

static void check_hugepages(struct check *c) {
        uint64_t total = 0, available, size = 0;
        int r = read_field(c->host, "/proc/meminfo", "HugePages_Total", 10, &total);

        if (r < 0 || total == 0 || read_field(c->host, "/proc/meminfo", "HugePages_Free", 10, &available) < 0) {
                check_say(c, CHECK_SKIP, NULL, "none are reserved: guests have ordinary pages");
                return;
        }
        (void) read_field(c->host, "/proc/meminfo", "Hugepagesize", 10, &size);
        if (available == 0)
                check_say(c, CHECK_WARN, hugepage_remedies[0], "none of %llu are free", (unsigned long long) total);
        else
                check_say(c, CHECK_PASS, NULL, "%llu of %llu are free, of %llu KiB each", (unsigned long long) available, (unsigned long long) total, (unsigned long long) size);
}

const struct check_spec limit_checks[] = {
        { "limits.memlock", "Limits", "Pinned memory", "Whether tdid may pin guest memory past RLIMIT_MEMLOCK.", check_memlock, memlock_remedies },
        { "limits.nofile", "Limits", "Descriptors", "Whether tdid.service can have the descriptors that it asks for (fs.nr_open).", check_nofile, nofile_remedies },
        { "limits.memcg", "Limits", "Memory cgroups", "Whether guest memory that is mapped for functions is charged to the VMM's cgroup.", check_memcg, memcg_remedies },
        { "limits.hugepages", "Limits", "Huge pages", "How many are free, where some were reserved.", check_hugepages, hugepage_remedies },
        {},
};
