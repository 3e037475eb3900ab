/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's I/O address spaces: made with the first function, ended after the last. Each IOMMU group has its own, as the kernel allows it one
 * page table; where the VM's platform wants a secure vIOMMU, the functions behind a physical IOMMU share one, under the nest parent of its vIOMMU.
 */
#include <stdio.h>

#include "bus/bus.h"
#include "host/abi/iommufd.h"
#include "vm.h"
#include "vpci.h"
#include "worker.h"

/* In the place of a group: the space is no function's any more. Unmapped and destroyed when the VM closes, by a worker before, by the one that is at it. */
enum {
        SPACE_LEFT = -2,
        SPACE_ENDING = -3,
        SPACE_BEING_ENDED = -4,
        SPACE_QUIETING = -5, /* its vIOMMU's events are listened to still: ending follows */
};

bool vm_nests(const VM *vm) {
        return vm->platform->viommu;
}

/* The physical IOMMU, "" where none is to be shared. */
static const char *iommu_of(const VM *vm, const Custody *c) {
        return vm_nests(vm) && json_object_object_get_ex(c->values, "guest_rid", NULL) ? json_str_or(c->values, "iommu", "") : "";
}

/* Once it has one, that is its own, whatever others there are. */
static bool is_of(const struct vm_space *s, const VM *vm, const Custody *c) {
        const char *iommu = iommu_of(vm, c);
        uint64_t ioas = json_u64_or(c->values, "ioas", 0);

        if (s->group < 0)
                return false;
        if (ioas != 0)
                return s->ioas == ioas;
        return iommu[0] || s->iommu[0] ? streq(s->iommu, iommu) : s->group == c->group;
}

/* The holder's table of a space tells so many functions apart (DMA_CLIENTS_MAX); a group has no more than that. */
#define SHARED_MAX 64

static bool is_full(const struct vm_space *s, const VM *vm) {
        size_t n = 0;

        for (size_t i = 0; s->iommu[0] && i < vm->manager->n_custodies; i++) {
                const Custody *c = vm->manager->custodies[i];

                n += c->vm == vm && json_u64_or(c->values, "ioas", 0) == s->ioas;
        }
        return n >= SHARED_MAX;
}

struct vm_space *vm_space_find(const VM *vm, const Custody *c) {
        bool has = json_u64_or(c->values, "ioas", 0) != 0;

        for (size_t i = 0; i < vm->n_spaces; i++)
                if (is_of(&vm->spaces[i], vm, c) && (has || !is_full(&vm->spaces[i], vm)))
                        return &vm->spaces[i];
        return NULL;
}

int vm_space_get(VM *vm, const Custody *c, struct vm_space **ret) {
        struct tdi_iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
        struct vm_space *s = vm_space_find(vm, c);
        int r;

        if (s) {
                *ret = s;
                return 0;
        }
        r = host_ioctl(vm->manager->host, vm->iommufd, TDI_IOMMU_IOAS_ALLOC, &alloc);
        if (r < 0)
                return r;
        s = reallocarray(vm->spaces, vm->n_spaces + 1, sizeof(*s));
        if (!s)
                log_oom();
        vm->spaces = s;
        s += vm->n_spaces++;
        *s = (struct vm_space){ .group = c->group, .ioas = alloc.out_ioas_id };
        snprintf(s->iommu, sizeof(s->iommu), "%s", iommu_of(vm, c));
        vm_touch(vm);
        *ret = s;
        return 0;
}

void vm_space_leave(VM *vm, const Custody *c) {
        struct vm_space *s = vm->close == CLOSE_NOT ? vm_space_find(vm, c) : NULL;

        if (!s)
                return;
        s->group = SPACE_LEFT;
        vm_touch(vm);
}

void vm_space_settle(VM *vm, const Custody *c) {
        struct vm_space *s = vm->close == CLOSE_NOT ? vm_space_find(vm, c) : NULL;
        Manager *m = vm->manager;

        /* Closing unmaps everything at once, in a worker. */
        if (!s)
                return;
        for (size_t i = 0; i < m->n_custodies; i++)
                if (m->custodies[i]->vm == vm && is_of(s, vm, m->custodies[i]) && custody_touched(m->custodies[i], ACTION_PREPARE_VIOMMU))
                        return;
        s->group = SPACE_ENDING;
        vm_touch(vm);
}

