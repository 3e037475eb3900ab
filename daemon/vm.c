/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VM objects: birth, record, phases, adoption. Their end is in vm-close.c. */
#include "vm.h"

#include <stdio.h>
#include <systemd/sd-id128.h>

#include "admission.h"
#include "audit.h"
#include "association.h"
#include "bus/bus.h"
#include "export.h"
#include "fault.h"
#include "guard/guard.h"
#include "handoff.h"
#include "ide.h"
#include "vpci.h"
#include "watch.h"
#include "worker.h"

VM *vm_new(Manager *m, const char *name) {
        VM *vm = calloc(1, sizeof(*vm));
        sd_id128_t id;

        if (!vm || free_and_strdup(&vm->name, name) < 0 || asprintf(&vm->id, "%llu", (unsigned long long) m->next_vm++) < 0)
                log_oom();
        vm->manager = m;
        vm->iommufd = vm->kvm = vm->peer_kvm = vm->association.channel = vm->association.device = -EBADF;
        vm->platform = platform_of_host(m);
        vm->vmm_uid = vm->owner = (uid_t) -1;
        vm->vmm_gid = (gid_t) -1;
        vm->max_functions = m->config.functions;
        vm->max_pinned_mib = m->config.pinned_mib;
        vm->max_maps = m->config.maps;
        vm->created = now_realtime();
        vm->vpci_stale = true;
        if (sd_id128_randomize(&id) >= 0)
                snprintf(vm->uuid, sizeof(vm->uuid), SD_ID128_UUID_FORMAT_STR, SD_ID128_FORMAT_VAL(id));
        manager_append((void ***) &m->vms, &m->n_vms, &m->room_vms, vm);
        return vm;
}

VM *vm_free(VM *vm) {
        if (!vm)
                return NULL;
        manager_remove((void **) vm->manager->vms, &vm->manager->n_vms, vm);
        for (size_t i = 0; i < vm->manager->n_custodies; i++)
                if (vm->manager->custodies[i]->vm == vm)
                        vm->manager->custodies[i]->vm = NULL;
        while (vm->n_tdis > 0)
                tdi_free(vm->tdis[vm->n_tdis - 1]);
        while (vm->n_keepers > 0)
                keeper_free(vm->keepers[vm->n_keepers - 1]);
        if (vm->announced) {
                char path[64];

                bus_removed(vm->manager, vm_path(vm, path), BUS_VM);
        }
        if (vm->close == CLOSE_DONE) {
                holder_remove_socket(vm->manager, vm->id);
                vpci_remove_folder(vm);
        }
        bus_describe_end(vm);
        sd_event_source_disable_unref(vm->association.hang_up);
        close_fd(vm->association.channel);
        peer_free(vm->peer);
        holder_free(vm->holder);
        vpci_ask_end(vm);
        worker_rest(vm->worker);
        export_free_all(vm);
        sd_event_source_disable_unref(vm->await_timer);
        /* Closed in order, both are gone by now. Where that went wrong, the last close is a worker's all the same. */
        if (vm->close == CLOSE_DONE) {
                worker_close_fd(vm->manager, vm->association.device);
                worker_close_fd(vm->manager, vm->iommufd);
                worker_close_fd(vm->manager, vm->kvm);
                worker_close_fd(vm->manager, vm->peer_kvm);
        } else {
                close_fd(vm->association.device);
                close_fd(vm->iommufd);
                close_fd(vm->kvm);
                close_fd(vm->peer_kvm);
        }
        json_putp(&vm->adopting);
        json_putp(&vm->vpci_state);
        json_putp(&vm->viommus);
        free(vm->tdis);
        free(vm->keepers);
        free(vm->spaces);
        free(vm->unmap_error);
        free(vm->seclabel);
        free(vm->name);
        free(vm->id);
        free(vm);
        return NULL;
}

VM *vm_find_id(Manager *m, const char *id) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (streq(m->vms[i]->id, id))
                        return m->vms[i];
        return NULL;
}

VM *vm_find_name(Manager *m, const char *name, uid_t owner) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->owner == owner && streq(m->vms[i]->name, name))
                        return m->vms[i];
        return NULL;
}

