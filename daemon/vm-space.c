/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A VM's I/O address spaces, one for each IOMMU group: made with the first function, ended after the last. */
#include "host/abi/iommufd.h"
#include "vm.h"
#include "worker.h"

/* Spaces that are no group's any more: unmapped and destroyed when the VM closes, by a worker before, by the one that is at it. */
enum {
        GROUP_LEFT = -2,
        GROUP_ENDING = -3,
        GROUP_BEING_ENDED = -4,
};

int vm_ioas(VM *vm, int32_t group, uint32_t *ret) {
        struct tdi_iommu_ioas_alloc alloc = { .size = sizeof(alloc) };
        struct vm_group *g;
        int r;

        for (size_t i = 0; i < vm->n_groups; i++)
                if (vm->groups[i].group == group) {
                        *ret = vm->groups[i].ioas;
                        return 0;
                }
        r = host_ioctl(vm->manager->host, vm->iommufd, TDI_IOMMU_IOAS_ALLOC, &alloc);
        if (r < 0)
                return r;
        g = reallocarray(vm->groups, vm->n_groups + 1, sizeof(*g));
        if (!g)
                log_oom();
        vm->groups = g;
        vm->groups[vm->n_groups++] = (struct vm_group){ group, alloc.out_ioas_id };
        vm_touch(vm);
        *ret = alloc.out_ioas_id;
        return 0;
}

void vm_group_leave(VM *vm, int32_t group) {
        if (vm->close != CLOSE_NOT)
                return;
        for (size_t i = 0; i < vm->n_groups; i++)
                if (vm->groups[i].group == group)
                        vm->groups[i].group = GROUP_LEFT;
        vm_touch(vm);
}

void vm_group_settle(VM *vm, int32_t group) {
        Manager *m = vm->manager;

        /* Closing unmaps everything at once, in a worker. */
        if (vm->close != CLOSE_NOT)
                return;
        for (size_t i = 0; i < m->n_custodies; i++)
                if (m->custodies[i]->vm == vm && m->custodies[i]->group == group && custody_touched(m->custodies[i], ACTION_PREPARE_ATTACH))
                        return;
        for (size_t i = 0; i < vm->n_groups; i++)
                if (vm->groups[i].group == group)
                        vm->groups[i].group = GROUP_ENDING;
        vm_touch(vm);
}

static void on_groups_ended(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                            void *userdata) {
        VM *vm = userdata;
        size_t n = 0;

        if (r < 0)
                log_warning("VM %s: %s", vm->name, text);
        for (size_t i = 0; i < vm->n_groups; i++) {
                if (vm->groups[i].group == GROUP_BEING_ENDED && r >= 0)
                        continue;
                vm->groups[n] = vm->groups[i];
                if (vm->groups[n].group == GROUP_BEING_ENDED)
                        vm->groups[n].group = GROUP_LEFT;
                n++;
        }
        vm->n_groups = n;
        vm->worker = r >= 0 ? worker_rest(vm->worker) : worker_free(vm->worker);
        vm_touch(vm);
}

/* What a VMM that has been handed the descriptors mapped is in there still: unmapping it may take long. */
bool vm_groups_settle(VM *vm) {
        _cleanup_json_ struct json_object *args = NULL;
        struct json_object *ids;
        bool any = false;

        for (size_t i = 0; i < vm->n_groups; i++)
                any |= vm->groups[i].group == GROUP_ENDING;
        if (!any || !vm_need_worker(vm))
                return false;
        args = json_new();
        ids = json_new_array();
        json_set_take(args, "ioas", ids);
        for (size_t i = 0; i < vm->n_groups; i++) {
                if (vm->groups[i].group != GROUP_ENDING)
                        continue;
                vm->groups[i].group = GROUP_BEING_ENDED;
                json_push_take(ids, json_object_new_uint64(vm->groups[i].ioas));
        }
        if (worker_call(vm->worker, "vm.unmap", "do", args, &vm->iommufd, 1, on_groups_ended, vm) < 0)
                on_groups_ended(NULL, -EPIPE, "could not talk to its worker", NULL, NULL, vm);
        return true;
}

/* ---- the record ---- */

struct json_object *vm_groups_record(const VM *vm) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < vm->n_groups; i++) {
                struct json_object *g = json_new();

                json_set_i64(g, "group", vm->groups[i].group);
                json_set_u64(g, "ioas", vm->groups[i].ioas);
                json_push_take(list, g);
        }
        return list;
}

void vm_groups_take_record(VM *vm, struct json_object *list) {
        size_t n = json_object_array_length(list);

        vm->groups = calloc(n + 1, sizeof(*vm->groups));
        if (!vm->groups)
                log_oom();
        for (size_t i = 0; i < n; i++) {
                struct json_object *g = json_object_array_get_idx(list, i);

                vm->groups[i].group = (int32_t) json_i64_or(g, "group", GROUP_LEFT);
                vm->groups[i].ioas = (uint32_t) json_u64_or(g, "ioas", 0);
                /* An earlier tdid's worker may still be at it, and its number another space's when it is done: not before the VM ends. */
                if (vm->groups[i].group == GROUP_ENDING || vm->groups[i].group == GROUP_BEING_ENDED)
                        vm->groups[i].group = GROUP_LEFT;
        }
        vm->n_groups = n;
}