/* What vm.unmap is told of one. */
static void push(struct json_object *list, const struct vm_space *s) {
        struct json_object *o = json_new();

        json_set_u64(o, "ioas", s->ioas);
        json_set_u64(o, "nest", s->nest);
        json_set_u64(o, "viommu", s->viommu);
        json_push_take(list, o);
}

struct json_object *vm_spaces_to_unmap(const VM *vm) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < vm->n_spaces; i++)
                push(list, &vm->spaces[i]);
        return list;
}

/* ---- events of vIOMMUs: the holder reads them ---- */

void vm_spaces_listen(VM *vm) {
        for (size_t i = 0; vm->close == CLOSE_NOT && i < vm->n_spaces; i++)
                if (vm->spaces[i].viommu && vm->spaces[i].group >= 0)
                        (void) vpci_viommu(vm, vm->spaces[i].viommu, true, NULL, NULL);
}

/* An answer each: when the last has come, all are quiet. */
static void on_quiet(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        if (--vm->quieting > 0)
                return;
        for (size_t i = 0; i < vm->n_spaces; i++)
                if (vm->spaces[i].group == SPACE_QUIETING) {
                        vm->spaces[i].group = SPACE_ENDING;
                        vm->spaces[i].quiet = true;
                }
        /* What was said of them last. */
        json_putp(&vm->viommus);
        vm->viommus = NULL;
        manager_touch(vm->manager);
}

/* The queue of its events keeps a vIOMMU from being destroyed. */
static void quiet(VM *vm, struct vm_space *s) {
        int r;

        if (s->viommu == 0) {
                s->quiet = true;
                return;
        }
        /* Before it is asked: the answer may come at once. */
        vm->quieting++;
        s->group = SPACE_QUIETING;
        r = vpci_viommu(vm, s->viommu, false, on_quiet, vm);
        if (r < 0) {
                vm->quieting--;
                s->group = SPACE_ENDING;
                s->quiet = r != -EAGAIN;
        }
        if (r == -EAGAIN)
                manager_retry(vm->manager);
        vm_touch(vm);
}

void vm_on_iommu_event(VM *vm, struct json_object *event) {
        uint64_t viommu = json_u64_or(event, "viommu", 0);
        int64_t sid = json_i64_or(event, "sid", -1);
        char bdf[TDI_BDF_MAX] = "", path[64], text[256];

        for (size_t i = 0; i < vm->n_tdis; i++)
                if (vm->tdis[i]->custody && sid == vm->tdis[i]->guest_rid && json_u64_or(vm->tdis[i]->custody->values, "viommu", 0) == viommu)
                        tdi_bdf_format(vm->tdis[i]->bdf, bdf);
        if (vpci_may_log_iommu(vm))
                log_warning("VM %s: %s: vIOMMU %llu reports of requester ID %#06llx: %s", vm->name, *bdf ? bdf : "no function that is attached",
                            (unsigned long long) viommu, (unsigned long long) sid, json_str_or(event, "text", ""));
        /* Every user hears it: where in the guest's memory is not for them. */
        snprintf(text, sizeof(text), "vIOMMU %llu reports %s of requester ID %#06llx", (unsigned long long) viommu, json_str_or(event, "name", ""),
                 (unsigned long long) sid);
        bus_emit_iommu_event(vm->manager, vm_path(vm, path), bdf, json_str_or(event, "name", ""), text);
}

static void on_ended(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                     void *userdata) {
        VM *vm = userdata;
        size_t n = 0;

        if (r < 0)
                log_warning("VM %s: %s", vm->name, text);
        for (size_t i = 0; i < vm->n_spaces; i++) {
                if (vm->spaces[i].group == SPACE_BEING_ENDED && r >= 0)
                        continue;
                vm->spaces[n] = vm->spaces[i];
                if (vm->spaces[n].group == SPACE_BEING_ENDED)
                        vm->spaces[n].group = SPACE_LEFT;
                n++;
        }
        vm->n_spaces = n;
        vm->worker = r >= 0 ? worker_rest(vm->worker) : worker_free(vm->worker);
        vm_touch(vm);
}

