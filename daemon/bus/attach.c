/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.VM.Attach: everything is checked before anything is begun. */
#include <stdio.h>

#include "admission.h"
#include "association.h"
#include "bus/bus-vm.h"
#include "custody-rules.h"
#include "device.h"
#include "plan.h"
#include "proofs.h"
#include "vm.h"

struct want {
        const char *bind, *connect, *vf_token;
        int64_t guest_rid; /* -1: none */
        bool force;
        /* not options */
        const char *text;
        Device *device;
};

static const struct option function_options[] = {
        { "guest_rid", 'u', offsetof(struct want, guest_rid), NULL }, { "bind", 's', offsetof(struct want, bind), NULL },
        { "connect", 's', offsetof(struct want, connect), NULL },     { "vf_token", 's', offsetof(struct want, vf_token), NULL },
        { "force", 'b', offsetof(struct want, force), NULL },         {},
};

static int check_form(const struct want *w, struct tdi_bdf *ret, sd_bus_error *e) {
        if (tdi_bdf_parse(w->text, ret) < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "\"%.64s\" is no PCI address; write it as 0000:01:00.0, 01:00.0 or pci_0000_01_00_0",
                                 w->text);
        if (w->guest_rid > UINT16_MAX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s: guest_rid: a requester ID has 16 bits", w->text);
        if (w->bind && !streq(w->bind, "late") && !streq(w->bind, "early"))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s: bind must be \"late\" or \"early\"", w->text);
        if (w->connect && !streq(w->connect, "auto") && !streq(w->connect, "no"))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s: connect must be \"auto\" or \"no\"", w->text);
        if (w->vf_token && !uuid_is_valid(w->vf_token))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s: vf_token must be a UUID", w->text);
        return 0;
}

static int read_functions(Manager *m, sd_bus_message *call, struct want *wants, size_t *ret, sd_bus_error *e) {
        size_t n = 0;
        int r;

        r = sd_bus_message_enter_container(call, 'a', "(sa{sv})");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(call, 'r', "sa{sv}")) > 0) {
                struct want *w = wants + n;
                struct tdi_bdf bdf;

                if (n >= m->config.functions)
                        return bus_error(e, TDI_ERROR_LIMIT, "a VM has at most %u functions (functions in " CONFIG_PATH ")", m->config.functions);
                *w = (struct want){ .guest_rid = -1 };
                r = sd_bus_message_read_basic(call, 's', &w->text);
                if (r >= 0)
                        r = options_read(call, function_options, w, e);
                if (r >= 0)
                        r = check_form(w, &bdf, e);
                if (r < 0)
                        return r;
                w->device = device_find(m, bdf);
                if (!w->device)
                        return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no PCI function %s on this host", w->text);
                for (size_t i = 0; i < n; i++)
                        if (wants[i].device == w->device)
                                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s is named twice", w->text);
                n++;
                r = sd_bus_message_exit_container(call);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = n;
        return sd_bus_message_exit_container(call);
}

static int check_quarantine(Manager *m, const Device *d, const char *text, sd_bus_error *e) {
        for (size_t i = 0; i < m->n_custodies; i++) {
                const Custody *c = m->custodies[i];
                Device *other = device_find(m, c->bdf);

                if (!custody_is_stalled(c) || !other || other->gone || other == d || !device_shares_reset(d, other))
                        continue;
                return bus_error(e, TDI_ERROR_QUARANTINED, "%s shares a reset or an IOMMU group with %s, which is %s", text, c->name,
                                 c->quarantine ? c->quarantine : "stuck in the kernel");
        }
        return 0;
}

