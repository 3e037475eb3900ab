/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Exports as objects: limits, state, record, end. */
#include "export.h"

#include <inttypes.h>
#include <stdio.h>

#include "admission.h"
#include "audit.h"
#include "bus/bus.h"
#include "bus/bus-vm.h"
#include "worker.h"

#define MIB (UINT64_C(1) << 20)

/* ---- limits ---- */

struct sum {
        unsigned n;
        uint64_t bar, memory;
};

static void add_up(const VM *vm, struct sum *s) {
        for (size_t i = 0; vm->exports && i < vm->exports->n; i++) {
                const Export *x = vm->exports->list[i];

                /* Those have a limit of their own: export_part(). */
                if (x->stage == EXPORT_PARTED)
                        continue;
                s->n++;
                *(x->is_memory ? &s->memory : &s->bar) += x->size;
        }
}

/* What a limit is called, if one more of this size passed it. */
static const char *passed(const struct sum *s, const struct export_request *q, unsigned n, unsigned bar_mib, unsigned memory_mib,
                          const char *const names[3]) {
        uint64_t used = q->tdi ? s->bar : s->memory, limit = (q->tdi ? bar_mib : memory_mib) * MIB;

        if (s->n >= n)
                return names[0];
        if (used > limit || q->size > limit - used)
                return names[q->tdi ? 1 : 2];
        return NULL;
}

/* Of the policy's limits, which count everything of an owner; NULL: none is passed. */
static const char *passed_policy(const VM *vm, const struct sum *s, const struct export_request *q) {
        Manager *m = vm->manager;
        uint64_t memory = admission_limit(m, vm->name, vm->platform->name, vm->owner, POLICY_LIMIT_SHARED_BYTES, UINT64_MAX);

        if (s->n >= admission_limit(m, vm->name, vm->platform->name, vm->owner, POLICY_LIMIT_EXPORTS, UINT64_MAX))
                return "exports";
        if (!q->tdi && (s->memory > memory || q->size > memory - s->memory))
                return policy_limit_to_string(POLICY_LIMIT_SHARED_BYTES);
        return NULL;
}

static int check_limits(VM *vm, const struct export_request *q, char **ret_text) {
        static const char *const of_vm[] = { "exports", "export_mib", "buffer_mib" };
        static const char *const of_user[] = { "exports_per_user", "export_mib_per_user", "buffer_mib_per_user" };
        const struct config *c = &vm->manager->config;
        struct sum own = {}, all = {};
        char text[1024];
        const char *name;
        int r = 0;

        if (admission_passes_fds(vm->manager, vm->name, vm->platform->name, vm->owner, ADMISSION_FDS_EXPORT, text, sizeof(text))) {
                *ret_text = strdup(text);
                if (!*ret_text)
                        log_oom();
                return -EDQUOT;
        }
        add_up(vm, &own);
        for (size_t i = 0; i < vm->manager->n_vms; i++)
                if (vm->manager->vms[i]->owner == vm->owner)
                        add_up(vm->manager->vms[i], &all);
        name = passed(&own, q, c->exports, c->export_mib, c->buffer_mib, of_vm);
        if (name)
                r = asprintf(ret_text, "VM %s has %u dma-bufs, of %" PRIu64 " MiB of BARs and %" PRIu64 " MiB of memory; with this one it would pass its limit"
                             " (%s in " CONFIG_PATH ")", vm->name, own.n, own.bar / MIB, own.memory / MIB, name);
        else {
                name = passed(&all, q, c->exports_per_user, c->export_mib_per_user, c->buffer_mib_per_user, of_user);
                if (name)
                        r = asprintf(ret_text, "the VMs of uid %u have %u dma-bufs, of %" PRIu64 " MiB of BARs and %" PRIu64 " MiB of memory; with this one"
                                     " they would pass their limit (%s in " CONFIG_PATH ")", vm->owner, all.n, all.bar / MIB, all.memory / MIB, name);
        }
        if (!name) {
                name = passed_policy(vm, &all, q);
                if (name)
                        r = asprintf(ret_text, "the VMs of uid %u have %u dma-bufs, and %" PRIu64 " MiB of shared memory; with this one they would pass what the"
                                     " policy lets them have (%s)", vm->owner, all.n, all.memory / MIB, name);
        }
        if (r < 0)
                log_oom();
        return name ? -EDQUOT : 0;
}

/* ---- objects ---- */

Export *export_append(VM *vm) {
        struct exports *e = vm->exports;
        Export *x = calloc(1, sizeof(*x));

        if (!e) {
                e = vm->exports = calloc(1, sizeof(*e));
                if (e)
                        e->next_id = 1;
        }
        if (!x || !e)
                log_oom();
        x->vm = vm;
        x->dmabuf = x->event = x->memfd = -EBADF;
        manager_append((void ***) &e->list, &e->n, &e->room, x);
        return x;
}