/* What a VMM that has been handed the descriptors mapped is in there still: unmapping it may take long. */
bool vm_spaces_settle(VM *vm) {
        _cleanup_json_ struct json_object *args = NULL;
        struct json_object *list;
        bool any = false;

        for (size_t i = 0; i < vm->n_spaces; i++) {
                if (vm->spaces[i].group == SPACE_ENDING && !vm->spaces[i].quiet)
                        quiet(vm, &vm->spaces[i]);
                any |= vm->spaces[i].group == SPACE_ENDING && vm->spaces[i].quiet;
        }
        if (!any || !vm_need_worker(vm))
                return false;
        args = json_new();
        list = json_new_array();
        json_set_take(args, "spaces", list);
        for (size_t i = 0; i < vm->n_spaces; i++) {
                if (vm->spaces[i].group != SPACE_ENDING || !vm->spaces[i].quiet)
                        continue;
                vm->spaces[i].group = SPACE_BEING_ENDED;
                push(list, &vm->spaces[i]);
        }
        if (worker_call(vm->worker, "vm.unmap", "do", args, &vm->iommufd, 1, on_ended, vm) < 0)
                on_ended(NULL, -EPIPE, "could not talk to its worker", NULL, NULL, vm);
        return true;
}

/* ---- the record ---- */

struct json_object *vm_spaces_record(const VM *vm) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < vm->n_spaces; i++) {
                const struct vm_space *s = &vm->spaces[i];
                struct json_object *o = json_new();

                json_set_i64(o, "group", s->group);
                json_set_u64(o, "ioas", s->ioas);
                if (s->iommu[0]) {
                        json_set_str(o, "iommu", s->iommu);
                        json_set_u64(o, "nest", s->nest);
                        json_set_u64(o, "viommu", s->viommu);
                }
                json_push_take(list, o);
        }
        return list;
}

void vm_spaces_take_record(VM *vm, struct json_object *list) {
        size_t n = json_object_array_length(list);

        vm->spaces = calloc(n + 1, sizeof(*vm->spaces));
        if (!vm->spaces)
                log_oom();
        for (size_t i = 0; i < n; i++) {
                struct json_object *o = json_object_array_get_idx(list, i);
                struct vm_space *s = &vm->spaces[i];

                s->group = (int32_t) json_i64_or(o, "group", SPACE_LEFT);
                s->ioas = (uint32_t) json_u64_or(o, "ioas", 0);
                s->nest = (uint32_t) json_u64_or(o, "nest", 0);
                s->viommu = (uint32_t) json_u64_or(o, "viommu", 0);
                snprintf(s->iommu, sizeof(s->iommu), "%s", json_str_or(o, "iommu", ""));
                /* An earlier tdid's worker may still be at it, and its number another space's when it is done: not before the VM ends. */
                if (s->group == SPACE_ENDING || s->group == SPACE_BEING_ENDED || s->group == SPACE_QUIETING)
                        s->group = SPACE_LEFT;
        }
        vm->n_spaces = n;
}

/* ---- for people ---- */

const char *vm_why_no_vdevice(const TDI *t) {
        if (!vm_nests(t->vm) || json_u64_or(t->custody->values, "vdevice", 0) != 0)
                return NULL;
        return json_str_or(t->custody->values, "no_viommu", "it is not made yet");
}

struct json_object *vm_describe_vdevice(const TDI *t) {
        struct json_object *values = t->custody->values, *o;

        if (json_u64_or(values, "vdevice", 0) == 0)
                return NULL;
        o = json_new();
        json_set_u64(o, "id", json_u64_or(values, "viommu", 0));
        json_set_u64(o, "nest", json_u64_or(values, "nest", 0));
        json_set_u64(o, "vdevice", json_u64_or(values, "vdevice", 0));
        json_set_u64(o, "virt_id", json_u64_or(values, "guest_rid", 0));
        return o;
}

void vm_describe_viommu(const VM *vm, char *buf, size_t size) {
        char bdf[TDI_BDF_MAX];

        if (!vm_nests(vm)) {
                snprintf(buf, size, "no secure vIOMMU: %s wants none; plain I/O address spaces are used", vm->platform->name);
                return;
        }
        for (size_t i = 0; i < vm->n_tdis; i++) {
                const char *why = vm_why_no_vdevice(vm->tdis[i]);

                if (why) {
                        snprintf(buf, size, "no secure vIOMMU: %s: %s", tdi_bdf_format(vm->tdis[i]->bdf, bdf), why);
                        return;
                }
        }
        snprintf(buf, size, "%s: %zu virtual devices", vm->platform->viommu, vm->n_tdis);
}