VM *vm_find_uuid(Manager *m, const char *uuid) {
        for (size_t i = 0; i < m->n_vms; i++)
                if (strcasecmp(m->vms[i]->uuid, uuid) == 0)
                        return m->vms[i];
        return NULL;
}

int vm_find(Manager *m, const char *key, uid_t caller, VM **ret) {
        VM *found = vm_find_id(m, key);

        if (!found)
                found = vm_find_uuid(m, key);
        /* Names are unique per owner: the caller's own comes first. */
        if (!found)
                found = vm_find_name(m, key, caller);
        if (!found)
                for (size_t i = 0; i < m->n_vms; i++) {
                        if (!streq(m->vms[i]->name, key))
                                continue;
                        if (found)
                                return -ENOTUNIQ;
                        found = m->vms[i];
                }
        if (!found)
                return -ENOENT;
        *ret = found;
        return 0;
}

char *vm_path(const VM *vm, char buf[static 64]) {
        snprintf(buf, 64, BUS_ROOT "/vm/%s", vm->id);
        return buf;
}

void vm_set_phase(VM *vm, enum tdi_vm_phase phase) {
        char path[64];

        if (vm->phase == phase)
                return;
        if (!tdi_vm_phase_may_follow(vm->phase, phase)) {
                log_error("VM %s: %s may not follow %s", vm->name, tdi_vm_phase_to_string(phase), tdi_vm_phase_to_string(vm->phase));
                return;
        }
        audit_vm_phase(vm, phase);
        vm->phase = phase;
        if (vm->announced)
                bus_changed(vm->manager, vm_path(vm, path), BUS_VM, "Phase", NULL);
        vm_touch(vm);
}

/* ---- the record ---- */

void vm_touch(VM *vm) {
        vm->record_dirty = true;
        manager_touch(vm->manager);
}

static struct json_object *keeper_record(const Keeper *k) {
        struct json_object *o = json_new();

        json_set_str(o, "kind", keeper_kind_to_string(k->kind));
        json_set_u64(o, "number", k->number);
        json_set_str(o, "label", k->label);
        json_set_u64(o, "uid", k->uid);
        json_set_u64(o, "given", k->given);
        return o;
}

/* Who is connected the holder knows; as which keeper, and since when, only tdid does. */
static struct json_object *connection_record(const Keeper *k) {
        struct json_object *list = json_new_array();

        json_push_take(list, json_object_new_uint64(k->number));
        json_push_take(list, json_object_new_uint64(k->given));
        return list;
}

static struct json_object *tdi_record(const TDI *t, bool describe) {
        struct json_object *o = json_new();
        char bdf[TDI_BDF_MAX], why[400];

        json_set_str(o, "bdf", tdi_bdf_format(t->bdf, bdf));
        json_set_str(o, "bind", t->bind == BIND_EARLY ? "early" : "late");
        if (t->guest_rid != UINT32_MAX)
                json_set_u64(o, "guest_rid", t->guest_rid);
        else if (describe)
                json_set_take(o, "guest_rid", NULL);
        if (!describe) {
                const Keeper *k = keeper_find_vpci(t->vm, t->bdf);

                if (k)
                        json_set_take(o, "connection", connection_record(k));
                if (t->stays_unbound)
                        json_set_bool(o, "stays_unbound", true);
                if (t->lost)
                        json_set_bool(o, "lost", true);
                return o;
        }
        json_set_str(o, "state", tdi_state_to_string(t->state));
        if (t->custody) {
                json_set_str(o, "custody", tdi_custody_to_string(custody_step(t->custody)));
                json_set_i64(o, "iommu_group", t->custody->group);
                json_set_take(o, "handoff", json_object_get(custody_handoff(t->custody)));
                if (t->custody->quarantine)
                        json_set_str(o, "quarantine", t->custody->quarantine);
                else if (custody_waits_for_handoff(t->custody, why, sizeof(why)))
                        json_set_str(o, "quarantine", why);
                else
                        json_set_take(o, "quarantine", NULL);
                if (custody_is_bound(t->custody)) {
                        struct json_object *b = json_new();

                        json_set_str(b, "provider", json_str_or(t->custody->values, "provider", ""));
                        json_set_u64(b, "tdi_id", json_u64_or(t->custody->values, "tdi_id", 0));
                        json_set_take(o, "bound", b);
                } else
                        json_set_take(o, "bound", NULL);
                json_set_str(o, "bind_error", t->bind_error);
                json_set_str(o, "admitted_by", json_str_or(t->custody->values, "admitted_by", ""));
                json_set_str(o, "drift", admission_drift(t, why, sizeof(why)));
                json_set_take(o, "report", tdi_describe_report(t));
                json_set_str(o, "ide", ide_in_words(t->custody, why, sizeof(why)));
                json_set_take(o, "viommu", vm_describe_vdevice(t));
                association_describe_tdi(t, o);
                if (custody_is_done(t->custody, ACTION_PREPARE_ATTACH))
                        json_set_u64(o, "ioas", json_u64_or(t->custody->values, "ioas", 0));
        }
        json_set_take(o, "vpci", vpci_describe(t));
        return o;
}

