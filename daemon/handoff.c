/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written down of descriptors that went out, and what is read from it. */
#include "handoff.h"

#include <stdio.h>
#include <time.h>

#include "custody-engine.h"
#include "journal.h"

#define KEY "handoff"

struct json_object *custody_handoff(const Custody *c) {
        struct json_object *o;

        return json_get_object(c->values, KEY, &o) < 0 ? NULL : o;
}

bool custody_is_handed_off(const Custody *c) {
        return custody_handoff(c);
}

static void set(Custody *c, struct json_object *o) {
        if (o)
                json_set_take(c->values, KEY, o);
        else
                json_object_object_del(c->values, KEY);
}

int custody_note_handoff(Custody *c, uid_t uid, struct json_object **ret_before) {
        struct json_object *o = json_new(), *before = json_object_get(custody_handoff(c));
        int r;

        json_set_u64(o, "uid", uid);
        json_set_u64(o, "time", now_realtime());
        json_set_u64(o, "count", json_u64_or(before, "count", 0) + 1);
        set(c, o);
        r = journal_write(c);
        if (r < 0) {
                set(c, before);
                return r;
        }
        *ret_before = before;
        return 0;
}

void custody_take_back_handoff(Custody *c, struct json_object *before) {
        set(c, before);
        if (journal_write(c) < 0)
                log_warning("%s: could not write its journal: a tdid that starts now takes it for handed off", c->name);
}

/* Its unbinding from vfio-pci sleeps until nobody has the device open (vfio_unregister_group_dev), or has done so in an earlier worker. */
static bool is_leaving(const Custody *c) {
        return (c->busy && c->goal == GOAL_DOWN && c->begun & BIT(ACTION_CLAIM_REBIND)) || c->locked_since != 0;
}

bool custody_waits_for_handoff(const Custody *c, char *buf, size_t size) {
        struct json_object *o = custody_handoff(c);
        char when[64] = "?";
        time_t seconds;
        struct tm tm;

        if (!is_leaving(c) || !(c->stuck || c->locked_out))
                return false;
        if (!o && json_bool_or(c->values, "associated", false)) {
                snprintf(buf, size,
                         "%s is still open: its VMM had its VFIO node for a moment, to associate it with the KVM VM, and seems to have kept a copy; it is "
                         "given back when that process ends ('fuser -v /dev/vfio/devices/%s' names it)",
                         c->name, json_str_or(c->values, "cdev", "?"));
                return true;
        }
        if (!o)
                return false;
        seconds = (time_t) (json_u64_or(o, "time", 0) / 1000000);
        if (gmtime_r(&seconds, &tm))
                (void) strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
        snprintf(buf, size,
                 "%s is still open: its descriptors were handed off, last to uid %llu at %s, and the kernel waits for whoever has a copy; it is given "
                 "back when that process ends ('fuser -v /dev/vfio/devices/%s' names it)",
                 c->name, (unsigned long long) json_u64_or(o, "uid", 0), when, json_str_or(c->values, "cdev", "?"));
        return true;
}

bool custody_group_waits_for_handoff(const Custody *c) {
        for (size_t i = 0; c->group >= 0 && i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (o != c && o->group == c->group && custody_is_handed_off(o) && is_leaving(o))
                        return true;
        }
        return false;
}
