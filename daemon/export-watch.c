/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What becomes of exports: revoked and back, and nobody's any more. */
#include "export.h"

#include "host/fdkind.h"
#include "worker.h"

#define LOOK_USEC (2 * 1000000ULL)
/* tdid's and the holder's. */
#define OWN_REFERENCES 2
/* A descriptor that is on its way from process to process is nobody's for a moment, on a host that counts processes'. */
#define LONELY_MAX 2
/* A look may come between the word that a reset begins and its beginning; but its end may go untold. */
#define PASSING_LOOKS 2
/* Beside the iommufd. */
#define LOOK_AT_MAX (IPC_FDS_MAX - 2)

static bool is_watched(const Export *x) {
        return !x->is_memory && x->stage == EXPORT_KEPT && x->busy == 0 && !x->abandoned && x->dmabuf >= 0;
}

/* ---- looking ---- */

static void apply(Export *x, struct json_object *alive) {
        /* What was said meanwhile is newer than the look. */
        if (x->told || x->passing > 0 || !json_object_is_type(alive, json_type_boolean))
                return;
        export_set_state(x, json_object_get_boolean(alive) ? TDI_DMABUF_EXPORTED : TDI_DMABUF_REVOKED);
}

static void on_looked(_unused_ Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct exports *e = ((VM *) userdata)->exports;
        struct json_object *list = NULL;
        VM *vm = userdata;
        size_t n = 0;

        e->looking = false;
        if (r < 0)
                log_warning("VM %s: could not look at its dma-bufs: %s", vm->name, text);
        else
                (void) json_get_array(values, "alive", &list);
        for (size_t i = 0; list && i < e->n && n < e->n_looked; i++)
                if (e->list[i]->id == e->looked[n]) {
                        if (is_watched(e->list[i]))
                                apply(e->list[i], json_object_array_get_idx(list, n));
                        n++;
                }
        if (r == -ECONNRESET)
                e->worker = worker_free(e->worker);
        else if (r >= 0 && e->n_looked == LOOK_AT_MAX && export_look(vm, e->looked[LOOK_AT_MAX - 1] + 1))
                return;
        else
                e->worker = worker_rest(e->worker);
        if (e->look_again)
                (void) export_look(vm, 0);
        manager_touch(vm->manager);
}

bool export_look(VM *vm, uint64_t from) {
        int fds[1 + LOOK_AT_MAX] = { vm->iommufd };
        struct exports *e = vm->exports;
        size_t n = 0;

        if (vm->close != CLOSE_NOT || vm->iommufd < 0)
                return false;
        if (e->looking || !export_need_worker(vm)) {
                e->look_again = true;
                return false;
        }
        e->look_again = false;
        /* The list is in the order of ids. */
        for (size_t i = 0; i < e->n && n < LOOK_AT_MAX; i++)
                if (e->list[i]->id >= from && is_watched(e->list[i])) {
                        e->list[i]->told = false;
                        e->looked[n] = e->list[i]->id;
                        fds[1 + n++] = e->list[i]->dmabuf;
                }
        e->n_looked = n;
        if (n == 0) {
                e->worker = worker_rest(e->worker);
                return false;
        }
        if (worker_call(e->worker, "export.look", "do", NULL, fds, 1 + n, on_looked, vm) < 0) {
                e->worker = worker_free(e->worker);
                return false;
        }
        e->looking = true;
        return true;
}

void export_on_memory(VM *vm, struct tdi_bdf bdf, bool enabled, const char *why) {
        bool any = false, passing = !enabled && !streq(why, "command");

        for (size_t i = 0; vm->exports && i < vm->exports->n; i++) {
                Export *x = vm->exports->list[i];

                if (!is_watched(x) || tdi_bdf_number(x->bdf) != tdi_bdf_number(bdf))
                        continue;
                x->told = any = true;
                x->passing = passing ? PASSING_LOOKS : 0;
                if (!enabled)
                        export_set_state(x, TDI_DMABUF_REVOKED);
        }
        if (any)
                log_debug("VM %s: memory is %s: %s", vm->name, enabled ? "on" : "off", why);
        if (!any || passing)
                return;
        /*
         * Whether it is back is the kernel's to say: something else may still keep it revoked. And a VF, which has no memory-enable bit of
         * its own, is revoked and back within the call that clears the guest's (vfio_basic_config_write, __vfio_pci_memory_enabled).
         */
        (void) export_look(vm, 0);
}

/* ---- every two seconds ---- */

static void count_references(Export *x) {
        unsigned n;

        if (!is_watched(x) || x->call || host_dmabuf_references(x->vm->manager->host, x->dmabuf, &n) < 0)
                return;
        x->lonely = n <= OWN_REFERENCES ? x->lonely + 1 : 0;
        if (x->lonely >= LONELY_MAX)
                export_close(x, "nobody has it any more");
}

static int on_look(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        VM *vm = userdata;
        struct exports *e = vm->exports;

        e->timer = sd_event_source_disable_unref(e->timer);
        for (size_t i = e->n; i > 0; i--) {
                if (e->list[i - 1]->passing > 0)
                        e->list[i - 1]->passing--;
                export_expire(e->list[i - 1]);
                /* A worker that looks has a copy too. */
                if (!e->looking)
                        count_references(e->list[i - 1]);
        }
        if (!e->looking)
                (void) export_look(vm, 0);
        manager_touch(vm->manager);
        return 0;
}

void export_watch(VM *vm) {
        struct exports *e = vm->exports;
        bool wanted = false;

        for (size_t i = 0; i < e->n; i++)
                wanted |= is_watched(e->list[i]) || e->list[i]->call;
        if (!wanted)
                e->timer = sd_event_source_disable_unref(e->timer);
        else if (!e->timer && sd_event_add_time_relative(vm->manager->event, &e->timer, CLOCK_MONOTONIC, LOOK_USEC, 0, on_look, vm) < 0)
                log_oom();
}