static int check_free(Manager *m, const struct want *w, sd_bus_error *e) {
        Custody *c = custody_find(m, w->device->bdf), *bound;
        char bdf[TDI_BDF_MAX];

        if (device_is_bridge(w->device))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s is a bridge: assign the functions below it", w->text);
        if (c && c->quarantine)
                return bus_error(e, TDI_ERROR_QUARANTINED, "%s is quarantined: %s; `tdictl device restore %s` tries again", w->text, c->quarantine,
                                 w->text);
        if (c && c->vm)
                return bus_error(e, TDI_ERROR_IN_USE, "%s belongs to VM %s; detach it there first", w->text, c->vm->name);
        if (c)
                return bus_error(e, TDI_ERROR_BUSY, "%s is still being given back (%s)", w->text, custody_action_name(c));
        if (w->device->group < 0)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s has no IOMMU group: is the IOMMU switched on (kernel command line, firmware)?",
                                 w->text);
        /* The open resets it, and with it every TDI that it speaks for. */
        bound = custody_bound_under(m, tdi_bdf_format(w->device->bdf, bdf));
        if (bound)
                return bus_error(e, TDI_ERROR_IN_USE, "%s is the DSM of %s, which is bound to VM %s: unbind or detach that first", w->text, bound->name,
                                 bound->vm ? bound->vm->name : "no more");
        for (size_t i = 0; i < m->n_custodies; i++) {
                const Custody *vf = m->custodies[i];
                const Device *d = device_find(m, vf->bdf);

                if (d && d->phys_fn == tdi_bdf_number(w->device->bdf))
                        return bus_error(e, TDI_ERROR_IN_USE, "%s: the open would reset its virtual function %s, of VM %s", w->text, vf->name,
                                         vf->vm ? vf->vm->name : vf->vm_id);
        }
        return check_quarantine(m, w->device, w->text, e);
}

/* All functions of an IOMMU group go to one VM, in one transaction. */
static int check_group(Manager *m, const VM *vm, const struct want *wants, size_t n, const struct want *w, sd_bus_error *e) {
        for (size_t i = 0; i < m->n_devices; i++) {
                const Device *d = m->devices[i];
                char bdf[TDI_BDF_MAX];
                bool there = false;

                if (d->group != w->device->group || d == w->device || device_is_bridge(d))
                        continue;
                for (size_t k = 0; k < n; k++) {
                        there |= wants[k].device == d;
                        /* A group has one page table: the nest parent, or none. */
                        if (wants[k].device == d && vm_nests(vm) && (wants[k].guest_rid < 0) != (w->guest_rid < 0))
                                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "%s and %s share IOMMU group %d: give both a guest_rid, or neither", w->text,
                                                 wants[k].text, d->group);
                }
                if (!there)
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT,
                                         "%s shares IOMMU group %d with %s: they can only go to a VM together, in one attach", w->text, d->group,
                                         tdi_bdf_format(d->bdf, bdf));
        }
        return 0;
}

static int check_rid(VM *vm, const struct want *wants, size_t i, sd_bus_error *e) {
        bool taken = false;

        if (wants[i].guest_rid < 0)
                return 0;
        for (size_t k = 0; k < vm->n_tdis; k++)
                taken |= vm->tdis[k]->guest_rid == wants[i].guest_rid;
        for (size_t k = 0; k < i; k++)
                taken |= wants[k].guest_rid == wants[i].guest_rid;
        if (taken)
                return bus_error(e, TDI_ERROR_EXISTS, "%s: guest RID 0x%04x is taken in VM %s", wants[i].text, (unsigned) wants[i].guest_rid, vm->name);
        return 0;
}

static int check_phase(VM *vm, size_t n, sd_bus_error *e) {
        if (vm->n_tdis + n > vm->max_functions)
                return bus_error(e, TDI_ERROR_LIMIT, "VM %s may have %u functions, as it was created with (limits.functions)", vm->name, vm->max_functions);
        if (vm->phase == TDI_VM_PREPARING)
                return 0;
        if (!vm->hotplug)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "VM %s is %s and was created without hotplug: attach before sealing", vm->name,
                                 tdi_vm_phase_to_string(vm->phase));
        if (!vm->platform->hotplug)
                return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s takes no function after boot: attach before sealing", vm->platform->title);
        return 0;
}

static int check_association(const VM *vm, sd_bus_error *e) {
        if (vm->association.wanted && !association_is_open(vm))
                return bus_error(e, TDI_ERROR_INVALID_STATE,
                                 "the VMM of VM %s has closed the channel of its KVM association: it has to open another (OpenAssociation)", vm->name);
        return 0;
}

