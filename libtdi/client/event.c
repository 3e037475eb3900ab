/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Events: tdid's signals as kind, object, key and value. What a program does with them is its own. */
#include <inttypes.h>
#include <stdio.h>

#include "client-internal.h"
#include "property.h"

static void emit(struct tdi_client *c, enum tdi_event_kind kind, const char *type, const char *id, const char *key, const char *value) {
        const struct tdi_event event = { .kind = kind, .type = type, .id = id, .key = key, .value = value };

        if (!c->event || c->event_stop)
                return;
        c->in_callback = true;
        c->event_stop = c->event(&event, c->event_data) != 0;
        c->in_callback = false;
}

static const char *json_text(json_object *v) {
        return v ? json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : "null";
}

static int on_added(struct tdi_client *c, sd_bus_message *m) {
        const char *path, *interface;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                _cleanup_(json_text_done) struct json_text scratch = {}, text = {};
                const struct object_type *t;
                char id[OBJECT_ID_MAX];

                r = sd_bus_message_read(m, "s", &interface);
                if (r < 0)
                        return r;
                t = object_type_of_interface(interface);
                if (t && t->prefix && object_id(t, path, id) >= 0) {
                        r = object_read(t, path, m, &scratch, &text);
                        if (r >= 0)
                                emit(c, TDI_EVENT_ADDED, t->name, id, NULL, text.p);
                } else
                        r = sd_bus_message_skip(m, "a{sv}");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

static int on_removed(struct tdi_client *c, sd_bus_message *m) {
        const char *path, *interface;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(m, "s", &interface)) > 0) {
                const struct object_type *t = object_type_of_interface(interface);
                char id[OBJECT_ID_MAX];

                if (t && t->prefix && object_id(t, path, id) >= 0)
                        emit(c, TDI_EVENT_REMOVED, t->name, id, NULL, NULL);
        }
        return r;
}

static int on_changed(struct tdi_client *c, sd_bus_message *m) {
        _cleanup_(json_object_putp) json_object *changed = NULL, *unknown = json_object_new_object();
        const char *path = sd_bus_message_get_path(m), *interface, *name;
        const struct object_type *t;
        char id[OBJECT_ID_MAX];
        int r;

        if (!unknown)
                return -ENOMEM;
        r = sd_bus_message_read(m, "s", &interface);
        if (r < 0)
                return r;
        t = object_type_of_interface(interface);
        if (!t || object_id(t, path, id) < 0)
                return 0;
        r = object_read_changed(t, m, &changed);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(m, "s", &name)) > 0)
                r = object_null_property(t, name, unknown);
        if (r < 0)
                return r;
        json_object_object_foreach(changed, key, value) {
                emit(c, TDI_EVENT_CHANGED, t->name, id, key, json_text(value));
        }
        json_object_object_foreach(unknown, unknown_key, no_value) {
                (void) no_value;
                emit(c, TDI_EVENT_CHANGED, t->name, id, unknown_key, NULL);
        }
        return 0;
}

/* Signals with the number of a dma-buf. */
static int on_export(struct tdi_client *c, sd_bus_message *m, const char *key) {
        const struct object_type *t = object_type_of_interface(TDI_IFACE_TDI);
        char id[OBJECT_ID_MAX], number[24];
        uint64_t n;
        int r;

        if (object_id(t, sd_bus_message_get_path(m), id) < 0)
                return 0;
        r = sd_bus_message_read(m, "t", &n);
        if (r < 0)
                return r;
        snprintf(number, sizeof(number), "%" PRIu64, n);
        emit(c, TDI_EVENT_NOTICE, t->name, id, key, number);
        return 0;
}

/* Signals with a reason; or with several texts, which are members of an object then. */
static int on_notice(struct tdi_client *c, sd_bus_message *m, const char *type_interface, const char *key) {
        static const struct {
                const char *key, *members[4];
        } several[] = { { "finished", { "error", "text" } }, { "iommu_event", { "bdf", "event", "text" } } };
        const struct object_type *t = object_type_of_interface(type_interface);
        _cleanup_(json_object_putp) json_object *v = NULL;
        const char *const *members = NULL, *text;
        char id[OBJECT_ID_MAX];
        int r;

        if (object_id(t, sd_bus_message_get_path(m), id) < 0)
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(several); i++)
                if (streq(key, several[i].key))
                        members = several[i].members;
        if (members) {
                v = json_object_new_object();
                for (r = v ? 0 : -ENOMEM; r >= 0 && *members; members++) {
                        r = sd_bus_message_read(m, "s", &text);
                        if (r >= 0)
                                r = json_add_string(v, *members, startswith(text, TDI_ERROR_PREFIX) ? text + strlen(TDI_ERROR_PREFIX) : text);
                }
        } else {
                r = sd_bus_message_read(m, "s", &text);
                if (r >= 0 && !(v = json_object_new_string(text)))
                        r = -ENOMEM;
        }
        if (r < 0)
                return r;
        emit(c, TDI_EVENT_NOTICE, t->name, id, key, json_text(v));
        return 0;
}