/* What a VMM that was handed the descriptors has mapped, nobody here knows. */
static bool maps_by_itself(const VM *vm) {
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (vm->tdis[i]->custody && custody_is_handed_off(vm->tdis[i]->custody))
                        return true;
        return false;
}

static struct json_object *describe_pinned(const VM *vm) {
        struct json_object *o = json_new();
        bool unmapped = vm->close >= CLOSE_UNMAPPED;

        if (unmapped ? vm->unmap_error != NULL : maps_by_itself(vm))
                json_set_take(o, "bytes", NULL);
        else
                json_set_u64(o, "bytes", unmapped ? 0 : vm->pinned);
        json_set_u64(o, "buffers", export_memory_bytes(vm));
        json_set_take(o, "since", vm->closing_since ? json_object_new_uint64(vm->closing_since) : NULL);
        json_set_str(o, "error", vm->unmap_error);
        return o;
}

struct json_object *vm_record(VM *vm, bool describe) {
        struct json_object *o = json_new(), *list;
        char text[256];

        if (!describe)
                version_set(o, VM_STATE_VERSION, fault_newer("record"));
        json_set_str(o, "id", vm->id);
        json_set_str(o, "name", vm->name);
        json_set_str(o, "uuid", vm->uuid);
        json_set_str(o, "phase", tdi_vm_phase_to_string(vm->phase));
        json_set_str(o, "platform", vm->platform->name);
        json_set_u64(o, "owner_uid", vm->owner);
        json_set_u64(o, "vmm_uid", vm->vmm_uid);
        json_set_u64(o, "vmm_gid", vm->vmm_gid);
        json_set_str(o, "seclabel", vm->seclabel);
        json_set_bool(o, "hotplug", vm->hotplug);
        json_set_bool(o, "peer_to_peer", vm->peer_to_peer);
        json_set_str(o, "bind", vm->bind == BIND_EARLY ? "early" : "late");
        json_set_u64(o, "await_vmm", vm->await);
        json_set_u64(o, "created", vm->created);
        list = json_new();
        json_set_u64(list, "functions", vm->max_functions);
        json_set_u64(list, "pinned_mib", vm->max_pinned_mib);
        json_set_u64(list, "maps", vm->max_maps);
        json_set_take(o, "limits", list);

        list = json_new_array();
        for (size_t i = 0; i < vm->n_keepers; i++)
                if (!vm->keepers[i]->ended && (describe || vm->keepers[i]->kind != KEEPER_VPCI))
                        json_push_take(list, keeper_record(vm->keepers[i]));
        if (describe && vm->await_deadline) {
                struct json_object *a = json_new();

                json_set_str(a, "kind", "await");
                json_set_str(a, "label", "waits for its VMM");
                json_set_u64(a, "seconds_left", vm->await_deadline > now_monotonic() ? (vm->await_deadline - now_monotonic()) / 1000000 : 0);
                json_push_take(list, a);
        }
        json_set_take(o, "keepers", list);

        list = json_new_array();
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (describe || vm->tdis[i]->committed)
                        json_push_take(list, tdi_record(vm->tdis[i], describe));
        json_set_take(o, "tdis", list);

