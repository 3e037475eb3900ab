/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Models from snapshots. See model.h. */
#include "model.h"

int json_put(json_object *o, const char *key, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add(o, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_put_string(json_object *o, const char *key, const char *value) {
        return json_put(o, key, json_object_new_string(value));
}

json_object *json_member(json_object *o, const char *key) {
        json_object *v = NULL;

        return o && json_object_object_get_ex(o, key, &v) ? v : NULL;
}

const char *json_string(json_object *o, const char *key) {
        json_object *v = json_member(o, key);

        return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

const char *json_text(json_object *o) {
        return strempty(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

int model_connect(struct tdictl *t) {
        int r = tdi_client_connect(t->client, arguments_text(&t->arguments, "bus"));

        return r < 0 && r != -EISCONN ? fail_client(t, r) : 0;
}

int model_find_vm(struct tdictl *t, char **ret_id) {
        int r;

        r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_find_vm(t->client, t->arguments.words[0], ret_id);
        return r < 0 ? fail_client(t, r) : 0;
}

/*
 * The snapshot that was read last. It ends with the process: to free thousands of functions one by one takes longer than to read them.
 */
static json_object *last_snapshot;

int model_snapshot(struct tdictl *t, json_object **ret) {
        _cleanup_free_ char *text = NULL;
        json_object *o;
        int r;

        r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_snapshot(t->client, &text);
        if (r < 0)
                return fail_client(t, r);
        o = json_tokener_parse(text);
        if (!o)
                return fail(t, "Failed", EXIT_OTHER, "Could not understand libtdi's snapshot.");
        json_object_put(last_snapshot);
        last_snapshot = json_object_get(o);
        *ret = o;
        return 0;
}

int model_new(struct tdictl *t, json_object **ret) {
        _cleanup_(json_object_putp) json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "schema", TDICTL_SCHEMA) < 0)
                return fail_oom(t);
        *ret = TAKE_PTR(o);
        return 0;
}

int model_list(struct tdictl *t, const char *list, json_object **ret) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *o = NULL;
        int r;

        r = model_snapshot(t, &snapshot);
        if (r < 0)
                return r;
        r = model_new(t, &o);
        if (r < 0)
                return r;
        if (json_put(o, list, json_object_get(json_member(snapshot, list))) < 0)
                return fail_oom(t);
        *ret = TAKE_PTR(o);
        return 0;
}

json_object *model_find(json_object *model, const char *list, const char *member, const char *value) {
        json_object *array = json_member(model, list);

        for (size_t i = 0; json_object_is_type(array, json_type_array) && i < json_object_array_length(array); i++) {
                json_object *o = json_object_array_get_idx(array, i);

                if (streq_ptr(json_string(o, member), value))
                        return o;
        }
        return NULL;
}

int model_add(struct tdictl *t, json_object *model, const char *list, json_object *o) {
        json_object *array = json_member(model, list);

        if (!array) {
                array = json_object_new_array();
                if (json_put(model, list, array) < 0)
                        return fail_oom(t);
        }
        if (o && json_object_array_add(array, json_object_get(o)) < 0) {
                json_object_put(o);
                return fail_oom(t);
        }
        return 0;
}

static int copy_members(json_object *to, json_object *from) {
        json_object_object_foreach(from, key, value) {
                if (json_object_object_add(to, key, json_object_get(value)) < 0) {
                        json_object_put(value);
                        return -ENOMEM;
                }
        }
        return 0;
}

int model_tdi(struct tdictl *t, json_object *snapshot, const char *bdf, json_object **ret) {
        json_object *device = model_find(snapshot, "devices", "bdf", bdf), *vm, *tdi;
        _cleanup_(json_object_putp) json_object *o = NULL;

        vm = device ? model_find(snapshot, "vms", "id", json_string(device, "vm_id")) : NULL;
        tdi = vm ? model_find(vm, "tdis", "bdf", bdf) : NULL;
        if (!tdi)
                return 0;
        o = json_object_new_object();
        if (!o || copy_members(o, tdi) < 0 || json_put_string(o, "vm", strempty(json_string(vm, "name"))) < 0 ||
            json_put_string(o, "vm_id", strempty(json_string(vm, "id"))) < 0)
                return fail_oom(t);
        *ret = TAKE_PTR(o);
        return 1;
}
