/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making exports. Of a BAR: by the function's own worker, so that nothing else is done to the function meanwhile, least of all
 * closing it. Shared memory: by a worker of the VM. Then the holder is given the dma-buf, and the client told.
 */
#include "export.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "audit.h"
#include "bus/bus.h"
#include "bus/bus-vm.h"
#include "custody-engine.h"
#include "worker.h"

/* Shorter than a D-Bus client's patience of 25 s. */
#define ANSWER_USEC (20 * 1000000ULL)

void export_expect_answer(Export *x) {
        x->deadline = now_monotonic() + ANSWER_USEC;
}

void export_expire(Export *x) {
        if (!x->call || now_monotonic() < x->deadline)
                return;
        bus_refuse_export(x, TDI_ERROR_TIMEOUT,
                          x->is_memory ? "the memory was not there in time; it is given back when it comes" :
                                         "the function is being reset, or is stuck in the kernel (`tdictl status` tells); try again");
        x->abandoned = true;
        manager_touch(x->vm->manager);
}

static Export *first_in_stage(VM *vm, enum export_stage stage, bool is_memory, struct tdi_bdf bdf) {
        for (size_t i = 0; vm && vm->exports && i < vm->exports->n; i++) {
                Export *x = vm->exports->list[i];

                if (x->stage == stage && (stage != EXPORT_WAITING || !x->abandoned) && x->is_memory == is_memory && (is_memory || tdi_bdf_number(x->bdf) == tdi_bdf_number(bdf)))
                        return x;
        }
        return NULL;
}

/* ---- to the holder, and to the client ---- */

static void failed(Export *x, enum tdi_error error, const char *text) {
        log_warning("VM %s: dma-buf %" PRIu64 ": %s", x->vm->name, x->id, text);
        if (x->call)
                bus_refuse_export(x, error, text);
        x->abandoned = true;
        manager_touch(x->vm->manager);
}

static void on_kept(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Export *x = userdata;

        x->busy--;
        if (r < 0)
                failed(x, r == -ENOSPC ? TDI_ERROR_LIMIT : TDI_ERROR_KERNEL, "the VM's holder did not take the dma-buf");
        if (x->busy > 0)
                return;
        manager_touch(x->vm->manager);
        if (x->abandoned)
                return; /* export_settle() closes it */
        audit_export_made(x);
        bus_reply_export(x);
        x->memfd = close_fd(x->memfd);
}

static int put(Export *x, const char *kind, int fd, bool with_record) {
        struct json_object *q = json_new();
        char key[40];
        int r;

        snprintf(key, sizeof(key), "%s:%" PRIu64, kind, x->id);
        json_set_str(q, "op", "put");
        json_set_str(q, "key", key);
        if (with_record)
                json_set_take(q, "state", vm_record(x->vm, false));
        r = holder_call(x->vm->holder, q, &fd, 1, on_kept, x);
        if (r >= 0)
                x->busy++;
        return r;
}

/* The record comes with the last descriptor: a later tdid finds all of it or nothing. */
static void keep(Export *x) {
        int r = -ENOTCONN;

        x->stage = EXPORT_KEPT;
        if (holder_alive(x->vm->holder)) {
                r = put(x, "dmabuf", x->dmabuf, x->event < 0);
                if (r >= 0 && x->event >= 0)
                        r = put(x, "event", x->event, true);
        }
        if (r < 0)
                failed(x, TDI_ERROR_KERNEL, "could not give the dma-buf to the VM's holder");
}

/* ---- a worker's answer ---- */

static enum tdi_error error_of(int r, struct json_object *values) {
        enum tdi_error error = tdi_error_from_name(json_str_or(values, "error", NULL));

        return error > TDI_ERROR_NONE ? error : r == -ETIMEDOUT ? TDI_ERROR_TIMEOUT : TDI_ERROR_KERNEL;
}

/* Takes what was made. The worker lets go of its copies last, in case nobody wants them. */
static void made(Export *x, Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds) {
        struct json_object *runs;
        bool wanted = x && !x->abandoned && r >= 0 && fds->n > 0;

        if (wanted) {
                x->dmabuf = ipc_fds_take(fds, 0);
                x->memfd = ipc_fds_take(fds, 1);
                if (x->is_memory)
                        x->runs_total = (size_t) json_u64_or(values, "runs_total", 0);
                if (x->is_memory && json_get_array(values, "runs", &runs) >= 0)
                        export_take_runs(x, runs);
        }
        ipc_fds_close(fds);
        if (r >= 0)
                (void) worker_acknowledge(w);
        if (!x)
                return;
        if (wanted)
                keep(x);
        else {
                if (!x->abandoned)
                        failed(x, error_of(r, values), text);
                export_forget(x);
        }
}

