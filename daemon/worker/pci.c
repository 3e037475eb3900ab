/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads PCI functions out of sysfs: identity, names (libpci), place, and the capabilities that matter here. Reading config
 * space wakes a sleeping function, so it is read once per function, when the caller says so.
 */
#include "worker/work.h"

#include <limits.h>
#include <pci/pci.h>
#include <setjmp.h>
#include <stdio.h>
#include <tdi/bdf.h>

#define CONFIG_MAX 4096
#define CAP_EXP 0x10
#define EXP_DEVCAP 0x04
#define DEVCAP_TEE_IO 0x40000000u /* Device Capabilities bit 30, PCIe 6.0, 7.5.3.3 */
#define EXT_CAP_DSN 0x03
#define EXT_CAP_DOE 0x2e
#define EXT_CAP_IDE 0x30
#define DEVICES_PER_ANSWER 64

static struct pci_access *names;

/* libpci's own handler ends the process. The library must not return from an error, so it is left by a jump. */
static jmp_buf names_failed;

static void __attribute__((__noreturn__)) _printf_(1, 0) names_error(_unused_ char *format, ...) {
        longjmp(names_failed, 1);
}

static void names_quiet(_unused_ char *format, ...) {
}

static void names_open(void) {
        if (names)
                return;
        names = pci_alloc();
        names->error = names_error;
        names->warning = names->debug = names_quiet;
        /* pci_init() would look for a way into the hardware; names need none. */
        names->method = PCI_ACCESS_DUMP;
}

static void lookup(struct json_object *o, unsigned vendor, unsigned device, unsigned class) {
        char buf[256];

        json_set_str(o, "name", "");
        json_set_str(o, "class_name", "");
        if (setjmp(names_failed)) /* NOLINT(cert-err52-cpp) */
                return;
        names_open();
        json_set_str(o, "name", pci_lookup_name(names, buf, sizeof(buf), PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_HWDB, vendor, device));
        json_set_str(o, "class_name", pci_lookup_name(names, buf, sizeof(buf), PCI_LOOKUP_CLASS | PCI_LOOKUP_NO_HWDB, class));
}

