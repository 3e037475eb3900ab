/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.VM, but for Attach (attach.c). */
#include "vm.h"
#include "worker.h"

#include <stdio.h>

#include "admission.h"
#include "audit.h"
#include "association.h"
#include "bus/bus.h"
#include "bus/bus-vm.h"
#include "host/fdkind.h"
#include "model/json.h"
#include "plan.h"

/* Who owns a VM must not take all of the host's jobs with it. */
#define JOBS_PER_VM 16

struct destroy {
        bool async, abandon;
};

const struct option bus_act_options[] = {
        { "async", 'b', offsetof(struct bus_act, async), NULL },
        {},
};

static const struct option destroy_options[] = {
        { "async", 'b', offsetof(struct destroy, async), NULL },
        { "abandon", 'b', offsetof(struct destroy, abandon), NULL },
        {},
};

int bus_vm_of_call(Manager *m, sd_bus_message *call, VM **ret, sd_bus_error *e) {
        VM *vm = bus_vm(m, sd_bus_message_get_path(call));

        if (!vm)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the VM is gone");
        *ret = vm;
        return 0;
}

/* What no closing VM does any more. */
int bus_vm_is_open(VM *vm, sd_bus_error *e) {
        if (vm->manager->stopping)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "tdid is stopping");
        if (vm->close != CLOSE_NOT)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "VM %s is closing", vm->name);
        return 0;
}

int bus_job_new(Manager *m, enum job_kind kind, VM *vm, bool (*settle)(Job *j), Job **ret, sd_bus_error *e) {
        int r;

        if (vm && job_count(m, vm) >= JOBS_PER_VM)
                return bus_error(e, TDI_ERROR_LIMIT, "%d jobs of VM %s are under way, which is the limit", JOBS_PER_VM, vm->name);
        r = job_new(m, kind, vm, settle, ret);
        if (r < 0)
                return bus_error(e, TDI_ERROR_LIMIT, "%u jobs are under way, which is the limit (jobs in " CONFIG_PATH ")", m->config.jobs);
        return 0;
}

enum {
        TO_SEE,      /* and nothing else */
        CLOSING_TOO, /* also while the VM closes */
        OPEN_ONLY,
};

/* The VM of a call by who may make it: 0 with it; anything else is what the method has to return. */
static int open_vm(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, int when, VM **ret, uid_t *ret_uid, sd_bus_error *e) {
        enum polkit_action action = when == TO_SEE ? POLKIT_INSPECT : POLKIT_MANAGE_ANY_VM;
        int r;

        r = bus_vm_of_call(m, call, ret, e);
        if (r >= 0)
                r = access_vm(m, action, *ret, NULL, call, method, ret_uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        return when == OPEN_ONLY ? bus_vm_is_open(*ret, e) : 0;
}

static int check_seal(VM *vm, sd_bus_error *e) {
        const char *missing;
        enum tdi_error error;
        char why[512];

        if (vm->phase != TDI_VM_PREPARING)
                return bus_error(e, TDI_ERROR_INVALID_STATE, "VM %s is %s: only a VM that is preparing can be sealed", vm->name,
                                 tdi_vm_phase_to_string(vm->phase));
        for (size_t i = 0; i < vm->manager->n_jobs; i++) {
                const Job *j = vm->manager->jobs[i];

                if (j->vm == vm && j->waits_for && !job_is_finished(j))
                        return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is being asked for its %s before it is attached: wait for its job, or cancel it", j->objects[0],
                                         j->waits_for);
        }
        for (size_t i = 0; i < vm->n_tdis; i++) {
                char bdf[TDI_BDF_MAX];

                tdi_bdf_format(vm->tdis[i]->bdf, bdf);
                if (vm->tdis[i]->state != TDI_STATE_PREPARED)
                        return bus_error(e, TDI_ERROR_INVALID_STATE, "%s is %s: wait for its job, or detach it", bdf,
                                         tdi_state_to_string(vm->tdis[i]->state));
                missing = vm->platform->early_prepare ? vm_why_no_vdevice(vm->tdis[i]) : NULL;
                if (missing)
                        return bus_error(e, TDI_ERROR_NOT_SUPPORTED, "%s: %s needs its vPCI function in a secure vIOMMU (%s) before boot, and there is none: %s",
                                         bdf, vm->platform->title, vm->platform->viommu, missing);
                if (vm->tdis[i]->bind != BIND_EARLY)
                        continue;
                error = tdi_waits_for_dsm(vm->tdis[i]) ? TDI_ERROR_NONE : tdi_may_bind(vm->tdis[i], why, sizeof(why));
                if (error != TDI_ERROR_NONE)
                        return bus_error(e, error, "%s; it was to be bound early: detach it, or attach it with bind late", why);
        }
        return 0;
}

