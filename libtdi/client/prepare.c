/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A VM up to where its VMM can start, in one call; and what that VMM is given to reach a function by. Built on the calls of vm.c alone. */
#include <json-c/json.h>
#include <stdio.h>

#include "client-internal.h"

/* Closes a VM that did not come about. What failed stays the client's last error. */
static int give_up(struct tdi_client *c, const char *id, int failed) {
        _cleanup_free_ char *text = TAKE_PTR(c->error_text), *besides = NULL;
        enum tdi_error error = c->error, why = TDI_ERROR_NONE;
        int r;

        r = tdi_client_destroy(c, id, 0);
        (void) tdi_client_error(c, &why);
        /* Gone already, on its way, or gone but for functions of which the first error says so. */
        if (r >= 0 || why == TDI_ERROR_NOT_FOUND || why == TDI_ERROR_QUARANTINED || r == -EINPROGRESS)
                return client_fail(c, failed, error, "%s", strempty(text));
        besides = TAKE_PTR(c->error_text);
        return client_fail(c, failed, error, "%s Besides, VM %s was not closed: %s", strempty(text), id, strempty(besides));
}

int tdi_client_prepare_vm(struct tdi_client *c, const char *name, const struct tdi_vm_options *options, const struct tdi_function *functions,
                          size_t n_functions, char **ret_id, int *ret_lease) {
        _cleanup_close_ int lease = -EBADF;
        _cleanup_free_ char *id = NULL;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (!ret_id || !ret_lease || (n_functions > 0 && !functions))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "A VM's id, its lease and its functions need a place.");
        if (c->dry_run)
                return name ? client_plan_vm(c, name, options, functions, n_functions) : client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "A VM needs a name.");
        if (c->started)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT,
                                   "Preparing a VM in one call waits for its jobs, which this client does not: create, attach and seal it one by one.");
        r = tdi_client_create_vm(c, name, options, &id, &lease);
        if (r < 0)
                return r;
        if (n_functions > 0)
                r = tdi_client_attach(c, id, functions, n_functions);
        if (r >= 0)
                r = tdi_client_seal(c, id);
        if (r < 0)
                return give_up(c, id, r);
        *ret_id = TAKE_PTR(id);
        *ret_lease = TAKE_FD(lease);
        return 0;
}

static json_object *member(json_object *o, const char *key, json_type type) {
        json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, type) ? v : NULL;
}

static json_object *find_tdi(json_object *vm, const char *bdf) {
        json_object *tdis = member(vm, "tdis", json_type_array);

        for (size_t i = 0; tdis && i < json_object_array_length(tdis); i++) {
                json_object *tdi = json_object_array_get_idx(tdis, i), *name = member(tdi, "bdf", json_type_string);

                if (name && streq(json_object_get_string(name), bdf))
                        return tdi;
        }
        return NULL;
}

static int read_socket(struct tdi_client *c, json_object *vm, const char *bdf, char **ret) {
        json_object *tdi = find_tdi(vm, bdf), *vpci, *path;
        char *copy;

        if (!tdi)
                return client_fail(c, -ENOENT, TDI_ERROR_NOT_FOUND, "%s is not attached to that VM.", bdf);
        if (!json_object_object_get_ex(tdi, "vpci", &vpci))
                return client_fail(c, -EOPNOTSUPP, TDI_ERROR_NOT_SUPPORTED, "The running tdid serves no vPCI sockets.");
        path = member(vpci, "socket", json_type_string);
        if (!path)
                return client_fail(c, -tdi_error_to_errno(TDI_ERROR_INVALID_STATE), TDI_ERROR_INVALID_STATE,
                                   "%s is served on no vPCI socket: %s.", bdf,
                                   member(tdi, "handoff", json_type_object) ? "its descriptors were handed off" : "it is not prepared");
        copy = strdup(json_object_get_string(path));
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}

int tdi_client_vpci_socket(struct tdi_client *c, const char *id, struct tdi_bdf bdf, char **ret_path) {
        _cleanup_free_ char *json = NULL;
        char text[TDI_BDF_MAX];
        json_object *o, *vm;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (!ret_path)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "The socket's path needs a place.");
        r = tdi_client_describe(c, id, &json);
        if (r < 0)
                return r;
        o = json_tokener_parse(json);
        vm = member(o, "vm", json_type_object);
        r = vm ? read_socket(c, vm, tdi_bdf_format(bdf, text), ret_path) :
                 client_fail(c, -EBADMSG, TDI_ERROR_NONE, "tdid's description of VM %s is not understood.", id);
        json_object_put(o);
        return r;
}
