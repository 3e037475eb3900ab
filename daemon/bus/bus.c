/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The connection, the object tree, signals and replies. */
#include "bus/bus.h"

#include <stdarg.h>
#include <stdio.h>

#include "audit.h"
#include "device.h"
#include "tsm.h"
#include "vm.h"

#define CHANGED_MAX 16

void bus_set_error(sd_bus_error *e, enum tdi_error error, const char *format, ...) {
        char name[64], text[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        /* A stranger's text may have been cut within a character, which the bus would not carry. */
        json_clean_text(text);
        snprintf(name, sizeof(name), TDI_ERROR_PREFIX "%s", tdi_error_to_name(error));
        (void) sd_bus_error_set(e, name, text);
}

/* ---- objects by path ---- */

static int label_to_bdf(const char *path, const char *prefix, struct tdi_bdf *ret) {
        char form[32] = "pci_";
        size_t n;

        if (!startswith(path, prefix))
                return -EINVAL;
        path += strlen(prefix);
        n = strlen(path);
        if (n >= sizeof(form) - strlen(form))
                return -EINVAL;
        /* Asked for each property of each function that somebody lists. */
        memcpy(form + strlen(form), path, n + 1);
        return tdi_bdf_parse(form, ret);
}

VM *bus_vm(Manager *m, const char *path) {
        VM *vm = startswith(path, BUS_ROOT "/vm/") ? vm_find_id(m, path + strlen(BUS_ROOT "/vm/")) : NULL;

        return vm && vm->announced ? vm : NULL;
}

TDI *bus_tdi(Manager *m, const char *path) {
        struct tdi_bdf bdf;

        return label_to_bdf(path, BUS_ROOT "/tdi/", &bdf) < 0 ? NULL : tdi_find(m, bdf);
}

Device *bus_device(Manager *m, const char *path) {
        struct tdi_bdf bdf;

        return label_to_bdf(path, BUS_ROOT "/device/", &bdf) < 0 ? NULL : device_find(m, bdf);
}

Tsm *bus_tsm(Manager *m, const char *path) {
        return startswith(path, BUS_ROOT "/tsm/") ? tsm_find(m, path + strlen(BUS_ROOT "/tsm/")) : NULL;
}

Job *bus_job(Manager *m, const char *path) {
        unsigned long long id;
        char *end;

        if (!startswith(path, BUS_ROOT "/job/"))
                return NULL;
        id = strtoull(path + strlen(BUS_ROOT "/job/"), &end, 10);
        return *end ? NULL : job_find(m, id);
}

#define DEFINE_FIND(kind)                                                                                                          \
        static int find_##kind(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, void *userdata, void **ret, \
                               _unused_ sd_bus_error *e) {                                                                         \
                *ret = userdata;                                                                                                   \
                return bus_##kind(userdata, path) ? 1 : 0;                                                                         \
        }
DEFINE_FIND(vm)
DEFINE_FIND(tdi)
DEFINE_FIND(device)
DEFINE_FIND(tsm)
DEFINE_FIND(job)

static char **nodes_new(size_t n) {
        char **nodes = calloc(n + 1, sizeof(*nodes));

        if (!nodes)
                log_oom();
        return nodes;
}

static char *node(const char *path) {
        char *copy = strdup(path);

        if (!copy)
                log_oom();
        return copy;
}

/*
 * The prefix that sd-bus passes is not used: for GetManagedObjects it is the root's, for Introspect the folder's. Each folder
 * has an enumerator of its own.
 */
#define DEFINE_ENUMERATE(kind, count, expression)                                                                             \
        static int enumerate_##kind(_unused_ sd_bus *bus, _unused_ const char *prefix, void *userdata, char ***ret,            \
                                    _unused_ sd_bus_error *e) {                                                               \
                Manager *m = userdata;                                                                                        \
                char **nodes = nodes_new(count), path[64];                                                                    \
                size_t n = 0;                                                                                                 \
                                                                                                                              \
                for (size_t i = 0; i < (count); i++) {                                                                        \
                        const char *p = (expression);                                                                         \
                                                                                                                              \
                        if (p)                                                                                                \
                                nodes[n++] = node(p);                                                                         \
                }                                                                                                             \
                *ret = nodes;                                                                                                 \
                return 0;                                                                                                     \
        }