/* What a seal binds, and when. */
static int plan_seal(VM *vm, sd_bus_message *call) {
        struct plan *p = plan_new(vm->manager, "Seal", vm);

        for (size_t i = 0; i < vm->n_tdis; i++) {
                TDI *t = vm->tdis[i];

                if (t->bind == BIND_EARLY && vm->kvm >= 0)
                        plan_add(p, t->custody, GOAL_BIND);
                else if (t->bind == BIND_EARLY)
                        plan_then(p, "%s is bound as soon as the VM's KVM VM is known", t->custody->name);
        }
        plan_then(p, "no more functions are attached early: the guest may start");
        return plan_reply(p, call);
}

static int plan_destroy(VM *vm, sd_bus_message *call) {
        struct plan *p = plan_new(vm->manager, "Destroy", vm);

        for (size_t i = 0; i < vm->manager->n_custodies; i++) {
                Custody *c = vm->manager->custodies[i];

                if (c->vm == vm && (!c->quarantine || custody_unbind_is_refused(c)))
                        plan_add(p, c, GOAL_DOWN);
                else if (c->vm == vm)
                        plan_then(p, "%s stays quarantined: %s", c->name, c->quarantine);
        }
        plan_then(p, "guest memory is unmapped when all functions are detached, and before any is reset or closed");
        plan_then(p, "the VM's KVM VM, iommufd and holder end last");
        return plan_reply(p, call);
}

static int method_seal(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct bus_act a = {};
        uid_t uid;
        VM *vm;
        Job *j;
        int r;

        r = options_read(call, bus_act_options, &a, e);
        if (r >= 0)
                r = open_vm(userdata, call, method_seal, OPEN_ONLY, &vm, &uid, e);
        if (r != 0)
                return r;
        r = check_seal(vm, e);
        if (r >= 0 && bus_is_plan(call))
                return plan_seal(vm, call);
        if (r >= 0)
                r = bus_job_new(userdata, JOB_SEAL, vm, seal_settle, &j, e);
        if (r < 0)
                return r;
        job_add_object(j, vm->name);
        vm_set_phase(vm, TDI_VM_SEALED);
        return bus_job_started(j, call, a.async);
}

static int method_destroy(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct destroy a = {};
        uid_t uid;
        VM *vm;
        Job *j;
        int r;

        r = options_read(call, destroy_options, &a, e);
        if (r >= 0)
                r = open_vm(userdata, call, method_destroy, CLOSING_TOO, &vm, &uid, e);
        if (r != 0)
                return r;
        /* What is given up is the host's to miss. */
        if (a.abandon)
                r = access_vm(userdata, POLKIT_FORCE, vm, NULL, call, method_destroy, &uid, e);
        if (a.abandon && r <= 0)
                return r < 0 ? r : 1;
        if (bus_is_plan(call))
                return plan_destroy(vm, call);
        r = bus_job_new(userdata, JOB_DESTROY, vm, destroy_settle, &j, e);
        if (r < 0)
                return r;
        job_add_object(j, vm->name);
        vm->abandon |= a.abandon;
        vm_close(vm, "it was destroyed");
        return bus_job_started(j, call, a.async);
}

/* For want of something of ours, where the caller has done nothing wrong. */
static bool is_unknown(int r) {
        return r < 0 && r != -EBADF && r != -EINVAL;
}

static int could_not_look(int r, sd_bus_error *e) {
        return bus_error(e, TDI_ERROR_KERNEL, "could not look at what the descriptor is: %s", strerror(-r));
}

struct setting {
        VM *vm;
        sd_bus_message *call;
};

/* The holder has not taken it: as if nobody had called. */
static void take_back_kvm(VM *vm) {
        tdi_unbind_all(vm);
        worker_close_fd(vm->manager, TAKE_FD(vm->kvm));
}

static void on_kvm_stored(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct setting *s = userdata;

        if (r < 0) {
                take_back_kvm(s->vm);
                (void) sd_bus_reply_method_errorf(s->call, TDI_ERROR_PREFIX "Kernel", "the VM's holder did not take the descriptor: %s", strerror(-r));
        } else
                (void) sd_bus_reply_method_return(s->call, NULL);
        sd_bus_message_unref(s->call);
        free(s);
}