size_t export_count(const VM *vm) {
        struct sum s = {};

        add_up(vm, &s);
        return s.n;
}

uint64_t export_memory_bytes(const VM *vm) {
        struct sum s = {};

        add_up(vm, &s);
        return s.memory;
}

int export_new(VM *vm, const struct export_request *q, char **ret_text) {
        Export *x;
        int r;

        r = check_limits(vm, q, ret_text);
        if (r < 0)
                return r;
        x = export_append(vm);
        x->id = vm->exports->next_id++;
        x->offset = q->offset;
        x->size = q->size;
        x->uid = q->uid;
        x->given = now_realtime();
        x->class = q->class;
        x->is_memory = !q->tdi;
        x->importer = q->importer;
        if (q->tdi) {
                x->bdf = q->tdi->bdf;
                x->region = q->region;
        }
        if (q->heap && free_and_strdup(&x->heap, q->heap) < 0)
                log_oom();
        x->call = sd_bus_message_ref(q->call);
        export_expect_answer(x);
        manager_touch(vm->manager);
        return 0;
}

/* Whatever is left of it is closed here: nothing that could wait for a device is, but at the end of tdid. */
void export_forget(Export *x) {
        struct exports *e = x->vm->exports;

        if (x->call)
                bus_refuse_export(x, TDI_ERROR_INVALID_STATE, "the VM closed before the dma-buf was made");
        manager_remove((void **) e->list, &e->n, x);
        close_fd(x->dmabuf);
        close_fd(x->event);
        close_fd(x->memfd);
        free(x->heap);
        free(x);
}

void export_free_all(VM *vm) {
        struct exports *e = vm->exports;

        if (!e)
                return;
        export_ring_last(vm);
        while (e->n > 0) {
                Export *x = e->list[e->n - 1];

                /* The end of a VM, not of tdid: nobody but us has it any more, perhaps. */
                if (vm->close == CLOSE_DONE)
                        worker_close_fd(vm->manager, TAKE_FD(x->dmabuf));
                export_forget(x);
        }
        sd_event_source_disable_unref(e->timer);
        worker_free(e->worker);
        free(e->list);
        free(e);
        vm->exports = NULL;
}

/* ---- state ---- */

static const char *name_of(const Export *x, char buf[static 64]) {
        char bdf[TDI_BDF_MAX];

        if (x->is_memory)
                snprintf(buf, 64, "shared memory %" PRIu64, x->id);
        else
                snprintf(buf, 64, "export %" PRIu64 " of BAR %u of %s", x->id, x->region, tdi_bdf_format(x->bdf, bdf));
        return buf;
}

void export_set_state(Export *x, enum tdi_dmabuf_state state) {
        char name[64];

        if (x->state == state)
                return;
        name_of(x, name);
        if (!tdi_dmabuf_state_may_follow(x->state, state)) {
                log_error("VM %s: %s: %s may not follow %s", x->vm->name, name, tdi_dmabuf_state_to_string(state), tdi_dmabuf_state_to_string(x->state));
                return;
        }
        audit_export_state(x, state);
        if (!x->is_memory && x->stage >= EXPORT_KEPT) {
                TDI *t = tdi_find(x->vm->manager, x->bdf);

                if (t && state == TDI_DMABUF_EXPORTED)
                        bus_emit_export(t, "Restored", x->id);
                else if (t && x->state == TDI_DMABUF_EXPORTED)
                        bus_emit_export(t, "Revoked", x->id);
                x->rings += x->event >= 0;
        }
        x->state = state;
        vm_touch(x->vm);
}

/* ---- the end of one ---- */

static void on_dropped(_unused_ int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Export *x = userdata;

        worker_close_fd(x->vm->manager, TAKE_FD(x->dmabuf));
        if (!export_part(x))
                export_forget(x);
}

static void drop(Export *x) {
        char key[40], also[40];

        x->stage = EXPORT_DROPPED;
        vm_touch(x->vm);
        snprintf(key, sizeof(key), "dmabuf:%" PRIu64, x->id);
        snprintf(also, sizeof(also), "event:%" PRIu64, x->id);
        holder_drop(x->vm->holder, key, also, on_dropped, x);
}

void export_close(Export *x, const char *why) {
        char name[64];

        if (x->stage >= EXPORT_DROPPED)
                return;
        x->abandoned = true;
        if (x->state != TDI_DMABUF_CLOSED) {
                log_debug("VM %s: %s is closed: %s", x->vm->name, name_of(x, name), why);
                export_set_state(x, TDI_DMABUF_CLOSED);
        }
        if (x->call)
                bus_refuse_export(x, TDI_ERROR_INVALID_STATE, why);
        if (x->stage == EXPORT_WAITING)
                export_forget(x);
        else if (x->stage == EXPORT_KEPT && x->busy == 0)
                drop(x);
}

