/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What of a function is guarded: found in sysfs and procfs, put into the maps, taken out. */
#include "guard/set.h"

#include <bpf/bpf.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "function-files.h"
#include "util/util.h"

#define SYSFS_MAGIC 0x62656572
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_PCI "/sys/bus/pci/devices/"
#define KERNEL_DEV(major, minor) ((__u64) (major) << 20 | (minor)) /* include/linux/kdev_t.h */
#define MEM_MAJOR 1
#define MEM_MINOR 1

static int add_id(struct guard_ids *ids, __u32 type, __u64 value, __u32 function, __u16 kind, __u16 deny) {
        if (ids->n >= GUARD_KEYS_MAX)
                return -E2BIG;
        ids->of[ids->n].key = (struct guard_key){ .value = value, .type = type };
        ids->of[ids->n].object = (struct guard_object){ .function = function, .kind = kind, .deny = deny };
        ids->n++;
        return 0;
}

/* By its inode number, which is that of its kernfs node or proc entry wherever the file system is mounted again. */
static int add_file(struct guard_ids *ids, const char *path, __u32 function, __u16 kind, __u16 deny, char why[static GUARD_WHY_MAX]) {
        struct statfs fs;
        struct stat st;

        if (stat(path, &st) < 0 || statfs(path, &fs) < 0)
                return errno == ENOENT ? -ENOENT : guard_fail(why, -errno, "could not look at %s: %s", path, strerrorname_np(errno));
        if (fs.f_type != SYSFS_MAGIC && fs.f_type != PROC_SUPER_MAGIC)
                return guard_fail(why, -EXDEV, "%s is neither of sysfs nor of procfs: something is mounted over it", path);
        if (add_id(ids, fs.f_type == SYSFS_MAGIC ? GUARD_SYSFS : GUARD_PROC, st.st_ino, function, kind, deny) < 0)
                return guard_fail(why, -E2BIG, "there are more files of the function than %d", GUARD_KEYS_MAX);
        return 0;
}

/* "MAJOR:MINOR\n" */
static int read_dev(const char *path, __u64 *ret) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned major, minor;
        char text[32];
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return -errno;
        text[n] = '\0';
        if (sscanf(text, "%u:%u", &major, &minor) != 2)
                return -EBADMSG;
        *ret = KERNEL_DEV(major, minor);
        return 0;
}

static int add_resources(struct guard_ids *ids, const char *bdf, __u32 function, char why[static GUARD_WHY_MAX]) {
        char path[512];
        struct dirent *e;
        DIR *d;
        int r = 0;

        snprintf(path, sizeof(path), SYSFS_PCI "%s", bdf);
        d = opendir(path);
        if (!d)
                return guard_fail(why, -errno, "could not list %s: %s", path, strerrorname_np(errno));
        while (r >= 0 && (e = readdir(d))) {
                const char *end;

                if (!startswith(e->d_name, "resource"))
                        continue;
                end = e->d_name + strlen("resource");
                if (strspn(end, "0123456789") == 0)
                        continue;
                end += strspn(end, "0123456789");
                if (!streq(end, "") && !streq(end, "_wc"))
                        continue;
                snprintf(path, sizeof(path), SYSFS_PCI "%s/%s", bdf, e->d_name);
                r = add_file(ids, path, function, GUARD_KIND_RESOURCE, GUARD_DENY_MMAP, why);
                if (r == -ENOENT)
                        r = guard_fail(why, r, "%s has gone", path);
        }
        closedir(d);
        return r;
}

