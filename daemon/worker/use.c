/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is the host using this function? Mounted or swapped-on disks, members of md and dm devices, network interfaces that are
 * up with an address or in another namespace, VFs that live on it, another VFIO user. The first use found is named; nothing
 * is changed.
 */
#include "worker/work.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#define PROC_FILE_MAX (4UL * 1024 * 1024)
#define DEPTH_MAX 8 /* a USB network adapter behind hubs stands deepest below its controller */

struct use {
        struct work *w;
        char *mounts, *swaps; /* /proc/1/mountinfo and /proc/swaps */
};

static int in_use(struct work *w, const char *format, ...) _printf_(2, 3);

static int in_use(struct work *w, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(w->text, sizeof(w->text), format, ap);
        va_end(ap);
        return -EUSERS;
}

/* Does the link /sys/class/CLASS/NAME lead through this function? */
static bool below_function(struct work *w, const char *class, const char *name) {
        char path[PATH_MAX], target[PATH_MAX], component[32];

        snprintf(path, sizeof(path), "/sys/class/%s/%s", class, name);
        if (host_readlink(w->host, path, target, sizeof(target)) < 0)
                return false;
        snprintf(component, sizeof(component), "/%s/", w->bdf);
        return strstr(target, component) != NULL;
}

/*
 * With native NVMe multipath the disk hangs off a virtual subsystem, not off the controller's function: then the
 * subsystem's links to its controllers say whose disk it is (drivers/nvme/host/multipath.c).
 */
static bool below_nvme_subsystem(struct work *w, const char *disk) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX], target[PATH_MAX], dir[PATH_MAX], component[32], *s, *end;

        snprintf(path, sizeof(path), "/sys/class/block/%s", disk);
        if (host_readlink(w->host, path, target, sizeof(target)) < 0)
                return false;
        s = strstr(target, "/virtual/nvme-subsystem/");
        if (!s)
                return false;
        end = strchr(s + strlen("/virtual/nvme-subsystem/"), '/');
        if (!end)
                return false;
        snprintf(dir, sizeof(dir), "/sys/devices%.*s", (int) (end - s), s);
        if (host_list(w->host, dir, &names) < 0)
                return false;
        snprintf(component, sizeof(component), "/%s/", w->bdf);
        for (char **n = names; *n; n++) {
                if (snprintf(path, sizeof(path), "%s/%s", dir, *n) >= (int) sizeof(path))
                        continue;
                if (startswith(*n, "nvme") && host_readlink(w->host, path, target, sizeof(target)) >= 0 &&
                    strstr(target, component))
                        return true;
        }
        return false;
}

/* mountinfo(5): the third field is the device's number; the fifth the mount point. */
static bool mounted(struct use *u, const char *number, char *ret, size_t size) {
        _cleanup_free_ char *copy = strdup(strempty(u->mounts));
        char *save = NULL;

        if (!copy)
                return false;
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char dev[32], point[256];

                if (sscanf(line, "%*d %*d %31s %*s %255s", dev, point) == 2 && streq(dev, number)) {
                        snprintf(ret, size, "%s", point);
                        return true;
                }
        }
        return false;
}

static bool swapped_on(struct use *u, const char *disk) {
        char node[300];
        size_t n;

        n = (size_t) snprintf(node, sizeof(node), "/dev/%s", disk);
        for (const char *s = strempty(u->swaps); (s = strstr(s, node)); s += n)
                if (isspace((unsigned char) s[n]))
                        return true;
        return false;
}

/*
 * Whoever mounts, swaps on or stacks upon a disk claims it in the kernel, in whatever namespace and however it names it: an
 * exclusive open is refused then (bd_may_claim). The other sources only say by whom.
 */
static bool is_claimed(struct use *u, const char *disk) {
        char node[300];
        int fd;

        snprintf(node, sizeof(node), "/dev/%s", disk);
        for (char *c = node; *c; c++)
                if (*c == '!')
                        *c = '/';
        fd = host_open(u->w->host, node, O_RDONLY | O_EXCL | O_NONBLOCK);
        if (fd < 0)
                return fd == -EBUSY;
        (void) host_close(u->w->host, fd);
        return false;
}

