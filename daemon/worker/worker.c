/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid-worker: runs the operations that may sleep in the kernel, for one function (or one reader) at a time. It talks to its
 * tdid over descriptor 3 and ends when that end is closed: the command it was at is then finished, and nothing else begun.
 *
 * Between the work for one function and that for another it rests: only with no descriptor of the former left.
 */
#include "worker/work.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "fault.h"
#include "worker/confine.h"

#define SOCKET_FD 3

static const struct work_op ops[] = {
        { "claim.check", check_use_do, NULL, NULL },
        { "claim.note", claim_note_do, NULL, NULL },
        { "claim.pm", claim_pm_do, claim_pm_undo, claim_pm_probe },
        { "claim.override", claim_override_do, claim_override_undo, claim_override_probe },
        { "claim.rebind", claim_rebind_do, claim_rebind_undo, claim_rebind_probe },
        { "guard.look", guard_look_do, NULL, NULL },
        { "guard.sweep", guard_sweep_do, NULL, NULL },
        { "guard.on", guard_on_do, guard_on_undo, guard_on_probe },
        { "take", take_do, NULL, NULL },
        { "open.cdev", open_cdev_do, open_cdev_undo, NULL },
        { "open.associate", open_associate_do, open_associate_undo, NULL },
        { "open.bind", open_bind_do, NULL, open_bind_probe },
        { "connect.note", connect_note_do, NULL, NULL },
        { "connect.tsm", connect_tsm_do, connect_tsm_undo, connect_tsm_probe },
        { "prepare.viommu", prepare_viommu_do, NULL, NULL },
        { "prepare.vdevice", prepare_vdevice_do, prepare_vdevice_undo, NULL },
        { "prepare.withdraw", NULL, prepare_vdevice_undo, NULL },
        { "prepare.attach", prepare_attach_do, prepare_attach_undo, NULL },
        { "prepare.socket", prepare_socket_do, prepare_socket_undo, prepare_socket_probe },
        { "bind.connect", bind_connect_do, bind_connect_undo, NULL },
        { "bind.tsm", bind_tsm_do, bind_tsm_undo, bind_tsm_probe },
        { "export.dmabuf", export_dmabuf_do, NULL, NULL },
        { "export.look", export_look_do, NULL, NULL },
        { "export.ring", export_ring_do, NULL, NULL },
        { "buffer.create", buffer_create_do, NULL, NULL },
        { "vm.unmap", vm_unmap_do, NULL, NULL },
        { "vm.take", vm_take_do, NULL, NULL },
        { "vm.close", vm_close_do, NULL, NULL },
        { "peer.open", peer_open_do, NULL, NULL },
        { "peer.kvm", peer_kvm_do, NULL, NULL },
        { "read.pci", read_pci_do, NULL, NULL },
        { "read.tsm", read_tsm_do, NULL, NULL },
        { "read.ide", read_ide_do, NULL, NULL },
        { "read.host", read_host_do, NULL, NULL },
        { "check.host", check_host_do, NULL, NULL },
        { "check.report", check_report_do, NULL, NULL },
        { "read.evidence", read_evidence_do, NULL, NULL },
        { "read.archived", read_archived_do, NULL, NULL },
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

int work_decode_hex(const char *text, uint8_t *buf, size_t room, size_t *ret_size) {
        static const char digits[] = "0123456789abcdef";
        size_t n = strlen(text);

        if (n % 2 || n / 2 > room)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++) {
                const char *digit = strchr(digits, text[i]);

                if (!digit)
                        return -EBADMSG;
                buf[i / 2] = (uint8_t) (buf[i / 2] << 4 | (digit - digits));
        }
        *ret_size = n / 2;
        return 0;
}