static int add_nodes(struct guard_ids *ids, const char *bdf, __u32 function, char why[static GUARD_WHY_MAX]) {
        char path[512], target[512];
        unsigned n = 0;
        struct dirent *e;
        ssize_t size;
        __u64 dev = 0;
        DIR *d;
        int r = 0;

        snprintf(path, sizeof(path), SYSFS_PCI "%s/vfio-dev", bdf);
        d = opendir(path);
        if (!d)
                return guard_fail(why, -errno, "could not list %s: %s; is the function on vfio-pci, and has the kernel CONFIG_VFIO_DEVICE_CDEV?", path,
                            strerrorname_np(errno));
        while (r >= 0 && (e = readdir(d))) {
                if (e->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), SYSFS_PCI "%s/vfio-dev/%s/dev", bdf, e->d_name);
                r = read_dev(path, &dev);
                if (r >= 0)
                        r = add_id(ids, GUARD_CHAR, dev, function, GUARD_KIND_VFIO, GUARD_DENY_MMAP);
                if (r < 0)
                        (void) guard_fail(why, r, "could not read %s: %s", path, strerrorname_np(-r));
                n++;
        }
        closedir(d);
        if (r < 0 || n == 0)
                return r < 0 ? r : guard_fail(why, -ENODEV, "%s has no VFIO device node", bdf);

        /* Where the kernel has no groups, or this one has no node, nobody can open it. */
        snprintf(path, sizeof(path), SYSFS_PCI "%s/iommu_group", bdf);
        size = readlink(path, target, sizeof(target) - 1);
        if (size < 0)
                return 0;
        target[size] = '\0';
        snprintf(path, sizeof(path), "/sys/class/vfio/%.64s/dev", strrchr(target, '/') ? strrchr(target, '/') + 1 : target);
        r = read_dev(path, &dev);
        if (r < 0)
                return r == -ENOENT ? 0 : guard_fail(why, r, "could not read %s: %s", path, strerrorname_np(-r));
        ids->group = (__u32) dev;
        return add_id(ids, GUARD_CHAR, dev, function, GUARD_KIND_GROUP, GUARD_DENY_MMAP) < 0 ? guard_fail(why, -E2BIG, "too many files of %s", bdf) : 0;
}

/* pci_proc_attach_device(): where there are domains, only the first is without. Made for every function that there is. */
static int add_proc(struct guard_ids *ids, const char *bdf, __u32 function, char why[static GUARD_WHY_MAX]) {
        unsigned domain = function >> 16, bus = function >> 8 & 0xff, device = function >> 3 & 0x1f, number = function & 7;
        char path[128];
        int r;

        snprintf(path, sizeof(path), "/proc/bus/pci/%02x/%02x.%x", bus, device, number);
        if (domain != 0)
                snprintf(path, sizeof(path), "/proc/bus/pci/%04x:%02x/%02x.%x", domain, bus, device, number);
        r = add_file(ids, path, function, GUARD_KIND_PROC, GUARD_DENY_MMAP | GUARD_DENY_WRITE, why);
        return r == -ENOENT ? guard_fail(why, r, "there is no %s of %s: is /proc mounted with subset=pid, or covered?", path, bdf) : r;
}

int guard_identify(const char *bdf, __u32 function, struct guard_ids *ret, char why[static GUARD_WHY_MAX]) {
        static const struct {
                const char *name;
                __u16 kind, deny;
        } files[] = {
#define WRITTEN(name, kind) { name, GUARD_KIND_##kind, GUARD_DENY_WRITE },
                FUNCTION_FILES(WRITTEN)
#undef WRITTEN
                /* Its memory, where a driver gave it to peers. */
                { "p2pmem/allocate", GUARD_KIND_RESOURCE, GUARD_DENY_MMAP },
        };
        char path[256];
        int r = 0;

        *ret = (struct guard_ids){};
        for (size_t i = 0; i < ARRAY_SIZE(files) && r >= 0; i++) {
                snprintf(path, sizeof(path), SYSFS_PCI "%s/%s", bdf, files[i].name);
                r = add_file(ret, path, function, files[i].kind, files[i].deny, why);
                /* Not every function can be reset. */
                if (r == -ENOENT && files[i].kind != GUARD_KIND_CONFIG)
                        r = 0;
                else if (r == -ENOENT)
                        (void) guard_fail(why, r, "there is no %s", path);
        }
        if (r >= 0)
                r = add_resources(ret, bdf, function, why);
        if (r >= 0)
                r = add_nodes(ret, bdf, function, why);
        if (r >= 0)
                r = add_proc(ret, bdf, function, why);
        return r;
}

/* ---- the maps ---- */

static const struct guard_key mem = { .type = GUARD_CHAR, .value = KERNEL_DEV(MEM_MAJOR, MEM_MINOR) };