/* Checks one block device and, through their own entries in /sys/class/block, its partitions. */
static int check_disk(struct use *u, const char *disk) {
        _cleanup_(host_names_freep) char **holders = NULL;
        char path[PATH_MAX], number[32], point[256];

        snprintf(path, sizeof(path), "/sys/class/block/%s/dev", disk);
        if (host_read_text(u->w->host, path, number, sizeof(number)) >= 0 && mounted(u, number, point, sizeof(point)))
                return in_use(u->w, "%s: /dev/%s of it is mounted on %s; unmount it, or use force", u->w->bdf, disk, point);
        if (swapped_on(u, disk))
                return in_use(u->w, "%s: /dev/%s of it is active swap; swapoff it, or use force", u->w->bdf, disk);
        snprintf(path, sizeof(path), "/sys/class/block/%s/holders", disk);
        if (host_list(u->w->host, path, &holders) >= 0 && holders[0])
                return in_use(u->w, "%s: /dev/%s of it is a member of /dev/%s (RAID, LVM or device mapper); stop that, or use force",
                              u->w->bdf, disk, holders[0]);
        if (is_claimed(u, disk))
                return in_use(u->w, "%s: /dev/%s of it is mounted in another namespace, or claimed by another program; end that, or use force",
                              u->w->bdf, disk);
        return 0;
}