/* For polkit's rules: the addresses with spaces between. */
static char *list_devices(const struct want *wants, size_t n) {
        char *text = calloc(n + !n, TDI_BDF_MAX);

        if (!text)
                log_oom();
        for (size_t i = 0, end = 0; i < n; i++) {
                if (i > 0)
                        text[end++] = ' ';
                tdi_bdf_format(wants[i].device->bdf, text + end);
                end += strlen(text + end);
        }
        return text;
}

/* Which functions an owner may take for itself the policy says; to take what the host uses needs one permission more. Results of access_caller(). */
static int may_attach(VM *vm, sd_bus_message *call, sd_bus_message_handler_t method, const struct want *wants, size_t n, uid_t *ret, sd_bus_error *e) {
        _cleanup_free_ char *devices = NULL;
        Manager *m = vm->manager;
        const Job *j = proofs_job(m, call);
        bool force = false;
        int r;

        /* This very call has been authorised; since then its devices have been asked for evidence. */
        if (j) {
                *ret = j->caller;
                return 1;
        }
        devices = list_devices(wants, n);
        for (size_t i = 0; i < n; i++)
                force |= wants[i].force;
        r = access_vm(m, POLKIT_MANAGE_ANY_VM, vm, devices, call, method, ret, e);
        if (r > 0 && force)
                r = access_vm(m, POLKIT_FORCE, vm, devices, call, method, ret, e);
        return r;
}

static int admit(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, VM *vm, const struct want *wants, size_t n, uid_t uid, sd_bus_error *e) {
        _cleanup_free_ Device **devices = calloc(n + !n, sizeof(Device *));
        _cleanup_free_ bool *unconnected = calloc(n + !n, sizeof(bool));

        if (!devices || !unconnected)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                devices[i] = wants[i].device;
                unconnected[i] = streq(wants[i].connect ?: "auto", "no");
        }
        return admission_check(m, call, method, vm, devices, unconnected, n, uid, e);
}

static int new_job(VM *vm, const struct want *wants, size_t n, bool (*settle)(Job *j), Job **ret, sd_bus_error *e) {
        int r = bus_job_new(vm->manager, JOB_ATTACH, vm, settle, ret, e);

        if (r < 0)
                return r;
        (*ret)->reply_with_tdis = true;
        for (size_t i = 0; i < n; i++)
                job_add_bdf(*ret, wants[i].device->bdf);
        return 0;
}

/* Devices are asked for what they can prove: that is the job's first step, and the method runs again after it. */
static int wait_for_evidence(Manager *m, sd_bus_message *call, VM *vm, const struct want *wants, size_t n, bool async, sd_bus_error *e) {
        Job *j;
        int r;

        /* It has its job, or has run again already: nobody could be asked. */
        if (!proofs_wait(m, call) || proofs_job(m, call))
                return 1;
        r = new_job(vm, wants, n, attach_evidence_settle, &j, e);
        if (r < 0)
                return r;
        j->waits_for = "evidence";
        proofs_set_job(m, call, j);
        return bus_job_started(j, call, async);
}

/* What is wanted of the function, and what the policy wants besides. */
static Custody *take(sd_bus_message *call, VM *vm, const struct want *w, uid_t uid, bool supposed) {
        Custody *c = custody_new(vm->manager, w->device->bdf, w->device->group);

        c->supposed = supposed;
        json_set_bool(c->values, "force", w->force);
        json_set_str(c->values, "connect", w->connect ? w->connect : "auto");
        if (w->guest_rid >= 0)
                json_set_u64(c->values, "guest_rid", (uint64_t) w->guest_rid);
        if (w->vf_token)
                json_set_str(c->values, "vf_token", w->vf_token);
        admission_apply(vm->manager, call, vm, w->device, uid, c);
        return c;
}

static void begin(sd_bus_message *call, VM *vm, Job *j, const struct want *wants, size_t n, uid_t uid) {
        Manager *m = vm->manager;

        j->waits_for = NULL;
        j->settle = attach_settle;
        j->sequence = m->next_sequence++;
        for (size_t i = 0; i < n; i++) {
                const struct want *w = wants + i;
                Custody *c = take(call, vm, w, uid, false);
                TDI *t;

                c->sequence = j->sequence;
                custody_set_vm(c, vm);
                t = tdi_new(vm, c);
                t->guest_rid = (uint32_t) w->guest_rid;
                if (w->bind)
                        t->bind = streq(w->bind, "early") ? BIND_EARLY : BIND_LATE;
                custody_set_goal(c, GOAL_UP);
        }
}