        if (describe) {
                struct json_object *h = json_new();

                json_set_u64(h, "pid", (uint64_t) holder_pid(vm->holder));
                if (vm->manager->booted_by_systemd) {
                        char unit[64];

                        snprintf(unit, sizeof(unit), "tdid-vm@%s.service", vm->id);
                        json_set_str(h, "unit", unit);
                } else
                        json_set_take(h, "unit", NULL);
                json_set_take(o, "holder", h);
                json_set_bool(o, "kvm", vm->kvm >= 0);
                json_set_take(o, "peer", peer_describe(vm));
                json_set_str(o, "guard", guard_state_of_vm(vm));
                json_set_str(o, "watch", watch_describe(vm->manager->watch));
                vm_describe_viommu(vm, text, sizeof(text));
                json_set_str(o, "vIOMMU", text);
                json_set_take(o, "viommus", vm->viommus ? json_object_get(vm->viommus) : json_new_array());
                json_set_take(o, "pinned", describe_pinned(vm));
                association_describe(vm, o);
                return o;
        }
        json_set_u64(o, "closing_since", vm->closing_since);
        json_set_u64(o, "await_deadline", vm->await_deadline);
        json_set_bool(o, "arrived", vm->arrived);
        json_set_bool(o, "folder", vm->folder);
        json_set_bool(o, "kvm_of_peer", vm->kvm_of_peer);
        json_set_bool(o, "associates", vm->association.wanted);
        json_set_take(o, "peer", peer_record(vm));
        json_set_u64(o, "next_keeper", vm->next_keeper);
        json_set_take(o, "groups", vm_spaces_record(vm));
        export_record(vm, o);
        return o;
}

int vm_take_record(VM *vm, struct json_object *o) {
        struct json_object *list;
        const struct platform *p;
        int r;

        r = version_check(o, VM_STATE_VERSION, fault_newer("record"));
        if (r < 0)
                return r;
        if (free_and_strdup(&vm->name, json_str_or(o, "name", "")) < 0 || free_and_strdup(&vm->seclabel, json_str_or(o, "seclabel", NULL)) < 0)
                log_oom();
        snprintf(vm->uuid, sizeof(vm->uuid), "%s", json_str_or(o, "uuid", ""));
        vm->phase = tdi_vm_phase_from_string(json_str_or(o, "phase", ""));
        p = platform_find(json_str_or(o, "platform", ""));
        if (vm->phase < 0 || isempty(vm->name) || !p)
                return -EBADMSG;
        vm->platform = p;
        vm->owner = (uid_t) json_u64_or(o, "owner_uid", 0);
        vm->vmm_uid = (uid_t) json_u64_or(o, "vmm_uid", 0);
        vm->vmm_gid = (gid_t) json_u64_or(o, "vmm_gid", 0);
        vm->hotplug = json_bool_or(o, "hotplug", false);
        vm->peer_to_peer = json_bool_or(o, "peer_to_peer", false);
        vm->bind = streq(json_str_or(o, "bind", ""), "early") ? BIND_EARLY : BIND_LATE;
        vm->await = (unsigned) json_u64_or(o, "await_vmm", 0);
        vm->await_deadline = json_u64_or(o, "await_deadline", 0);
        vm->arrived = json_bool_or(o, "arrived", false);
        vm->next_keeper = json_u64_or(o, "next_keeper", 0);
        vm->created = json_u64_or(o, "created", 0);
        vm->closing_since = json_u64_or(o, "closing_since", 0);
        vm->folder = json_bool_or(o, "folder", false);
        vm->kvm_of_peer = json_bool_or(o, "kvm_of_peer", false);
        vm->association.wanted = json_bool_or(o, "associates", false);
        if (json_get_object(o, "peer", &list) >= 0)
                peer_take_record(vm, list);
        if (json_get_object(o, "limits", &list) >= 0) {
                vm->max_functions = (unsigned) json_u64_or(list, "functions", vm->max_functions);
                vm->max_pinned_mib = (unsigned) json_u64_or(list, "pinned_mib", vm->max_pinned_mib);
                vm->max_maps = (unsigned) json_u64_or(list, "maps", vm->max_maps);
        }
        if (json_get_array(o, "groups", &list) >= 0)
                vm_spaces_take_record(vm, list);
        export_take_record(vm, o);
        return 0;
}

