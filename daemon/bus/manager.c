/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Manager */
#include <stdio.h>

#include "admission.h"
#include "audit.h"
#include "bus/bus-vm.h"
#include "device.h"
#include "guard/guard.h"
#include "plan.h"
#include "vm.h"

struct create {
        const char *uuid, *seclabel, *platform, *bind;
        int64_t owner_uid, vmm_uid, vmm_gid, await_vmm; /* -1: not given */
        bool hotplug, peer_to_peer;
        struct limits {
                int64_t functions, pinned_mib, maps;
        } limits;
};

static const struct option limit_options[] = {
        { "functions", 'u', offsetof(struct limits, functions), NULL },
        { "pinned_mib", 'u', offsetof(struct limits, pinned_mib), NULL },
        { "maps", 'u', offsetof(struct limits, maps), NULL },
        {},
};

static const struct option create_options[] = {
        { "uuid", 's', offsetof(struct create, uuid), NULL },
        { "owner_uid", 'u', offsetof(struct create, owner_uid), NULL },
        { "vmm_uid", 'u', offsetof(struct create, vmm_uid), NULL },
        { "vmm_gid", 'u', offsetof(struct create, vmm_gid), NULL },
        { "seclabel", 's', offsetof(struct create, seclabel), NULL },
        { "platform", 's', offsetof(struct create, platform), NULL },
        { "hotplug", 'b', offsetof(struct create, hotplug), NULL },
        { "peer_to_peer", 'b', offsetof(struct create, peer_to_peer), NULL },
        { "bind", 's', offsetof(struct create, bind), NULL },
        { "await_vmm", 'u', offsetof(struct create, await_vmm), NULL },
        { "limits", 'a', offsetof(struct create, limits), limit_options },
        {},
};

/* A VM on its way: the call is answered when holder and lease are there. */
struct birth {
        VM *vm;
        sd_bus_message *call;
};

static void birth_end(struct birth *b, enum tdi_error error, const char *text) {
        sd_bus_error e = SD_BUS_ERROR_NULL;

        bus_set_error(&e, error, "%s", text);
        (void) sd_bus_reply_method_error(b->call, &e);
        bus_method_refused(b->vm->manager, b->call, NULL, -EPROTO, &e);
        sd_bus_error_free(&e);
        sd_bus_message_unref(b->call);
        vm_close(b->vm, text);
        free(b);
}

static void on_lease(int r, int lease, void *userdata) {
        struct birth *b = userdata;
        char path[64];

        if (r < 0 || b->vm->close != CLOSE_NOT) {
                close_fd(lease);
                birth_end(b, r < 0 ? TDI_ERROR_KERNEL : TDI_ERROR_INVALID_STATE,
                          r < 0 ? "the VM's holder did not take the lease" : "the VM was closed while it was being created");
                return;
        }
        b->vm->announced = true;
        bus_added(b->vm->manager, vm_path(b->vm, path), BUS_VM);
        audit_vm_created(b->vm, access_known(b->vm->manager, b->call));
        r = sd_bus_reply_method_return(b->call, "oh", path, lease);
        if (r < 0)
                log_warning("VM %s: could not reply: %s", b->vm->name, strerror(-r));
        close_fd(lease);
        vm_touch(b->vm);
        sd_bus_message_unref(b->call);
        free(b);
}

static void on_born(VM *vm, int r, void *userdata) {
        struct birth *b = userdata;

        if (r >= 0 && vm->close != CLOSE_NOT)
                r = -ECANCELED;
        if (r >= 0)
                r = keeper_new_lease(vm, "CreateVM", vm->owner, on_lease, b);
        if (r < 0) {
                char text[160];

                snprintf(text, sizeof(text), "could not start the VM's holder (tdid-vm): %s; the log tells more", strerror(-r));
                birth_end(b, r == -ETIMEDOUT ? TDI_ERROR_TIMEOUT : TDI_ERROR_KERNEL, text);
        }
}

/*
 * What a VM may have mapped is promised to it when it is created: the sum for an owner is of promises, so that no VM that has been started
 * runs into what another one does.
 */
