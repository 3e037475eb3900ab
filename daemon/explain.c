/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DescribeHost(): the platform that was recognised, what it needs, and what of that this kernel lacks. Only what was seen is told as seen. */
#include <stdarg.h>
#include <stdio.h>

#include "host/tdid_bind.h"
#include "ide.h"
#include "inhibit.h"
#include "recognise.h"

static _printf_(4, 5) void lack(struct json_object *lacks, const char *what, const char *without, const char *format, ...) {
        struct json_object *o = json_new();
        char why[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(why, sizeof(why), format, ap);
        va_end(ap);
        json_set_str(o, "what", what);
        json_set_str(o, "why", why);
        json_set_str(o, "without_it", without);
        json_push_take(lacks, o);
}

/* The result of a call, as a name; "" for one that went well. */
static const char *error_of(struct json_object *facts, const char *key) {
        int64_t r = json_i64_or(facts, key, -ENOENT);
        const char *name = r < 0 ? strerrorname_np((int) -r) : "";

        return name ? name : "an unknown error";
}

/* ---- the platform ---- */

static struct json_object *vm_types(const struct platform *p, struct json_object *facts) {
        struct json_object *list = json_new_array(), *o = json_new();

        json_set_str(o, "name", p->vm_type.name);
        if (p->vm_type.number >= 0) {
                json_set_u64(o, "number", (uint64_t) p->vm_type.number);
                json_set_bool(o, "there", recognise_has_vm_type(p, facts));
        } else {
                json_set_take(o, "number", NULL);
                json_set_take(o, "there", NULL);
        }
        json_push_take(list, o);
        return list;
}

static struct json_object *viommu(const struct platform *p) {
        struct json_object *o;

        if (!p->viommu)
                return NULL;
        o = json_new();
        json_set_str(o, "name", p->viommu);
        json_set_u64(o, "type", p->viommu_type);
        json_set_str(o, "data", p->viommu_data);
        return o;
}

static struct json_object *unwind(const struct platform *p) {
        struct json_object *list = json_new_array();

        for (unsigned one = 1; one <= _UNWIND_ALL; one <<= 1)
                if (p->unwind & one)
                        json_push_str(list, unwind_to_string(one));
        return list;
}

static struct json_object *describe_platform(Manager *m, const struct platform *p, struct json_object *facts, struct json_object *by,
                                             struct json_object *doubts) {
        struct json_object *o = json_new(), *aliases = json_new_array();

        for (const char *const *a = p->aliases; a && *a; a++)
                json_push_str(aliases, *a);
        json_set_str(o, "name", p->name);
        json_set_str(o, "title", p->title);
        json_set_take(o, "aliases", aliases);
        json_set_take(o, "recognised_by", by);
        json_set_take(o, "doubts", doubts);
        json_set_str(o, "vm_default", platform_of_host(m)->name);
        json_set_take(o, "vm_types", vm_types(p, facts));
        json_set_take(o, "viommu", viommu(p));
        json_set_bool(o, "early_prepare", p->early_prepare);
        json_set_bool(o, "attach_after_seal", p->hotplug);
        json_set_str(o, "private_ram", private_ram_to_string(p->private_ram));
        json_set_str(o, "shared_ram", p->shared_ram);
        json_set_take(o, "unwind", unwind(p));
        return o;
}

/* ---- the kernel, and who binds ---- */

static struct json_object *describe_kernel(struct json_object *facts, bool stale) {
        struct json_object *o = json_new(), *types = NULL, *parameters;
        uint64_t bits;

        json_set_str(o, "release", json_str_or(facts, "release", ""));
        json_set_str(o, "machine", json_str_or(facts, "machine", ""));
        json_set_str(o, "kvm", *error_of(facts, "kvm") ? error_of(facts, "kvm") : "yes");
        if (json_get_u64(facts, "vm_types", &bits) >= 0) {
                types = json_new_array();
                for (unsigned i = 0; i < 64; i++)
                        if (bits & UINT64_C(1) << i)
                                json_push_take(types, json_object_new_int64(i));
        }
        json_set_take(o, "kvm_vm_types", types);
        json_set_take(o, "parameters", json_get_object(facts, "parameters", &parameters) < 0 ? json_new() : json_object_get(parameters));
        json_set_str(o, "iommufd", *error_of(facts, "iommufd") ? error_of(facts, "iommufd") : "yes");
        json_set_bool(o, "vfio_devices", json_bool_or(facts, "vfio_devices", false));
        json_set_bool(o, "tsm_class", json_bool_or(facts, "tsm_class", false));
        json_set_bool(o, "stale", stale);
        return o;
}

static struct json_object *describe_provider(struct json_object *facts) {
        struct json_object *o = json_new();
        const char *error = error_of(facts, "bind"), *iommufd = error_of(facts, "iommufd"), *calls = error_of(facts, "iommufd_tsm");
        const char *own = json_str_or(facts, "iommufd_provider", NULL);
        uint64_t api = json_u64_or(facts, "bind_api", 0);
        bool usable = !*error && api == TDID_BIND_API;
        char kernel[160], why[384];

        if (*iommufd)
                snprintf(kernel, sizeof(kernel), "iommufd was not asked: %s", iommufd);
        else if (own)
                snprintf(kernel, sizeof(kernel), "iommufd has calls for TSMs (%s), for functions that have a virtual device and are associated with KVM", own);
        else if (streq(calls, "ENOTTY"))
                snprintf(kernel, sizeof(kernel), "iommufd has no calls for TSMs");
        else
                snprintf(kernel, sizeof(kernel), "iommufd has calls for TSMs in a form that this tdid does not know, and does not use");
        if (*error)
                snprintf(why, sizeof(why), "%s: %s; %s", TDID_BIND_DEV, error, kernel);
        else
                snprintf(why, sizeof(why), "%s has version %llu%s; %s", TDID_BIND_DEV, (unsigned long long) api,
                         usable ? "" : ", which this tdid does not know", kernel);
        json_set_str(o, "name", own ? own : usable ? TDID_BIND_NAME : "none");
        json_set_take(o, "version", own || *error ? NULL : json_object_new_int64((int64_t) api));
        json_set_str(o, "why", why);
        return o;
}

/* ---- what is missing ---- */

static void lack_kvm(struct json_object *lacks, const struct platform *p, struct json_object *facts) {
        const char *value = recognise_parameter(p, facts);
        char what[128];

        if (*error_of(facts, "kvm")) {
                lack(lacks, "KVM", "no guest runs here", "opening /dev/kvm: %s", error_of(facts, "kvm"));
                return;
        }
        if (!p->machine || recognise_has_vm_type(p, facts))
                return;
        if (p->vm_type.number < 0) {
                snprintf(what, sizeof(what), "an answer whether KVM makes VMs of type %s", p->vm_type.name);
                lack(lacks, what, "it is seen when the VMM starts the guest", "%s", p->vm_type.unasked);
                return;
        }
        snprintf(what, sizeof(what), "VMs of type %d (%s)", p->vm_type.number, p->vm_type.name);
        lack(lacks, what, "no confidential guest can be started", "KVM_CAP_VM_TYPES does not have the type; %s.%s %s%s", p->parameter.module,
             p->parameter.name, value ? "is " : "cannot be read", strempty(value));
}

static void lack_tsm(struct json_object *lacks, const Manager *m, const struct platform *p, struct json_object *facts) {
        for (size_t i = 0; i < m->n_tsms; i++)
                if (!platform_find(m->tsms[i]->platform))
                        lack(lacks, "the platform of a TSM", "functions can be connected to it; it makes no VM more than plain",
                             "no platform that tdid knows names %s's parent, %s", m->tsms[i]->name, m->tsms[i]->parent);
        if (m->n_tsms > 0 || !p->tsm_missing)
                return;
        lack(lacks, "a TSM", "no function can be connected or bound, and a VM is plain unless it is created with a platform", "%s; %s",
             json_bool_or(facts, "tsm_class", false) ? "no driver has registered one in /sys/class/tsm" :
                                                       "there is no /sys/class/tsm: this kernel has no TSM core (CONFIG_TSM), or it is not loaded",
             p->tsm_missing);
}

static struct json_object *describe_lacks(const Manager *m, const struct platform *p, struct json_object *facts, struct json_object *provider) {
        struct json_object *lacks = json_new_array();

        lack_kvm(lacks, p, facts);
        if (*error_of(facts, "iommufd"))
                lack(lacks, "iommufd", "no VM can be created", "opening /dev/iommu: %s; has the kernel CONFIG_IOMMUFD?", error_of(facts, "iommufd"));
        lack_tsm(lacks, m, p, facts);
        if ((p->tsm_missing || m->n_tsms > 0) && streq(json_str_or(provider, "name", "none"), "none"))
                lack(lacks, "a bind provider", "no function becomes a TDI", "%s", json_str_or(provider, "why", ""));
        if (p->viommu)
                lack(lacks, "an answer whether the kernel makes a secure vIOMMU", "a VM with functions cannot be sealed where there is none",
                     "iommufd's type %u (%s) is an ordinary one up to Linux 7.3; it is tried when a function is prepared, and the VM's description tells", p->viommu_type,
                     p->viommu);
        if (p->has_tsm)
                lack(lacks, "private MMIO in KVM", "a guest cannot reach the TEE memory ranges of a running TDI",
                     "no kernel that this tdid knows maps a BAR into a guest's private memory, and none can be asked");
        if (p->private_ram == PRIVATE_RAM_HOST)
                lack(lacks, "private memory in an I/O address space", "functions reach the memory that a guest shares, and no other",
                     "iommufd takes no guest_memfd in any kernel that this tdid knows (memfd_pin_folios); seen when a VMM maps it");
        return lacks;
}

const struct platform *recognise(const Manager *m, struct json_object *facts, struct json_object *by, struct json_object *doubts) {
        _cleanup_free_ struct recognise_tsm *tsms = calloc(m->n_tsms + 1, sizeof(*tsms));

        if (!tsms)
                log_oom();
        for (size_t i = 0; i < m->n_tsms; i++)
                tsms[i] = (struct recognise_tsm){ m->tsms[i]->name, m->tsms[i]->parent, m->tsms[i]->driver };
        return recognise_host(tsms, m->n_tsms, facts, by, doubts);
}

struct json_object *recognise_describe(Manager *m, struct json_object *facts, bool stale) {
        struct json_object *o = json_new(), *by = json_new_array(), *doubts = json_new_array(), *provider = describe_provider(facts);
        const struct platform *p = recognise(m, facts, by, doubts);

        json_set_take(o, "platform", describe_platform(m, p, facts, by, doubts));
        json_set_take(o, "kernel", describe_kernel(facts, stale));
        json_set_take(o, "provider", provider);
        json_set_take(o, "ide", ide_describe_host(m));
        json_set_take(o, "suspend", inhibit_describe(m));
        json_set_take(o, "lacks", describe_lacks(m, p, facts, provider));
        return o;
}