DEFINE_ENUMERATE(device, m->n_devices, device_path(m->devices[i]->bdf, path))
DEFINE_ENUMERATE(vm, m->n_vms, m->vms[i]->announced ? vm_path(m->vms[i], path) : NULL)
DEFINE_ENUMERATE(tdi, m->n_custodies, tdi_of(m->custodies[i]) ? tdi_path(tdi_of(m->custodies[i]), path) : NULL)
DEFINE_ENUMERATE(tsm, m->n_tsms, tsm_path(m->tsms[i], path))
DEFINE_ENUMERATE(job, m->n_jobs, job_path(m->jobs[i], path))

static int add_objects(Manager *m) {
        static const struct {
                const char *prefix, *interface;
                const sd_bus_vtable *vtable;
                sd_bus_object_find_t find;
                sd_bus_node_enumerator_t enumerate;
        } kinds[] = {
                { BUS_ROOT "/vm", BUS_VM, bus_vm_vtable, find_vm, enumerate_vm },
                { BUS_ROOT "/tdi", BUS_TDI, bus_tdi_vtable, find_tdi, enumerate_tdi },
                { BUS_ROOT "/device", BUS_DEVICE, bus_device_vtable, find_device, enumerate_device },
                { BUS_ROOT "/tsm", BUS_TSM, bus_tsm_vtable, find_tsm, enumerate_tsm },
                { BUS_ROOT "/job", BUS_JOB, bus_job_vtable, find_job, enumerate_job },
        };
        int r;

        r = sd_bus_add_object_vtable(m->bus, NULL, BUS_ROOT, BUS_MANAGER, bus_audited(BUS_MANAGER, bus_manager_vtable), m);
        if (r >= 0)
                r = sd_bus_add_object_manager(m->bus, NULL, BUS_ROOT);
        for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(kinds); i++) {
                r = sd_bus_add_fallback_vtable(m->bus, NULL, kinds[i].prefix, kinds[i].interface, bus_audited(kinds[i].interface, kinds[i].vtable), kinds[i].find, m);
                if (r >= 0)
                        r = sd_bus_add_node_enumerator(m->bus, NULL, kinds[i].prefix, kinds[i].enumerate, m);
        }
        return r;
}

static int on_disconnected(_unused_ sd_bus_message *message, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;

        /* The service manager starts us again; holders and journal bridge the gap. */
        log_error("the bus has gone: ending, holders keep everything");
        return sd_event_exit(m->event, 1);
}

int bus_open(Manager *m, const char *bus) {
        int r;

        if (streq(bus, "system"))
                r = sd_bus_open_system(&m->bus);
        else if (streq(bus, "session"))
                r = sd_bus_open_user(&m->bus);
        else {
                r = sd_bus_new(&m->bus);
                if (r >= 0)
                        r = sd_bus_set_address(m->bus, bus);
                if (r >= 0)
                        r = sd_bus_set_bus_client(m->bus, 1);
                if (r >= 0)
                        r = sd_bus_negotiate_fds(m->bus, 1);
                if (r >= 0)
                        r = sd_bus_start(m->bus);
        }
        if (r >= 0)
                r = add_objects(m);
        if (r >= 0)
                r = sd_bus_match_signal_async(m->bus, NULL, "org.freedesktop.DBus.Local", NULL, "org.freedesktop.DBus.Local", "Disconnected",
                                              on_disconnected, NULL, m);
        if (r >= 0)
                r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        return r;
}

static int on_name(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;
        uint32_t result = 0;
        int r;

        r = sd_bus_message_is_method_error(reply, NULL) ? -sd_bus_message_get_errno(reply) : sd_bus_message_read(reply, "u", &result);
        /* 1: primary owner, 4: it was ours already (D-Bus specification, RequestName) */
        m->name_answered(m, r < 0 ? r : result == 1 || result == 4 ? 0 : -EEXIST);
        return 0;
}

int bus_request_name(Manager *m, void (*done)(Manager *m, int r)) {
        m->name_answered = done;
        return sd_bus_request_name_async(m->bus, NULL, BUS_NAME, 0, on_name, m);
}