static bool has_ended(const Export *x) {
        const Custody *c;
        const TDI *t;

        /* A record without the descriptor: an earlier tdid died between the two. */
        if (x->vm->close != CLOSE_NOT || (x->stage == EXPORT_KEPT && x->dmabuf < 0))
                return true;
        if (x->is_memory)
                return false;
        /* It also goes where nobody detaches it: the host wants it back. */
        c = custody_find(x->vm->manager, x->bdf);
        if (!c || c->goal == GOAL_DOWN)
                return true;
        t = tdi_find(x->vm->manager, x->bdf);
        return !t || t->vm != x->vm || t->state == TDI_STATE_DETACHING || t->state == TDI_STATE_GONE;
}

bool export_settle(VM *vm) {
        struct exports *e = vm->exports;
        bool changed = false;

        if (!e || !vm->announced)
                return false;
        for (size_t i = e->n; i > 0; i--) {
                Export *x = e->list[i - 1];

                if (!x->abandoned && !has_ended(x))
                        continue;
                /* Not before what is under way has come back. */
                if (x->stage >= EXPORT_DROPPED || (x->abandoned && (x->stage == EXPORT_MAKING || x->busy > 0)))
                        continue;
                export_close(x, vm->close != CLOSE_NOT ? "the VM is closing" : "its function is being detached");
                changed = true;
        }
        changed |= export_kick_memory(vm);
        export_ring(vm);
        export_watch(vm);
        return changed;
}

/* ---- the record ---- */

static struct json_object *one_record(const Export *x) {
        struct json_object *o = json_new(), *list = json_new_array();
        char bdf[TDI_BDF_MAX];

        json_set_u64(o, "id", x->id);
        if (x->is_memory)
                json_set_str(o, "heap", strempty(x->heap));
        else {
                json_set_str(o, "bdf", tdi_bdf_format(x->bdf, bdf));
                json_set_u64(o, "region", x->region);
                json_set_u64(o, "offset", x->offset);
                json_set_str(o, "importer", tdi_importer_to_string(x->importer));
        }
        json_set_u64(o, "size", x->size);
        json_set_str(o, "class", tdi_dmabuf_class_to_string(x->class));
        json_set_str(o, "state", tdi_dmabuf_state_to_string(x->state));
        json_set_u64(o, "uid", x->uid);
        json_set_u64(o, "given", x->given);
        for (size_t i = 0; i < x->n_runs; i++) {
                json_push_take(list, json_object_new_uint64(x->run[i].pfn));
                json_push_take(list, json_object_new_uint64(x->run[i].pages));
        }
        json_set_take(o, "runs", list);
        json_set_u64(o, "runs_total", x->runs_total);
        return o;
}

void export_record(const VM *vm, struct json_object *record) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; vm->exports && i < vm->exports->n; i++)
                if (vm->exports->list[i]->stage == EXPORT_KEPT && !vm->exports->list[i]->abandoned) {
                        struct json_object *o = one_record(vm->exports->list[i]);

                        if (vm->exports->list[i]->rings > 0)
                                json_set_u64(o, "rings", vm->exports->list[i]->rings);
                        json_push_take(list, o);
                }
        json_set_take(record, "exports", list);
        if (vm->exports)
                json_set_u64(record, "next_export", vm->exports->next_id);
}

static int take_one(VM *vm, struct json_object *o) {
        enum tdi_dmabuf_class class = tdi_dmabuf_class_from_string(json_str_or(o, "class", NULL));
        enum tdi_dmabuf_state state = tdi_dmabuf_state_from_string(json_str_or(o, "state", NULL));
        enum tdi_importer importer = tdi_importer_from_string(json_str_or(o, "importer", "any"));
        const char *bdf = json_str_or(o, "bdf", NULL), *heap = json_str_or(o, "heap", NULL);
        struct tdi_bdf function = {};
        struct json_object *list;
        Export *x;

        if (class < 0 || state < 0 || importer < 0 || json_u64_or(o, "id", 0) == 0 || (!bdf && !heap) || (bdf && tdi_bdf_parse(bdf, &function) < 0))
                return -EBADMSG;
        x = export_append(vm);
        x->id = json_u64_or(o, "id", 0);
        x->stage = EXPORT_KEPT;
        x->state = state;
        x->class = class;
        x->importer = importer;
        x->offset = json_u64_or(o, "offset", 0);
        x->size = json_u64_or(o, "size", 0);
        x->uid = (uid_t) json_u64_or(o, "uid", 0);
        x->given = json_u64_or(o, "given", 0);
        x->rings = json_u64_or(o, "rings", 0);
        x->is_memory = !bdf;
        x->bdf = function;
        x->region = (uint32_t) json_u64_or(o, "region", 0);
        if (!isempty(heap) && free_and_strdup(&x->heap, heap) < 0)
                log_oom();
        x->runs_total = (size_t) json_u64_or(o, "runs_total", 0);
        if (json_get_array(o, "runs", &list) >= 0)
                export_take_runs(x, list);
        return 0;
}

