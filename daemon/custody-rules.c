/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What forbids a sub-action for now: the promises about order between functions of a transaction, of an IOMMU group, under one
 * DSM, and between a function and its VM. Nothing here acts.
 */
#include "custody-rules.h"

#include <stdio.h>

#include "association.h"
#include "device.h"
#include "evidence.h"
#include "guard/guard.h"
#include "handoff.h"
#include "job.h"
#include "tsm.h"
#include "vm.h"

const char *custody_dsm(const Custody *c) {
        return json_str_or(c->values, "dsm", "");
}

static bool same_dsm(const Custody *a, const Custody *b) {
        return custody_dsm(a)[0] && streq(custody_dsm(a), custody_dsm(b));
}

bool custody_requires_secure(const Custody *c) {
        return c->manager->config.require_secure || json_bool_or(c->values, "ide_required", false);
}

uint64_t custody_reserved_streams(const Custody *c) {
        uint64_t policy = json_u64_or(c->values, "ide_reserve", 0);

        return policy > c->manager->config.reserved_streams ? policy : c->manager->config.reserved_streams;
}

/* Has tdid connected the DSM, for this function among others? */
bool custody_connected_by_us(const Custody *c) {
        return custody_is_done(c, ACTION_CONNECT_TSM) && streq(json_str_or(c->values, "connected_by", ""), "tdid");
}

bool custody_shares_connection(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o != c && same_dsm(c, o) && custody_connected_by_us(o))
                        return true;
        }
        return false;
}

/* Between looking whether the DSM is connected and connecting it, nobody of ours may do the same; nor while one disconnects. */
static bool dsm_is_busy(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o == c || !same_dsm(c, o))
                        continue;
                if (o->busy && (o->begun & (1u << ACTION_CONNECT_NOTE | 1u << ACTION_CONNECT_TSM | 1u << ACTION_BIND_CONNECT)))
                        return true;
                if (custody_is_done(o, ACTION_CONNECT_NOTE) && !custody_is_done(o, ACTION_CONNECT_TSM) && o->goal == GOAL_UP &&
                    !custody_is_done(c, ACTION_CONNECT_NOTE))
                        return true;
        }
        return job_acts_on_dsm(c->manager, custody_dsm(c)) || evidence_is_asking(c->manager, custody_dsm(c));
}

/* Another one has found its DSM connected, and has not decided yet what follows: until then that stays so. */
static bool connection_is_relied_on(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o != c && same_dsm(c, o) && custody_is_done(o, ACTION_CONNECT_NOTE) && !custody_touched(o, ACTION_CONNECT_TSM) && o->goal == GOAL_UP)
                        return true;
        }
        return false;
}

/* A connect that an earlier tdid began is being settled, perhaps by a disconnect: what tsm/connect says now may not last. */
static bool connection_is_in_doubt(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o != c && same_dsm(c, o) && (o->begun & (1u << ACTION_CONNECT_TSM | 1u << ACTION_BIND_CONNECT)) && !custody_is_stalled(o))
                        return true;
        }
        return false;
}

Custody *custody_using_dsm(Manager *m, const char *dsm) {
        for (size_t i = 0; i < m->n_custodies; i++) {
                Custody *c = m->custodies[i];

                /* What was lost under it is no longer used, unless it is being made again. */
                if (custody_connection_is_lost(c) && !(c->begun & 1u << ACTION_BIND_CONNECT))
                        continue;
                if (custody_touched(c, ACTION_CONNECT_NOTE) && streq(custody_dsm(c), dsm))
                        return c;
        }
        return NULL;
}

/* The function has a DSM, but what the TSM core says of it has not been read yet: a handshake of somebody else is in the way. */
static bool tsm_is_unknown(const Custody *c) {
        Device *d = device_find(c->manager, c->bdf);

        return d && device_dsm(d) && !inventory_tsm_is_known(d);
}

