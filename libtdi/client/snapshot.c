/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* All objects of tdid in one "tdid/1" JSON object: read in one call, then put in order and joined. */
#include <stdio.h>

#include <tdi/bdf.h>

#include "client-internal.h"
#include "property.h"

static const struct client_what what = { "read the state of tdid", NULL };

/*
 * A device stays text: there may be thousands, and but for those in use nothing of them is asked for here.
 */
struct device {
        char bdf[TDI_BDF_MAX];
        size_t at, n;      /* in the text, without the last brace */
        json_object *used; /* the same as an object, where it has a VM or is in custody; or NULL */
};

struct lists {
        json_object *vms, *tsms, *jobs, *tdis;
        struct device *devices;
        size_t n_devices, room;
        struct json_text text; /* the devices, as they came */
        struct json_text scratch;
};

static void lists_done(struct lists *l) {
        json_object_put(l->vms);
        json_object_put(l->tsms);
        json_object_put(l->jobs);
        json_object_put(l->tdis);
        for (size_t i = 0; i < l->n_devices; i++)
                json_object_put(l->devices[i].used);
        free(l->devices);
        json_text_done(&l->text);
        json_text_done(&l->scratch);
}

static int lists_new(struct lists *l) {
        l->vms = json_object_new_array();
        l->tsms = json_object_new_array();
        l->jobs = json_object_new_array();
        l->tdis = json_object_new_array();
        return l->vms && l->tsms && l->jobs && l->tdis ? 0 : -ENOMEM;
}

static json_object *list_of(const struct lists *l, const char *type) {
        return streq(type, "vm") ? l->vms : streq(type, "tdi") ? l->tdis : streq(type, "tsm") ? l->tsms : streq(type, "job") ? l->jobs : NULL;
}

/* An object that is being read: reads a{sv}. */
static int read_object(struct lists *l, const struct object_type *t, const char *path, sd_bus_message *m) {
        struct json_text text = {};
        json_object *o;
        int r;

        r = object_read(t, path, m, &l->scratch, &text);
        if (r >= 0) {
                o = json_text_parse(&text, 0);
                r = o && json_object_array_add(list_of(l, t->name), o) >= 0 ? 0 : -ENOMEM;
                if (r < 0)
                        json_object_put(o);
        }
        json_text_done(&text);
        return r;
}

/* Is it anybody's? Not when nothing but this is said of it. */
static bool is_unused(const char *device) {
        return strstr(device, "\"custody\":\"none\",\"vm_id\":null");
}

static int read_device(struct lists *l, const struct object_type *t, const char *path, sd_bus_message *m) {
        struct device d = { .at = l->text.n };
        char id[OBJECT_ID_MAX];
        int r;

        r = object_id(t, path, id);
        if (r >= 0)
                r = object_read(t, path, m, &l->scratch, &l->text);
        if (r < 0)
                return r;
        snprintf(d.bdf, sizeof(d.bdf), "%.*s", (int) sizeof(d.bdf) - 1, id);
        if (l->n_devices == l->room) {
                size_t room = l->room > 0 ? l->room * 2 : 64;
                struct device *more = reallocarray(l->devices, room, sizeof(*more));

                if (!more)
                        return -ENOMEM;
                l->devices = more;
                l->room = room;
        }
        if (!is_unused(l->text.p + d.at) && !(d.used = json_text_parse(&l->text, d.at)))
                return -ENOMEM;
        d.n = l->text.n - d.at - 1;
        l->devices[l->n_devices++] = d;
        return 0;
}

/* One a{sa{sv}} of an object. */
static int read_interfaces(struct lists *l, sd_bus_message *m, const char *path) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                const struct object_type *t;
                const char *interface;

                r = sd_bus_message_read_basic(m, 's', &interface);
                if (r < 0)
                        return r;
                t = object_type_of_interface(interface);
                r = !t ? -EINVAL : streq(t->name, "device") ? read_device(l, t, path, m) : list_of(l, t->name) ? read_object(l, t, path, m) : -EINVAL;
                if (r == -EINVAL) /* of another interface, or not where that interface belongs */
                        r = sd_bus_message_skip(m, "a{sv}");
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
                r = sd_bus_message_read_basic(m, 'o', &path);
                if (r >= 0)
                        r = read_interfaces(l, m, path);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

/* Shorter first, so that numbers stand in their order; BDFs all have one length. */
static int compare(const char *x, const char *y) {
        return strlen(x) != strlen(y) ? (strlen(x) < strlen(y) ? -1 : 1) : strcmp(x, y);
}