void export_take_runs(Export *x, struct json_object *list) {
        for (size_t i = 0; i + 1 < json_object_array_length(list) && x->n_runs < EXPORT_RUNS_MAX; i += 2)
                x->run[x->n_runs++] = (struct tdi_run) {
                        .pfn = json_object_get_uint64(json_object_array_get_idx(list, i)),
                        .pages = (uint32_t) json_object_get_uint64(json_object_array_get_idx(list, i + 1)),
                        .provider = x->is_memory ? TDI_PROVIDER_MEMORY : 1,
                        .attributes = x->is_memory ? TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP : TDI_RUN_P2P | TDI_RUN_MMIO,
                };
        if (tdi_runs_check(x->run, x->n_runs) < 0)
                x->n_runs = x->runs_total = 0;
}

void export_take_record(VM *vm, struct json_object *record) {
        struct json_object *list;

        if (json_get_array(record, "exports", &list) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(list); i++)
                if (take_one(vm, json_object_array_get_idx(list, i)) < 0)
                        log_warning("VM %s: an export in its record is not understood", vm->name);
        if (vm->exports)
                vm->exports->next_id = json_u64_or(record, "next_export", vm->exports->next_id);
}

bool export_adopt(VM *vm, const char *key, int fd) {
        bool is_event = startswith(key, "event:");
        uint64_t id;
        Export *x;

        if (!is_event && !startswith(key, "dmabuf:"))
                return false;
        id = strtoull(strchr(key, ':') + 1, NULL, 10);
        for (size_t i = 0; vm->exports && i < vm->exports->n; i++) {
                x = vm->exports->list[i];
                if (x->id != id)
                        continue;
                x->rings += is_event && x->abandoned;
                close_fd(is_event ? x->event : x->dmabuf);
                *(is_event ? &x->event : &x->dmabuf) = fd;
                return true;
        }
        /*
         * An earlier tdid died with it on its way: to a client that has not got it, or to its end, which the client may not have heard of.
         * It goes as any other: by the holder first.
         */
        x = export_append(vm);
        x->id = id;
        if (vm->exports->next_id <= id)
                vm->exports->next_id = id + 1;
        x->stage = EXPORT_KEPT;
        x->state = TDI_DMABUF_CLOSED;
        x->abandoned = true;
        x->rings = is_event;
        *(is_event ? &x->event : &x->dmabuf) = fd;
        return true;
}

/* ---- for people ---- */

void export_attribute_names(uint16_t attributes, const char *names[static 6]) {
        size_t n = 0;

        for (unsigned bit = 1; bit < TDI_RUN_ATTRIBUTES; bit <<= 1)
                if (attributes & bit)
                        names[n++] = tdi_run_attribute_to_string((uint16_t) bit);
        names[n] = NULL;
}

const char *export_provider(const Export *x, char buf[static TDI_BDF_MAX]) {
        return x->is_memory ? "memory" : tdi_bdf_format(x->bdf, buf);
}

static struct json_object *describe_run(const Export *x, const struct tdi_run *q, bool addresses) {
        struct json_object *o = json_new(), *list = json_new_array();
        char bdf[TDI_BDF_MAX];
        const char *names[6];

        json_set_str(o, "provider", export_provider(x, bdf));
        if (addresses)
                json_set_u64(o, "pfn", q->pfn);
        json_set_u64(o, "length", (uint64_t) q->pages << TDI_PAGE_SHIFT);
        export_attribute_names(q->attributes, names);
        for (size_t i = 0; names[i]; i++)
                json_push_str(list, names[i]);
        json_set_take(o, "attributes", list);
        return o;
}

void export_describe(const VM *vm, struct json_object *o, bool addresses) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; vm->exports && i < vm->exports->n; i++) {
                const Export *x = vm->exports->list[i];
                struct json_object *e, *runs;

                if (x->stage != EXPORT_KEPT || x->abandoned)
                        continue;
                e = one_record(x);
                json_set_str(e, "kind", x->is_memory ? "memory" : "bar");
                runs = json_new_array();
                for (size_t k = 0; k < x->n_runs; k++)
                        json_push_take(runs, describe_run(x, x->run + k, addresses));
                json_set_take(e, "runs", runs);
                json_push_take(list, e);
        }
        json_set_take(o, "dmabufs", list);
}
