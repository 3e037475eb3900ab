/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* KVM, what it makes, the platform and its TSM. */
#include <stdio.h>

#include "check/internal.h"
#include "host/abi/iommufd.h"
#include "host/tdid_bind.h"
#include "model/recognise.h"

static const char *const kvm_remedies[] = {
        "Turn virtualisation on in the firmware's setup, and load KVM's module (kvm_intel, kvm_amd); in a VM, allow nesting.",
        "See with 'ls -l /dev/kvm' and dmesg why it cannot be opened.",
        NULL,
};

static void check_kvm(struct check *c) {
        int64_t r = json_i64_or(c->facts->host, "kvm", -ENOENT);

        if (r >= 0)
                check_say(c, CHECK_PASS, NULL, "/dev/kvm opens");
        else if (is_denied((int) r))
                check_say(c, CHECK_SKIP, NULL, "opening /dev/kvm: this user may not; users of the group kvm mostly may");
        else if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
                check_say(c, CHECK_FAIL, kvm_remedies[0], "there is no /dev/kvm (%s): no guest runs here", check_error((int) r));
        else
                check_say(c, CHECK_FAIL, kvm_remedies[1], "opening /dev/kvm: %s: no guest runs here", check_error((int) r));
}

static const char *const type_remedies[] = {
        "Turn TDX on: in the firmware's setup, with kvm_intel.tdx=1 on the kernel's command line, and a kernel with CONFIG_INTEL_TDX_HOST and CONFIG_KVM_INTEL_TDX.",
        "Turn SEV-SNP on: in the firmware's setup (SNP memory coverage, and the IOMMU), with kvm_amd.sev_snp=1, and a kernel with CONFIG_KVM_AMD_SEV.",
        NULL,
};

/* What the processor says of itself: arch/x86/include/asm/cpufeatures.h. */
static const char *platform_of_processor(const struct check_facts *f) {
        if (!f->cpuinfo)
                return NULL;
        return check_has_word(f->cpuinfo, "tdx_host_platform") ? "tdx" : check_has_word(f->cpuinfo, "sev_snp") ? "sev-snp" : NULL;
}

static void check_vm_types(struct check *c) {
        const struct platform *p = c->facts->platform;
        const char *processor = platform_of_processor(c->facts), *value;
        int64_t kvm = json_i64_or(c->facts->host, "kvm", -ENOENT);

        if (p->vm_type.number < 0 && !streq(p->name, "plain")) {
                check_say(c, CHECK_SKIP, NULL, "%s: %s", p->title, p->vm_type.unasked);
                return;
        }
        /* What the TSM speaks for the processor need not say. */
        if (streq(p->name, "plain") && processor)
                p = platform_find(processor);
        if (streq(p->name, "plain")) {
                check_say(c, CHECK_SKIP, NULL, "%s: guests are ordinary ones", c->facts->cpuinfo ? "this processor has neither TDX nor SEV-SNP" : "nothing speaks for TDX or SEV-SNP here");
                return;
        }
        if (kvm < 0) {
                if (is_denied((int) kvm))
                        check_skip_denied(c, "asking KVM");
                else
                        check_say(c, CHECK_SKIP, NULL, "KVM was not asked: %s", check_error((int) kvm));
                return;
        }
        value = recognise_parameter(p, c->facts->host);
        if (recognise_has_vm_type(p, c->facts->host) && (!value || streq(value, "Y") || streq(value, "1")))
                check_say(c, CHECK_PASS, NULL, "KVM makes guests of %s (type %d, %s)", p->title, p->vm_type.number, p->vm_type.name);
        else
                check_say(c, CHECK_FAIL, type_remedies[streq(p->name, "tdx") ? 0 : 1], "KVM makes no guests of %s, which this hardware has: %s.%s %s%s", p->title,
                          p->parameter.module, p->parameter.name, value ? "is " : "cannot be read", strempty(value));
}

const struct check_spec kvm_checks[] = {
        { "kvm.device", "KVM", "KVM", "Whether /dev/kvm is there and opens.", check_kvm, kvm_remedies },
        { "kvm.vm_types", "KVM", "Confidential VMs", "Whether KVM makes guests of the type that this processor is for (KVM_CAP_VM_TYPES, the parameter of its module).",
          check_vm_types, type_remedies },
        {},
};

/* ---- the platform ---- */

static const char *const recognised_remedies[] = {
        "Compare with 'tdictl tsm show', and name the platform when creating a VM (--platform).",
        NULL,
};

static void check_recognised(struct check *c) {
        const struct platform *p = c->facts->platform;

        if (json_object_array_length(c->facts->doubts) > 0)
                check_say(c, CHECK_WARN, recognised_remedies[0], "taken for %s (%s), but %s", p->name, p->title,
                          json_object_get_string(json_object_array_get_idx(c->facts->doubts, 0)));
        else if (streq(p->name, "plain"))
                check_say(c, CHECK_PASS, NULL, "plain: functions go to ordinary VMs");
        else
                check_say(c, CHECK_PASS, NULL, "%s (%s): %s", p->name, p->title, json_object_get_string(json_object_array_get_idx(c->facts->by, 0)));
}