/* What resets the DSM ends every TDI that it speaks for (PCIe 6, 11.2.6). */
static bool is_dsm_of(const Custody *c, const Custody *o) {
        return c != o && streq(custody_dsm(o), c->name);
}

bool custody_is_bound_in_kernel(const Custody *c) {
        return custody_touched(c, ACTION_BIND_TSM) || json_bool_or(c->values, "vdevice_binds", false);
}

Custody *custody_bound_under(Manager *m, const char *dsm) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (custody_is_bound_in_kernel(m->custodies[i]) && streq(custody_dsm(m->custodies[i]), dsm) && !streq(m->custodies[i]->name, dsm))
                        return m->custodies[i];
        return NULL;
}

/* For another function of the VM: which may be behind the same IOMMU, and then shares it. */
static bool viommu_is_being_made(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (o != c && o->vm == c->vm && o->busy && !o->stuck && (o->begun & 1u << ACTION_PREPARE_VIOMMU))
                        return true;
        }
        return false;
}

/* Of this VM: its iommufd has one setting for all of its address spaces, which an attach needs for a moment (worker/iommu.c). */
static bool another_is_attached(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (o != c && o->vm == c->vm && o->busy && !o->stuck && !(o->done & 1u << ACTION_PREPARE_ATTACH) &&
                    (o->begun & 1u << ACTION_PREPARE_ATTACH))
                        return true;
        }
        return false;
}

bool custody_dsm_lets_bind(const Custody *c, char *why, size_t size) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (!is_dsm_of(o, c) || (o->vm == c->vm && custody_is_bound(o) && o->goal != GOAL_DOWN && o->goal != GOAL_UNBIND))
                        continue;
                if (o->vm && o->vm == c->vm)
                        snprintf(why, size, "%s: its DSM %s is a function of the VM too, which could reset it: bind that first", c->name, o->name);
                else
                        snprintf(why, size, "%s: its DSM %s is %s, where it could be reset: it has to be given back first", c->name, o->name,
                                 o->vm ? "another VM's" : "being given back");
                return false;
        }
        return true;
}

void custody_unbind_under(const Custody *c) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (is_dsm_of(c, o) && !o->quarantine && (o->goal == GOAL_BIND || (o->goal == GOAL_KEEP && custody_touched(o, ACTION_BIND_LOCK))))
                        custody_set_goal(o, GOAL_UNBIND);
        }
}

Custody *custody_of_pf(const Custody *c) {
        const Device *d = device_find(c->manager, c->bdf), *pf = d && d->phys_fn != UINT32_MAX ? device_find_number(c->manager, d->phys_fn) : NULL;

        return pf ? custody_find(c->manager, pf->bdf) : NULL;
}

/* A VF that is opened needs the token that its PF gets when that is (open.bind). */
static bool pf_is_being_opened(const Custody *c) {
        const Custody *pf = custody_of_pf(c);

        return pf && pf->goal == GOAL_UP && !custody_is_done(pf, ACTION_OPEN_BIND);
}

void custody_choose_tsm(Custody *c) {
        Device *d = device_find(c->manager, c->bdf), *dsm;
        char buf[TDI_BDF_MAX];

        if (json_object_object_get_ex(c->values, "dsm", NULL))
                return;
        dsm = d && c->manager->n_tsms > 0 && !streq(json_str_or(c->values, "connect", "auto"), "no") ? device_dsm(d) : NULL;
        json_set_str(c->values, "dsm", dsm ? tdi_bdf_format(dsm->bdf, buf) : "");
        json_set_str(c->values, "tsm", dsm ? c->manager->tsms[0]->name : "");
}