static int run_one(struct work *w, const char *name, const char *verb) {
        for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
                const char *allowed = NULL;
                work_func f;
                int r;

                if (!streq(ops[i].name, name))
                        continue;
                f = streq(verb, "do") ? ops[i].do_ : streq(verb, "undo") ? ops[i].undo : streq(verb, "probe") ? ops[i].probe : NULL;
                if (!f)
                        return 0;
                if (fault_forbidden(name, &allowed) < 0)
                        return work_fail(w, -EOWNERDEAD, NULL, "keep a worker that does %s from %s", name, allowed);
                r = fault_fails(name, verb, w->bdf);
                if (r < 0)
                        return work_fail(w, r, "a test asked for this failure", "%s %s of %s", verb, name, w->bdf);
                return f(w);
        }
        return work_fail(w, -ENOSYS, "tdid and tdid-worker are of different versions", "find operation %s", name);
}

static const char *name_at(struct json_object *names, size_t i) {
        return strempty(json_object_get_string(json_object_array_get_idx(names, i)));
}

/* All of a command up to the first that fails; *ret_ran is how many went well. */
static int run_all(struct work *w, struct json_object *names, const char *verb, size_t *ret_ran) {
        size_t n = json_object_array_length(names);
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                const char *name = name_at(names, i);

                /* The first point before and the last one after a command are tdid's own. */
                if (i > 0)
                        fault_point_within(name, verb, "before");
                r = run_one(w, name, verb);
                if (r < 0)
                        return r;
                *ret_ran = i + 1;
                if (i + 1 < n)
                        fault_point_within(name, verb, "after");
        }
        return r;
}

/* The first operation says what else a worker will ever do: see worker/confine.h. */
static enum worker_kind kind = WORKER_ANY;
/* Not where the host writes down what passes through it: that needs its files. */
static bool confined;

bool work_is_confined(void) {
        return confined;
}

static int narrow(struct work *w, struct json_object *names) {
        int r;

        if (confined && kind == WORKER_ANY && json_object_array_length(names) == 1 && worker_kind_of(name_at(names, 0)) != WORKER_ANY) {
                r = worker_confine(worker_kind_of(name_at(names, 0)), !streq(w->host->ops->name, "linux"));
                if (r < 0)
                        return work_fail(w, r, "does the kernel have CONFIG_SECCOMP_FILTER?", "confine the worker that does %s", name_at(names, 0));
                kind = worker_kind_of(name_at(names, 0));
        }
        for (size_t i = 0; kind != WORKER_ANY && i < json_object_array_length(names); i++)
                if (worker_kind_of(name_at(names, i)) != kind)
                        return work_fail(w, -EPERM, NULL, "do %s in a worker that is confined to something else", name_at(names, i));
        return 0;
}

/* Open before the first command: standard input, output, error, the socket, and what the host needs for itself. */
static uint64_t own;

size_t work_hosts_own(int ret[static WORK_OWN_MAX]) {
        size_t n = 0;

        for (int fd = SOCKET_FD + 1; fd < WORK_OWN_MAX; fd++)
                if (own & 1ULL << fd)
                        ret[n++] = fd;
        return n;
}

/* What else is open, as bits; all of them when that cannot be told. */
static uint64_t look_at_descriptors(void) {
        DIR *d = opendir("/proc/self/fd");
        uint64_t found = d ? 0 : UINT64_MAX;
        struct dirent *e;

        while (d && (e = readdir(d))) {
                int fd = e->d_name[0] == '.' ? 0 : atoi(e->d_name);

                if (fd != dirfd(d))
                        found |= fd < 63 ? 1ULL << fd : 1ULL << 63;
        }
        if (d)
                closedir(d);
        return found;
}

/* Nothing but its own and the lock is open: of what was worked on nothing can be kept back or closed late. */
static bool is_empty(int lock) {
        uint64_t allowed = own | (lock >= 0 && lock < 63 ? 1ULL << lock : 0);

        return (look_at_descriptors() & ~allowed) == 0;
}

