/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How org.tdid1's objects and properties become "tdid/1" JSON: one table, used by the snapshot and by events, so that a key
 * means the same in both. It only translates; who calls whom is elsewhere.
 */
#ifndef TDI_CLIENT_PROPERTY_H
#define TDI_CLIENT_PROPERTY_H

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "json-text.h"
#include "util/util.h"

#define TDI_JSON_SCHEMA "tdid/1"

struct property;

struct object_type {
        const char *name;      /* "vm" */
        const char *interface; /* "org.tdid1.VM" */
        const char *prefix;    /* "/org/tdid1/vm/"; the manager has none */
        const char *id_key;    /* the key that holds the id of the path; NULL: a property has it */
        bool id_is_bdf;
        const struct property *properties;
        size_t n_properties;
};

DEFINE_CLEANUP(json_object *, json_object_put);

const struct object_type *object_type_of_interface(const char *interface);
const struct object_type *object_type_of_path(const char *path);

/* The id of an object, as events name it: written to buf (at least OBJECT_ID_MAX bytes). -EINVAL: not a path of this type. */
#define OBJECT_ID_MAX 256
int object_id(const struct object_type *t, const char *path, char *buf);

/* No type has more. */
#define OBJECT_PROPERTIES_MAX 24

/*
 * Reads a{sv} at the message's position and writes the object, with all keys of its type in their order: the id, and null for what the message does
 * not have. Unknown properties are skipped. scratch is for it to write in, and may be one for many. -EINVAL: not a path of this type, nothing is
 * read then; -EBADMSG: a property has a wrong type; -ENOMEM.
 */
int object_read(const struct object_type *t, const char *path, sd_bus_message *m, struct json_text *scratch, struct json_text *out);

/* The same of some properties: an object of those alone. The caller's, json_object_put(). */
int object_read_changed(const struct object_type *t, sd_bus_message *m, json_object **ret);

/* The JSON keys of a property that is known by name only: writes null for each into o. 0: unknown property. */
int object_null_property(const struct object_type *t, const char *name, json_object *o);

/* Adds and takes value; a NULL value is a failed allocation. */
int json_add(json_object *o, const char *key, json_object *value);
int json_add_string(json_object *o, const char *key, const char *value);
const char *json_get_string_of(json_object *o, const char *key);

#endif