static int by_key(const void *a, const void *b, const char *key) {
        return compare(strempty(json_get_string_of(*(json_object *const *) a, key)), strempty(json_get_string_of(*(json_object *const *) b, key)));
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

static int devices_by_bdf(const void *a, const void *b) {
        return compare(((const struct device *) a)->bdf, ((const struct device *) b)->bdf);
}

/* The VM of this id, in order as they are then; NULL: there is none. */
static json_object *find_vm(const struct lists *l, const char *id) {
        size_t from = 0, to = json_object_array_length(l->vms);

        while (id && from < to) {
                size_t i = from + (to - from) / 2;
                json_object *vm = json_object_array_get_idx(l->vms, i);
                int c = compare(id, strempty(json_get_string_of(vm, "id")));

                if (c == 0)
                        return vm;
                if (c < 0)
                        to = i;
                else
                        from = i + 1;
        }
        return NULL;
}

static const struct device *find_device(const struct lists *l, const char *bdf) {
        struct device key = {};

        if (!bdf || l->n_devices == 0)
                return NULL;
        snprintf(key.bdf, sizeof(key.bdf), "%.*s", (int) sizeof(key.bdf) - 1, bdf);
        return bsearch(&key, l->devices, l->n_devices, sizeof(key), devices_by_bdf);
}

/* Takes a reference of the value, which may be NULL. */
static int add_shared(json_object *o, const char *key, json_object *value) {
        return json_object_object_add(o, key, json_object_get(value)) < 0 ? -ENOMEM : 0;
}

static int add_custody(json_object *tdi, const struct device *d) {
        json_object *custody = NULL;

        if (d && !d->used)
                return json_add_string(tdi, "custody", "none");
        if (d)
                (void) json_object_object_get_ex(d->used, "custody", &custody);
        return add_shared(tdi, "custody", custody);
}

/* A VM holds its TDIs; a TDI tells its function's custody. */
static int join(struct lists *l) {
        json_object_array_sort(l->tdis, by_bdf);
        json_object_array_sort(l->vms, by_id);
        json_object_array_sort(l->jobs, by_id);
        json_object_array_sort(l->tsms, by_name);
        if (l->n_devices > 0)
                qsort(l->devices, l->n_devices, sizeof(*l->devices), devices_by_bdf);

        for (size_t i = 0; i < json_object_array_length(l->vms); i++)
                if (json_add(json_object_array_get_idx(l->vms, i), "tdis", json_object_new_array()) < 0)
                        return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(l->tdis); i++) {
                json_object *t = json_object_array_get_idx(l->tdis, i), *vm, *list;

                vm = find_vm(l, json_get_string_of(t, "vm_id"));
                if (!vm || !json_object_object_get_ex(vm, "tdis", &list))
                        continue; /* its VM went between */
                json_object_object_del(t, "vm_id");
                if (add_custody(t, find_device(l, json_get_string_of(t, "bdf"))) < 0)
                        return -ENOMEM;
                if (json_object_array_add(list, json_object_get(t)) < 0) {
                        json_object_put(t);
                        return -ENOMEM;
                }
        }
        return 0;
}

/* A device names its VM, as the last of its members. */
static void put_devices(const struct lists *l, struct json_text *out) {
        json_text_key(out, "devices");
        json_text_put(out, "[", 1);
        for (size_t i = 0; i < l->n_devices; i++) {
                const struct device *d = &l->devices[i];
                json_object *vm = d->used ? find_vm(l, json_get_string_of(d->used, "vm_id")) : NULL;

                json_text_puts(out, i > 0 ? "," : "");
                json_text_put(out, l->text.p + d->at, d->n);
                json_text_puts(out, ",");
                json_text_key(out, "vm");
                json_text_string(out, vm ? json_get_string_of(vm, "name") : NULL);
                json_text_put(out, "}", 1);
        }
        json_text_put(out, "]", 1);
}

static void put_list(struct json_text *out, const char *key, json_object *list) {
        json_text_puts(out, ",");
        json_text_key(out, key);
        json_text_object(out, list);
}

static int read_manager(struct tdi_client *c, struct lists *l, struct json_text *out) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const struct object_type *t = object_type_of_interface(TDI_IFACE_MANAGER);
        int r;

        r = client_new_call(c, TDI_BUS_ROOT, DBUS_IFACE_PROPERTIES, "GetAll", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", t->interface);
        if (r >= 0)
                r = client_call(c, m, &what, &reply);
        if (r < 0)
                return r;
        r = object_read(t, TDI_BUS_ROOT, reply, &l->scratch, out);
        return r < 0 ? client_fail_answer(c, r, &what) : 0;
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
        _cleanup_(json_text_done) struct json_text out = {};
        _cleanup_(lists_done) struct lists l = {};
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        r = lists_new(&l);
        if (r < 0)
                return r;
        json_text_puts(&out, "{\"schema\":\"" TDI_JSON_SCHEMA "\",\"tdid\":");
        r = read_manager(c, &l, &out);
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
        json_text_puts(&out, ",");
        put_devices(&l, &out);
        put_list(&out, "vms", l.vms);
        put_list(&out, "tsms", l.tsms);
        put_list(&out, "jobs", l.jobs);
        json_text_puts(&out, "}");
        return json_text_finish(&out, ret_json);
}
