/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All objects of tdid in one "tdid/1" JSON object: read in one call, then put in order and joined. */
#include <stdio.h>

#include "client-internal.h"
#include "property.h"

static const struct client_what what = { "read the state of tdid", NULL };

struct lists {
        json_object *root; /* owns all but tdis */
        json_object *devices, *vms, *tsms, *jobs;
        json_object *tdis;
};

static void lists_done(struct lists *l) {
        json_object_put(l->root);
        json_object_put(l->tdis);
}

static int lists_new(struct lists *l) {
        l->root = json_object_new_object();
        l->tdis = json_object_new_array();
        if (!l->root || !l->tdis)
                return -ENOMEM;
        l->devices = json_object_new_array();
        l->vms = json_object_new_array();
        l->tsms = json_object_new_array();
        l->jobs = json_object_new_array();
        if (json_add_string(l->root, "schema", TDI_JSON_SCHEMA) < 0 || json_object_object_add(l->root, "tdid", NULL) < 0 ||
            json_add(l->root, "devices", l->devices) < 0 || json_add(l->root, "vms", l->vms) < 0 ||
            json_add(l->root, "tsms", l->tsms) < 0 || json_add(l->root, "jobs", l->jobs) < 0)
                return -ENOMEM;
        return 0;
}

static json_object *list_of(const struct lists *l, const char *type) {
        return streq(type, "device") ? l->devices : streq(type, "vm") ? l->vms : streq(type, "tdi") ? l->tdis :
               streq(type, "tsm") ? l->tsms : streq(type, "job") ? l->jobs : NULL;
}

/* One a{sa{sv}} of an object. */
static int read_interfaces(struct lists *l, sd_bus_message *m, const char *path) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                _cleanup_(json_object_putp) json_object *o = NULL;
                const struct object_type *t;
                const char *interface;
                json_object *list;

                r = sd_bus_message_read(m, "s", &interface);
                if (r < 0)
                        return r;
                t = object_type_of_interface(interface);
                list = t ? list_of(l, t->name) : NULL;
                r = list ? object_new(t, path, &o) : -EINVAL;
                if (r == -EINVAL) /* of another interface, or not where that interface belongs */
                        r = sd_bus_message_skip(m, "a{sv}");
                else if (r >= 0) {
                        r = object_read_properties(t, m, o);
                        if (r >= 0 && json_object_array_add(list, o) < 0)
                                r = -ENOMEM;
                        if (r >= 0)
                                TAKE_PTR(o);
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_objects(struct lists *l, sd_bus_message *m) {
        const char *path;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = sd_bus_message_read(m, "o", &path);
                if (r >= 0)
                        r = read_interfaces(l, m, path);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static json_object *find(json_object *list, const char *key, const char *value) {
        for (size_t i = 0; value && i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);

                if (streq_ptr(json_get_string_of(o, key), value))
                        return o;
        }
        return NULL;
}

static int copy_key(json_object *to, const char *to_key, json_object *from, const char *from_key) {
        json_object *v = NULL;

        if (from)
                (void) json_object_object_get_ex(from, from_key, &v);
        return json_object_object_add(to, to_key, json_object_get(v)) < 0 ? -ENOMEM : 0;
}

static int by_key(const void *a, const void *b, const char *key) {
        const char *x = strempty(json_get_string_of(*(json_object *const *) a, key));
        const char *y = strempty(json_get_string_of(*(json_object *const *) b, key));

        /* Shorter first, so that numbers stand in their order; BDFs all have one length. */
        return strlen(x) != strlen(y) ? (strlen(x) < strlen(y) ? -1 : 1) : strcmp(x, y);
}

static int by_bdf(const void *a, const void *b) {
        return by_key(a, b, "bdf");
}

static int by_id(const void *a, const void *b) {
        return by_key(a, b, "id");
}

static int by_name(const void *a, const void *b) {
        return by_key(a, b, "name");
}

/* A device names its VM; a VM holds its TDIs; a TDI tells its function's custody. */
static int join(struct lists *l) {
        int r;

        json_object_array_sort(l->devices, by_bdf);
        json_object_array_sort(l->tdis, by_bdf);
        json_object_array_sort(l->vms, by_id);
        json_object_array_sort(l->jobs, by_id);
        json_object_array_sort(l->tsms, by_name);

        for (size_t i = 0; i < json_object_array_length(l->devices); i++) {
                json_object *d = json_object_array_get_idx(l->devices, i);

                r = copy_key(d, "vm", find(l->vms, "id", json_get_string_of(d, "vm_id")), "name");
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < json_object_array_length(l->vms); i++)
                if (json_add(json_object_array_get_idx(l->vms, i), "tdis", json_object_new_array()) < 0)
                        return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(l->tdis); i++) {
                json_object *t = json_object_array_get_idx(l->tdis, i), *vm, *list;

                vm = find(l->vms, "id", json_get_string_of(t, "vm_id"));
                if (!vm || !json_object_object_get_ex(vm, "tdis", &list))
                        continue; /* its VM went between */
                json_object_object_del(t, "vm_id");
                r = copy_key(t, "custody", find(l->devices, "bdf", json_get_string_of(t, "bdf")), "custody");
                if (r < 0)
                        return r;
                if (json_object_array_add(list, json_object_get(t)) < 0) {
                        json_object_put(t);
                        return -ENOMEM;
                }
        }
        return 0;
}

