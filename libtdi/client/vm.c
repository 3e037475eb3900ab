/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The calls that make a VM, keep it and end it. Functions that are attached to one are in device.c. */
#include <stdio.h>

#include "client-internal.h"

/* Begins a call on a VM by its id. The id becomes a part of a path: only what can stand there is let through. */
static int vm_call(struct tdi_client *c, const char *id, const char *member, sd_bus_message **ret) {
        char path[sizeof(TDI_PATH_VM) + 64];
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (isempty(id) || strlen(id) > 64 ||
            strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_") != strlen(id))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "'%s' is not the id of a VM.", strempty(id));
        snprintf(path, sizeof(path), "%s%s", TDI_PATH_VM, id);
        return client_new_call(c, path, TDI_IFACE_VM, member, ret);
}

/* "action VM id" and "VM id", for errors. */
struct vm_what {
        struct client_what what;
        char action[128], object[80];
};

static const struct client_what *vm_what(struct vm_what *w, const char *action, const char *id) {
        *w = (struct vm_what){};
        snprintf(w->object, sizeof(w->object), "VM %s", strempty(id));
        snprintf(w->action, sizeof(w->action), "%s %s", action, w->object);
        w->what = (struct client_what){ .action = w->action, .object = w->object };
        return &w->what;
}

/* The next argument of an answer, a VM's path, as its id. */
static int read_vm_id(struct tdi_client *c, sd_bus_message *reply, const struct client_what *what, char **ret) {
        const char *path;
        char *id;
        int r;

        r = sd_bus_message_read(reply, "o", &path);
        if (r < 0 || !client_path_id(path, TDI_PATH_VM))
                return client_fail_answer(c, r < 0 ? r : -EBADMSG, what);
        id = strdup(client_path_id(path, TDI_PATH_VM));
        if (!id)
                return -ENOMEM;
        *ret = id;
        return 0;
}

static int append_number(sd_bus_message *m, const char *key, uint32_t value, bool given) {
        return given ? sd_bus_message_append(m, "{sv}", key, "u", value) : 0;
}

static int append_string(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int append_bool(sd_bus_message *m, const char *key, int value, bool given) {
        return given ? sd_bus_message_append(m, "{sv}", key, "b", value) : 0;
}

static int append_vm_options(sd_bus_message *m, const struct tdi_vm_options *o) {
        int r;

        if ((r = sd_bus_message_open_container(m, 'a', "{sv}")) < 0 ||
            (r = append_string(m, "uuid", o->uuid)) < 0 ||
            (r = append_string(m, "seclabel", o->seclabel)) < 0 ||
            (r = append_string(m, "platform", o->platform)) < 0 ||
            (r = append_string(m, "bind", o->bind)) < 0 ||
            (r = append_number(m, "owner_uid", o->owner_uid, o->set & TDI_VM_SET_OWNER_UID)) < 0 ||
            (r = append_number(m, "vmm_uid", o->vmm_uid, o->set & TDI_VM_SET_VMM_UID)) < 0 ||
            (r = append_number(m, "vmm_gid", o->vmm_gid, o->set & TDI_VM_SET_VMM_GID)) < 0 ||
            (r = append_bool(m, "hotplug", o->hotplug != 0, o->set & TDI_VM_SET_HOTPLUG)) < 0 ||
            (r = append_bool(m, "peer_to_peer", o->peer_to_peer != 0, o->set & TDI_VM_SET_PEER_TO_PEER)) < 0 ||
            (r = append_number(m, "await_vmm", o->await_vmm, o->set & TDI_VM_SET_AWAIT_VMM)) < 0)
                return r;
        if (o->set & TDI_VM_SET_MAX_FUNCTIONS) {
                r = sd_bus_message_append(m, "{sv}", "limits", "a{sv}", 1, "functions", "u", o->max_functions);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_close_container(m);
}

static int append_function(sd_bus_message *m, const struct tdi_function *f) {
        char bdf[TDI_BDF_MAX];
        int r;

        if ((r = sd_bus_message_open_container(m, 'r', "sa{sv}")) < 0 ||
            (r = sd_bus_message_append(m, "s", tdi_bdf_format(f->bdf, bdf))) < 0 ||
            (r = sd_bus_message_open_container(m, 'a', "{sv}")) < 0 ||
            (r = append_number(m, "guest_rid", f->guest_rid, f->flags & TDI_ATTACH_GUEST_RID)) < 0 ||
            (r = append_string(m, "bind", f->bind)) < 0 ||
            (r = append_string(m, "connect", f->flags & TDI_ATTACH_NO_CONNECT ? "no" : NULL)) < 0 ||
            (r = append_string(m, "vf_token", f->vf_token)) < 0 ||
            (r = append_bool(m, "force", 1, f->flags & TDI_ATTACH_FORCE)) < 0 ||
            (r = sd_bus_message_close_container(m)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

/* -E2BIG: the caller's structs are of a size that this library does not know. */
static int append_functions(sd_bus_message *m, const struct tdi_function *functions, size_t n) {
        int r = sd_bus_message_open_container(m, 'a', "(sa{sv})");

        for (size_t i = 0; r >= 0 && i < n; i++) {
                /* The caller's structs may be longer or shorter than ours: their own size is the stride. */
                const void *at = (const uint8_t *) functions + i * functions->size;
                struct tdi_function f;
                size_t size;

                memcpy(&size, at, sizeof(size));
                if (size != functions->size || client_copy_struct(&f, sizeof(f), at, size) < 0)
                        return -E2BIG;
                r = append_function(m, &f);
        }
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int fail_functions(struct tdi_client *c, int r) {
        return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, r == -E2BIG ? "A function to attach is of a size that this libtdi does not know." :
                           "The options of a function to attach are not valid UTF-8.");
}

/* The call that would create a VM, begun. */
static int create_call(struct tdi_client *c, const char *name, const struct tdi_vm_options *options, sd_bus_message **ret) {
        struct tdi_vm_options o = {};
        int r;

        if (options && (r = client_copy_struct(&o, sizeof(o), options, options->size)) < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The VM's options are of a size that this libtdi does not know.");
        r = client_new_call(c, TDI_BUS_ROOT, TDI_IFACE_MANAGER, "CreateVM", ret);
        if (r < 0)
                return r;
        r = sd_bus_message_append(*ret, "s", name);
        if (r >= 0)
                r = append_vm_options(*ret, &o);
        return r < 0 ? client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The VM's name or options are not valid UTF-8.") : 0;
}

int client_plan_vm(struct tdi_client *c, const char *name, const struct tdi_vm_options *options, const struct tdi_function *functions, size_t n) {
        static const struct client_what what = { "plan a VM", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = create_call(c, name, options, &m);
        if (r < 0)
                return r;
        r = append_functions(m, functions, n);
        return r < 0 ? fail_functions(c, r) : client_read_plan(c, m, &what);
}

int tdi_client_create_vm(struct tdi_client *c, const char *name, const struct tdi_vm_options *options, char **ret_id, int *ret_lease) {
        static const struct client_what what = { "create a VM", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_free_ char *id = NULL;
        int r, lease = -EBADF;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (!name || !ret_lease)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "A VM needs a name, and its lease a place.");
        if (c->dry_run)
                return client_plan_vm(c, name, options, NULL, 0);
        r = create_call(c, name, options, &m);
        if (r < 0)
                return r;
        r = client_call(c, m, &what, &reply);
        if (r < 0)
                return r;
        r = read_vm_id(c, reply, &what, &id);
        if (r >= 0)
                r = client_read_fd(c, reply, &what, "lease", &lease);
        if (r < 0)
                return r;
        if (ret_id)
                *ret_id = TAKE_PTR(id);
        *ret_lease = lease;
        return 0;
}

int tdi_client_find_vm(struct tdi_client *c, const char *vm, char **ret_id) {
        static const struct client_what what = { "find a VM", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (isempty(vm) || !ret_id)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "A VM's name, UUID or id is needed.");
        r = client_new_call(c, TDI_BUS_ROOT, TDI_IFACE_MANAGER, "GetVM", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", vm);
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The VM's name is not valid UTF-8.");
        r = client_call(c, m, &what, &reply);
        return r < 0 ? r : read_vm_id(c, reply, &what, ret_id);
}

int tdi_client_attach(struct tdi_client *c, const char *id, const struct tdi_function *functions, size_t n) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, "Attach", &m);
        if (r < 0)
                return r;
        if (!functions || n == 0)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "Attach needs at least one function.");
        r = append_functions(m, functions, n);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 1, "async", "b", 1);
        if (r < 0)
                return fail_functions(c, r);
        return client_run_job(c, m, vm_what(&w, n == 1 ? "attach a function to" : "attach functions to", id));
}

static int vm_job(struct tdi_client *c, const char *id, const char *member, const char *option, const char *action) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, member, &m);
        if (r < 0)
                return r;
        if (option)
                r = sd_bus_message_append(m, "a{sv}", 2, "async", "b", 1, option, "b", 1);
        else
                r = sd_bus_message_append(m, "a{sv}", 1, "async", "b", 1);
        return r < 0 ? r : client_run_job(c, m, vm_what(&w, action, id));
}

int tdi_client_seal(struct tdi_client *c, const char *id) {
        return vm_job(c, id, "Seal", NULL, "seal");
}

int tdi_client_destroy(struct tdi_client *c, const char *id, uint64_t flags) {
        return vm_job(c, id, "Destroy", flags & TDI_DESTROY_ABANDON ? "abandon" : NULL, "destroy");
}

int tdi_client_hold(struct tdi_client *c, const char *id, const char *label, int *ret_lease) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, "Hold", &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", strempty(label));
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The lease's label is not valid UTF-8.");
        r = client_call(c, m, vm_what(&w, "hold", id), &reply);
        return r < 0 ? r : client_read_fd(c, reply, &w.what, "lease", ret_lease);
}

static int vm_give_fd(struct tdi_client *c, const char *id, const char *member, int fd, const char *action) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, member, &m);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "h", fd);
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "Could not send descriptor %i: %s.", fd, strerror(-r));
        return client_call(c, m, vm_what(&w, action, id), &reply);
}

