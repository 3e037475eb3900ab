/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing to the eventfds of exports. A client has the same open file description: it may take O_NONBLOCK away and fill the counter up,
 * and whoever writes then sleeps. So a worker writes, and one at most for a VM; what happens meanwhile is added up for the next.
 */
#include "export.h"

#include "worker.h"

/* What one command takes. */
#define RING_AT_MAX (IPC_FDS_MAX - 1)

static bool is_due(const Export *x) {
        return x->event >= 0 && x->rings > x->ringing;
}

/* Sends what is due; how many of them. Negative: nothing was sent. */
static int send_due(struct exports *e, Worker *w, worker_done done, void *userdata) {
        _cleanup_json_ struct json_object *args = json_new();
        struct json_object *list = json_new_array();
        Export *sent[RING_AT_MAX];
        int fds[RING_AT_MAX], r;
        size_t n = 0;

        json_set_take(args, "rings", list);
        for (size_t i = 0; i < e->n && n < RING_AT_MAX; i++)
                if (is_due(e->list[i])) {
                        sent[n] = e->list[i];
                        fds[n++] = e->list[i]->event;
                        json_push_take(list, json_object_new_uint64(e->list[i]->rings - e->list[i]->ringing));
                }
        if (n == 0)
                return 0;
        r = worker_call(w, "export.ring", "do", args, fds, n, done, userdata);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                sent[i]->ringing = sent[i]->rings;
        return (int) n;
}

static void on_rung(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                    void *userdata) {
        struct exports *e = ((VM *) userdata)->exports;
        VM *vm = userdata;
        bool again = r == -ECONNRESET && !e->rings_again;

        e->rings_again = again;
        if (r < 0)
                log_warning("VM %s: could not tell of its dma-bufs by their eventfds: %s", vm->name, text);
        for (size_t i = e->n; i > 0; i--) {
                Export *x = e->list[i - 1];

                /* A worker that was killed may have written or not: once more is better than never. */
                if (!again)
                        x->rings -= x->ringing;
                x->ringing = 0;
                if (x->stage == EXPORT_PARTED && x->rings == 0)
                        export_forget(x);
        }
        e->ringer = r == -ECONNRESET ? worker_free(e->ringer) : worker_rest(e->ringer);
        vm_touch(vm);
}

void export_ring(VM *vm) {
        struct exports *e = vm->exports;
        bool due = false;

        for (size_t i = 0; i < e->n && !due; i++)
                due = is_due(e->list[i]);
        if (!due || e->ringer)
                return;
        if (worker_new(vm->manager, -EBADF, &e->ringer) < 0 || !e->ringer || send_due(e, e->ringer, on_rung, vm) < 0) {
                e->ringer = worker_free(e->ringer);
                manager_retry(vm->manager);
        }
}

static void ignore(_unused_ Worker *w, _unused_ int r, _unused_ const char *text, _unused_ struct json_object *values,
                   _unused_ struct ipc_fds *fds, _unused_ void *userdata) {
}

void export_ring_last(VM *vm) {
        struct exports *e = vm->exports;
        int r = 1;

        while (vm->close == CLOSE_DONE && r > 0) {
                Worker *w = NULL;
                bool due = false;

                for (size_t i = 0; i < e->n && !due; i++)
                        due = is_due(e->list[i]);
                if (!due || worker_new(vm->manager, -EBADF, &w) < 0 || !w)
                        break;
                /* It reads the message though our end is closed by then. */
                r = send_due(e, w, ignore, NULL);
                worker_free(w);
        }
        e->ringer = worker_free(e->ringer);
}

bool export_part(Export *x) {
        struct exports *e = x->vm->exports;
        unsigned parted = 0;

        for (size_t i = 0; i < e->n; i++)
                parted += e->list[i]->stage == EXPORT_PARTED;
        /* Whoever keeps the ringing of so many waiting has to do without. */
        if (x->event < 0 || x->rings == 0 || parted >= x->vm->manager->config.exports)
                return false;
        x->stage = EXPORT_PARTED;
        x->dmabuf = close_fd(x->dmabuf);
        return true;
}