static int check_disks(struct use *u) {
        _cleanup_(host_names_freep) char **names = NULL;

        if (host_list(u->w->host, "/sys/class/block", &names) < 0)
                return 0;
        for (char **n = names; *n; n++) {
                int r;

                if (!below_function(u->w, "block", *n) && !below_nvme_subsystem(u->w, *n))
                        continue;
                r = check_disk(u, *n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* A bridge or bond above it, or VLANs and the like: upper_NAME links (net/core/dev.c). */
static int check_stacked(struct work *w, const char *interface) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "/sys/class/net/%s", interface);
        if (host_list(w->host, path, &names) < 0)
                return 0;
        for (char **n = names; *n; n++)
                if (startswith(*n, "upper_"))
                        return in_use(w, "%s: network interface %s of it is up and %s stands upon it; take that away, or use force", w->bdf,
                                      interface, *n + strlen("upper_"));
        return 0;
}

static int check_interfaces(struct work *w) {
        _cleanup_(host_names_freep) char **names = NULL;
        int r;

        if (host_list(w->host, "/sys/class/net", &names) < 0)
                return 0;
        for (char **n = names; *n; n++) {
                char path[PATH_MAX];
                uint64_t flags;

                if (!below_function(w, "net", *n))
                        continue;
                snprintf(path, sizeof(path), "/sys/class/net/%s/flags", *n);
                if (host_read_u64(w->host, path, &flags) < 0 || !(flags & 1 /* IFF_UP */))
                        continue;
                r = host_address_present(w->host, *n);
                if (r < 0)
                        return in_use(w, "%s: network interface %s of it is up, and whether it has an address cannot be told (%s); take it down, or use force", w->bdf, *n,
                                      strerror(-r));
                if (r > 0)
                        return in_use(w, "%s: network interface %s of it is up and has an address; take it down, or use force", w->bdf, *n);
                r = check_stacked(w, *n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/*
 * The folder "net" of a device holds its interfaces, and is there while it has any (get_device_parent, cleanup_glue_dir); but only
 * those of the network namespace that this sysfs belongs to can be seen in it. An empty one means that they live in another.
 * Folders only, no links: what hangs below the function, as a virtio or USB device does, belongs to it.
 */
static bool has_hidden_interface(struct work *w, const char *dir, unsigned depth) { /* NOLINT(misc-no-recursion) */
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX], target[PATH_MAX];

        if (host_list(w->host, dir, &names) < 0)
                return false;
        for (char **n = names; *n; n++) {
                _cleanup_(host_names_freep) char **inside = NULL;

                if (snprintf(path, sizeof(path), "%s/%s", dir, *n) >= (int) sizeof(path) ||
                    host_readlink(w->host, path, target, sizeof(target)) >= 0)
                        continue;
                if (streq(*n, "net")) {
                        if (host_list(w->host, path, &inside) >= 0 && !inside[0])
                                return true;
                } else if (depth > 0 && has_hidden_interface(w, path, depth - 1))
                        return true;
        }
        return false;
}

static int check_namespaces(struct work *w) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s", w->bdf);
        if (has_hidden_interface(w, path, DEPTH_MAX))
                return in_use(w, "%s: a network interface of it is in another network namespace, as a container's; take it back, or use force", w->bdf);
        return 0;
}

/* Where it is on vfio-pci already they do not: whoever has one open keeps the PF by its token. */
static int check_vfs(struct work *w) {
        char path[PATH_MAX], driver[64];
        uint64_t n;

        if (host_read_link_name(w->host, work_path(w, path, sizeof(path), "driver"), driver, sizeof(driver)) >= 0 && streq(driver, "vfio-pci"))
                return 0;
        if (host_read_u64(w->host, work_path(w, path, sizeof(path), "sriov_numvfs"), &n) < 0 || n == 0)
                return 0;
        return in_use(w, "%s: %llu virtual functions of it are enabled and would vanish with its driver; disable them first", w->bdf,
                      (unsigned long long) n);
}

static bool ends_with(const char *text, const char *end) {
        size_t n = strlen(text), m = strlen(end);

        return m > 0 && n >= m && streq(text + n - m, end);
}

/*
 * Does this process hold a descriptor of one of the two nodes? Only the end of a path is compared: seen from another mount
 * namespace than the opener's, the beginning (/dev) may be missing.
 */
static bool process_holds(TdiHost *host, const char *pid, const char *cdev, const char *group) {
        _cleanup_(host_names_freep) char **fds = NULL;
        char path[PATH_MAX], target[PATH_MAX];

        snprintf(path, sizeof(path), "/proc/%s/fd", pid);
        if (host_list(host, path, &fds) < 0)
                return false;
        for (char **f = fds; *f; f++) {
                snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, *f);
                if (host_readlink(host, path, target, sizeof(target)) < 0)
                        continue;
                if (ends_with(target, cdev) || ends_with(target, group))
                        return true;
        }
        return false;
}

/* A function that is on a VFIO driver already may have a user: look through everybody's descriptors. */
static int check_vfio(struct work *w) {
        _cleanup_(host_names_freep) char **nodes = NULL, **pids = NULL;
        char path[PATH_MAX], cdev[300] = "", group[128] = "", name[64];

        if (host_list(w->host, work_path(w, path, sizeof(path), "vfio-dev"), &nodes) < 0 || !nodes[0])
                return 0;
        snprintf(cdev, sizeof(cdev), "/vfio/devices/%s", nodes[0]);
        if (host_read_link_name(w->host, work_path(w, path, sizeof(path), "iommu_group"), name, sizeof(name)) >= 0)
                snprintf(group, sizeof(group), "/vfio/%s", name);
        if (host_list(w->host, "/proc", &pids) < 0)
                return 0;
        for (char **p = pids; *p; p++) {
                char comm[64] = "?";

                if (!isdigit((unsigned char) **p) || !process_holds(w->host, *p, cdev, group))
                        continue;
                snprintf(path, sizeof(path), "/proc/%s/comm", *p);
                (void) host_read_text(w->host, path, comm, sizeof(comm));
                return in_use(w, "%s: process %s (%s) holds it through VFIO; end that first", w->bdf, *p, comm);
        }
        return 0;
}

/* args: "force". Two uses are beyond force: they could not be given back, or are another program's device. */
int check_use_do(struct work *w) {
        _cleanup_free_ char *mounts = NULL, *swaps = NULL;
        struct use u = { .w = w };
        int r;

        r = check_vfs(w);
        if (r >= 0)
                r = check_vfio(w);
        if (r < 0 || json_bool_or(w->args, "force", false))
                return r;
        r = host_read_file(w->host, "/proc/1/mountinfo", PROC_FILE_MAX, &mounts, NULL);
        if (r < 0)
                return work_fail(w, r, NULL, "read /proc/1/mountinfo");
        /* A kernel without swap has no such file. */
        r = host_read_file(w->host, "/proc/swaps", PROC_FILE_MAX, &swaps, NULL);
        if (r < 0 && r != -ENOENT)
                return work_fail(w, r, NULL, "read /proc/swaps");
        u.mounts = mounts;
        u.swaps = swaps;
        r = check_disks(&u);
        if (r >= 0)
                r = check_interfaces(w);
        return r < 0 ? r : check_namespaces(w);
}