static int check_limits(Manager *m, const char *name, const char *platform, uid_t owner, unsigned pinned_mib, sd_bus_error *e) {
        uint64_t promised = 0, vms = admission_limit(m, name, platform, owner, POLICY_LIMIT_VMS, UINT64_MAX);
        uint64_t pinned = admission_limit(m, name, platform, owner, POLICY_LIMIT_PINNED_BYTES, UINT64_MAX) >> 20;
        unsigned own = 0;
        char text[1024];

        if (admission_passes_fds(m, name, platform, owner, ADMISSION_FDS_VM + ADMISSION_FDS_KEEPER, text, sizeof(text)))
                return bus_error(e, TDI_ERROR_LIMIT, "%s", text);
        for (size_t i = 0; i < m->n_vms; i++) {
                own += m->vms[i]->owner == owner;
                promised += m->vms[i]->owner == owner ? m->vms[i]->max_pinned_mib : 0;
        }
        if (own >= vms)
                return bus_error(e, TDI_ERROR_LIMIT, "uid %u has %u VMs, and the policy lets it have %llu (\"vms\")", owner, own, (unsigned long long) vms);
        if (promised + pinned_mib > pinned)
                return bus_error(e, TDI_ERROR_LIMIT, "%u MiB of guest memory for this VM and %llu MiB for others of uid %u are more than the %llu MiB that the policy lets it"
                                 " have (\"pinned_bytes\"); give limits.pinned_mib", pinned_mib, (unsigned long long) promised, owner, (unsigned long long) pinned);
        if (own >= m->config.vms_per_user)
                return bus_error(e, TDI_ERROR_LIMIT, "uid %u has %u VMs, which is the limit (vms_per_user in " CONFIG_PATH ")", owner, own);
        if (m->n_vms >= m->config.vms)
                return bus_error(e, TDI_ERROR_LIMIT, "this host has %zu VMs, which is the limit (vms in " CONFIG_PATH ")", m->n_vms);
        if (promised + pinned_mib > m->config.pinned_mib_per_user)
                return bus_error(e, TDI_ERROR_LIMIT,
                                 "%u MiB of guest memory for this VM and %llu MiB for others of uid %u are more than the limit of %u "
                                 "(pinned_mib_per_user in " CONFIG_PATH "); give limits.pinned_mib", pinned_mib, (unsigned long long) promised,
                                 owner, m->config.pinned_mib_per_user);
        return 0;
}

static int check_create(Manager *m, const char *name, const struct create *c, const struct platform **ret, sd_bus_error *e) {
        if (!name_is_valid(name))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT,
                                 "a VM's name has 1 to %d letters, digits and ._-+:@ and starts with a letter or digit", VM_NAME_MAX);
        if (c->uuid && !uuid_is_valid(c->uuid))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "uuid: \"%.64s\" is no UUID", c->uuid);
        if (c->bind && !streq(c->bind, "late") && !streq(c->bind, "early"))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "bind: must be \"late\" or \"early\", not \"%.64s\"", c->bind);
        if (c->await_vmm > VM_AWAIT_MAX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "await_vmm: at most %d seconds", VM_AWAIT_MAX);
        if (c->seclabel && (strlen(c->seclabel) > 256 || strpbrk(c->seclabel, "\n\r")))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "seclabel: at most 256 characters on one line");
        /* The largest number is no user: it means "leave it" to setresuid(2). */
        if (c->owner_uid == UINT32_MAX || c->vmm_uid == UINT32_MAX || c->vmm_gid == UINT32_MAX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "owner_uid, vmm_uid, vmm_gid: %u is no ID", UINT32_MAX);
        if (c->peer_to_peer && !m->config.peer_to_peer)
                return bus_error(e, TDI_ERROR_POLICY,
                                 "peer_to_peer: \"peer_to_peer\" in \"policy\" of %s is not true; without it functions of a VM reach guest memory only",
                                 m->config_path);
        if (c->limits.functions == 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "limits.functions: at least 1");
        if (c->limits.functions > m->config.functions)
                return bus_error(e, TDI_ERROR_LIMIT, "limits.functions: at most %u here", m->config.functions);
        if (c->limits.pinned_mib == 0 || c->limits.maps == 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "limits.pinned_mib, limits.maps: at least 1");
        if (c->limits.pinned_mib > m->config.pinned_mib)
                return bus_error(e, TDI_ERROR_LIMIT, "limits.pinned_mib: at most %u here", m->config.pinned_mib);
        if (c->limits.maps > m->config.maps)
                return bus_error(e, TDI_ERROR_LIMIT, "limits.maps: at most %u here", m->config.maps);
        *ret = !c->platform || streq(c->platform, "auto") ? platform_of_host(m) : platform_find_alias(c->platform);
        if (!*ret)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "platform: \"%.64s\" is none that tdid knows", c->platform);
        /* In one address space nobody is anybody's peer. */
        if (c->peer_to_peer && (*ret)->viommu)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "peer_to_peer: the functions of a VM on %s share address spaces under its vIOMMU", (*ret)->title);
        return 0;
}

