/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this kernel is and offers, as far as it tells without a device: read for an explanation, never to decide by. Nothing here
 * fails: what cannot be had is told with its errno. What it means recognise.c knows.
 */
#include "worker/work.h"

#include <limits.h>
#include <stdio.h>

#include "host/abi/kvm.h"
#include "host/tdid_bind.h"
#include "provider.h"

#define COMMAND_LINE_MAX 4096 /* COMMAND_LINE_SIZE, of the largest */

static void read_text(struct work *w, const char *key, const char *path) {
        char text[COMMAND_LINE_MAX];

        if (host_read_text(w->host, path, text, sizeof(text)) >= 0)
                json_set_str(w->values, key, text);
}

static bool has_folder(struct work *w, const char *path) {
        _cleanup_(host_names_freep) char **names = NULL;

        return host_list(w->host, path, &names) >= 0;
}

/* One that its module does not have, or whose module is not there, is left out. */
static void read_parameters(struct work *w) {
        struct json_object *asked, *found = json_new();

        json_set_take(w->values, "parameters", found);
        if (json_get_array(w->args, "parameters", &asked) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(asked); i++) {
                struct json_object *o = json_object_array_get_idx(asked, i);
                const char *module = json_str_or(o, "module", ""), *name = json_str_or(o, "name", "");
                char path[PATH_MAX], key[128], text[64];

                snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, name);
                snprintf(key, sizeof(key), "%s.%s", module, name);
                if (host_read_text(w->host, path, text, sizeof(text)) >= 0)
                        json_set_str(found, key, text);
        }
}

static void read_kvm(struct work *w) {
        int fd = host_open(w->host, "/dev/kvm", O_RDWR), r;

        json_set_i64(w->values, "kvm", fd < 0 ? fd : 0);
        if (fd < 0)
                return;
        r = host_ioctl(w->host, fd, TDI_KVM_CHECK_EXTENSION, (void *) (uintptr_t) TDI_KVM_CAP_VM_TYPES);
        if (r >= 0)
                json_set_u64(w->values, "vm_types", (uint64_t) r);
        (void) host_close(w->host, fd);
}

static void read_iommufd(struct work *w) {
        int fd = host_open(w->host, "/dev/iommu", O_RDWR), id;

        json_set_i64(w->values, "iommufd", fd < 0 ? fd : 0);
        if (fd < 0)
                return;
        id = (int) provider_probe(w->host, fd);
        json_set_i64(w->values, "iommufd_tsm", id < 0 ? id : 0);
        if (id >= 0)
                json_set_str(w->values, "iommufd_provider", provider_get((enum provider_id) id)->name);
        (void) host_close(w->host, fd);
}

static void read_bind(struct work *w) {
        struct tdid_bind_info info = { .argsz = sizeof(info) };
        int fd = host_open(w->host, TDID_BIND_DEV, O_RDWR), r = fd;

        if (fd >= 0) {
                r = host_ioctl(w->host, fd, TDID_BIND_IOC_INFO, &info);
                (void) host_close(w->host, fd);
        }
        json_set_i64(w->values, "bind", r < 0 ? r : 0);
        if (r >= 0)
                json_set_u64(w->values, "bind_api", info.api);
}

/*
 * args: "parameters": [{module, name}].
 * values: "machine", "release", "cmdline", "parameters": {"MODULE.NAME": text}, "kvm", "iommufd", "bind": 0 or a negative errno of opening it or
 * of its first call, "vm_types": bits, "iommufd_tsm": what provider_probe() says, and
 * "iommufd_provider", which it is, "bind_api", "vfio_devices", "tsm_class": is it there?
 */
int read_host_do(struct work *w) {
        read_text(w, "machine", "/proc/sys/kernel/arch");
        read_text(w, "release", "/proc/sys/kernel/osrelease");
        read_text(w, "cmdline", "/proc/cmdline");
        read_parameters(w);
        read_kvm(w);
        read_iommufd(w);
        read_bind(w);
        json_set_bool(w->values, "vfio_devices", has_folder(w, "/dev/vfio/devices"));
        json_set_bool(w->values, "tsm_class", has_folder(w, "/sys/class/tsm"));
        return 0;
}
