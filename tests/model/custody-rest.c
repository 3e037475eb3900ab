/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the custody engine calls of tdid and what does not matter to the explorer: nothing comes of it. */
#include <syslog.h>

#include "association.h"
#include "audit.h"
#include "bus/bus.h"
#include "custody-world.h"
#include "device.h"
#include "evidence.h"
#include "export.h"
#include "fault.h"
#include "guard/guard.h"
#include "handoff.h"
#include "job.h"
#include "log.h"
#include "proofs.h"
#include "unit.h"
#include "vpci.h"

bool guard_is_sweeping(_unused_ const Manager *m) {
        return false;
}
void guard_was_set(_unused_ Custody *c) {
}
void guard_was_cleared(_unused_ Custody *c) {
}
int unit_look_for_devices(_unused_ Manager *m) {
        return -EOPNOTSUPP;
}
void proofs_forget_job(_unused_ Job *j) {
}
bool vm_nests(_unused_ const VM *vm) {
        return false;
}
void vm_touch(_unused_ VM *vm) {
}
void vm_space_settle(_unused_ VM *vm, _unused_ const Custody *c) {
}
void vm_spaces_listen(_unused_ VM *vm) {
}
bool vpci_takes_requests(_unused_ const VM *vm) {
        return true;
}
void vpci_ring(_unused_ Custody *c) {
}
void vpci_stopped(_unused_ Custody *c, _unused_ bool stuck) {
}
bool association_wants(_unused_ const Custody *c) {
        return false;
}
bool custody_is_associated(_unused_ const Custody *c) {
        return false;
}
bool association_is_busy(_unused_ const Custody *c) {
        return false;
}
bool association_is_shared(_unused_ const Custody *c) {
        return false;
}
bool association_is_needed(_unused_ const Custody *c) {
        return false;
}
bool association_is_open(_unused_ const VM *vm) {
        return false;
}
size_t association_fds(_unused_ const Custody *c, _unused_ int ret[static 3]) {
        return 0;
}
void association_lost(_unused_ VM *vm, _unused_ const Custody *c) {
}
void association_hang_up(_unused_ VM *vm) {
}
void audit_associated(_unused_ const Custody *c) {
}
void audit_custody(_unused_ const Custody *c, _unused_ enum tdi_custody step) {
}
void audit_custody_wanted(_unused_ const Custody *c) {
}
void audit_quarantine(_unused_ const Custody *c) {
}
void audit_tsm_connected(_unused_ const char *d, _unused_ const char *t, _unused_ const Custody *c) {
}
void audit_tsm_disconnected(_unused_ const char *d, _unused_ const char *t, _unused_ const Custody *c) {
}
void audit_tsm_lost(_unused_ const Custody *c, _unused_ const char *d, _unused_ const char *why) {
}
void bus_changed(_unused_ Manager *m, _unused_ const char *path, _unused_ const char *interface, ...) {
}
bool custody_is_handed_off(_unused_ const Custody *c) {
        return false;
}
bool custody_group_waits_for_handoff(_unused_ const Custody *c) {
        return false;
}
bool custody_waits_for_handoff(_unused_ const Custody *c, _unused_ char *buf, _unused_ size_t size) {
        return false;
}
bool evidence_is_asking(_unused_ const Manager *m, _unused_ const char *bdf) {
        return false;
}
bool job_acts_on_dsm(_unused_ Manager *m, _unused_ const char *d) {
        return false;
}
bool export_kick(_unused_ Custody *c) {
        return false;
}
void fault_point(_unused_ const char *action, _unused_ const char *verb, _unused_ const char *when) {
}
void inventory_refresh(_unused_ Manager *m, _unused_ struct tdi_bdf bdf) {
}
uint64_t inventory_refresh_tsm(_unused_ Manager *m) {
        return 0;
}
bool inventory_tsm_is_known(_unused_ const Device *d) {
        return true;
}
bool inventory_tsm_round_is_done(_unused_ Manager *m, _unused_ uint64_t round) {
        return true;
}
void log_line(_unused_ int priority, _unused_ const char *format, ...) {
}
void log_oom(void) {
        abort();
}