static int read_manager(struct tdi_client *c, struct lists *l) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(json_object_putp) json_object *o = NULL;
        const struct object_type *t = object_type_of_interface(TDI_IFACE_MANAGER);
        int r;

        r = client_new_call(c, TDI_BUS_ROOT, DBUS_IFACE_PROPERTIES, "GetAll", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", t->interface);
        if (r >= 0)
                r = client_call(c, m, &what, &reply);
        if (r < 0)
                return r;
        r = object_new(t, TDI_BUS_ROOT, &o);
        if (r >= 0)
                r = object_read_properties(t, reply, o);
        if (r < 0)
                return client_fail_answer(c, r, &what);
        return json_add(l->root, "tdid", TAKE_PTR(o));
}

int tdi_client_describe_host(struct tdi_client *c, char **ret_json) {
        static const struct client_what host = { "describe this host", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = client_enter(c);
        if (r >= 0)
                r = client_new_call(c, TDI_BUS_ROOT, TDI_IFACE_MANAGER, "DescribeHost", &m);
        return r < 0 ? r : client_read_text(c, m, &host, ret_json);
}

int tdi_client_check(struct tdi_client *c, char **ret_json) {
        static const struct client_what host = { "look at what this host can do", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = client_enter(c);
        if (r >= 0)
                r = client_new_call(c, TDI_BUS_ROOT, TDI_IFACE_MANAGER, "Check", &m);
        /* Who looks at a host does not want it to change by that. */
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, 0);
        return r < 0 ? r : client_read_text(c, m, &host, ret_json);
}

int tdi_client_snapshot(struct tdi_client *c, char **ret_json) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(lists_done) struct lists l = {};
        const char *text;
        char *json;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        r = lists_new(&l);
        if (r < 0)
                return r;
        r = read_manager(c, &l);
        if (r < 0)
                return r;
        r = client_new_call(c, TDI_BUS_ROOT, DBUS_IFACE_OBJECT_MANAGER, "GetManagedObjects", &m);
        if (r >= 0)
                r = client_call(c, m, &what, &reply);
        if (r < 0)
                return r;
        r = read_objects(&l, reply);
        if (r < 0)
                return client_fail_answer(c, r, &what);
        r = join(&l);
        if (r < 0)
                return r;
        text = json_object_to_json_string_ext(l.root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        json = text ? strdup(text) : NULL;
        if (!json)
                return -ENOMEM;
        *ret_json = json;
        return 0;
}