static bool is_bound_early(const VM *vm, const struct want *w) {
        return w->bind ? streq(w->bind, "early") : vm->bind == BIND_EARLY;
}

/* All of it, before anything is begun: 1; 0: the method runs again; negative with @e. */
static int check_all(VM *vm, sd_bus_message *call, sd_bus_message_handler_t method, const struct want *wants, size_t n, uid_t *ret, sd_bus_error *e) {
        Manager *m = vm->manager;
        int r;

        r = may_attach(vm, call, method, wants, n, ret, e);
        if (r <= 0)
                return r;
        r = bus_vm_is_open(vm, e);
        if (r >= 0)
                r = check_phase(vm, n, e);
        if (r >= 0)
                r = check_association(vm, e);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = check_free(m, wants + i, e);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = check_group(m, vm, wants, n, wants + i, e);
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = check_rid(vm, wants, i, e);
        return r < 0 ? r : 1;
}

/* Of what has been checked. */
static void plan_all(struct plan *p, sd_bus_message *call, VM *vm, const struct want *wants, size_t n, uid_t uid) {
        Custody **all = calloc(n + !n, sizeof(*all));

        if (!all)
                log_oom();
        for (size_t i = 0; i < n; i++) {
                all[i] = take(call, vm, wants + i, uid, true);
                all[i]->vm = vm;
        }
        for (size_t i = 0; i < n; i++) {
                char bdf[TDI_BDF_MAX];

                plan_add(p, all[i], GOAL_UP);
                if (is_bound_early(vm, wants + i))
                        plan_then(p, "%s is bound when the VM is sealed and its KVM VM known", tdi_bdf_format(wants[i].device->bdf, bdf));
        }
        proofs_forget(vm->manager, call);
        free(all);
}

int bus_plan_attach(struct plan *p, VM *vm, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        Manager *m = vm->manager;
        _cleanup_free_ struct want *wants = calloc(m->config.functions, sizeof(*wants));
        size_t n = 0;
        uid_t uid;
        int r;

        if (!wants)
                return -ENOMEM;
        r = read_functions(m, call, wants, &n, e);
        if (r < 0 || n == 0)
                return r < 0 ? r : 1;
        r = check_all(vm, call, method, wants, n, &uid, e);
        if (r > 0)
                r = admit(m, call, method, vm, wants, n, uid, e);
        if (r > 0)
                plan_all(p, call, vm, wants, n, uid);
        return r;
}

int bus_method_attach(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        _cleanup_free_ struct want *wants = NULL;
        Manager *m = userdata;
        struct bus_act a = {};
        struct plan *p;
        size_t n = 0;
        bool waited;
        uid_t uid;
        VM *vm;
        Job *j;
        int r;

        wants = calloc(m->config.functions, sizeof(*wants));
        if (!wants)
                return -ENOMEM;
        r = read_functions(m, call, wants, &n, e);
        if (r >= 0 && n == 0)
                r = bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "name at least one function");
        if (r >= 0)
                r = options_read(call, bus_act_options, &a, e);
        if (r >= 0)
                r = bus_vm_of_call(m, call, &vm, e);
        if (r >= 0)
                r = check_all(vm, call, bus_method_attach, wants, n, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = admit(m, call, bus_method_attach, vm, wants, n, uid, e);
        if (bus_is_plan(call)) {
                if (r <= 0)
                        return r < 0 ? r : 1;
                p = plan_new(m, "Attach", vm);
                plan_all(p, call, vm, wants, n, uid);
                return plan_reply(p, call);
        }
        if (r == 0)
                return wait_for_evidence(m, call, vm, wants, n, a.async, e);
        j = proofs_job(m, call);
        waited = j;
        if (r >= 0 && !waited)
                r = new_job(vm, wants, n, attach_settle, &j, e);
        if (r < 0)
                return r;
        begin(call, vm, j, wants, n, uid);
        proofs_forget(m, call);
        return waited ? 1 : bus_job_started(j, call, a.async);
}