static void on_recorded(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        vm->record_busy = false;
        if (r >= 0)
                return;
        /* What a client was told must be true for the next tdid as well. */
        log_error("VM %s: its holder did not take the record: %s", vm->name, strerror(-r));
        vm_close(vm, "its record could not be stored");
}

static bool push_record(VM *vm) {
        struct json_object *q;
        int r;

        if (!vm->record_dirty || vm->record_busy || !vm->announced || vm->close >= CLOSE_ENDING)
                return false;
        vm->record_dirty = false;
        if (!holder_alive(vm->holder))
                return true;
        q = json_new();
        json_set_str(q, "op", "state");
        json_set_take(q, "state", vm_record(vm, false));
        vm->record_busy = true;
        r = holder_call(vm->holder, q, NULL, 0, on_recorded, vm);
        if (r < 0)
                on_recorded(r, NULL, NULL, vm);
        return true;
}

/* ---- birth ---- */

void vm_holder_died(VM *vm) {
        if (vm->close >= CLOSE_ENDING) {
                vm->close = CLOSE_DONE;
                manager_touch(vm->manager);
                return;
        }
        audit_holder_died(vm);
        vm_close(vm, "its holder died");
}

static void on_died(void *userdata) {
        vm_holder_died(userdata);
}

static void born(VM *vm, int r) {
        vm_ready ready = vm->ready;

        vm->ready = NULL;
        if (ready)
                ready(vm, r, vm->ready_userdata);
}

static void on_stored(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        born(userdata, r);
}

static void on_started(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        struct json_object *put;
        VM *vm = userdata;

        if (r >= 0) {
                vpci_listen(vm);
                put = json_new();
                json_set_str(put, "op", "put");
                json_set_str(put, "key", "iommufd");
                json_set_take(put, "state", vm_record(vm, false));
                r = holder_call(vm->holder, put, &vm->iommufd, 1, on_stored, vm);
        }
        if (r < 0)
                born(vm, r);
}

int vm_start(VM *vm, vm_ready ready, void *userdata) {
        vm->iommufd = host_open(vm->manager->host, "/dev/iommu", O_RDWR);
        if (vm->iommufd < 0)
                return vm->iommufd;
        vm->ready = ready;
        vm->ready_userdata = userdata;
        return holder_start(vm->manager, vm->id, on_started, on_died, vm, &vm->holder);
}

/* ---- adoption ---- */

/* A damaged journal does not know whose function this is: the descriptor is the proof that it is open. */
static void adopt_damaged(VM *vm, Custody *c) {
        if (!isempty(c->vm_id))
                return;
        if (free_and_strdup(&c->vm_id, vm->id) < 0)
                log_oom();
        c->done |= CUSTODY_PREPARED & ~((1u << ACTION_OPEN_CDEV) - 1);
        json_set_str(c->values, "uuid", vm->uuid);
}