static int answer(struct work *w, int r, size_t ran) {
        _cleanup_json_ struct json_object *o = json_new(), *ack = NULL;
        struct ipc_fds none = {};

        json_set_i64(o, "r", r);
        json_set_u64(o, "ran", ran);
        if (r < 0)
                json_set_str(o, "text", w->text);
        json_set_take(o, "values", TAKE_PTR(w->values));
        r = ipc_send(SOCKET_FD, o, w->out.fd, r < 0 ? 0 : w->out.n);
        if (r >= 0 && w->out.n > 0) {
                /* What was opened here stays open here until tdid has given it to the holder. */
                r = ipc_recv(SOCKET_FD, &ack, &none);
                ipc_fds_close(&none);
        }
        if (w->unsaid.provider) {
                if (r < 0)
                        (void) w->unsaid.provider->unbind(w->host, w->unsaid.fd, w->unsaid.vdevice);
                close_fd(w->unsaid.fd);
        }
        ipc_fds_close(&w->out);
        return r;
}

/* 1: go on; 0: end. */
static int serve(TdiHost *host, int *lock) {
        _cleanup_json_ struct json_object *command = NULL;
        struct work w = { .host = host };
        struct json_object *names, *args;
        size_t ran = 0;
        int r;

        r = ipc_recv(SOCKET_FD, &command, &w.fds);
        if (r < 0)
                return r == -ECONNRESET ? 0 : r;
        if (json_bool_or(command, "lock", false) && w.fds.n > 0) {
                close_fd(*lock);
                *lock = ipc_fds_take(&w.fds, 0);
                memmove(w.fds.fd, w.fds.fd + 1, --w.fds.n * sizeof(*w.fds.fd));
        }
        w.lock = *lock;
        w.values = json_new();
        w.args = json_get_object(command, "args", &args) < 0 ? NULL : args;
        w.bdf = json_str_or(w.args, "bdf", "");
        if (json_get_array(command, "ops", &names) < 0)
                r = work_fail(&w, -EBADMSG, NULL, "read a command");
        else if (streq(name_at(names, 0), "rest")) {
                /* Whoever still holds something closes it while the function is locked: by ending. And who is confined to one thing is of no other use. */
                if (kind != WORKER_ANY || !is_empty(*lock)) {
                        json_object_put(w.values);
                        return 0;
                }
                w.lock = *lock = close_fd(*lock);
        } else {
                r = narrow(&w, names);
                if (r >= 0)
                        r = run_all(&w, names, json_str_or(command, "verb", ""), &ran);
        }
        ipc_fds_close(&w.fds);
        r = answer(&w, r, ran);
        /* Nobody waits for it: tdid has only wanted to be rid of a descriptor, or has ended. */
        if (r == -EPIPE || r == -ECONNRESET)
                return 0;
        return r < 0 ? r : 1;
}

int main(int argc, char **argv) {
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        const char *spec = "linux";
        int lock = -EBADF, r;

        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--host="))
                        spec = argv[i] + strlen("--host=");
                else {
                        fprintf(stderr, "tdid-worker is started by tdid, with --host=HOST and a socket as descriptor %d\n", SOCKET_FD);
                        return 2;
                }
        }
        /* What is executed by a descriptor has its number for a name, and others know us by ours. */
        (void) prctl(PR_SET_NAME, "tdid-worker");
        if (tdi_host_new(spec, &host) < 0)
                return 1;
        confined = !startswith(spec, "trace:");
        r = confined ? worker_confine(WORKER_ANY, !streq(spec, "linux")) : 0;
        if (r < 0) {
                fprintf(stderr, "tdid-worker: could not confine itself: %s\n", strerror(-r));
                return 1;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        /* Ctrl-C on a terminal is for tdid, which decides what is undone. */
        (void) signal(SIGINT, SIG_IGN);
        (void) signal(SIGTERM, SIG_IGN);

        own = look_at_descriptors();
        /* More than there are bits for: it then never rests, but ends. */
        if (own >> 63)
                own = 0;
        do
                r = serve(host, &lock);
        while (r > 0);
        bind_let_go(host);
        return r < 0;
}