bool custody_may_do(Custody *c, enum custody_action a) {
        for (size_t i = 0; i < c->manager->n_custodies; i++) {
                Custody *o = c->manager->custodies[i];

                if (o == c || o->vm != c->vm || o->sequence != c->sequence)
                        continue;
                /* Nothing is changed before every function of the transaction has been found free. */
                if (a == ACTION_CLAIM_PM && !custody_is_done(o, ACTION_CLAIM_CHECK))
                        return false;
                /* The kernel gives a group's DMA to one owner: every member must have left its host driver. */
                if (a == ACTION_OPEN_BIND && o->group == c->group && c->group >= 0 && !custody_is_done(o, ACTION_CLAIM_REBIND))
                        return false;
        }
        if (a == ACTION_GUARD_ON && guard_is_sweeping(c->manager))
                return false;
        if (a == ACTION_OPEN_BIND && pf_is_being_opened(c))
                return false;
        if (a == ACTION_CONNECT_NOTE && tsm_is_unknown(c))
                return false;
        if (a == ACTION_CONNECT_NOTE)
                custody_choose_tsm(c);
        if (a == ACTION_CONNECT_NOTE && connection_is_in_doubt(c))
                return false;
        if ((a == ACTION_CONNECT_NOTE || a == ACTION_CONNECT_TSM || a == ACTION_BIND_CONNECT) && dsm_is_busy(c))
                return false;
        if (a == ACTION_OPEN_ASSOCIATE && association_is_busy(c))
                return false;
        if (a == ACTION_PREPARE_ATTACH && another_is_attached(c))
                return false;
        if (a == ACTION_PREPARE_VIOMMU && vm_nests(c->vm) && viommu_is_being_made(c))
                return false;
        return true;
}

/*
 * Does a member of its group still have the device open, and with it the group's DMA? One that was handed off may be open in a VMM's
 * hands, until its unbinding has come back. Two of those do not wait for each other: group_kept says what they do instead.
 */
static bool keeps_group(const Custody *c, const Custody *o) {
        if (o == c || c->group < 0 || o->group != c->group)
                return false;
        return custody_touched(o, ACTION_OPEN_CDEV) ||
               (custody_is_handed_off(o) && !custody_is_handed_off(c) && custody_touched(o, ACTION_CLAIM_REBIND));
}

/* A DSM whose undo of these would end TDIs under it: its own is gone, it can be reset, it is reset by the last close. */
static bool ends_what_is_under(enum custody_action a) {
        return a == ACTION_BIND_TSM || a == ACTION_BIND_LOCK || a == ACTION_OPEN_CDEV;
}

bool custody_waits_in_vain(const Custody *c, enum custody_action a) {
        if (ends_what_is_under(a)) {
                const Custody *o = custody_bound_under(c->manager, c->name);

                if (o && custody_is_stalled(o))
                        return true;
        }
        for (size_t i = 0; a == ACTION_CLAIM_REBIND && i < c->manager->n_custodies; i++) {
                const Custody *o = c->manager->custodies[i];

                if (keeps_group(c, o) && (o->quarantine || o->stuck || o->frozen || o->locked_out))
                        return true;
        }
        return false;
}

bool custody_may_undo(Custody *c, enum custody_action a) {
        /* Guest memory is unmapped before anything that may sleep in a reset. */
        if (c->vm && c->vm->phase == TDI_VM_CLOSING && c->vm->close < CLOSE_UNMAPPED && a < ACTION_PREPARE_ATTACH &&
            a >= ACTION_OPEN_CDEV)
                return false;
        if (a == ACTION_CONNECT_TSM && (dsm_is_busy(c) || connection_is_relied_on(c)))
                return false;
        if (a == ACTION_OPEN_ASSOCIATE && (association_is_busy(c) || (custody_is_associated(c) && association_is_needed(c))))
                return false;
        /* What it speaks for goes first. */
        if (ends_what_is_under(a) && custody_bound_under(c->manager, c->name))
                return false;
        if (a == ACTION_CLAIM_REBIND && c->group_kept && custody_group_waits_for_handoff(c))
                return false;
        /* A host driver cannot take a function whose group still belongs to an iommufd. */
        for (size_t i = 0; i < c->manager->n_custodies; i++)
                if (a == ACTION_CLAIM_REBIND && keeps_group(c, c->manager->custodies[i]))
                        return false;
        return true;
}
