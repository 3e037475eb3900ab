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
        int (*read)(sd_bus_message *m, const struct property *p, struct json_text *out);
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

/* Every reader stands inside the variant, and writes "key":value; 0 or an error of the bus. */

static int put_string(struct json_text *out, const char *key, const char *value) {
        json_text_key(out, key);
        json_text_string(out, value);
        return 0;
}

static int put_number(struct json_text *out, const char *key, int64_t n) {
        char number[24];

        snprintf(number, sizeof(number), "%lld", (long long) n);
        json_text_key(out, key);
        json_text_puts(out, number);
        return 0;
}

static int read_string(sd_bus_message *m, const struct property *p, struct json_text *out) {
        const char *s;
        int r = sd_bus_message_read_basic(m, 's', &s);

        return r < 0 ? r : put_string(out, p->key, s);
}

/* "" stands for nothing. */
static int read_string_or_null(sd_bus_message *m, const struct property *p, struct json_text *out) {
        const char *s;
        int r = sd_bus_message_read_basic(m, 's', &s);

        return r < 0 ? r : put_string(out, p->key, *s ? s : NULL);
}

static int read_bool(sd_bus_message *m, const struct property *p, struct json_text *out) {
        int b, r = sd_bus_message_read_basic(m, 'b', &b);

        if (r < 0)
                return r;
        json_text_key(out, p->key);
        json_text_puts(out, b ? "true" : "false");
        return 0;
}

static int read_number(sd_bus_message *m, const struct property *p, struct json_text *out) {
        uint32_t u;
        int r = sd_bus_message_read_basic(m, 'u', &u);

        return r < 0 ? r : put_number(out, p->key, u);
}

static int read_rid(sd_bus_message *m, const struct property *p, struct json_text *out) {
        uint32_t u;
        int r = sd_bus_message_read_basic(m, 'u', &u);

        return r < 0 ? r : u == UINT32_MAX ? put_string(out, p->key, NULL) : put_number(out, p->key, u);
}

static int read_group(sd_bus_message *m, const struct property *p, struct json_text *out) {
        int32_t i;
        int r = sd_bus_message_read_basic(m, 'i', &i);

        return r < 0 ? r : i < 0 ? put_string(out, p->key, NULL) : put_number(out, p->key, i);
}

static int read_time(sd_bus_message *m, const struct property *p, struct json_text *out) {
        uint64_t t;
        char hex[20];
        int r = sd_bus_message_read_basic(m, 't', &t);

        if (r < 0)
                return r;
        /* JSON readers keep 53 bits. */
        if (t < UINT64_C(1) << 53)
                return put_number(out, p->key, (int64_t) t);
        snprintf(hex, sizeof(hex), "0x%016llx", (unsigned long long) t);
        return put_string(out, p->key, hex);
}

static int read_class(sd_bus_message *m, const struct property *p, struct json_text *out) {
        char hex[16];
        uint32_t u;
        int r = sd_bus_message_read_basic(m, 'u', &u);

        if (r < 0)
                return r;
        snprintf(hex, sizeof(hex), "0x%06x", u);
        return put_string(out, p->key, hex);
}

static const char *const id_keys[] = { "vendor", "device", "subsystem_vendor", "subsystem_device" };