static int on_signal(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct tdi_client *c = userdata;

        /* Any local user can send us a signal; only the owner of the name is tdid. */
        if (!c->event_owner || !streq_ptr(sd_bus_message_get_sender(m), c->event_owner))
                return 0;
        if (sd_bus_message_is_signal(m, DBUS_IFACE_OBJECT_MANAGER, "InterfacesAdded") > 0)
                (void) on_added(c, m);
        else if (sd_bus_message_is_signal(m, DBUS_IFACE_OBJECT_MANAGER, "InterfacesRemoved") > 0)
                (void) on_removed(c, m);
        else if (sd_bus_message_is_signal(m, DBUS_IFACE_PROPERTIES, "PropertiesChanged") > 0)
                (void) on_changed(c, m);
        else if (sd_bus_message_is_signal(m, TDI_IFACE_VM, "Closing") > 0)
                (void) on_notice(c, m, TDI_IFACE_VM, "closing");
        else if (sd_bus_message_is_signal(m, TDI_IFACE_VM, "IOMMUEvent") > 0)
                (void) on_notice(c, m, TDI_IFACE_VM, "iommu_event");
        else if (sd_bus_message_is_signal(m, TDI_IFACE_TDI, "Failed") > 0)
                (void) on_notice(c, m, TDI_IFACE_TDI, "failed");
        else if (sd_bus_message_is_signal(m, TDI_IFACE_TDI, "Revoked") > 0)
                (void) on_export(c, m, "revoked");
        else if (sd_bus_message_is_signal(m, TDI_IFACE_TDI, "Restored") > 0)
                (void) on_export(c, m, "restored");
        else if (sd_bus_message_is_signal(m, TDI_IFACE_JOB, "Finished") > 0)
                (void) on_notice(c, m, TDI_IFACE_JOB, "finished");
        return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct tdi_client *c = userdata;
        const char *name, *old, *new;
        bool had = c->event_owner;

        if (!streq_ptr(sd_bus_message_get_sender(m), DBUS_NAME) || sd_bus_message_read(m, "sss", &name, &old, &new) < 0 || !streq(name, TDI_BUS_NAME))
                return 0;
        if (streq_ptr(c->event_owner, *new ? new : NULL))
                return 0;
        if (free_and_strdup(&c->event_owner, *new ? new : NULL) < 0)
                return 0;
        if (had)
                emit(c, TDI_EVENT_DAEMON, "tdid", "", "running", "false");
        if (c->event_owner)
                emit(c, TDI_EVENT_DAEMON, "tdid", "", "running", "true");
        return 0;
}

static void unsubscribe(struct tdi_client *c) {
        c->event_slot = sd_bus_slot_unref(c->event_slot);
        c->event_owner_slot = sd_bus_slot_unref(c->event_owner_slot);
        free(c->event_owner);
        c->event_owner = NULL;
        c->event = NULL;
}

int tdi_client_subscribe(struct tdi_client *c, tdi_event_callback callback, void *userdata) {
        static const struct client_what what = { "subscribe to events of tdid", NULL };
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *owner;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        unsubscribe(c);
        if (!callback)
                return 0;
        r = sd_bus_add_match(c->bus, &c->event_owner_slot,
                             "type='signal',sender='" DBUS_NAME "',path='" DBUS_PATH "',interface='" DBUS_IFACE "',"
                             "member='NameOwnerChanged',arg0='" TDI_BUS_NAME "'",
                             on_owner, c);
        if (r >= 0)
                r = sd_bus_add_match(c->bus, &c->event_slot, "type='signal',sender='" TDI_BUS_NAME "',path_namespace='" TDI_BUS_ROOT "'", on_signal, c);
        if (r >= 0) {
                r = sd_bus_call_method(c->bus, DBUS_NAME, DBUS_PATH, DBUS_IFACE, "GetNameOwner", &e, &reply, "s", TDI_BUS_NAME);
                if (r >= 0) {
                        r = sd_bus_message_read(reply, "s", &owner);
                        if (r >= 0)
                                r = free_and_strdup(&c->event_owner, owner);
                } else if (sd_bus_error_has_name(&e, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                        r = 0; /* it may come */
        }
        if (r < 0) {
                unsubscribe(c);
                return client_fail_bus(c, r, &e, &what);
        }
        c->event = callback;
        c->event_data = userdata;
        c->event_stop = false;
        return 0;
}

int tdi_client_process(struct tdi_client *c) {
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        do {
                if (c->event_stop) {
                        c->event_stop = false;
                        return 1;
                }
                r = sd_bus_process(c->bus, NULL);
        } while (r > 0);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                client_lose_jobs(c);
                return client_fail(c, -ECONNRESET, TDI_ERROR_NONE, "The connection to %s is lost.", c->bus_label);
        }
        return 0;
}

int tdi_client_run(struct tdi_client *c) {
        bool woken;
        int r;

        for (;;) {
                r = tdi_client_process(c);
                if (r != 0)
                        return r < 0 ? r : 0;
                r = client_poll(c, UINT64_MAX, &woken);
                if (r == -ECONNRESET)
                        continue; /* process tells it */
                if (r < 0)
                        return client_fail(c, r, TDI_ERROR_NONE, "Could not wait for events: %s.", strerror(-r));
                if (woken)
                        return client_fail(c, -EINTR, TDI_ERROR_NONE, "Interrupted.");
        }
}