static size_t count_tee_io(const struct check_facts *f) {
        size_t n = 0;

        for (size_t i = 0; i < f->n_functions; i++)
                n += f->functions[i].tee_io;
        return n;
}

static const char *const tsm_remedies[] = {
        "Load the platform's TSM driver; where the kernel has none yet, functions can be assigned without TEE-IO.",
        "Use a tdid that knows this TSM: functions can be connected to it, and VMs are plain.",
        NULL,
};

static void check_tsm(struct check *c) {
        const struct check_facts *f = c->facts;
        bool class = json_bool_or(f->host, "tsm_class", false);

        if (f->n_strange_tsms > 0)
                check_say(c, CHECK_WARN, tsm_remedies[1], "no platform that tdid knows has a TSM like %s", f->tsms);
        else if (f->n_tsms > 0)
                check_say(c, CHECK_PASS, NULL, "%s", f->tsms);
        else if (f->platform->has_tsm || count_tee_io(f) > 0)
                check_say(c, CHECK_WARN, tsm_remedies[0], "there is none%s%s: no function can be connected or bound", class ? "" : " (the kernel has no /sys/class/tsm)",
                          f->platform->has_tsm ? "" : ", and functions with TEE-IO are there");
        else
                check_say(c, CHECK_SKIP, NULL, "there is none, and nothing here that would be connected to one");
}

static const char *const bind_remedies[] = {
        "Install the module tdid-bind of this version (package tdid-dkms) and load it ('modprobe tdid-bind'), where functions are to become TDIs.",
        NULL,
};

static void check_bind(struct check *c) {
        struct json_object *h = c->facts->host;
        const char *own = json_str_or(h, "iommufd_provider", NULL);
        int64_t bind = json_i64_or(h, "bind", -ENOENT), iommufd = json_i64_or(h, "iommufd", -ENOENT);
        uint64_t api = json_u64_or(h, "bind_api", 0);

        if (!c->facts->platform->has_tsm && c->facts->n_tsms == 0)
                check_say(c, CHECK_SKIP, NULL, "nothing becomes a TDI without a TSM");
        else if (own)
                check_say(c, CHECK_PASS, NULL, "iommufd itself (%s)", own);
        else if (bind >= 0 && api == TDID_BIND_API)
                check_say(c, CHECK_PASS, NULL, "the module tdid-bind");
        else if (bind >= 0)
                check_say(c, CHECK_WARN, bind_remedies[0], "the module tdid-bind is of version %llu, which this program does not know", (unsigned long long) api);
        else if (is_denied((int) bind) || is_denied((int) iommufd))
                check_skip_denied(c, "asking iommufd and " TDID_BIND_DEV);
        else
                check_say(c, CHECK_WARN, bind_remedies[0], "neither iommufd nor a module (" TDID_BIND_DEV ": %s) binds functions as TDIs", check_error((int) bind));
}

static const char *const viommu_remedies[] = {
        "Use a kernel of 6.13 or later, with the platform's own vIOMMU where there is one: VMs with functions cannot be sealed without.",
        NULL,
};

/* iommufd_viommu_alloc_ioctl() looks for the device first. */
static void check_viommu(struct check *c) {
        struct tdi_iommu_viommu_alloc alloc = { .size = sizeof(alloc) };
        const struct platform *p = c->facts->platform;
        int fd, r;

        if (!p->viommu) {
                check_say(c, CHECK_SKIP, NULL, "%s needs none", streq(p->name, "plain") ? "a plain host" : p->title);
                return;
        }
        fd = host_open(c->host, "/dev/iommu", O_RDWR);
        if (is_denied(fd)) {
                check_skip_denied(c, "asking iommufd");
                return;
        }
        if (fd < 0) {
                check_say(c, CHECK_SKIP, NULL, "iommufd was not asked: %s", check_error(fd));
                return;
        }
        r = host_ioctl(c->host, fd, TDI_IOMMU_VIOMMU_ALLOC, &alloc);
        (void) host_close(c->host, fd);
        if (r == -ENOTTY)
                check_say(c, CHECK_WARN, viommu_remedies[0], "iommufd makes no vIOMMUs, and %s needs one (%s)", p->title, p->viommu);
        else
                check_say(c, CHECK_PASS, NULL, "iommufd makes vIOMMUs; whether %s's is secure is seen when a function is prepared", p->title);
}

const struct check_spec platform_checks[] = {
        { "platform.recognised", "Platform", "Platform", "What this host is recognised as, and by what.", check_recognised, recognised_remedies },
        { "platform.tsm", "Platform", "TSM", "Whether a security manager is registered (/sys/class/tsm), where the platform or a function asks for one.", check_tsm, tsm_remedies },
        { "platform.bind", "Platform", "Bind provider", "Who would bind functions as TDIs: iommufd, or the module tdid-bind.", check_bind, bind_remedies },
        { "platform.viommu", "Platform", "Secure vIOMMU", "Whether iommufd makes vIOMMUs, where the platform needs one before boot.", check_viommu, viommu_remedies },
        {},
};