static void adopt_fd(VM *vm, const char *key, int fd, struct json_object *keepers) {
        struct tdi_bdf bdf;
        Custody *c;

        if (streq(key, "iommufd"))
                vm->iommufd = fd;
        else if (streq(key, "kvm"))
                vm->kvm = fd;
        else if (startswith(key, "cdev:") && tdi_bdf_parse(key + 5, &bdf) >= 0) {
                c = custody_find(vm->manager, bdf);
                if (c && c->damaged)
                        adopt_damaged(vm, c);
                if (!c || !streq_ptr(c->vm_id, vm->id)) {
                        log_warning("VM %s: its holder has %s, which no journal knows", vm->name, key);
                        close_fd(fd);
                        return;
                }
                close_fd(c->device);
                c->device = fd;
        } else if (startswith(key, "request:") && tdi_bdf_parse(key + 8, &bdf) >= 0) {
                c = custody_find(vm->manager, bdf);
                if (c && streq_ptr(c->vm_id, vm->id))
                        custody_take_request(c, fd);
                else
                        close_fd(fd);
        } else if (startswith(key, "bind:") && tdi_bdf_parse(key + 5, &bdf) >= 0) {
                c = custody_find(vm->manager, bdf);
                /* As above: as long as the holder has it, it may be bound. */
                if (c && c->damaged) {
                        adopt_damaged(vm, c);
                        c->done |= ~CUSTODY_PREPARED & ((1u << ACTION_MAX) - 1);
                }
                if (c && streq_ptr(c->vm_id, vm->id) && custody_touched(c, ACTION_BIND_TSM)) {
                        close_fd(c->binding);
                        c->binding = fd;
                } else {
                        /* It was unbound, and the holder has not been told. */
                        close_fd(fd);
                        holder_drop(vm->holder, key, NULL, NULL, NULL);
                }
        } else if (!association_adopt(vm, key, fd) && !export_adopt(vm, key, fd)) {
                const char *colon = strchr(key, ':');

                for (size_t i = 0; colon && i < json_object_array_length(keepers); i++) {
                        struct json_object *o = json_object_array_get_idx(keepers, i);

                        if (strncmp(json_str_or(o, "kind", ""), key, (size_t) (colon - key)) == 0 &&
                            json_u64_or(o, "number", UINT64_MAX) == strtoull(colon + 1, NULL, 10)) {
                                (void) keeper_adopt(vm, o, fd);
                                return;
                        }
                }
                close_fd(fd);
        }
}

static void on_all_known(VM *vm) {
        vm->adopted(vm, vm->adopting_result);
        json_putp(&vm->adopting);
        vm->adopting = NULL;
        json_putp(&vm->vpci_state);
        vm->vpci_state = NULL;
}

static void on_got(int r, struct json_object *answer, struct ipc_fds *fds, void *userdata) {
        struct json_object *keys, *keepers = NULL;
        VM *vm = userdata;

        if (r >= 0 && json_get_array(answer, "keys", &keys) >= 0) {
                (void) json_get_array(vm->adopting, "keepers", &keepers);
                for (size_t i = 0; i < json_object_array_length(keys); i++) {
                        int fd = ipc_fds_take(fds, i);

                        if (fd >= 0)
                                adopt_fd(vm, strempty(json_object_get_string(json_object_array_get_idx(keys, i))), fd, keepers);
                }
        }
        /* One of them is enough. */
        if (r < 0 && vm->adopting_result >= 0)
                vm->adopting_result = r;
        if (--vm->adopting_left > 0)
                return;
        vpci_recover(vm, on_all_known);
}

int vm_adopt(VM *vm, struct json_object *hello, void (*adopted)(VM *vm, int r)) {
        struct json_object *state, *keys, *batch, *get;
        size_t n;
        int r;

        if (json_get_object(hello, "state", &state) < 0 || json_get_array(hello, "keys", &keys) < 0)
                return -EBADMSG;
        r = vm_take_record(vm, state);
        if (r < 0)
                return r;
        vm->adopting = json_object_get(state);
        vm->adopted = adopted;
        n = json_object_array_length(keys);
        vm->adopting_left = (unsigned) ((n + IPC_FDS_MAX - 1) / IPC_FDS_MAX);
        for (size_t i = 0; i < n; i += IPC_FDS_MAX) {
                batch = json_new_array();
                for (size_t k = i; k < n && k < i + IPC_FDS_MAX; k++)
                        json_push_take(batch, json_object_get(json_object_array_get_idx(keys, k)));
                get = json_new();
                json_set_str(get, "op", "get");
                json_set_take(get, "keys", batch);
                r = holder_call(vm->holder, get, NULL, 0, on_got, vm);
                if (r < 0)
                        return r;
        }
        /* It closed, and tdid died before it told the holder to end. */
        return n == 0 ? -ENODATA : 0;
}

bool vm_settle(VM *vm) {
        bool changed = keeper_settle(vm);

        changed |= export_settle(vm);
        changed |= push_record(vm);
        changed |= tdi_bind_settle(vm);
        changed |= vm->close == CLOSE_NOT ? vm_spaces_settle(vm) : vm_close_settle(vm);
        return changed;
}
