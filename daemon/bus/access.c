/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who calls, and what that is enough for. The bus knows the uid behind a connection's unique name; it is asked once per connection, without
 * waiting, and the answer is kept for as long as the connection lives: unique names are never used again while the bus runs. No pid decides
 * anything: polkit, too, is told the unique name.
 *
 * Root never needs polkit. An owner has its VM without it, and polkit may take that away; all else that somebody else may do it has to allow.
 */
#include <stdio.h>

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
        struct polkit *polkit;
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

        if (sd_bus_message_read(s, "sss", &name, &old, &new) < 0)
                return 0;
        polkit_name_changed(c->polkit, name, *new);
        if (*new)
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
        if (sd_bus_message_is_method_error(reply, NULL) || sd_bus_message_read(reply, "u", &uid) < 0) {
                r = bus_error(&error, TDI_ERROR_DENIED, "the bus does not say who calls");
                bus_refuse(a->manager, a->call, NULL, r, &error);
        } else {
                remember(a->manager->callers, sd_bus_message_get_sender(a->call), uid);
                bus_run_again(a->manager, a->call, a->method, NULL);
        }
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
                m->callers->polkit = polkit_new(m);
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

/* Who could have done it without polkit. */
static void format_rule(const struct access *a, bool is_owner, char *buf, size_t size) {
        if (is_owner && polkit_action_is_given(polkit_action_of_caller(a->action, true)))
                snprintf(buf, size, "only root may do this, and the owner of VM %s whom polkit lets", a->vm);
        else if (a->has_owner && a->action != polkit_action_of_caller(a->action, true))
                snprintf(buf, size, "only root and the owner of the VM (uid %u) may do this", a->owner);
        else
                snprintf(buf, size, "only root may do this");
}

static int ask_polkit(Manager *m, const struct access *a, enum polkit_action action, uid_t uid, sd_bus_message *call, sd_bus_message_handler_t method,
                      sd_bus_error *e) {
        const char *interface = strempty(sd_bus_message_get_interface(call)), *details[9];
        char name[128], owner[16], rule[256], why[POLKIT_WHY_MAX] = "";
        size_t n = 0;
        int r;

        snprintf(name, sizeof(name), "%s.%s", startswith(interface, BUS_NAME ".") ? interface + strlen(BUS_NAME ".") : interface,
                 strempty(sd_bus_message_get_member(call)));
        details[n++] = "method";
        details[n++] = name;
        if (a->vm) {
                details[n++] = "vm";
                details[n++] = a->vm;
        }
        if (a->has_owner) {
                snprintf(owner, sizeof(owner), "%u", a->owner);
                details[n++] = "owner";
                details[n++] = owner;
        }
        if (a->device) {
                details[n++] = "device";
                details[n++] = a->device;
        }
        details[n] = NULL;
        r = polkit_ask(m->callers->polkit, uid, action, details, call, method, why);
        if (r == -EHOSTDOWN && polkit_action_is_given(action))
                return 1;
        if (r == -ENOBUFS)
                return bus_error(e, TDI_ERROR_LIMIT, "too many calls wait for polkit: at most %d of one user, %d in all; try again",
                                 POLKIT_PENDING_PER_USER, POLKIT_PENDING_MAX);
        if (r == -ESTALE)
                return bus_error(e, TDI_ERROR_BUSY, "what polkit was asked about has changed each time it answered; try again");
        if (r != -EACCES && r != -EHOSTDOWN)
                return r;
        format_rule(a, a->has_owner && uid == a->owner, rule, sizeof(rule));
        return bus_error(e, TDI_ERROR_DENIED, "%s; uid %u asked, who needs %s: %s", rule, uid, polkit_action_to_string(action), why);
}

int access_check(Manager *m, const struct access *a, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret, sd_bus_error *e) {
        enum polkit_action action;
        uid_t uid;
        int r;

        r = access_caller(m, call, method, &uid, e);
        if (r <= 0)
                return r;
        if (!access_is_master(uid)) {
                action = polkit_action_of_caller(a->action, a->has_owner && uid == a->owner);
                r = action == _POLKIT_ACTION_INVALID ? 1 : ask_polkit(m, a, action, uid, call, method, e);
                if (r <= 0)
                        return r;
        }
        *ret = uid;
        return 1;
}

int access_host(Manager *m, enum polkit_action action, const char *device, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        const struct access a = { .action = action, .device = device };
        uid_t uid;

        return access_check(m, &a, call, method, &uid, e);
}

int access_vm(Manager *m, enum polkit_action action, const VM *vm, const char *device, sd_bus_message *call, sd_bus_message_handler_t method, uid_t *ret,
              sd_bus_error *e) {
        const struct access a = { .action = action, .has_owner = true, .owner = vm->owner, .vm = vm->name, .device = device };

        return access_check(m, &a, call, method, ret, e);
}

int access_job(Manager *m, enum polkit_action action, const Job *j, sd_bus_message *call, sd_bus_message_handler_t method, sd_bus_error *e) {
        struct access a = { .action = action, .has_owner = true, .owner = j->owner, .vm = j->vm ? j->vm->name : NULL };
        char device[TDI_BDF_MAX];
        uid_t uid;

        if (j->n_bdfs == 1)
                a.device = tdi_bdf_format(j->bdfs[0], device);
        return access_check(m, &a, call, method, &uid, e);
}

void access_free(struct callers *c) {
        if (!c)
                return;
        sd_bus_slot_unref(c->watch);
        polkit_free(c->polkit);
        for (size_t i = 0; i < c->n; i++)
                free(c->known[i].name);
        free(c);
}