/* ---- of a BAR ---- */

static bool take_bar(Export *x, struct json_object *values) {
        uint64_t address = json_u64_or(values, "address", 0);
        const struct tdi_run *run;
        struct tdi_runs *l = NULL;

        x->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (x->event < 0)
                return false;
        /* Without signals: nobody has heard of it yet. */
        if (!json_bool_or(values, "alive", true))
                export_set_state(x, TDI_DMABUF_REVOKED);
        if (tdi_runs_new(&l) < 0)
                log_oom();
        if (address && tdi_runs_add(l, address >> TDI_PAGE_SHIFT, x->size >> TDI_PAGE_SHIFT, 1, TDI_RUN_P2P | TDI_RUN_MMIO) == 0) {
                x->runs_total = tdi_runs_get(l, &run);
                x->n_runs = x->runs_total < EXPORT_RUNS_MAX ? x->runs_total : EXPORT_RUNS_MAX;
                memcpy(x->run, run, x->n_runs * sizeof(*run));
        }
        tdi_runs_free(l);
        return true;
}

static void on_exported(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        Export *x;

        custody_idle(c);
        x = first_in_stage(c->vm, EXPORT_MAKING, false, c->bdf);
        if (x && r >= 0 && !take_bar(x, values)) {
                failed(x, TDI_ERROR_LIMIT, "could not make an eventfd");
                r = 0;
        }
        made(x, w, r, text, values, fds);
        c->worker = r == -ECONNRESET ? worker_free(c->worker) : worker_rest(c->worker);
}

bool export_kick(Custody *c) {
        Export *x = first_in_stage(c->vm, EXPORT_WAITING, false, c->bdf);
        _cleanup_json_ struct json_object *args = NULL;
        int r;

        if (!x || c->device < 0 || c->vm->iommufd < 0)
                return false;
        r = custody_need_worker(c);
        if (r == -EAGAIN) {
                manager_retry(c->manager);
                return false;
        }
        if (r == -EWOULDBLOCK)
                return false;
        if (r >= 0) {
                args = json_new();
                json_set_str(args, "bdf", c->name);
                json_set_u64(args, "region", x->region);
                json_set_u64(args, "offset", x->offset);
                json_set_u64(args, "size", x->size);
                r = worker_call(c->worker, "export.dmabuf", "do", args, (int[]) { c->device, c->vm->iommufd }, 2, on_exported, c);
        }
        if (r < 0) {
                c->worker = worker_free(c->worker);
                failed(x, TDI_ERROR_KERNEL, "could not start a worker");
                export_forget(x);
                return true;
        }
        x->stage = EXPORT_MAKING;
        custody_arm(c, ACTION_PREPARE_ATTACH, false);
        return true;
}

/* ---- shared memory ---- */

bool export_need_worker(VM *vm) {
        struct exports *e = vm->exports;
        int r;

        if (worker_alive(e->worker))
                return !worker_busy(e->worker);
        e->looking = false;
        e->worker = worker_free(e->worker);
        r = worker_new(vm->manager, -EBADF, &e->worker);
        if (r < 0)
                manager_retry(vm->manager);
        return r >= 0;
}

static void on_created(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;

        made(first_in_stage(vm, EXPORT_MAKING, true, (struct tdi_bdf) {}), w, r, text, values, fds);
        vm->exports->worker = r == -ECONNRESET ? worker_free(vm->exports->worker) : worker_rest(vm->exports->worker);
        manager_touch(vm->manager);
}

bool export_kick_memory(VM *vm) {
        Export *x = first_in_stage(vm, EXPORT_WAITING, true, (struct tdi_bdf) {});
        _cleanup_json_ struct json_object *args = NULL;

        if (!x || vm->close != CLOSE_NOT || !export_need_worker(vm))
                return false;
        args = json_new();
        json_set_u64(args, "size", x->size);
        json_set_str(args, "heap", strempty(x->heap));
        if (worker_call(vm->exports->worker, "buffer.create", "do", args, NULL, 0, on_created, vm) < 0) {
                vm->exports->worker = worker_free(vm->exports->worker);
                failed(x, TDI_ERROR_KERNEL, "could not start a worker");
                export_forget(x);
        } else
                x->stage = EXPORT_MAKING;
        return true;
}