int guard_add(struct guard_set *s, __u32 function, const struct guard_ids *ids, char why[static GUARD_WHY_MAX]) {
        struct guard_object memory = { .function = GUARD_NO_FUNCTION, .kind = GUARD_KIND_MEM, .deny = GUARD_DENY_MMAP | GUARD_DENY_WRITE };
        struct guard_function f = { .group = ids->group };

        /* Who is there already keeps its counters. */
        if (bpf_map_update_elem(s->functions, &function, &f, BPF_NOEXIST) < 0 && errno != EEXIST)
                return guard_fail(why, -errno, "could not add a function to the guard: %s", strerrorname_np(errno));
        for (size_t i = 0; i < ids->n; i++)
                if (bpf_map_update_elem(s->objects, &ids->of[i].key, &ids->of[i].object, BPF_ANY) < 0)
                        return guard_fail(why, -errno, "could not add a file to the guard: %s", strerrorname_np(errno));
        /* No hook is told which of its pages are mapped: while anything is guarded, none of them. */
        if (bpf_map_update_elem(s->objects, &mem, &memory, BPF_ANY) < 0)
                return guard_fail(why, -errno, "could not add /dev/mem to the guard: %s", strerrorname_np(errno));
        return 0;
}

/* Another function with the same group's node; GUARD_NO_FUNCTION. */
static __u32 shares_group(struct guard_set *s, __u32 group, __u32 but) {
        __u32 key, next, *at = NULL;
        struct guard_function f;

        while (bpf_map_get_next_key(s->functions, at, &next) == 0) {
                if (next != but && bpf_map_lookup_elem(s->functions, &next, &f) == 0 && f.group == group)
                        return next;
                key = next;
                at = &key;
        }
        return GUARD_NO_FUNCTION;
}

int guard_remove(struct guard_set *s, __u32 function, char why[static GUARD_WHY_MAX]) {
        struct guard_key list[GUARD_KEYS_MAX], next, key, *at = NULL;
        struct guard_object o;
        size_t n = 0;

        while (n < GUARD_KEYS_MAX && bpf_map_get_next_key(s->objects, at, &next) == 0) {
                if (bpf_map_lookup_elem(s->objects, &next, &o) == 0 && o.function == function) {
                        if (o.kind == GUARD_KIND_GROUP)
                                o.function = shares_group(s, (__u32) next.value, function);
                        if (o.kind == GUARD_KIND_GROUP && o.function != GUARD_NO_FUNCTION)
                                (void) bpf_map_update_elem(s->objects, &next, &o, BPF_ANY);
                        else
                                list[n++] = next;
                }
                key = next;
                at = &key;
        }
        for (size_t i = 0; i < n; i++)
                if (bpf_map_delete_elem(s->objects, &list[i]) < 0 && errno != ENOENT)
                        return guard_fail(why, -errno, "could not take a file out of the guard: %s", strerrorname_np(errno));
        /* Last: as long as it is there, not all of it has gone. */
        if (n == GUARD_KEYS_MAX)
                return guard_remove(s, function, why);
        if (bpf_map_delete_elem(s->functions, &function) < 0 && errno != ENOENT)
                return guard_fail(why, -errno, "could not take a function out of the guard: %s", strerrorname_np(errno));
        if (bpf_map_get_next_key(s->functions, NULL, &function) < 0 && bpf_map_delete_elem(s->objects, &mem) < 0 && errno != ENOENT)
                return guard_fail(why, -errno, "could not take /dev/mem out of the guard: %s", strerrorname_np(errno));
        return 0;
}

bool guard_has(struct guard_set *s, __u32 function) {
        struct guard_function f;

        return bpf_map_lookup_elem(s->functions, &function, &f) == 0;
}

bool guard_knows_mapping(struct guard_set *s, __u32 function) {
        struct guard_key next, key, *at = NULL;
        struct guard_object o;

        while (bpf_map_get_next_key(s->objects, at, &next) == 0) {
                if (next.type == GUARD_MAPPING && bpf_map_lookup_elem(s->objects, &next, &o) == 0 && o.function == function)
                        return true;
                key = next;
                at = &key;
        }
        return false;
}
