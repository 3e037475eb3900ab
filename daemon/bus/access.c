/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who calls. The bus knows the uid behind a connection's unique name; it is asked once per connection, without waiting, and the
 * answer is kept for as long as the connection lives: unique names are never used again while the bus runs.
 */

#include "bus/bus.h"
#include "vm.h"

#define KNOWN_MAX 1024
#define ASKING_MAX 256

struct caller {
        char *name;
        uid_t uid;
};

struct callers {
        struct caller known[KNOWN_MAX]; /* a ring: the oldest is asked again if it still calls */
        size_t n, next;
        unsigned asking;
        sd_bus_slot *watch;
};

struct asking {
        Manager *manager;
        sd_bus_message *call;
        sd_bus_message_handler_t method;
};

static struct caller *find(struct callers *c, const char *name) {
        for (size_t i = 0; i < c->n; i++)
                if (c->known[i].name && streq(c->known[i].name, name))
                        return c->known + i;
        return NULL;
}

static void remember(struct callers *c, const char *name, uid_t uid) {
        struct caller *k = c->known + c->next;

        if (free_and_strdup(&k->name, name) < 0)
                log_oom();
        k->uid = uid;
        c->next = (c->next + 1) % KNOWN_MAX;
        if (c->n < KNOWN_MAX)
                c->n++;
}

static int on_owner_changed(sd_bus_message *s, void *userdata, _unused_ sd_bus_error *e) {
        const char *name, *old, *new;
        struct callers *c = userdata;
        struct caller *k;

        if (sd_bus_message_read(s, "sss", &name, &old, &new) < 0 || *new)
                return 0;
        k = find(c, name);
        if (k) {
                free(k->name);
                k->name = NULL;
        }
        return 0;
}

static int on_uid(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        struct asking *a = userdata;
        uint32_t uid;
        int r;

        a->manager->callers->asking--;
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0)
                r = bus_error(&error, TDI_ERROR_DENIED, "the bus does not say who calls");
        else {
                remember(a->manager->callers, sd_bus_message_get_sender(a->call), uid);
                (void) sd_bus_message_rewind(a->call, 1);
                r = a->method(a->call, a->manager, &error);
        }
        bus_method_refused(a->manager, a->call, r, &error);
        if (r < 0 || sd_bus_error_is_set(&error))
                (void) sd_bus_reply_method_errno(a->call, r, &error);
        sd_bus_error_free(&error);
        sd_bus_message_unref(a->call);
        free(a);
        return 0;
}

static int ask(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        struct asking *a;
        int r;

        if (m->callers->asking >= ASKING_MAX)
                return bus_error(e, TDI_ERROR_LIMIT, "too many new callers at once; try again");
        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;
        *a = (struct asking){ m, sd_bus_message_ref(call), method };
        r = sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                     "GetConnectionUnixUser", on_uid, a, "s", sd_bus_message_get_sender(call));
        if (r < 0) {
                sd_bus_message_unref(a->call);
                free(a);
                return r;
        }
        m->callers->asking++;
        return 0;
}

int access_caller(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret, sd_bus_error *e) {
        const char *sender = sd_bus_message_get_sender(call);
        struct caller *k;
        int r;

        if (!m->callers) {
                m->callers = calloc(1, sizeof(*m->callers));
                if (!m->callers)
                        return -ENOMEM;
                r = sd_bus_match_signal_async(m->bus, &m->callers->watch, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                              "org.freedesktop.DBus", "NameOwnerChanged", on_owner_changed, NULL, m->callers);
                if (r < 0)
                        return r;
        }
        if (!sender)
                return bus_error(e, TDI_ERROR_DENIED, "the call does not come over a bus");
        k = find(m->callers, sender);
        if (!k)
                return ask(m, call, method, e);
        *ret = k->uid;
        return 1;
}

uid_t access_known(Manager *m, sd_bus_message *call) {
        const char *sender = sd_bus_message_get_sender(call);
        struct caller *k = sender && m->callers ? find(m->callers, sender) : NULL;

        return k ? k->uid : (uid_t) -1;
}

/* Who runs tdid as an ordinary user, to try it, can do to it what it likes anyway. Installed, tdid is root's. */
bool access_is_master(uid_t uid) {
        return uid == 0 || uid == geteuid();
}

bool access_sees_addresses(uid_t uid) {
        return access_is_master(uid);
}

int access_root(Manager *m, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        uid_t uid;
        int r;

        r = access_caller(m, call, method, &uid, e);
        if (r <= 0)
                return r;
        if (!access_is_master(uid))
                return bus_error(e, TDI_ERROR_DENIED, "only root may do this; uid %u asked", uid);
        return 1;
}

int access_job(Manager *m, const Job *j, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        uid_t uid;
        int r;

        r = access_caller(m, call, method, &uid, e);
        if (r <= 0)
                return r;
        if (!access_is_master(uid) && uid != j->owner)
                return bus_error(e, TDI_ERROR_DENIED, "only root and the owner of the job's VM may do this; uid %u asked", uid);
        return 1;
}

int access_owner(Manager *m, VM *vm, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret, sd_bus_error *e) {
        int r;

        r = access_caller(m, call, method, ret, e);
        if (r <= 0)
                return r;
        if (!access_is_master(*ret) && *ret != vm->owner)
                return bus_error(e, TDI_ERROR_DENIED, "only root and the owner of the VM (uid %u) may do this; uid %u asked", vm->owner, *ret);
        return 1;
}

void access_free(struct callers *c) {
        if (!c)
                return;
        sd_bus_slot_unref(c->watch);
        for (size_t i = 0; i < c->n; i++)
                free(c->known[i].name);
        free(c);
}
