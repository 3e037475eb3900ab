/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A TSM that refuses to unbind. The function is quarantined, and its unbind tried again: by itself, later and later, and at once when
 * somebody asks, or its VM closes. Nothing that could reset or close it happens before that has gone well.
 *
 * And an undo that fails while the host waits for the function (unplugged, or taken from vfio-pci): with it waits all of PCI hotplug, until the last
 * close. It is quarantined too, and tried again in the same way, but not for ever.
 */
#include "custody-engine.h"

#include "vm.h"

#define FIRST_USEC 1000000ULL
#define MOST_USEC 60000000ULL
/* Five minutes in all: what has not passed by then takes a look. */
#define CLOSE_ATTEMPTS 10

bool custody_unbind_is_refused(const Custody *c) {
        /* What was undone before it is gone: as long as this is not, it is what could not be. */
        return c->quarantine && !c->damaged && !c->frozen && custody_touched(c, ACTION_BIND_TSM);
}

bool custody_is_asked_again(const Custody *c) {
        return c->trying_again && !c->stuck;
}

static void try_again(Custody *c) {
        c->again = sd_event_source_disable_unref(c->again);
        c->trying_again = true;
        custody_set_goal(c, c->again_goal);
        manager_touch(c->manager);
}

static int on_again(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        try_again(userdata);
        return 0;
}

static void later(Custody *c, enum custody_goal goal) {
        uint64_t usec = FIRST_USEC;

        for (unsigned i = 0; i < c->refusals && usec < MOST_USEC; i++)
                usec *= 2;
        c->refusals++;
        c->trying_again = false;
        c->again_goal = goal;
        c->again = sd_event_source_disable_unref(c->again);
        if (sd_event_add_time_relative(c->manager->event, &c->again, CLOCK_MONOTONIC, usec < MOST_USEC ? usec : MOST_USEC, 0, on_again, c) < 0)
                log_oom();
}

void custody_unbind_later(Custody *c, enum custody_goal goal) {
        later(c, goal == GOAL_DOWN ? GOAL_DOWN : GOAL_UNBIND);
        /* Nobody else keeps what keeps it bound, nor the device, when tdid ends. */
        if (!c->vm && !c->given_to_worker)
                custody_leave(c);
}

void custody_unbind_again(Custody *c, enum custody_goal goal) {
        if (!custody_unbind_is_refused(c))
                return;
        /* Never less than what it was: a VM that has begun to close stays so. */
        if (goal == GOAL_DOWN || c->again_goal != GOAL_DOWN)
                c->again_goal = goal == GOAL_DOWN ? GOAL_DOWN : GOAL_UNBIND;
        /* Whoever asks may have done something about it. */
        c->refusals = 0;
        try_again(c);
}

void custody_unbind_went_well(Custody *c) {
        c->again = sd_event_source_disable_unref(c->again);
        c->refusals = 0;
        if (!c->trying_again)
                return;
        c->trying_again = false;
        /* Nothing was wrong with the function. */
        json_set_bool(c->values, "doubted", false);
        custody_set_quarantine(c, NULL);
}

bool custody_is_tried_again(const Custody *c, unsigned *ret_attempt, unsigned *ret_of) {
        /* Whose a connection is, that has nobody asked yet. */
        if (!c->wanted || c->damaged || c->frozen || custody_touched(c, ACTION_BIND_TSM) || !custody_touched(c, ACTION_OPEN_CDEV) ||
            streq(json_str_or(c->values, "connected_by", ""), "unknown") || c->refusals >= CLOSE_ATTEMPTS)
                return false;
        *ret_attempt = c->refusals + 1;
        *ret_of = CLOSE_ATTEMPTS;
        return true;
}

void custody_close_later(Custody *c) {
        later(c, GOAL_DOWN);
}

void custody_want(Custody *c) {
        unsigned attempt, of;

        c->wanted = true;
        if (!c->quarantine || custody_unbind_is_refused(c)) {
                custody_give_back(c);
                return;
        }
        c->refusals = 0;
        if (!c->busy && !c->again && custody_is_tried_again(c, &attempt, &of)) {
                c->again_goal = GOAL_DOWN;
                try_again(c);
        }
}

void custody_closed(Custody *c) {
        if (!c->wanted || !c->trying_again)
                return;
        c->again = sd_event_source_disable_unref(c->again);
        c->refusals = 0;
        c->trying_again = false;
        /* It is checked before its driver gets it, as after any quarantine. */
        custody_set_quarantine(c, NULL);
}

void custody_give_back(Custody *c) {
        if (custody_unbind_is_refused(c))
                custody_unbind_again(c, GOAL_DOWN);
        else if (!c->quarantine)
                custody_set_goal(c, GOAL_DOWN);
}

void custody_restore(Custody *c, bool forced) {
        if (custody_unbind_is_refused(c)) {
                custody_unbind_again(c, c->again_goal);
                return;
        }
        c->again = sd_event_source_disable_unref(c->again);
        c->trying_again = false;
        c->refusals = 0;
        json_set_bool(c->values, "forced", forced);
        custody_set_quarantine(c, NULL);
        custody_set_goal(c, GOAL_DOWN);
        /* Where its VM has it still, as if it were detached: from here on it is not the VM's any more. A group goes together. */
        for (size_t i = 0; c->vm && i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];
                TDI *t = tdi_of(o);

                if (o != c && (o->vm != c->vm || c->group < 0 || o->group != c->group))
                        continue;
                if (t) {
                        t->committed = false;
                        tdi_set_state(t, TDI_STATE_DETACHING);
                }
                custody_give_back(o);
        }
        if (c->vm)
                vm_touch(c->vm);
}