void bus_close(Manager *m) {
        access_free(m->callers);
        m->callers = NULL;
        m->bus = sd_bus_flush_close_unref(m->bus);
        bus_audited_free();
}

/* ---- signals ---- */

void bus_added(Manager *m, const char *path, const char *interface) {
        if (m->serving)
                (void) sd_bus_emit_interfaces_added(m->bus, path, interface, NULL);
}

void bus_removed(Manager *m, const char *path, const char *interface) {
        if (m->serving)
                (void) sd_bus_emit_interfaces_removed(m->bus, path, interface, NULL);
}

void bus_changed(Manager *m, const char *path, const char *interface, ...) {
        char *names[CHANGED_MAX + 1];
        size_t n = 0;
        va_list ap;
        char *name;

        if (!m->serving)
                return;
        va_start(ap, interface);
        while ((name = va_arg(ap, char *)) && n < CHANGED_MAX)
                names[n++] = name;
        va_end(ap);
        names[n] = NULL;
        /* -ENOENT: the object has gone meanwhile, which has a signal of its own. */
        (void) sd_bus_emit_properties_changed_strv(m->bus, path, interface, names);
}

void bus_emit_closing(Manager *m, const char *path, const char *reason) {
        if (m->serving)
                (void) sd_bus_emit_signal(m->bus, path, BUS_VM, "Closing", "s", reason);
}

void bus_emit_iommu_event(Manager *m, const char *path, const char *bdf, const char *event, const char *text) {
        if (m->serving)
                (void) sd_bus_emit_signal(m->bus, path, BUS_VM, "IOMMUEvent", "sss", bdf, event, text);
}

void bus_emit_failed(Manager *m, const char *path, const char *reason) {
        if (m->serving)
                (void) sd_bus_emit_signal(m->bus, path, BUS_TDI, "Failed", "s", reason);
}

void bus_emit_finished(const Job *j) {
        char name[64] = "", text[512] = "", path[64];

        if (!j->manager->serving)
                return;
        if (j->error != TDI_ERROR_NONE) {
                snprintf(name, sizeof(name), TDI_ERROR_PREFIX "%s", tdi_error_to_name(j->error));
                public_job_text(j, text, sizeof(text));
        }
        (void) sd_bus_emit_signal(j->manager->bus, job_path(j, path), BUS_JOB, "Finished", "ss", name, text);
}

/* ---- replies ---- */

static int send_job(Job *j, sd_bus_message *call) {
        sd_bus_message *reply = NULL;
        char path[64];
        int r;

        r = sd_bus_message_new_method_return(call, &reply);
        if (r >= 0 && j->reply_with_tdis) {
                r = sd_bus_message_open_container(reply, 'a', "o");
                for (size_t i = 0; r >= 0 && i < j->n_bdfs; i++) {
                        char label[TDI_BDF_MAX];

                        snprintf(path, sizeof(path), BUS_ROOT "/tdi/%s", tdi_bdf_to_label(j->bdfs[i], label));
                        r = sd_bus_message_append(reply, "o", path);
                }
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_append(reply, "o", job_path(j, path));
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        sd_bus_message_unref(reply);
        return r;
}

void bus_reply_job(Job *j) {
        int r;

        if (j->error == TDI_ERROR_NONE)
                r = send_job(j, j->call);
        else {
                sd_bus_error e = SD_BUS_ERROR_NULL;

                bus_set_error(&e, j->error, "%s", j->text);
                r = sd_bus_reply_method_error(j->call, &e);
                sd_bus_error_free(&e);
        }
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
}

bool bus_is_plan(sd_bus_message *call) {
        return startswith(sd_bus_message_get_member(call), "Plan");
}

int bus_reply_description(sd_bus_message *call, const char *key, struct json_object *o) {
        _cleanup_json_ struct json_object *reply = json_new();

        json_set_str(reply, "schema", "tdid/1");
        json_set_take(reply, key, o);
        return sd_bus_reply_method_return(call, "s", json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

int bus_job_started(Job *j, sd_bus_message *call, bool async) {
        j->caller = access_known(j->manager, call);
        audit_job_started(j);
        if (async)
                return send_job(j, call);
        j->call = sd_bus_message_ref(call);
        return 1;
}