static int method_create_vm(sd_bus_message *call, void *userdata, sd_bus_error *e);

/*
 * Fills in who the VM is for, where the call does not say: root's VMs are root's, anybody else's its own. Results of access_caller().
 */
static int may_create(Manager *m, sd_bus_message *call, const char *name, struct create *c, sd_bus_error *e) {
        struct access a = { .action = POLKIT_CREATE_VM, .has_owner = true, .vm = name };
        uid_t uid;
        int r;

        r = access_caller(m, call, method_create_vm, &uid, e);
        if (r <= 0)
                return r;
        if (c->owner_uid < 0)
                c->owner_uid = uid;
        if (c->vmm_uid < 0)
                c->vmm_uid = c->owner_uid;
        if (c->vmm_gid < 0)
                c->vmm_gid = c->owner_uid;
        if (c->uuid || c->owner_uid != uid || c->vmm_uid != uid || c->vmm_gid != uid)
                a.action = POLKIT_CREATE_ANY_VM;
        a.owner = (uid_t) c->owner_uid;
        return access_check(m, &a, call, method_create_vm, &uid, e);
}

static VM *vm_of(Manager *m, const char *name, const struct create *c, const struct platform *platform, unsigned pinned_mib) {
        VM *vm = vm_new(m, name);

        if (c->uuid)
                snprintf(vm->uuid, sizeof(vm->uuid), "%s", c->uuid);
        if (free_and_strdup(&vm->seclabel, c->seclabel) < 0)
                log_oom();
        vm->platform = platform;
        vm->owner = (uid_t) c->owner_uid;
        vm->vmm_uid = (uid_t) c->vmm_uid;
        vm->vmm_gid = (gid_t) c->vmm_gid;
        vm->hotplug = c->hotplug;
        vm->peer_to_peer = c->peer_to_peer;
        vm->bind = streq(strempty(c->bind), "early") ? BIND_EARLY : BIND_LATE;
        vm->await = c->await_vmm < 0 ? 0 : (unsigned) c->await_vmm;
        if (c->limits.functions > 0)
                vm->max_functions = (unsigned) c->limits.functions;
        vm->max_pinned_mib = pinned_mib;
        if (c->limits.maps > 0)
                vm->max_maps = (unsigned) c->limits.maps;
        return vm;
}

/* The VM is there for as long as its plan is made, and nobody has heard of it. */
static int plan_create(VM *vm, sd_bus_message *call, sd_bus_error *e) {
        Manager *m = vm->manager;
        struct plan *p = plan_new(m, "CreateVM", vm);
        int r;

        plan_then(p, "a holder (tdid-vm) is started for the VM %s, with an iommufd, and its first lease is given out", vm->name);
        r = bus_plan_attach(p, vm, call, method_create_vm, e);
        if (r > 0)
                r = plan_reply(p, call);
        else
                json_object_put(plan_end(p));
        vm_free(vm);
        m->next_vm--;
        return r < 0 ? r : 1;
}

