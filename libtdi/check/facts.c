/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this kernel is and offers. See facts.h. */
#include "check/facts.h"

#include <limits.h>
#include <stdio.h>

#include "host/abi/kvm.h"
#include "host/iommufd_tsm.h"
#include "host/tdid_bind.h"

#define COMMAND_LINE_MAX 4096 /* COMMAND_LINE_SIZE, of the largest */

struct facts {
        TdiHost *host;
        struct json_object *args, *values;
};

static void read_text(struct facts *f, const char *key, const char *path) {
        char text[COMMAND_LINE_MAX];

        if (host_read_text(f->host, path, text, sizeof(text)) >= 0)
                json_set_str(f->values, key, text);
}

static bool has_folder(struct facts *f, const char *path) {
        _cleanup_(host_names_freep) char **names = NULL;

        return host_list(f->host, path, &names) >= 0;
}

/* One that its module does not have, or whose module is not there, is left out. */
static void read_parameters(struct facts *f) {
        struct json_object *asked, *found = json_new();

        json_set_take(f->values, "parameters", found);
        if (json_get_array(f->args, "parameters", &asked) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(asked); i++) {
                struct json_object *o = json_object_array_get_idx(asked, i);
                const char *module = json_str_or(o, "module", ""), *name = json_str_or(o, "name", "");
                char path[PATH_MAX], key[128], text[64];

                snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
                snprintf(key, sizeof(key), "%s.%s", module, name);
                if (host_read_text(f->host, path, text, sizeof(text)) >= 0)
                        json_set_str(found, key, text);
        }
}

static void read_kvm(struct facts *f) {
        int fd = host_open(f->host, "/dev/kvm", O_RDWR), r;

        json_set_i64(f->values, "kvm", fd < 0 ? fd : 0);
        if (fd < 0)
                return;
        r = host_ioctl(f->host, fd, TDI_KVM_CHECK_EXTENSION, (void *) (uintptr_t) TDI_KVM_CAP_VM_TYPES);
        if (r >= 0)
                json_set_u64(f->values, "vm_types", (uint64_t) r);
        (void) host_close(f->host, fd);
}

static void read_iommufd(struct facts *f) {
        int fd = host_open(f->host, "/dev/iommu", O_RDWR), form;
        char name[32];

        json_set_i64(f->values, "iommufd", fd < 0 ? fd : 0);
        if (fd < 0)
                return;
        form = iommufd_tsm_probe(f->host, fd);
        json_set_i64(f->values, "iommufd_tsm", form < 0 ? form : 0);
        if (form >= 0) {
                snprintf(name, sizeof(name), "iommufd v%d", form);
                json_set_str(f->values, "iommufd_provider", name);
        }
        (void) host_close(f->host, fd);
}

static void read_bind(struct facts *f) {
        struct tdid_bind_info info = { .argsz = sizeof(info) };
        int fd = host_open(f->host, TDID_BIND_DEV, O_RDWR), r = fd;

        if (fd >= 0) {
                r = host_ioctl(f->host, fd, TDID_BIND_IOC_INFO, &info);
                (void) host_close(f->host, fd);
        }
        json_set_i64(f->values, "bind", r < 0 ? r : 0);
        if (r >= 0)
                json_set_u64(f->values, "bind_api", info.api);
}

void facts_read(TdiHost *host, struct json_object *args, struct json_object *values) {
        struct facts all = { host, args, values }, *f = &all;

        read_text(f, "machine", "/proc/sys/kernel/arch");
        read_text(f, "release", "/proc/sys/kernel/osrelease");
        read_text(f, "cmdline", "/proc/cmdline");
        read_parameters(f);
        read_kvm(f);
        read_iommufd(f);
        read_bind(f);
        json_set_bool(values, "vfio_devices", has_folder(f, "/dev/vfio/devices"));
        json_set_bool(values, "tsm_class", has_folder(f, "/sys/class/tsm"));
}