static int method_set_kvm(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        struct json_object *put;
        char what[256] = "?";
        struct setting *s;
        int fd, r;
        uid_t uid;
        VM *vm;

        r = sd_bus_message_read_basic(call, 'h', &fd);
        if (r >= 0)
                r = open_vm(m, call, method_set_kvm, OPEN_ONLY, &vm, &uid, e);
        if (r != 0)
                return r;
        r = host_check_kvm_vm(m->host, fd, what, sizeof(what));
        if (is_unknown(r))
                return could_not_look(r, e);
        if (r < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "the descriptor is no KVM VM but %s%s", what, r == -EBADF ? " without access (O_PATH)" : "");
        if (vm->kvm >= 0)
                return bus_error(e, TDI_ERROR_EXISTS, "VM %s has its KVM VM already%s", vm->name,
                                 vm->kvm_of_peer ? ": it was found with the VMM at its vPCI sockets" : "");
        vm->kvm = fd_dup(fd);
        if (vm->kvm < 0)
                return bus_error(e, TDI_ERROR_KERNEL, "could not take the descriptor: %s", strerror(-vm->kvm));
        put = json_new();
        json_set_str(put, "op", "put");
        json_set_str(put, "key", "kvm");
        s = calloc(1, sizeof(*s));
        if (!s)
                log_oom();
        *s = (struct setting){ vm, sd_bus_message_ref(call) };
        r = holder_call(vm->holder, put, &vm->kvm, 1, on_kvm_stored, s);
        if (r < 0) {
                sd_bus_message_unref(call);
                free(s);
                take_back_kvm(vm);
                return bus_error(e, TDI_ERROR_KERNEL, "could not give the descriptor to the VM's holder: %s", strerror(-r));
        }
        audit_kvm_set(vm, uid);
        return 1;
}

static void on_association(int r, int channel, void *userdata) {
        sd_bus_message *call = userdata;

        if (r < 0)
                (void) sd_bus_reply_method_errorf(call, TDI_ERROR_PREFIX "Kernel", "the VM's holder did not take the descriptor: %s", strerror(-r));
        else
                (void) sd_bus_reply_method_return(call, "h", channel);
        close_fd(channel);
        sd_bus_message_unref(call);
}

static int method_open_association(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        uid_t uid;
        VM *vm;
        int r;

        r = open_vm(m, call, method_open_association, OPEN_ONLY, &vm, &uid, e);
        if (r != 0)
                return r;
        if (!m->config.associate_kvm)
                return bus_error(e, TDI_ERROR_POLICY,
                                 "the functions of VM %s are not associated with its KVM VM: \"associate_kvm\" in \"policy\" of %s is not true; for a moment "
                                 "its VMM would have their VFIO nodes", vm->name, m->config_path);
        r = association_open(vm, on_association, sd_bus_message_ref(call));
        if (r >= 0) {
                audit_association_opened(vm, uid);
                return 1;
        }
        sd_bus_message_unref(call);
        if (r == -EISCONN)
                return bus_error(e, TDI_ERROR_IN_USE, "the channel of VM %s's KVM association is open: whoever has it has to close it first", vm->name);
        return bus_error(e, TDI_ERROR_KERNEL, "could not open a channel: %s", strerror(-r));
}

static void on_kept(int r, int lease, void *userdata) {
        sd_bus_message *call = userdata;

        if (r < 0)
                (void) sd_bus_reply_method_errorf(call, TDI_ERROR_PREFIX "Kernel", "the VM's holder did not take the descriptor: %s", strerror(-r));
        else if (lease >= 0)
                (void) sd_bus_reply_method_return(call, "h", lease);
        else
                (void) sd_bus_reply_method_return(call, NULL);
        close_fd(lease);
        sd_bus_message_unref(call);
}

static int check_keepers(VM *vm, sd_bus_error *e) {
        char text[1024];
        size_t n = 0;

        /* Connections have a limit of their own: one a function. */
        for (size_t i = 0; i < vm->n_keepers; i++)
                n += vm->keepers[i]->kind != KEEPER_VPCI;
        if (n >= vm->manager->config.keepers)
                return bus_error(e, TDI_ERROR_LIMIT, "VM %s has %zu keepers, which is the limit (keepers in " CONFIG_PATH ")", vm->name, n);
        if (admission_passes_fds(vm->manager, vm->name, vm->platform->name, vm->owner, ADMISSION_FDS_KEEPER, text, sizeof(text)))
                return bus_error(e, TDI_ERROR_LIMIT, "%s", text);
        return 0;
}

static int keeper_reply(int r, sd_bus_message *call, sd_bus_error *e) {
        if (r >= 0)
                return 1;
        sd_bus_message_unref(call);
        return bus_error(e, TDI_ERROR_KERNEL, "could not make a keeper: %s", strerror(-r));
}

/* tdid, a worker of it, or a holder: a VM that it keeps would never close. */
static bool is_own_process(Manager *m, pid_t pid) {
        char path[64], text[4096], *line;
        int parent;

        if (pid == getpid())
                return true;
        for (size_t i = 0; i < m->n_vms; i++)
                if (pid == holder_pid(m->vms[i]->holder))
                        return true;
        snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        if (host_read_text(m->host, path, text, sizeof(text)) < 0)
                return false;
        line = strstr(text, "\nPPid:");
        return line && sscanf(line, "\nPPid: %d", &parent) == 1 && parent == getpid();
}

