/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The connection of a DSM that goes under functions in custody: its TSM went, or somebody disconnected it beside tdid. They stay as they
 * are, not bound any more. What the TSM took along is made again by the next bind, once it is back; what somebody cut, they have to mend.
 */
#include <stdio.h>

#include "audit.h"
#include "custody-engine.h"
#include "custody-rules.h"
#include "device.h"
#include "journal.h"
#include "tsm.h"
#include "vm.h"

#define LOST "lost"
#define GONE "gone"
#define CUT "cut"

static const char *lost(const Custody *c) {
        return json_str_or(c->values, LOST, "");
}

bool custody_connection_is_lost(const Custody *c) {
        return *lost(c);
}

/* It was attached when there was no TSM, and may have one now. */
static Device *later_dsm(const Custody *c) {
        Device *d = device_find(c->manager, c->bdf);

        if (*custody_dsm(c) || streq(json_str_or(c->values, "connect", "auto"), "no") || !custody_is_done(c, ACTION_CONNECT_TSM))
                return NULL;
        return d && c->manager->n_tsms > 0 ? device_dsm(d) : NULL;
}

bool custody_wants_connection(const Custody *c) {
        return streq(lost(c), GONE) || later_dsm(c);
}

bool custody_may_connect(const Custody *c, char *why, size_t size) {
        if (!streq(lost(c), CUT) && (c->manager->n_tsms > 0 || !*lost(c)))
                return true;
        if (streq(lost(c), CUT))
                snprintf(why, size, "%s: somebody disconnected its DSM %s from its TSM: `tdictl device connect %s` connects it again", c->name,
                         custody_dsm(c), custody_dsm(c));
        else
                snprintf(why, size, "%s: the TSM that its DSM %s was connected to has gone, and no other has come", c->name, custody_dsm(c));
        return false;
}

void custody_choose_again(Custody *c) {
        json_set_str(c->values, "tsm", c->manager->n_tsms > 0 ? c->manager->tsms[0]->name : "");
        /* As for the first one: whose it is shows the worker's mark, if nobody lives to hear of it. */
        json_set_str(c->values, "connected_by", "perhaps");
}

static void write_down(Custody *c) {
        if (journal_write(c) < 0)
                log_warning("%s: could not write its journal: a tdid that starts now knows less of its TSM connection", c->name);
}

static void found(Custody *c, const char *by) {
        if (!*lost(c))
                return;
        json_object_object_del(c->values, LOST);
        json_set_str(c->values, "connected_by", by);
        write_down(c);
}

void custody_connected_again(Custody *c) {
        const char *by = json_str_or(c->values, "connected_by", ""), *tsm = json_str_or(c->values, "tsm", "");

        c->connected_round = inventory_refresh_tsm(c->manager);
        if (!*by)
                return;
        json_object_object_del(c->values, LOST);
        write_down(c);
        /* It is everybody's under this DSM, and the last of them gives it back. */
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o == c || !*lost(o) || !streq(custody_dsm(o), custody_dsm(c)))
                        continue;
                json_set_str(o->values, "tsm", tsm);
                o->connected_round = c->connected_round;
                found(o, streq(by, "perhaps") ? "other" : by);
        }
}

/* It found what we had made, or perhaps: that it is "other" was said of us. */
static bool is_heir(const Custody *c, const Custody *o) {
        return o != c && *custody_dsm(c) && streq(custody_dsm(o), custody_dsm(c)) && custody_is_done(o, ACTION_CONNECT_TSM) && !*lost(o) &&
               streq(json_str_or(o->values, "connected_by", ""), "other");
}

bool custody_has_heirs(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++)
                if (is_heir(c, c->manager->custodies[i]))
                        return true;
        return false;
}

void custody_bequeath_connection(Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (!is_heir(c, o))
                        continue;
                json_set_str(o->values, "connected_by", "tdid");
                write_down(o);
        }
}

void custody_choose_dsm(Custody *c) {
        Device *dsm = later_dsm(c);
        char buf[TDI_BDF_MAX];

        if (!dsm)
                return;
        json_set_str(c->values, "dsm", tdi_bdf_format(dsm->bdf, buf));
        json_set_str(c->values, LOST, GONE);
}

static void lose(Custody *c, const char *how) {
        audit_tsm_lost(c, custody_dsm(c), streq(how, GONE) ? "the TSM has gone" : "somebody disconnected it");
        json_set_str(c->values, LOST, how);
        /* Nothing of it is left to give back. */
        json_set_str(c->values, "connected_by", "");
        write_down(c);
}

void custody_lost_connection(Custody *c) {
        if (custody_is_done(c, ACTION_CONNECT_TSM) && *custody_dsm(c) && !*lost(c))
                lose(c, tsm_find(c->manager, json_str_or(c->values, "tsm", "")) ? CUT : GONE);
}

void connections_look(Manager *m, bool tsm_went) {
        for (size_t i = 0; i < m->n_custodies; i++) {
                Custody *c = m->custodies[i];
                struct tdi_bdf bdf;
                Device *dsm;

                if (!*custody_dsm(c) || !custody_is_done(c, ACTION_CONNECT_TSM) || c->busy || c->frozen ||
                    c->begun & (1u << ACTION_CONNECT_TSM | 1u << ACTION_BIND_CONNECT) || c->goal != GOAL_KEEP ||
                    !inventory_tsm_round_is_done(m, c->connected_round))
                        continue;
                dsm = tdi_bdf_parse(custody_dsm(c), &bdf) < 0 ? NULL : device_find(m, bdf);
                if (!dsm || dsm->gone)
                        continue;
                if (dsm->tsm && *lost(c)) {
                        json_set_str(c->values, "tsm", dsm->tsm);
                        found(c, "other");
                } else if (!dsm->tsm && !*lost(c))
                        lose(c, tsm_went || !tsm_find(m, json_str_or(c->values, "tsm", "")) ? GONE : CUT);
        }
}