static int method_create_vm(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct create c = { .owner_uid = -1, .vmm_uid = -1, .vmm_gid = -1, .await_vmm = -1, .limits = { -1, -1, -1 } };
        const struct platform *platform = NULL;
        Manager *m = userdata;
        struct birth *b;
        const char *name;
        unsigned pinned_mib;
        VM *vm;
        int r;

        r = sd_bus_message_read_basic(call, 's', &name);
        if (r < 0)
                return r;
        r = options_read(call, create_options, &c, e);
        if (r >= 0)
                r = check_create(m, name, &c, &platform, e);
        if (r >= 0)
                r = may_create(m, call, name, &c, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (m->stopping)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "tdid is stopping");
        if (vm_find_name(m, name, (uid_t) c.owner_uid))
                return bus_error(e, TDI_ERROR_EXISTS, "uid %u has a VM %s already", (unsigned) c.owner_uid, name);
        if (c.uuid && vm_find_uuid(m, c.uuid))
                return bus_error(e, TDI_ERROR_EXISTS, "there is a VM with UUID %s already", c.uuid);
        pinned_mib = c.limits.pinned_mib < 0 ? m->config.pinned_mib : (unsigned) c.limits.pinned_mib;
        r = check_limits(m, name, platform->name, (uid_t) c.owner_uid, pinned_mib, e);
        if (r < 0)
                return r;

        vm = vm_of(m, name, &c, platform, pinned_mib);
        if (bus_is_plan(call))
                return plan_create(vm, call, e);
        b = calloc(1, sizeof(*b));
        if (!b)
                log_oom();
        *b = (struct birth){ vm, sd_bus_message_ref(call) };
        r = vm_start(vm, on_born, b);
        if (r < 0) {
                sd_bus_message_unref(b->call);
                free(b);
                vm->close = CLOSE_DONE;
                manager_touch(m);
                return bus_error(e, TDI_ERROR_KERNEL, "could not open /dev/iommu or start a holder: %s; does the kernel have CONFIG_IOMMUFD?",
                                 strerror(-r));
        }
        return 1;
}

static int method_get_vm(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        const char *key;
        char path[64];
        uid_t uid;
        VM *vm;
        int r;

        r = sd_bus_message_read_basic(call, 's', &key);
        if (r >= 0)
                r = access_caller(userdata, call, method_get_vm, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = vm_find(userdata, key, uid, &vm);
        if (r == -ENOTUNIQ)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "several owners have a VM %.64s: name it by UUID or id", key);
        if (r < 0 || !vm->announced)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no VM \"%.64s\"; `tdictl vm list` shows those there are", key);
        return sd_bus_reply_method_return(call, "o", vm_path(vm, path));
}

static int method_get_device(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        const char *text;
        struct tdi_bdf bdf;
        char path[64];
        int r;

        r = sd_bus_message_read_basic(call, 's', &text);
        if (r < 0)
                return r;
        if (tdi_bdf_parse(text, &bdf) < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "\"%.64s\" is no PCI address; write it as 0000:01:00.0, 01:00.0 or pci_0000_01_00_0",
                                 text);
        if (!device_find(userdata, bdf))
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no PCI function %.64s on this host", text);
        return sd_bus_reply_method_return(call, "o", device_path(bdf, path));
}

static int method_describe_host(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        return bus_describe_host(userdata, call, e);
}

static int method_check(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        return bus_check(userdata, call, e);
}

static int get_text(_unused_ sd_bus *bus, _unused_ const char *path, _unused_ const char *interface, const char *property,
                    sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;
        const char *text;

        if (streq(property, "Version"))
                text = TDID_VERSION;
        else if (streq(property, "Host"))
                text = m->host->ops->name;
        else if (streq(property, "Platform"))
                text = platform_of_host(m)->name;
        else
                text = guard_state(m);
        return sd_bus_message_append_basic(reply, 's', text);
}

const sd_bus_vtable bus_manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreateVM", SD_BUS_ARGS("s", name, "a{sv}", options), SD_BUS_RESULT("o", vm, "h", lease), method_create_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanCreateVM", SD_BUS_ARGS("s", name, "a{sv}", options, "a(sa{sv})", functions), SD_BUS_RESULT("s", json), method_create_vm,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetVM", SD_BUS_ARGS("s", name), SD_BUS_RESULT("o", vm), method_get_vm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetDevice", SD_BUS_ARGS("s", bdf), SD_BUS_RESULT("o", device), method_get_device, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("DescribeHost", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_describe_host, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_check, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, bus_method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ExplainPolicy", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), bus_method_explain_policy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Version", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Host", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Platform", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Guard", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};