int tdi_client_set_kvm(struct tdi_client *c, const char *id, int fd) {
        return vm_give_fd(c, id, "SetKVM", fd, "set the KVM VM of");
}

int tdi_client_open_association(struct tdi_client *c, const char *id, int *ret_channel) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, "OpenAssociation", &m);
        if (r < 0)
                return r;
        if (!ret_channel)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "A channel is a descriptor, and needs a place.");
        r = client_call(c, m, vm_what(&w, "open the association of", id), &reply);
        return r < 0 ? r : client_read_fd(c, reply, &w.what, "channel", ret_channel);
}

int tdi_client_set_pidfd(struct tdi_client *c, const char *id, int fd) {
        return vm_give_fd(c, id, "SetPidfd", fd, "make a process keep");
}

int tdi_client_describe(struct tdi_client *c, const char *id, char **ret_json) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct vm_what w;
        int r;

        r = vm_call(c, id, "Describe", &m);
        return r < 0 ? r : client_read_text(c, m, vm_what(&w, "describe", id), ret_json);
}

int tdi_client_create_shared_buffer(struct tdi_client *c, const char *id, uint64_t length, const char *heap, int *ret_memfd, int *ret_dmabuf) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_close_ int memfd = -EBADF, dmabuf = -EBADF;
        int borrowed_memfd, borrowed_dmabuf, r;
        struct vm_what w;

        r = vm_call(c, id, "CreateSharedBuffer", &m);
        if (r < 0)
                return r;
        if (!ret_memfd || !ret_dmabuf)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "Shared memory is two descriptors, and each needs a place.");
        r = sd_bus_message_append(m, "t", length);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_string(m, "heap", heap);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The heap's name is not valid UTF-8.");
        r = client_call(c, m, vm_what(&w, "create shared memory of", id), &reply);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "hh", &borrowed_memfd, &borrowed_dmabuf);
        if (r < 0)
                return client_fail_answer(c, r, &w.what);
        memfd = fd_dup(borrowed_memfd);
        dmabuf = fd_dup(borrowed_dmabuf);
        if (memfd < 0 || dmabuf < 0)
                return client_fail(c, memfd < 0 ? memfd : dmabuf, TDI_ERROR_NONE, "Could not keep the shared memory of VM %s: %s.", id,
                                   strerror(memfd < 0 ? -memfd : -dmabuf));
        *ret_memfd = TAKE_FD(memfd);
        *ret_dmabuf = TAKE_FD(dmabuf);
        return 0;
}
