/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* logind's inhibitor lock. */
#include "inhibit.h"

#include <stdio.h>

#include "custody-rules.h"

#define LOGIND "org.freedesktop.login1"
#define NOT_NEEDED "no function is bound: nothing has to be refused"

struct inhibit {
        Manager *manager;
        int fd;              /* the lock, or -EBADF */
        sd_bus_slot *call;   /* under way; NULL */
        sd_bus_slot *match;  /* logind comes */
        bool wanted, said;   /* said: that there is none */
        char why[256];       /* of there being none though it is wanted; "" */
};

static bool any_bound(const Manager *m) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (custody_is_bound_in_kernel(m->custodies[i]))
                        return true;
        return false;
}

static void missing(struct inhibit *i, const char *why) {
        snprintf(i->why, sizeof(i->why), "%s", why);
        if (i->said)
                return;
        i->said = true;
        log_warning("suspend is not refused while functions are bound: %s", why);
}

static int on_answer(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        struct inhibit *i = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        char why[200];
        int fd = -EBADF, r;

        i->call = sd_bus_slot_unref(i->call);
        if (error) {
                snprintf(why, sizeof(why), "logind does not give an inhibitor lock: %s", error->message ? error->message : strempty(error->name));
                missing(i, why);
                return 0;
        }
        r = sd_bus_message_read_basic(reply, 'h', &fd);
        if (r >= 0)
                r = fd = fd_dup(fd);
        if (r < 0) {
                snprintf(why, sizeof(why), "logind's answer has no descriptor: %s", strerror(-r));
                missing(i, why);
                return 0;
        }
        close_fd(i->fd);
        i->fd = fd;
        i->why[0] = '\0';
        log_info("suspend is refused from now on: a function is bound");
        /* Meanwhile it may have been unbound. */
        manager_touch(i->manager);
        return 0;
}

static void ask(struct inhibit *i) {
        char why[200];
        int r;

        if (i->call)
                return;
        r = sd_bus_call_method_async(i->manager->bus, &i->call, LOGIND, "/org/freedesktop/login1", LOGIND ".Manager", "Inhibit", on_answer, i, "ssss",
                                     "sleep", "tdid", "functions are bound to confidential VMs", "block");
        if (r >= 0)
                return;
        snprintf(why, sizeof(why), "logind could not be asked: %s", strerror(-r));
        missing(i, why);
}

/* A new logind may have forgotten what the one before gave. */
static int on_owner(sd_bus_message *signal, void *userdata, _unused_ sd_bus_error *e) {
        const char *name, *before, *now;
        struct inhibit *i = userdata;

        if (sd_bus_message_read(signal, "sss", &name, &before, &now) >= 0 && *now && i->wanted)
                ask(i);
        return 0;
}

static struct inhibit *begin(Manager *m) {
        struct inhibit *i = calloc(1, sizeof(*i));
        int r;

        if (!i)
                log_oom();
        i->manager = m;
        i->fd = -EBADF;
        r = sd_bus_add_match_async(m->bus, &i->match,
                                   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',interface='org.freedesktop.DBus',"
                                   "member='NameOwnerChanged',arg0='" LOGIND "'", on_owner, NULL, i);
        if (r < 0)
                log_debug("nobody will say when logind comes: %s", strerror(-r));
        return i;
}

void inhibit_settle(Manager *m) {
        bool wanted = any_bound(m);
        struct inhibit *i;

        /* Who leaves the bus has no use for a lock. */
        if (!m->bus || (!m->inhibit && !wanted))
                return;
        i = m->inhibit = m->inhibit ? m->inhibit : begin(m);
        if (wanted && !i->wanted)
                ask(i);
        i->wanted = wanted;
        if (wanted || i->fd < 0)
                return;
        i->fd = close_fd(i->fd);
        log_info("suspend is not refused any more: no function is bound");
}

struct json_object *inhibit_describe(const Manager *m) {
        const struct inhibit *i = m->inhibit;
        struct json_object *o = json_new();
        bool refused = i && i->fd >= 0;

        json_set_bool(o, "refused", refused);
        json_set_str(o, "why", refused ? "functions are bound; tdid has logind's inhibitor lock" : !i || !i->wanted ? NOT_NEEDED :
                     *i->why ? i->why : "logind has not answered yet");
        return o;
}

void inhibit_free(struct inhibit *i) {
        if (!i)
                return;
        sd_bus_slot_unref(i->call);
        sd_bus_slot_unref(i->match);
        close_fd(i->fd);
        free(i);
}
