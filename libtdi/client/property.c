/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of properties and its readers. See property.h. */
#include <stdio.h>

#include <tdi/bdf.h>

#include "names.h"
#include "property.h"

struct property {
        const char *name;      /* on the bus */
        const char *signature; /* on the bus */
        const char *key;       /* in JSON; NULL: the reader knows its keys */
        int (*read)(sd_bus_message *m, const struct property *p, json_object *o);
};

int json_add(json_object *o, const char *key, json_object *value) {
        if (!value)
                return -ENOMEM;
        if (json_object_object_add(o, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

int json_add_string(json_object *o, const char *key, const char *value) {
        return json_add(o, key, json_object_new_string(value));
}

static int json_add_null(json_object *o, const char *key) {
        return json_object_object_add(o, key, NULL) < 0 ? -ENOMEM : 0;
}

const char *json_get_string_of(json_object *o, const char *key) {
        json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

/* Every reader stands inside the variant. */

static int read_string(sd_bus_message *m, const struct property *p, json_object *o) {
        const char *s;
        int r = sd_bus_message_read(m, "s", &s);

        return r < 0 ? r : json_add_string(o, p->key, s);
}

/* "" stands for nothing. */
static int read_string_or_null(sd_bus_message *m, const struct property *p, json_object *o) {
        const char *s;
        int r = sd_bus_message_read(m, "s", &s);

        return r < 0 ? r : *s ? json_add_string(o, p->key, s) : json_add_null(o, p->key);
}

static int read_bool(sd_bus_message *m, const struct property *p, json_object *o) {
        int b, r = sd_bus_message_read(m, "b", &b);

        return r < 0 ? r : json_add(o, p->key, json_object_new_boolean(b));
}

static int read_number(sd_bus_message *m, const struct property *p, json_object *o) {
        uint32_t u;
        int r = sd_bus_message_read(m, "u", &u);

        return r < 0 ? r : json_add(o, p->key, json_object_new_int64(u));
}

static int read_rid(sd_bus_message *m, const struct property *p, json_object *o) {
        uint32_t u;
        int r = sd_bus_message_read(m, "u", &u);

        return r < 0 ? r : u == UINT32_MAX ? json_add_null(o, p->key) : json_add(o, p->key, json_object_new_int64(u));
}

static int read_group(sd_bus_message *m, const struct property *p, json_object *o) {
        int32_t i;
        int r = sd_bus_message_read(m, "i", &i);

        return r < 0 ? r : i < 0 ? json_add_null(o, p->key) : json_add(o, p->key, json_object_new_int64(i));
}

static int read_time(sd_bus_message *m, const struct property *p, json_object *o) {
        uint64_t t;
        char hex[20];
        int r = sd_bus_message_read(m, "t", &t);

        if (r < 0)
                return r;
        /* JSON readers keep 53 bits. */
        if (t < UINT64_C(1) << 53)
                return json_add(o, p->key, json_object_new_int64((int64_t) t));
        snprintf(hex, sizeof(hex), "0x%016llx", (unsigned long long) t);
        return json_add_string(o, p->key, hex);
}

static int read_class(sd_bus_message *m, const struct property *p, json_object *o) {
        char hex[16];
        uint32_t u;
        int r = sd_bus_message_read(m, "u", &u);

        if (r < 0)
                return r;
        snprintf(hex, sizeof(hex), "0x%06x", u);
        return json_add_string(o, p->key, hex);
}

static const char *const id_keys[] = { "vendor", "device", "subsystem_vendor", "subsystem_device" };

static int read_ids(sd_bus_message *m, _unused_ const struct property *p, json_object *o) {
        uint16_t id[ARRAY_SIZE(id_keys)];
        int r = sd_bus_message_read(m, "(qqqq)", &id[0], &id[1], &id[2], &id[3]);

        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(id_keys); i++) {
                char hex[8];

                snprintf(hex, sizeof(hex), "0x%04x", id[i]);
                r = json_add_string(o, id_keys[i], hex);
        }
        return r;
}

static int bdf_of_path(const char *path, const char *prefix, char *buf) {
        char text[4 + TDI_BDF_MAX] = "pci_";
        struct tdi_bdf bdf;

        if (!startswith(path, prefix) || strlen(path + strlen(prefix)) >= TDI_BDF_MAX)
                return -EBADMSG;
        memcpy(text + 4, path + strlen(prefix), strlen(path + strlen(prefix)) + 1);
        if (tdi_bdf_parse(text, &bdf) < 0)
                return -EBADMSG;
        (void) tdi_bdf_format(bdf, buf);
        return 0;
}

static int read_device_path(sd_bus_message *m, const struct property *p, json_object *o) {
        char bdf[TDI_BDF_MAX];
        const char *path;
        int r = sd_bus_message_read(m, "o", &path);

        if (r >= 0)
                r = bdf_of_path(path, TDI_PATH_DEVICE, bdf);
        return r < 0 ? r : json_add_string(o, p->key, bdf);
}

/* A VM's path, of type s (where "" is none) or o. */
static int read_vm_path(sd_bus_message *m, const struct property *p, json_object *o) {
        const char *path;
        int r = sd_bus_message_read(m, p->signature, &path);

        if (r < 0)
                return r;
        if (!*path || streq(path, "/"))
                return json_add_null(o, p->key);
        if (!startswith(path, TDI_PATH_VM))
                return -EBADMSG;
        return json_add_string(o, p->key, path + strlen(TDI_PATH_VM));
}

static int read_list(sd_bus_message *m, const struct property *p, json_object *o) {
        _cleanup_(json_object_putp) json_object *list = json_object_new_array();
        char element[2] = { p->signature[1], 0 };
        int r;

        if (!list)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, 'a', element);
        if (r < 0)
                return r;
        for (;;) {
                char bdf[TDI_BDF_MAX];
                json_object *item;
                const char *s;

                r = sd_bus_message_read(m, element, &s);
                if (r <= 0)
                        break;
                if (*element == 'o') { /* TDIs are named by their function */
                        r = bdf_of_path(s, TDI_PATH_TDI, bdf);
                        if (r < 0)
                                return r;
                        s = bdf;
                }
                item = json_object_new_string(s);
                if (!item || json_object_array_add(list, item) < 0) {
                        json_object_put(item);
                        return -ENOMEM;
                }
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : json_add(o, p->key, TAKE_PTR(list));
}

/* The order here is the order of the keys in JSON. */

static const struct property manager_properties[] = {
        { "Version", "s", "version", read_string },
        { "Host", "s", "host", read_string },
        { "Platform", "s", "platform", read_string },
        { "Guard", "s", "guard", read_string },
};

static const struct property vm_properties[] = {
        { "Name", "s", "name", read_string },
        { "UUID", "s", "uuid", read_string },
        { "Phase", "s", "phase", read_string },
        { "Platform", "s", "platform", read_string },
        { "Owner", "u", "owner_uid", read_number },
        { "TDIs", "ao", "tdis", read_list },
};

static const struct property tdi_properties[] = {
        { "Device", "o", "bdf", read_device_path },
        { "VM", "o", "vm_id", read_vm_path },
        { "State", "s", "state", read_string },
        { "GuestRID", "u", "guest_rid", read_rid },
        { "TDISP", "s", "tdisp", read_string },
};

static const struct property device_properties[] = {
        { "BDF", "s", "bdf", read_string },
        { "Present", "b", "present", read_bool },
        { "IDs", "(qqqq)", NULL, read_ids },
        { "Class", "u", "class", read_class },
        { "ClassName", "s", "class_name", read_string_or_null },
        { "Name", "s", "name", read_string_or_null },
        { "Driver", "s", "driver", read_string_or_null },
        { "IOMMUGroup", "i", "iommu_group", read_group },
        { "TEE", "as", "tee", read_list },
        { "PhysFn", "s", "phys_fn", read_string_or_null },
        { "SRIOV", "s", "sriov", read_string_or_null },
        { "Bridges", "as", "bridges", read_list },
        { "DSM", "s", "dsm", read_string_or_null },
        { "TSM", "s", "tsm", read_string_or_null },
        { "Bound", "s", "bound", read_string_or_null },
        { "TSMRead", "t", "tsm_read", read_time },
        { "Streams", "as", "streams", read_list },
        { "Custody", "s", "custody", read_string },
        { "VM", "s", "vm_id", read_vm_path },
        { "Quarantine", "s", "quarantine", read_string_or_null },
};

static const struct property tsm_properties[] = {
        { "Name", "s", "name", read_string },
        { "Platform", "s", "platform", read_string },
        { "Parent", "s", "parent", read_string_or_null },
        { "Devices", "as", "devices", read_list },
};

static const struct property job_properties[] = {
        { "Kind", "s", "kind", read_string },
        { "Objects", "as", "objects", read_list },
        { "Step", "s", "step", read_string_or_null },
        { "State", "s", "state", read_string },
        { "Started", "t", "started", read_time },
        { "Deadline", "t", "deadline", read_time },
};

#define PROPERTIES(a) a, ARRAY_SIZE(a)

static const struct object_type types[] = {
        { "tdid", TDI_IFACE_MANAGER, NULL, NULL, false, PROPERTIES(manager_properties) },
        { "device", TDI_IFACE_DEVICE, TDI_PATH_DEVICE, "bdf", true, PROPERTIES(device_properties) },
        { "vm", TDI_IFACE_VM, TDI_PATH_VM, "id", false, PROPERTIES(vm_properties) },
        { "tdi", TDI_IFACE_TDI, TDI_PATH_TDI, "bdf", true, PROPERTIES(tdi_properties) },
        { "tsm", TDI_IFACE_TSM, TDI_PATH_TSM, "name", false, PROPERTIES(tsm_properties) },
        { "job", TDI_IFACE_JOB, TDI_PATH_JOB, "id", false, PROPERTIES(job_properties) },
};

const struct object_type *object_type_of_interface(const char *interface) {
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (streq(types[i].interface, interface))
                        return &types[i];
        return NULL;
}

const struct object_type *object_type_of_path(const char *path) {
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (types[i].prefix ? startswith(path, types[i].prefix) : streq(path, TDI_BUS_ROOT))
                        return &types[i];
        return NULL;
}

int object_id(const struct object_type *t, const char *path, char *buf) {
        const char *id;

        if (!t->prefix) {
                *buf = 0;
                return 0;
        }
        if (!startswith(path, t->prefix))
                return -EINVAL;
        id = path + strlen(t->prefix);
        if (!*id || strchr(id, '/') || strlen(id) >= OBJECT_ID_MAX)
                return -EINVAL;
        if (t->id_is_bdf)
                return bdf_of_path(path, t->prefix, buf) < 0 ? -EINVAL : 0;
        memcpy(buf, id, strlen(id) + 1);
        return 0;
}

static int add_nulls(const struct property *p, json_object *o) {
        int r = 0;

        if (p->key)
                return json_add_null(o, p->key);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(id_keys); i++)
                r = json_add_null(o, id_keys[i]);
        return r;
}

int object_new(const struct object_type *t, const char *path, json_object **ret) {
        _cleanup_(json_object_putp) json_object *o = json_object_new_object();
        char id[OBJECT_ID_MAX];
        int r;

        if (!o)
                return -ENOMEM;
        r = object_id(t, path, id);
        if (r < 0)
                return r;
        if (t->id_key && (r = json_add_string(o, t->id_key, id)) < 0)
                return r;
        for (size_t i = 0; i < t->n_properties; i++) {
                const char *key = t->properties[i].key;

                if (key && streq_ptr(key, t->id_key))
                        continue;
                r = add_nulls(&t->properties[i], o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(o);
        return 0;
}

static const struct property *find_property(const struct object_type *t, const char *name) {
        for (size_t i = 0; i < t->n_properties; i++)
                if (streq(t->properties[i].name, name))
                        return &t->properties[i];
        return NULL;
}

int object_null_property(const struct object_type *t, const char *name, json_object *o) {
        const struct property *p = find_property(t, name);
        int r;

        if (!p)
                return 0;
        r = add_nulls(p, o);
        return r < 0 ? r : 1;
}

int object_read_properties(const struct object_type *t, sd_bus_message *m, json_object *o) {
        const char *name, *contents;
        char type;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const struct property *p;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        return r;
                p = find_property(t, name);
                if (!p)
                        r = sd_bus_message_skip(m, "v");
                else {
                        r = sd_bus_message_peek_type(m, &type, &contents);
                        if (r < 0)
                                return r;
                        if (!streq(contents, p->signature))
                                return -EBADMSG;
                        r = sd_bus_message_enter_container(m, 'v', contents);
                        if (r >= 0)
                                r = p->read(m, p, o);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}
