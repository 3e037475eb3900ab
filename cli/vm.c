/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl vm …`. Running a command that holds a VM is in hold.c, with functions in run.c. */
#include "act.h"
#include "hold.h"
#include "model.h"
#include "plan.h"
#include "print.h"
#include "vm.h"

int verb_vm_list(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        int r = model_list(t, "vms", &model);

        return r < 0 ? r : print_model(t, model, vms_view);
}

int model_of_vm(struct tdictl *t, const char *id, json_object **ret, json_object **ret_vm) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *model = NULL;
        json_object *vm = NULL;
        int r;

        r = model_snapshot(t, &snapshot);
        if (r < 0)
                return r;
        vm = model_find(snapshot, "vms", "id", id);
        if (!vm)
                return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND), "VM %s is closed already.", id);
        r = model_new(t, &model);
        if (r >= 0)
                r = model_add(t, model, "vms", vm);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(model);
        *ret_vm = vm;
        return 0;
}

static int merge(json_object *to, json_object *from) {
        json_object_object_foreach(from, key, value) {
                if (!json_member(to, key) && json_object_object_add(to, key, json_object_get(value)) < 0) {
                        json_object_put(value);
                        return -ENOMEM;
                }
        }
        return 0;
}

/* Adds what Describe() tells beyond the snapshot: the snapshot's own members stay. */
static int add_description(struct tdictl *t, json_object *vm, const char *text) {
        _cleanup_(json_object_putp) json_object *description = json_tokener_parse(text);
        json_object *described = json_member(description, "vm"), *tdis = json_member(vm, "tdis");

        if (!json_object_is_type(described, json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "tdid's description of the VM is not understood.");
        for (size_t i = 0; json_object_is_type(tdis, json_type_array) && i < json_object_array_length(tdis); i++) {
                json_object *tdi = json_object_array_get_idx(tdis, i);
                json_object *more = model_find(described, "tdis", "bdf", json_string(tdi, "bdf"));

                if (more && merge(tdi, more) < 0)
                        return fail_oom(t);
        }
        return merge(vm, described) < 0 ? fail_oom(t) : 0;
}

int verb_vm_show(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        _cleanup_free_ char *id = NULL, *text = NULL;
        enum tdi_error error;
        json_object *vm = NULL;
        int r;

        r = model_find_vm(t, &id);
        if (r >= 0)
                r = model_of_vm(t, id, &model, &vm);
        if (r < 0)
                return r;
        r = tdi_client_describe(t->client, id, &text);
        if (r >= 0)
                r = add_description(t, vm, text);
        else {
                (void) tdi_client_error(t->client, &error);
                r = error == TDI_ERROR_DENIED ? 0 : fail_client(t, r);
        }
        if (r >= 0 && json_put(vm, "described", json_object_new_boolean(text != NULL)) < 0)
                r = fail_oom(t);
        return r < 0 ? r : print_model(t, model, vm_view);
}

static int check_create(struct tdictl *t) {
        const struct arguments *a = &t->arguments;
        bool hold = arguments_has(a, "hold"), command = a->command && a->command[0];
        const struct option_value *await = arguments_option(a, "await-vmm", 0);

        if (hold && !command)
                return fail_usage(t, "--hold needs a command: tdictl vm create NAME --hold -- COMMAND.");
        if (!hold && a->command)
                return fail_usage(t, "A command is run with --hold only: tdictl vm create NAME --hold -- COMMAND.");
        if (!hold && arguments_has(a, "no-inherit"))
                return fail_usage(t, "--no-inherit says who keeps the lease of --hold; give --hold too.");
        if (!hold && !await)
                return fail_usage(t, "A VM lives while something keeps it, and this one would close as soon as tdictl ends. Either run the VMM with "
                                     "--hold -- COMMAND, or give it time to arrive with --await-vmm SECONDS.");
        if (!hold && await->number == 0)
                return fail_usage(t, "--await-vmm 0 waits for nothing: the VM would close as soon as tdictl ends.");
        return 0;
}

static uint32_t number(const struct arguments *a, const char *name, uint64_t bit, uint64_t *set) {
        const struct option_value *v = arguments_option(a, name, 0);

        if (v)
                *set |= bit;
        return v ? v->number : 0;
}

struct tdi_vm_options vm_options(const struct arguments *a) {
        struct tdi_vm_options o = { .size = sizeof(o) };

        o.uuid = arguments_text(a, "uuid");
        o.seclabel = arguments_text(a, "seclabel");
        o.platform = arguments_text(a, "platform");
        o.bind = arguments_text(a, "bind");
        o.owner_uid = number(a, "owner", TDI_VM_SET_OWNER_UID, &o.set);
        o.vmm_uid = number(a, "vmm-uid", TDI_VM_SET_VMM_UID, &o.set);
        o.vmm_gid = number(a, "vmm-gid", TDI_VM_SET_VMM_GID, &o.set);
        o.await_vmm = number(a, "await-vmm", TDI_VM_SET_AWAIT_VMM, &o.set);
        if (arguments_has(a, "hotplug")) {
                o.hotplug = 1;
                o.set |= TDI_VM_SET_HOTPLUG;
        }
        if (arguments_has(a, "peer-to-peer")) {
                o.peer_to_peer = 1;
                o.set |= TDI_VM_SET_PEER_TO_PEER;
        }
        return o;
}

int verb_vm_create(struct tdictl *t) {
        const struct arguments *a = &t->arguments;
        _cleanup_(json_object_putp) json_object *model = NULL;
        struct tdi_vm_options o = vm_options(a);
        _cleanup_close_ int lease = -EBADF;
        _cleanup_free_ char *id = NULL;
        json_object *vm = NULL;
        bool planned;
        int r;

        r = check_create(t);
        if (r < 0)
                return r;
        r = model_connect(t);
        if (r < 0)
                return r;
        planned = plan_wanted(t);
        r = tdi_client_create_vm(t->client, a->words[0], &o, &id, &lease);
        if (r < 0)
                return fail_client(t, r);
        if (planned) {
                r = plan_take(t, &model);
                return r < 0 ? r : plan_print(t, model);
        }
        r = model_of_vm(t, id, &model, &vm);
        if (r < 0)
                return r;
        if (arguments_has(a, "hold"))
                return hold_and_run(t, TAKE_FD(lease), vm, &(struct held){ .command = a->command, .inherit = !arguments_has(a, "no-inherit") });
        return print_model(t, model, vms_view);
}

static int seal(struct tdictl *t, const char *id, _unused_ void *userdata) {
        return tdi_client_seal(t->client, id);
}

int verb_vm_seal(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        _cleanup_free_ char *id = NULL;
        json_object *vm = NULL;
        int r;

        r = act_on_vm(t, seal, NULL, &id);
        if (r < 0 || r == ACT_PLANNED)
                return r < 0 ? r : 0;
        r = model_of_vm(t, id, &model, &vm);
        if (r < 0)
                return fail_prefix(t, r, "It is done, but: ");
        return print_model(t, model, vms_view);
}

static int destroy(struct tdictl *t, const char *id, _unused_ void *userdata) {
        return tdi_client_destroy(t->client, id, arguments_has(&t->arguments, "abandon") ? TDI_DESTROY_ABANDON : 0);
}

int verb_vm_destroy(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *gone = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        r = act_on_vm(t, destroy, NULL, &id);
        if (r < 0 || r == ACT_PLANNED || !t->json)
                return r < 0 ? r : 0;
        r = model_new(t, &model);
        if (r < 0)
                return r;
        gone = json_object_new_object();
        if (!gone || json_put_string(gone, "id", id) < 0 || json_put(model, "destroyed", TAKE_PTR(gone)) < 0)
                return fail_oom(t);
        return print_model(t, model, vms_view);
}
