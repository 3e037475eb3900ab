/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Every refusal of a method is audited. sd-bus sends a method's error itself, and tells nobody: so it is given copies of the vtables
 * whose methods all are on_call() here, which runs the real one and looks at what came of it.
 */
#include "audit.h"
#include "bus/bus.h"
#include "counters.h"
#include "device.h"
#include "proofs.h"
#include "vm.h"

#define INTERFACES_MAX 8

static struct {
        const char *interface;
        const sd_bus_vtable *real;
        sd_bus_vtable *copy;
} tables[INTERFACES_MAX];

/* They change nothing, and anybody may ask for what there is not. */
static bool only_reads(const char *member) {
        static const char *const names[] = { "GetVM", "GetDevice", "Describe", "DescribeHost", "Check" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(member, names[i]))
                        return true;
        return false;
}

/* The function that an object of the bus is about, and its VM. */
static void find_object(Manager *m, const char *path, const VM **ret_vm, const char **ret_bdf, char buf[static TDI_BDF_MAX]) {
        Device *d = bus_device(m, path);
        TDI *t = bus_tdi(m, path);
        Custody *c = d ? custody_find(m, d->bdf) : NULL;

        *ret_vm = t ? t->vm : c ? c->vm : bus_vm(m, path);
        *ret_bdf = t ? tdi_bdf_format(t->bdf, buf) : d ? tdi_bdf_format(d->bdf, buf) : NULL;
}

void bus_method_refused(Manager *m, sd_bus_message *call, const char *action, int r, const sd_bus_error *e) {
        const char *path = sd_bus_message_get_path(call), *name = "Failed", *text = e->message;
        struct audit_call a = { .method = sd_bus_message_get_member(call), .caller = access_known(m, call) };
        char bdf[TDI_BDF_MAX];

        if (r >= 0 && !sd_bus_error_is_set(e))
                return;
        proofs_forget(m, call);
        if (!path || !a.method)
                return;
        a.known = a.caller != (uid_t) -1;
        find_object(m, path, &a.vm, &a.bdf, bdf);
        if (e->name)
                name = startswith(e->name, TDI_ERROR_PREFIX) ? e->name + strlen(TDI_ERROR_PREFIX) : e->name;
        if (isempty(text))
                text = r < 0 ? strerror(-r) : "";
        if (streq(name, tdi_error_to_name(TDI_ERROR_DENIED)) || !only_reads(a.method))
                counters_refused(name);
        if (streq(name, tdi_error_to_name(TDI_ERROR_DENIED)))
                audit_denied(&a, action, text);
        else if (!only_reads(a.method))
                audit_refused(&a, name, text);
}

void bus_refuse(Manager *m, sd_bus_message *call, const char *action, int r, sd_bus_error *e) {
        if (r < 0 || sd_bus_error_is_set(e)) {
                Job *j = proofs_job(m, call);

                bus_method_refused(m, call, action, r, e);
                if (j) {
                        enum tdi_error error = e->name && startswith(e->name, TDI_ERROR_PREFIX) ? tdi_error_from_name(e->name + strlen(TDI_ERROR_PREFIX)) : TDI_ERROR_KERNEL;

                        job_fail(j, error, "%s", e->message ? e->message : strerror(r < 0 ? -r : EIO));
                        job_finish(j);
                } else
                        (void) sd_bus_reply_method_errno(call, r, e);
        }
        sd_bus_error_free(e);
}

void bus_run_again(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, const char *action) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        sd_bus_message_ref(call);
        r = sd_bus_message_rewind(call, 1);
        if (r >= 0)
                r = method(call, m, &e);
        bus_refuse(m, call, action, r, &e);
        sd_bus_message_unref(call);
}

/* "/org/tdid1/vm/1" has one interface with methods of ours, "org.tdid1.VM". */
static bool is_of(const char *path, const char *interface) {
        const char *kind = strrchr(interface, '.') + 1;
        size_t n = strlen(kind);

        if (streq(path, BUS_ROOT))
                return streq(interface, BUS_MANAGER);
        return startswith(path, BUS_ROOT "/") && strncasecmp(path + strlen(BUS_ROOT "/"), kind, n) == 0 && path[strlen(BUS_ROOT "/") + n] == '/';
}

/* A message need not name the interface. */
static sd_bus_message_handler_t real_method(sd_bus_message *call) {
        const char *interface = sd_bus_message_get_interface(call), *member = sd_bus_message_get_member(call), *path = sd_bus_message_get_path(call);

        for (size_t i = 0; i < INTERFACES_MAX && tables[i].real; i++) {
                if (interface ? !streq(interface, tables[i].interface) : !is_of(path, tables[i].interface))
                        continue;
                for (const sd_bus_vtable *v = tables[i].real; v->type != _SD_BUS_VTABLE_END; v++)
                        if (v->type == _SD_BUS_VTABLE_METHOD && streq(v->x.method.member, member))
                                return v->x.method.handler;
        }
        return NULL;
}

static int on_call(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        sd_bus_message_handler_t method = real_method(call);
        int r;

        if (!method)
                return 0;
        r = method(call, userdata, e);
        bus_method_refused(userdata, call, NULL, r, e);
        return r;
}

const sd_bus_vtable *bus_audited(const char *interface, const sd_bus_vtable *vtable) {
        size_t i = 0, n = 1;

        while (tables[i].real)
                i++;
        for (const sd_bus_vtable *v = vtable; v->type != _SD_BUS_VTABLE_END; v++)
                n++;
        tables[i].copy = malloc(n * sizeof(*vtable));
        if (!tables[i].copy)
                log_oom();
        memcpy(tables[i].copy, vtable, n * sizeof(*vtable));
        for (size_t k = 0; k < n; k++)
                if (vtable[k].type == _SD_BUS_VTABLE_METHOD)
                        tables[i].copy[k].x.method.handler = on_call;
        tables[i].interface = interface;
        tables[i].real = vtable;
        return tables[i].copy;
}

void bus_audited_free(void) {
        for (size_t i = 0; i < INTERFACES_MAX; i++)
                free(tables[i].copy);
        memset(tables, 0, sizeof(tables));
}