static uint16_t get16(const uint8_t *p) {
        return (uint16_t) (p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p) {
        return get16(p) | (uint32_t) get16(p + 2) << 16;
}

/* Decodes what libpci does not know. Chains come from the device: their length is bounded. */
static void decode(const uint8_t *c, size_t size, struct json_object *o, struct json_object *tee, bool *ret_upstream) {
        unsigned at, left;

        if (size >= 64 && (get16(c + 0x06) & 0x10)) {
                at = c[0x34] & ~3u;
                for (left = 48; at >= 0x40 && at + 8 <= size && left > 0; left--) {
                        if (c[at] == CAP_EXP) {
                                /* port type 5: upstream port of a switch (PCIe 7.5.3.2) */
                                *ret_upstream = ((get16(c + at + 2) >> 4) & 0xf) == 5;
                                if (get32(c + at + EXP_DEVCAP) & DEVCAP_TEE_IO)
                                        json_push_str(tee, "tee-io");
                        }
                        at = c[at + 1] & ~3u;
                }
        }
        at = 0x100;
        for (left = (CONFIG_MAX - 0x100) / 8; at >= 0x100 && at + 4 <= size && left > 0; left--) {
                uint32_t h = get32(c + at);

                if (h == 0 || h == UINT32_MAX)
                        break;
                /* Device Serial Number (PCIe 6, 7.9.3) */
                if ((h & 0xffff) == EXT_CAP_DSN && at + 12 <= size)
                        json_set_u64(o, "serial", get32(c + at + 4) | (uint64_t) get32(c + at + 8) << 32);
                else if ((h & 0xffff) == EXT_CAP_IDE)
                        json_push_str(tee, "ide");
                else if ((h & 0xffff) == EXT_CAP_DOE)
                        json_push_str(tee, "doe");
                at = (h >> 20) & ~3u;
        }
}

static uint64_t number(struct work *w, const char *bdf, const char *attribute, uint64_t fallback) {
        char path[PATH_MAX];
        uint64_t v;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/%s", bdf, attribute);
        return host_read_u64(w->host, path, &v) < 0 ? fallback : v;
}

static void link_name(struct work *w, struct json_object *o, const char *key, const char *bdf, const char *attribute) {
        char path[PATH_MAX], name[256];

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/%s", bdf, attribute);
        json_set_str(o, key, host_read_link_name(w->host, path, name, sizeof(name)) < 0 ? "" : name);
}

static void read_config(struct work *w, struct json_object *o, const char *bdf) {
        uint8_t config[CONFIG_MAX];
        struct json_object *tee = json_new_array();
        bool upstream = false;
        char path[PATH_MAX];
        ssize_t n = -1;
        int fd;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/config", bdf);
        fd = host_open(w->host, path, O_RDONLY);
        if (fd >= 0) {
                n = host_pread(w->host, fd, config, sizeof(config), 0);
                (void) host_close(w->host, fd);
        }
        if (n > 0)
                decode(config, (size_t) n, o, tee, &upstream);
        json_set_take(o, "tee", tee);
        json_set_bool(o, "unreadable", n <= 0);
        json_set_bool(o, "upstream", upstream);
}

/* Where it hangs: the functions above it, nearest first. "../../../devices/pci0000:00/0000:00:03.0/0000:03:00.0" */
static void read_parents(struct work *w, struct json_object *o, const char *bdf) {
        struct json_object *parents = json_new_array();
        char path[PATH_MAX], target[PATH_MAX], *slash;
        struct tdi_bdf parent;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s", bdf);
        if (host_readlink(w->host, path, target, sizeof(target)) >= 0) {
                slash = strrchr(target, '/');
                while (slash) {
                        *slash = '\0';
                        slash = strrchr(target, '/');
                        if (!slash || tdi_bdf_parse(slash + 1, &parent) < 0)
                                break;
                        json_push_str(parents, slash + 1);
                }
        }
        json_set_take(o, "parents", parents);
}

/* The kernel takes the function for a DSM. Listing tsm/ does not wait for a handshake, reading in it does. */
static bool offers_connect(struct work *w, const char *bdf) {
        _cleanup_(host_names_freep) char **files = NULL;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm", bdf);
        if (host_list(w->host, path, &files) < 0)
                return false;
        for (char **n = files; *n; n++)
                if (streq(*n, "connect"))
                        return true;
        return false;
}

/* Nothing is wrong with the function: the next time it will be read. */
static bool is_passing(int r) {
        return r == -EINTR || r == -ENOMEM || r == -EMFILE || r == -ENFILE || r == -EAGAIN;
}

static int read_function(struct work *w, const char *bdf, bool config, bool with_names, struct json_object **ret) {
        struct json_object *o;
        uint64_t vendor;
        char path[PATH_MAX], group[32];
        int r;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/vendor", bdf);
        r = host_read_u64(w->host, path, &vendor);
        if (r < 0)
                return is_passing(r) ? work_fail(w, r, "it is read again", "read %s", path) : -ENODEV;
        o = json_new();
        json_set_str(o, "bdf", bdf);
        json_set_u64(o, "vendor", vendor);
        json_set_u64(o, "device", number(w, bdf, "device", 0));
        json_set_u64(o, "subsystem_vendor", number(w, bdf, "subsystem_vendor", 0));
        json_set_u64(o, "subsystem_device", number(w, bdf, "subsystem_device", 0));
        json_set_u64(o, "class", number(w, bdf, "class", 0));
        link_name(w, o, "driver", bdf, "driver");
        link_name(w, o, "phys_fn", bdf, "physfn");
        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/iommu_group", bdf);
        json_set_i64(o, "iommu_group",
                     host_read_link_name(w->host, path, group, sizeof(group)) < 0 ? -1 : strtol(group, NULL, 10));
        json_set_bool(o, "dsm", offers_connect(w, bdf));
        if (config) {
                read_config(w, o, bdf);
                read_parents(w, o, bdf);
        }
        if (with_names)
                lookup(o, (unsigned) vendor, (unsigned) json_u64_or(o, "device", 0), (unsigned) json_u64_or(o, "class", 0) >> 8);
        *ret = o;
        return 0;
}

/*
 * args: "bdfs": [..] to read just these, or "after": BDF to read on after it ("" from the start); "config": read config space too; "names":
 * look names up too, the first of which reads all of pci.ids.
 * values: "functions", "gone": [..], "more": BDF to go on after, when an answer is full.
 */
int read_pci_do(struct work *w) {
        _cleanup_(host_names_freep) char **all = NULL;
        struct json_object *bdfs, *functions, *gone, *o = NULL;
        const char *after = json_str_or(w->args, "after", "");
        bool config = json_bool_or(w->args, "config", true), with_names = json_bool_or(w->args, "names", true);
        size_t n = 0;
        int r;

        functions = json_new_array();
        gone = json_new_array();
        json_set_take(w->values, "functions", functions);
        json_set_take(w->values, "gone", gone);

        if (json_get_array(w->args, "bdfs", &bdfs) >= 0) {
                for (size_t i = 0; i < json_object_array_length(bdfs); i++) {
                        const char *bdf = json_object_get_string(json_object_array_get_idx(bdfs, i));

                        r = read_function(w, bdf, config, with_names, &o);
                        /* To be taken for gone it would have to be. */
                        if (r < 0 && r != -ENODEV)
                                return r;
                        if (r < 0)
                                json_push_str(gone, bdf);
                        else
                                json_push_take(functions, o);
                }
                return 0;
        }
        r = host_list(w->host, "/sys/bus/pci/devices", &all);
        if (r < 0)
                return work_fail(w, r, "is sysfs mounted?", "list /sys/bus/pci/devices");
        for (char **b = all; *b; b++) {
                if (strcmp(*b, after) <= 0)
                        continue;
                if (n++ == DEVICES_PER_ANSWER) {
                        json_set_str(w->values, "more", *(b - 1));
                        break;
                }
                r = read_function(w, *b, config, with_names, &o);
                if (r < 0 && r != -ENODEV)
                        return r;
                if (r >= 0)
                        json_push_take(functions, o);
        }
        return 0;
}