static int read_ids(sd_bus_message *m, _unused_ const struct property *p, struct json_text *out) {
        uint16_t id[ARRAY_SIZE(id_keys)];
        int r = sd_bus_message_read(m, "(qqqq)", &id[0], &id[1], &id[2], &id[3]);

        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(id_keys); i++) {
                char hex[8];

                snprintf(hex, sizeof(hex), "0x%04x", id[i]);
                json_text_puts(out, i > 0 ? "," : "");
                r = put_string(out, id_keys[i], hex);
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

static int read_device_path(sd_bus_message *m, const struct property *p, struct json_text *out) {
        char bdf[TDI_BDF_MAX];
        const char *path;
        int r = sd_bus_message_read_basic(m, 'o', &path);

        if (r >= 0)
                r = bdf_of_path(path, TDI_PATH_DEVICE, bdf);
        return r < 0 ? r : put_string(out, p->key, bdf);
}

/* A VM's path, of type s (where "" is none) or o. */
static int read_vm_path(sd_bus_message *m, const struct property *p, struct json_text *out) {
        const char *path;
        int r = sd_bus_message_read_basic(m, *p->signature, &path);

        if (r < 0)
                return r;
        if (!*path || streq(path, "/"))
                return put_string(out, p->key, NULL);
        if (!startswith(path, TDI_PATH_VM))
                return -EBADMSG;
        return put_string(out, p->key, path + strlen(TDI_PATH_VM));
}

static int read_list(sd_bus_message *m, const struct property *p, struct json_text *out) {
        char element[2] = { p->signature[1], 0 };
        int r;

        r = sd_bus_message_enter_container(m, 'a', element);
        if (r < 0)
                return r;
        json_text_key(out, p->key);
        json_text_put(out, "[", 1);
        for (size_t n = 0;; n++) {
                char bdf[TDI_BDF_MAX];
                const char *s;

                r = sd_bus_message_read_basic(m, *element, &s);
                if (r <= 0)
                        break;
                if (*element == 'o') { /* TDIs are named by their function */
                        r = bdf_of_path(s, TDI_PATH_TDI, bdf);
                        if (r < 0)
                                return r;
                        s = bdf;
                }
                json_text_puts(out, n > 0 ? "," : "");
                json_text_string(out, s);
        }
        json_text_put(out, "]", 1);
        return r < 0 ? r : sd_bus_message_exit_container(m);
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
_Static_assert(ARRAY_SIZE(device_properties) <= OBJECT_PROPERTIES_MAX, "room for the properties of the type that has most");

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

static void put_nulls(const struct property *p, struct json_text *out) {
        if (p->key) {
                (void) put_string(out, p->key, NULL);
                return;
        }
        for (size_t i = 0; i < ARRAY_SIZE(id_keys); i++) {
                json_text_puts(out, i > 0 ? "," : "");
                (void) put_string(out, id_keys[i], NULL);
        }
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

/* Where in a text a property's members stand; n is 0 for one that the message does not have. */
struct slice {
        size_t at, n;
};

/* Reads a{sv}: writes members as they come, with commas, and says in slices, one for each property of the type, where. Unknown ones are skipped. */
static int read_members(const struct object_type *t, sd_bus_message *m, struct json_text *out, struct slice *slices) {
        size_t begin = out->n;
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const struct property *p;

                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                p = find_property(t, name);
                if (!p)
                        r = sd_bus_message_skip(m, "v");
                else {
                        struct slice *s = slices + (p - t->properties);
                        size_t at;

                        json_text_puts(out, out->n > begin ? "," : "");
                        at = out->n;
                        r = sd_bus_message_enter_container(m, 'v', p->signature);
                        if (r >= 0)
                                r = p->read(m, p, out);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                        *s = (struct slice){ at, out->n - at };
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r >= 0 && out->failed ? -ENOMEM : r;
}

int object_read(const struct object_type *t, const char *path, sd_bus_message *m, struct json_text *scratch, struct json_text *out) {
        struct slice slices[OBJECT_PROPERTIES_MAX] = {};
        char id[OBJECT_ID_MAX];
        int r;

        r = object_id(t, path, id);
        if (r < 0)
                return r;
        scratch->n = 0;
        r = read_members(t, m, scratch, slices);
        if (r < 0)
                return r == -ENXIO ? -EBADMSG : r;
        json_text_put(out, "{", 1);
        if (t->id_key)
                (void) put_string(out, t->id_key, id);
        for (size_t i = 0, n = t->id_key != NULL; i < t->n_properties; i++) {
                const struct property *p = &t->properties[i];

                /* The path has said it. */
                if (p->key && streq_ptr(p->key, t->id_key))
                        continue;
                json_text_puts(out, n++ > 0 ? "," : "");
                if (slices[i].n > 0)
                        json_text_put(out, scratch->p + slices[i].at, slices[i].n);
                else
                        put_nulls(p, out);
        }
        json_text_put(out, "}", 1);
        return out->failed ? -ENOMEM : 0;
}

int object_read_changed(const struct object_type *t, sd_bus_message *m, json_object **ret) {
        struct slice slices[OBJECT_PROPERTIES_MAX] = {};
        struct json_text text = {};
        json_object *o = NULL;
        int r;

        json_text_put(&text, "{", 1);
        r = read_members(t, m, &text, slices);
        json_text_put(&text, "}", 1);
        if (r >= 0)
                o = json_text_parse(&text, 0);
        json_text_done(&text);
        if (r < 0)
                return r == -ENXIO ? -EBADMSG : r;
        if (!o)
                return -ENOMEM;
        *ret = o;
        return 0;
}
