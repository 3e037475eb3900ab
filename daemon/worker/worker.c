/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid-worker: runs the operations that may sleep in the kernel, for one function (or one reader) at a time. It talks to its
 * tdid over descriptor 3 and ends when that end is closed: what it was doing is then finished, and nothing else begun.
 */
#include "worker/work.h"

#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "fault.h"

#define SOCKET_FD 3

static const struct work_op ops[] = {
        { "claim.check", check_use_do, NULL, NULL },
        { "claim.note", claim_note_do, NULL, NULL },
        { "claim.pm", claim_pm_do, claim_pm_undo, claim_pm_probe },
        { "claim.override", claim_override_do, claim_override_undo, claim_override_probe },
        { "claim.rebind", claim_rebind_do, claim_rebind_undo, claim_rebind_probe },
        { "take", take_do, NULL, NULL },
        { "open.cdev", open_cdev_do, open_cdev_undo, NULL },
        { "open.bind", open_bind_do, NULL, open_bind_probe },
        { "connect.note", connect_note_do, NULL, NULL },
        { "connect.tsm", connect_tsm_do, connect_tsm_undo, connect_tsm_probe },
        { "prepare.attach", prepare_attach_do, prepare_attach_undo, NULL },
        { "vm.unmap", vm_unmap_do, NULL, NULL },
        { "vm.take", vm_take_do, NULL, NULL },
        { "vm.close", vm_close_do, NULL, NULL },
        { "read.pci", read_pci_do, NULL, NULL },
        { "read.tsm", read_tsm_do, NULL, NULL },
};

int work_fail(struct work *w, int r, const char *hint, const char *format, ...) {
        char what[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(what, sizeof(what), format, ap);
        va_end(ap);
        snprintf(w->text, sizeof(w->text), "could not %s: %s (%s)%s%s", what, strerror(-r), strerrorname_np(-r), hint ? "; " : "",
                 strempty(hint));
        return r;
}

const char *work_path(struct work *w, char *buf, size_t size, const char *attribute) {
        snprintf(buf, size, WORK_SYSFS_PCI "%s/%s", w->bdf, attribute);
        return buf;
}

static int run(struct work *w, const char *name, const char *verb) {
        for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
                work_func f;
                int r;

                if (!streq(ops[i].name, name))
                        continue;
                f = streq(verb, "do") ? ops[i].do_ : streq(verb, "undo") ? ops[i].undo : streq(verb, "probe") ? ops[i].probe : NULL;
                if (!f)
                        return 0;
                r = fault_fails(name, verb, w->bdf);
                if (r < 0)
                        return work_fail(w, r, "a test asked for this failure", "%s %s of %s", verb, name, w->bdf);
                return f(w);
        }
        return work_fail(w, -ENOSYS, "tdid and tdid-worker are of different versions", "find operation %s", name);
}

int main(int argc, char **argv) {
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        const char *spec = "linux";

        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--host="))
                        spec = argv[i] + strlen("--host=");
                else {
                        fprintf(stderr, "tdid-worker is started by tdid, with --host=HOST and a socket as descriptor %d\n", SOCKET_FD);
                        return 2;
                }
        }
        if (tdi_host_new(spec, &host) < 0)
                return 1;
        (void) signal(SIGPIPE, SIG_IGN);
        /* Ctrl-C on a terminal is for tdid, which decides what is undone. */
        (void) signal(SIGINT, SIG_IGN);
        (void) signal(SIGTERM, SIG_IGN);

        for (;;) {
                _cleanup_json_ struct json_object *command = NULL, *answer = NULL;
                struct work w = { .host = host };
                struct json_object *args;
                int r;

                r = ipc_recv(SOCKET_FD, &command, &w.fds);
                if (r < 0)
                        return r == -ECONNRESET ? 0 : 1;
                answer = json_new();
                w.values = json_new();
                w.args = json_get_object(command, "args", &args) < 0 ? NULL : args;
                w.bdf = json_str_or(w.args, "bdf", "");
                r = run(&w, json_str_or(command, "op", ""), json_str_or(command, "verb", ""));
                ipc_fds_close(&w.fds);
                json_set_i64(answer, "r", r);
                if (r < 0)
                        json_set_str(answer, "text", w.text);
                json_set_take(answer, "values", w.values);
                r = ipc_send(SOCKET_FD, answer, w.out.fd, r < 0 ? 0 : w.out.n);
                if (r >= 0 && w.out.n > 0) {
                        _cleanup_json_ struct json_object *ack = NULL;
                        struct ipc_fds none = {};

                        /* What was opened here stays open here until tdid has given it to the holder. */
                        r = ipc_recv(SOCKET_FD, &ack, &none);
                        ipc_fds_close(&none);
                }
                ipc_fds_close(&w.out);
                if (r < 0)
                        return 1;
        }
}