static int method_set_pidfd(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        Manager *m = userdata;
        char what[256] = "?", label[VM_LABEL_MAX];
        int fd, r;
        pid_t pid;
        uid_t uid;
        VM *vm;

        r = sd_bus_message_read_basic(call, 'h', &fd);
        if (r >= 0)
                r = open_vm(m, call, method_set_pidfd, OPEN_ONLY, &vm, &uid, e);
        if (r != 0)
                return r;
        r = check_keepers(vm, e);
        if (r < 0)
                return r;
        r = host_check_pidfd(m->host, fd, &pid, what, sizeof(what));
        if (r == -ESRCH)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "the process of the pidfd has ended already");
        if (is_unknown(r))
                return could_not_look(r, e);
        if (r < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "the descriptor is no pidfd but %s", what);
        if (is_own_process(m, pid))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "process %d is tdid's own: a VM that it keeps would never close", (int) pid);
        snprintf(label, sizeof(label), "process %d", (int) pid);
        r = keeper_new_pidfd(vm, fd, label, uid, on_kept, sd_bus_message_ref(call));
        return keeper_reply(r, call, e);
}

static int method_hold(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        const char *label;
        uid_t uid;
        VM *vm;
        int r;

        r = sd_bus_message_read_basic(call, 's', &label);
        if (r < 0)
                return r;
        if (!label_is_valid(label))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "a label has at most %d bytes and no control characters", VM_LABEL_MAX);
        r = open_vm(userdata, call, method_hold, OPEN_ONLY, &vm, &uid, e);
        if (r != 0)
                return r;
        r = check_keepers(vm, e);
        if (r < 0)
                return r;
        r = keeper_new_lease(vm, label, uid, on_kept, sd_bus_message_ref(call));
        return keeper_reply(r, call, e);
}

static int method_describe(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        uid_t uid;
        VM *vm;
        int r;

        r = open_vm(userdata, call, method_describe, TO_SEE, &vm, &uid, e);
        if (r != 0)
                return r;
        return bus_describe_vm(vm, uid, call);
}

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        VM *vm = bus_vm(userdata, path);
        const char *text;

        if (!vm)
                return -ENOENT;
        if (streq(property, "Name"))
                text = vm->name;
        else if (streq(property, "UUID"))
                text = vm->uuid;
        else if (streq(property, "Platform"))
                text = vm->platform->name;
        else
                text = tdi_vm_phase_to_string(vm->phase);
        return sd_bus_message_append_basic(reply, 's', text);
}

static int get_tdis(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                    sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        VM *vm = bus_vm(userdata, path);
        char tdi[64];
        int r;

        if (!vm)
                return -ENOENT;
        r = sd_bus_message_open_container(reply, 'a', "o");
        for (size_t i = 0; r >= 0 && i < vm->n_tdis; i++)
                r = sd_bus_message_append_basic(reply, 'o', tdi_path(vm->tdis[i], tdi));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_owner(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                     sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        VM *vm = bus_vm(userdata, path);

        return vm ? sd_bus_message_append(reply, "u", (uint32_t) vm->owner) : -ENOENT;
}

const sd_bus_vtable bus_vm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Attach", SD_BUS_ARGS("a(sa{sv})", functions, "a{sv}", options), SD_BUS_RESULT("ao", tdis, "o", job),
                                bus_method_attach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Seal", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_seal, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanAttach", SD_BUS_ARGS("a(sa{sv})", functions, "a{sv}", options), SD_BUS_RESULT("s", json), bus_method_attach,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanSeal", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_seal, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("PlanDestroy", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("s", json), method_destroy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetKVM", SD_BUS_ARGS("h", vm), SD_BUS_NO_RESULT, method_set_kvm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenAssociation", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", channel), method_open_association, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetPidfd", SD_BUS_ARGS("h", pidfd), SD_BUS_NO_RESULT, method_set_pidfd, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Hold", SD_BUS_ARGS("s", label), SD_BUS_RESULT("h", lease), method_hold, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Destroy", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job), method_destroy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("CreateSharedBuffer", SD_BUS_ARGS("t", size, "a{sv}", options), SD_BUS_RESULT("h", memfd, "h", dmabuf),
                                bus_method_create_shared_buffer, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Describe", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", json), method_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Closing", SD_BUS_ARGS("s", reason), 0),
        SD_BUS_SIGNAL_WITH_ARGS("IOMMUEvent", SD_BUS_ARGS("s", bdf, "s", event, "s", text), 0),
        SD_BUS_PROPERTY("Name", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("UUID", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Platform", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Phase", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("TDIs", "ao", get_tdis, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Owner", "u", get_owner, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};
