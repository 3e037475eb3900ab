/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The one output model of a verb: a "tdid/1" JSON object, taken from tdid's snapshot. print.h shows it. */
#ifndef TDICTL_MODEL_H
#define TDICTL_MODEL_H

#include <json-c/json.h>

#include "tdictl.h"

#define TDICTL_SCHEMA "tdid/1"

DEFINE_CLEANUP(json_object *, json_object_put);

/* Connects when that has not been done. Verbs check their arguments first. */
int model_connect(struct tdictl *t);

/* Connects, and finds the VM that the first word names; its id is the caller's. */
int model_find_vm(struct tdictl *t, char **ret_id);

/* Everything; the caller's. */
int model_snapshot(struct tdictl *t, json_object **ret);

/* {"schema": …} and nothing else yet. */
int model_new(struct tdictl *t, json_object **ret);

/* {"schema": …, "key": that list of the snapshot}; what `tdictl TYPE list` shows. */
int model_list(struct tdictl *t, const char *list, json_object **ret);

/* The element whose member is value; borrowed. NULL: none. */
json_object *model_find(json_object *model, const char *list, const char *member, const char *value);

/* Appends a reference of o to the list of the model, which is made when not there; o may be NULL: only the list. */
int model_add(struct tdictl *t, json_object *model, const char *list, json_object *o);

/* The TDI of a function as an object of its own: its keys, and "vm", "vm_id". 0: it is not attached. */
int model_tdi(struct tdictl *t, json_object *snapshot, const char *bdf, json_object **ret);

/* value is taken; NULL is a failed allocation. -ENOMEM */
int json_put(json_object *o, const char *key, json_object *value);
int json_put_string(json_object *o, const char *key, const char *value);
/* The member's string, NULL when it is none. */
const char *json_string(json_object *o, const char *key);
/* The member or NULL (also for null). */
json_object *json_member(json_object *o, const char *key);
const char *json_text(json_object *o);

#endif
