/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of `tdictl check`: a host whose files say what the input says. It is a row of pieces, a length of two bytes before each, which are what
 * the files and links below say, in their order; every check has to come to a verdict.
 */
#include "check/check.h"
#include "fuzz.h"

static const char *const files[] = {
        "/proc/config.gz", "/boot/config-", "/0000:01:00.0/config", "/etc/libvirt/qemu/a.xml", "/proc/1/status", "/proc/meminfo", "/proc/sys/kernel/osrelease",
        "/sys/kernel/security/lockdown", "/sys/kernel/security/lsm", "/driver_override", "/proc/4/fd/1", "/proc/4/comm", "/proc/4/exe", "/proc/cmdline", "/proc/cpuinfo",
        "/proc/devices", "/etc/driverctl.d/0000:01:00.0", "/sys/bus/pci/devices/0000:01:00.0", "/iommu_group", "/class",
};

static struct piece {
        const uint8_t *data;
        size_t size;
} pieces[ARRAY_SIZE(files)];
static unsigned opened;

static int find(const char *path) {
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                size_t n = strlen(path), m = strlen(files[i]);

                if (pieces[i].data && (startswith(path, files[i]) || (n >= m && streq(path + n - m, files[i]))))
                        return (int) i;
        }
        return -ENOENT;
}

static int fake_open(_unused_ TdiHost *host, const char *path, _unused_ int flags) {
        int i = find(path);

        if (i < 0)
                return i;
        opened++;
        return 1000 + i;
}

static int fake_close(_unused_ TdiHost *host, int fd) {
        must(fd >= 1000 && opened > 0);
        opened--;
        return 0;
}

static int fake_ioctl(_unused_ TdiHost *host, _unused_ int fd, _unused_ unsigned long request, _unused_ void *arg) {
        return -ENOTTY;
}

static ssize_t fake_pread(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        const struct piece *p = pieces + (fd - 1000);

        if (offset >= p->size)
                return 0;
        if (size > p->size - offset)
                size = p->size - (size_t) offset;
        memcpy(buf, p->data + offset, size);
        return (ssize_t) size;
}

static ssize_t fake_readlink(_unused_ TdiHost *host, const char *path, char *buf, size_t size) {
        int i = find(path);

        if (i < 0)
                return i;
        if (pieces[i].size >= size)
                return -ENAMETOOLONG;
        memcpy(buf, pieces[i].data, pieces[i].size);
        buf[pieces[i].size] = '\0';
        /* A link has no zero in it. */
        return (ssize_t) strlen(buf);
}

static int fake_list(_unused_ TdiHost *host, const char *path, char ***ret) {
        static const struct {
                const char *path, *name;
        } folders[] = {
                { "/sys/bus/pci/devices", "0000:01:00.0" }, { "/proc", "4" }, { "/proc/4/fd", "1" }, { "/dev/vfio/devices", "vfio0" }, { "/etc/driverctl.d", "0000:01:00.0" },
                { "/etc/libvirt/qemu", "a.xml" }, { "/sys/class/tsm", "tsm0" }, { "/sys/class/iommu", "dmar0" },
        };
        char **names = NULL;
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
                if (streq(folders[i].path, path)) {
                        must(host_names_add(&names, &n, folders[i].name) == 0 && host_names_finish(&names, n) == 0);
                        *ret = names;
                        return 0;
                }
        return -ENOENT;
}

static const struct tdi_host_ops ops = {
        .name = "fuzz", .open = fake_open, .close = fake_close, .ioctl = fake_ioctl, .pread = fake_pread, .readlink = fake_readlink, .list = fake_list,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ struct json_object *found = NULL;
        TdiHost host = { .ops = &ops };
        const struct check_input in = { .host = &host };
        struct json_object *list;

        memset(pieces, 0, sizeof(pieces));
        for (size_t i = 0; i < ARRAY_SIZE(files) && size >= 2; i++) {
                size_t n = data[0] | (size_t) data[1] << 8;

                data += 2;
                size -= 2;
                n = n > size ? size : n;
                /* 0: there is none. */
                if (n > 0)
                        pieces[i] = (struct piece){ data, n };
                data += n;
                size -= n;
        }
        found = check_run(&in);
        must(opened == 0);
        must(json_get_array(found, "checks", &list) == 0 && json_object_array_length(list) > 20);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);
                enum check_verdict v = check_verdict_from_string(json_str_or(o, "verdict", ""));

                must(v >= 0 && !isempty(json_str_or(o, "reason", "")));
                must(!isempty(json_str_or(o, "remedy", "")) == (v >= CHECK_WARN));
        }
        return 0;
}
