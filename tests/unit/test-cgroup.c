/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In which cgroup a process's memory is accounted for: what /proc says of it, in both versions, and of our own process. */
#include <limits.h>

#include "test.h"
#include "worker/cgroup.h"

static void check_path(const char *text, unsigned version, const char *expected) {
        char path[64] = "";

        test_about("%s", text);
        check_int(cgroup_find_path(text, path, sizeof(path)), version);
        if (version > 0)
                check_str(path, expected);
}

static void test_path(void) {
        char longest[256];

        check_path("0::/\n", 2, "/");
        check_path("0::/machine.slice/qemu-1.scope\n", 2, "/machine.slice/qemu-1.scope");
        check_path("0::/a:b\n", 2, "/a:b");
        check_path("0::/no newline", 2, "/no newline");
        check_path("4:memory:/x\n0::/y\n", 1, "/x");
        check_path("0::/y\n11:cpu,memory,io:/x y\n", 1, "/x y");
        check_path("3:memory_recursive:/x\n0::/y\n", 2, "/y");
        check_path("1:name=systemd:/x\n", 0, NULL);
        check_path("", 0, NULL);
        check_path("\n\n", 0, NULL);
        check_path("memory", 0, NULL);
        check_path("4:memory\n:/x\n", 0, NULL);
        snprintf(longest, sizeof(longest), "0::/%0100d\n", 1);
        check_path(longest, 0, NULL);
}

#define V2 "24 30 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
#define V1 "31 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
#define CPU "32 24 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
#define ROOT "22 1 8:1 / / rw shared:1 - ext4 /dev/root rw\n"

static void check_mount(const char *text, unsigned version, const char *root, const char *point) {
        char r[64] = "", p[64] = "";

        test_about("version %u in %s", version, text);
        check_int(cgroup_find_mount(text, version, r, p, sizeof(r)), point != NULL);
        if (point) {
                check_str(r, root);
                check_str(p, point);
        }
}

static void test_mount(void) {
        check_mount(ROOT V2, 2, "/", "/sys/fs/cgroup");
        check_mount(ROOT CPU V1 V2, 1, "/", "/sys/fs/cgroup/memory");
        check_mount(ROOT CPU V1 V2, 2, "/", "/sys/fs/cgroup");
        check_mount(ROOT CPU, 1, NULL, NULL);
        check_mount(ROOT V1, 2, NULL, NULL);
        check_mount("", 2, NULL, NULL);
        check_mount("24 30 0:27 /part /c rw master:3 propagate_from:2 - cgroup2 none rw\n", 2, "/part", "/c");
        check_mount("24 30 0:27 / /a\\040b rw - cgroup2 none rw\n" V2, 2, "/", "/sys/fs/cgroup");
        check_mount("24 30 0:27 / - cgroup2\n", 1, NULL, NULL);
        check_mount("cgroup2 - cgroup2 cgroup2 rw", 2, NULL, NULL);
}

/* What it finds of this process is a file that is there; or it says why not. */
static void test_own(void) {
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        char file[PATH_MAX + 64] = "";
        const char *why;

        test_about("%s", "this process");
        require(tdi_host_linux_new(&host) == 0);
        why = cgroup_procs_of(host, getpid(), file, sizeof(file));
        if (why)
                fprintf(stderr, "no memory cgroup here: %s\n", why);
        else
                check_int(access(file, F_OK), 0);
        check_str(cgroup_procs_of(host, INT32_MAX, file, sizeof(file)), "its cgroup cannot be read");
}

int main(void) {
        test_path();
        test_mount();
        test_own();
        return test_end();
}
