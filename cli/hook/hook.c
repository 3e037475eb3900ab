/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See hook.h. The order of a domain's life, by libvirt 9.0 (qemuProcessStart, qemuProcessStop):
 *
 *   prepare begin   nothing has been chosen yet: the metadata is read, so that mistakes end the start here
 *   start begin     user, group and labels are known: the VM is made; a failure ends the start
 *   started begin   QEMU runs: it has connected to every function, or the start ends after all
 *   stopped end     QEMU is gone, or was never there: the VM is closed. Failures of both operations before lead here, too
 *   release end     the last that is heard of a domain: whatever is left
 *   reconnect begin libvirtd has been restarted. A failure would kill the domain: it is only told
 *
 * The VM is closed by the domain that made it alone: a file in the state folder, which is locked while a hook works for that domain, says that
 * it was this one. A libvirtd that dies leaves a VM that nothing keeps, which its next start replaces.
 */
#include "hook.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>

#include "domain.h"

#define PREPARE_SECONDS 300 /* then it is cancelled: libvirt waits with the domain locked */
#define UNDO_SECONDS 60
#define DESTROY_SECONDS 120
#define LOCK_SECONDS 60
#define CONNECT_SECONDS 5 /* QEMU has connected when it has started; tdid may hear of it a moment later */

static void json_freep(json_object **p) {
        json_object_put(*p);
}

struct work {
        const struct hook *hook;
        struct domain domain;
        struct tdi_client *client;
        struct signalfd_siginfo signal;
        char path[256];  /* of the domain's file */
        int lock;        /* the open file */
        int signal_fd;
        pid_t parent;    /* libvirtd */
        uint64_t begun, cancelled, limit; /* seconds */
        const char *why; /* it was cancelled */
};

static uint64_t now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec;
}

static int fail(const struct work *w, int r, const char *format, ...) _printf_(3, 4);
static int fail(const struct work *w, int r, const char *format, ...) {
        va_list ap;

        fprintf(stderr, "tdid-hook: domain %s: ", w->hook->domain);
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        return r;
}

/* Where a failure would do harm, the log is the only place that anybody looks at: libvirt drops what a hook says that ends well. */
static void warn(const struct work *w, const char *format, ...) _printf_(2, 3);
static void warn(const struct work *w, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void) fail(w, 0, "%s", strempty(text));
        syslog(LOG_DAEMON | LOG_WARNING, "domain %s: %s", w->hook->domain, strempty(text));
}

static int fail_oom(const struct work *w) {
        return fail(w, -ENOMEM, "out of memory");
}

static int fail_tdid(const struct work *w, int r, const char *what) {
        return fail(w, r, "%s: %s%s%s", what, w->why ? w->why : "", w->why ? ": " : "", tdi_client_error(w->client, NULL));
}

static bool is_error(const struct work *w, enum tdi_error wanted) {
        enum tdi_error e;

        (void) tdi_client_error(w->client, &e);
        return e == wanted;
}

/* ---- waiting for tdid ---- */

static const char *why_cancel(struct work *w) {
        if (read(w->signal_fd, &w->signal, sizeof(w->signal)) == (ssize_t) sizeof(w->signal))
                return "the hook was told to end";
        if (getppid() != w->parent)
                return "libvirtd has ended meanwhile";
        return now() - w->begun > w->limit ? "it took too long" : NULL;
}

static enum tdi_progress_verdict on_prepare(_unused_ const struct tdi_progress *p, void *userdata) {
        struct work *w = userdata;

        if (w->why)
                return now() - w->cancelled > UNDO_SECONDS ? TDI_PROGRESS_LEAVE : TDI_PROGRESS_CANCEL;
        w->why = why_cancel(w);
        w->cancelled = now();
        return w->why ? TDI_PROGRESS_CANCEL : TDI_PROGRESS_WAIT;
}

/* Giving back is tdid's, whoever waits for it. */
static enum tdi_progress_verdict on_destroy(_unused_ const struct tdi_progress *p, void *userdata) {
        struct work *w = userdata;

        w->why = why_cancel(w);
        return w->why ? TDI_PROGRESS_LEAVE : TDI_PROGRESS_WAIT;
}

static void limit(struct work *w, tdi_progress_callback callback, unsigned seconds) {
        w->begun = now();
        w->limit = seconds;
        w->why = NULL;
        tdi_client_set_progress(w->client, callback, w);
        tdi_client_set_wake_fd(w->client, w->signal_fd);
}

static int connect_tdid(struct work *w) {
        int r = tdi_client_new(&w->client);

        if (r < 0)
                return fail_oom(w);
        r = tdi_client_connect(w->client, w->hook->bus);
        return r < 0 ? fail_tdid(w, r, "cannot reach tdid") : 0;
}

/* ---- whose VM it is ---- */

/* Another hook may still work for this domain, one of a libvirtd that was killed. */
static int lock_domain(struct work *w, bool create) {
        struct stat here, there;

        if (create && mkdir(w->hook->state, 0700) < 0 && errno != EEXIST)
                return fail(w, -errno, "cannot make %s: %s", w->hook->state, strerror(errno));
        if (snprintf(w->path, sizeof(w->path), "%s/%s", w->hook->state, w->domain.uuid) >= (int) sizeof(w->path))
                return fail(w, -ENAMETOOLONG, "the path %s is too long", w->hook->state);
        for (uint64_t begin = now(); now() - begin <= LOCK_SECONDS; usleep(50000)) {
                _cleanup_close_ int fd = open(w->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);

                if (fd < 0)
                        return errno == ENOENT && !create ? -ENOENT : fail(w, -errno, "cannot open %s: %s", w->path, strerror(errno));
                if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                        continue;
                /* Whoever had it may have removed it. */
                if (fstat(fd, &here) == 0 && stat(w->path, &there) == 0 && here.st_ino == there.st_ino) {
                        w->lock = TAKE_FD(fd);
                        return 0;
                }
        }
        return fail(w, -EBUSY, "another tdid-hook works for this domain and has not ended for %d s (it has %s locked)", LOCK_SECONDS, w->path);
}

static void forget(const struct work *w) {
        (void) unlink(w->path);
}

/* Returns 0 where there is none. */
static int find_vm(struct work *w, char **ret_id) {
        int r = tdi_client_find_vm(w->client, w->domain.uuid, ret_id);

        return r >= 0 ? 1 : is_error(w, TDI_ERROR_NOT_FOUND) ? 0 : fail_tdid(w, r, "cannot look for the domain's VM");
}

static json_object *member(json_object *o, const char *key, json_type type) {
        json_object *v;

        return json_object_object_get_ex(o, key, &v) && json_object_is_type(v, type) ? v : NULL;
}

static const char *text_of(json_object *o, const char *key) {
        json_object *v = member(o, key, json_type_string);

        return v ? json_object_get_string(v) : "";
}

/* What Describe() tells; NULL, and the client's error says why. */
static json_object *describe(struct work *w, const char *id) {
        _cleanup_free_ char *text = NULL;
        _cleanup_(json_freep) json_object *o = NULL;
        json_object *vm;

        if (tdi_client_describe(w->client, id, &text) < 0)
                return NULL;
        o = json_tokener_parse(text);
        vm = member(o, "vm", json_type_object);
        return vm ? json_object_get(vm) : NULL;
}

/* ---- the VM's life ---- */

static int destroy(struct work *w, const char *id) {
        int r;

        limit(w, on_destroy, DESTROY_SECONDS);
        r = tdi_client_destroy(w->client, id, 0);
        return r >= 0 || is_error(w, TDI_ERROR_NOT_FOUND) ? 0 : r;
}

/* What an earlier run has left is replaced, unless somebody needs it. */
static int clear_stale(struct work *w) {
        _cleanup_(json_freep) json_object *vm = NULL;
        _cleanup_free_ char *id = NULL;
        json_object *keepers;
        int r;

        r = find_vm(w, &id);
        if (r <= 0)
                return r;
        vm = describe(w, id);
        keepers = member(vm, "keepers", json_type_array);
        if (!keepers)
                return is_error(w, TDI_ERROR_NOT_FOUND) ? 0 : fail_tdid(w, -EBADMSG, "cannot see what keeps the VM with the domain's UUID");
        for (size_t i = 0; i < json_object_array_length(keepers); i++) {
                json_object *k = json_object_array_get_idx(keepers, i);

                /* Its VMM is waited for: that was another QEMU. */
                if (!streq(text_of(k, "kind"), "await"))
                        return fail(w, -EBUSY,
                                    "tdid has a VM with the domain's UUID %s already, which a %s keeps: 'tdictl vm show %s' says whose; "
                                    "'tdictl vm destroy %s' closes it", w->domain.uuid, text_of(k, "kind"), w->domain.uuid, w->domain.uuid);
        }
        r = destroy(w, id);
        return r < 0 ? fail_tdid(w, r, "the VM that an earlier run of the domain has left could not be closed") : 0;
}

static int prepare(struct work *w) {
        const struct domain *d = &w->domain;
        struct tdi_vm_options o = {
                .size = sizeof(o),
                .set = TDI_VM_SET_VMM_UID | TDI_VM_SET_VMM_GID | TDI_VM_SET_AWAIT_VMM | (d->hotplug ? TDI_VM_SET_HOTPLUG : 0) |
                        (d->peer_to_peer ? TDI_VM_SET_PEER_TO_PEER : 0),
                .uuid = d->uuid, .platform = d->platform, .bind = d->bind, .seclabel = d->seclabel,
                .hotplug = d->hotplug, .peer_to_peer = d->peer_to_peer, .await_vmm = d->await_vmm,
        };
        _cleanup_free_ char *id = NULL, *error = NULL;
        _cleanup_close_ int lease = -EBADF;
        uid_t uid;
        gid_t gid;
        int r;

        r = domain_ids(d, &uid, &gid, &error);
        if (r < 0)
                return error ? fail(w, r, "%s", error) : fail_oom(w);
        o.vmm_uid = uid;
        o.vmm_gid = gid;
        r = connect_tdid(w);
        if (r >= 0)
                r = lock_domain(w, true);
        if (r < 0)
                return r;
        r = clear_stale(w);
        if (r >= 0) {
                limit(w, on_prepare, PREPARE_SECONDS);
                r = tdi_client_prepare_vm(w->client, d->vm_name ? d->vm_name : d->name, &o, d->functions, d->n_functions, &id, &lease);
                /* It goes on without us, as this domain's. */
                if (r == -EINPROGRESS)
                        return fail_tdid(w, r, "tdid could not prepare the domain's functions, and has not given all of them back yet");
                if (r < 0)
                        r = fail_tdid(w, r, "tdid could not prepare the domain's functions");
        }
        if (r >= 0 && (w->why = why_cancel(w))) {
                r = fail(w, -ECANCELED, "%s; the domain's functions are given back", w->why);
                (void) destroy(w, id);
        }
        if (r < 0)
                forget(w);
        return r;
}

static int op_prepare(struct work *w) {
        const struct domain *d = &w->domain;

        if (!d->shared)
                return fail(w, -EINVAL, "the guest's memory is its VMM's own, and no device would reach it: add <memoryBacking><source type='memfd'/>"
                                        "<access mode='shared'/></memoryBacking> to the domain");
        return 0;
}

static int op_start(struct work *w) {
        int r = op_prepare(w);

        return r < 0 ? r : prepare(w);
}

/* Which function QEMU has not connected to, and where it should. Returns 1 when there is one, 0 when all are. */
static int unconnected(struct work *w, const char *id, char **ret) {
        _cleanup_(json_freep) json_object *vm = describe(w, id);
        json_object *tdis = member(vm, "tdis", json_type_array);

        if (!tdis)
                return fail_tdid(w, -EBADMSG, "cannot see whether QEMU has connected to the domain's functions");
        for (size_t i = 0; i < json_object_array_length(tdis); i++) {
                json_object *tdi = json_object_array_get_idx(tdis, i), *vpci = member(tdi, "vpci", json_type_object), *connected;

                if (vpci && json_object_object_get_ex(vpci, "connected", &connected) && json_object_get_boolean(connected))
                        continue;
                if (asprintf(ret, "%s at %s", text_of(tdi, "bdf"), vpci ? text_of(vpci, "socket") : "no socket") < 0)
                        return fail_oom(w);
                return 1;
        }
        return 0;
}

static int op_started(struct work *w) {
        _cleanup_free_ char *id = NULL, *which = NULL;
        int r;

        r = connect_tdid(w);
        if (r >= 0)
                r = find_vm(w, &id);
        if (r == 0)
                r = fail(w, -ENOENT, "tdid does not have the domain's VM any more, see tdid's log");
        for (uint64_t begin = now(); r >= 0 && (r = unconnected(w, id, &which)) > 0 && now() - begin < CONNECT_SECONDS; usleep(50000))
                freep(&which);
        if (r > 0)
                r = fail(w, -ENOTCONN, "QEMU has not connected to %s: the domain needs <qemu:commandline> with a vfio-user-pci for it, see tdid-hook(8)",
                         which ? which : "a function");
        return r;
}

static int op_end(struct work *w) {
        _cleanup_free_ char *id = NULL;
        int r;

        r = lock_domain(w, false);
        if (r < 0)
                return r == -ENOENT ? 0 : r; /* no VM is this domain's */
        r = connect_tdid(w);
        if (r >= 0)
                r = find_vm(w, &id);
        if (r > 0) {
                r = destroy(w, id);
                if (r < 0)
                        (void) fail_tdid(w, r, "the domain's functions are not given back yet");
        }
        if (r >= 0)
                forget(w);
        else
                syslog(LOG_DAEMON | LOG_WARNING, "domain %s: its VM %s was not closed at %s: %s", w->hook->domain, w->domain.uuid, w->hook->operation,
                       w->client ? tdi_client_error(w->client, NULL) : strerror(-r));
        return r;
}

static int op_adopt(struct work *w) {
        _cleanup_free_ char *id = NULL, *which = NULL;

        if (connect_tdid(w) < 0)
                warn(w, "tdid cannot be asked for the VM of this running domain");
        else if (find_vm(w, &id) <= 0)
                warn(w, "tdid has no VM for this running domain: it runs on without its functions, until it is started anew");
        else if (unconnected(w, id, &which) != 0)
                warn(w, "this running domain has no connection to %s: it runs on without that function", which ? which : "a function");
        else if (lock_domain(w, true) < 0)
                warn(w, "the VM of this running domain closes with its QEMU alone");
        return 0;
}

static int op_migrate(struct work *w) {
        return fail(w, -EOPNOTSUPP, "a domain with functions of tdid cannot be migrated: what a function and the platform's security manager have agreed on "
                                    "is this host's, and cannot be moved");
}

static int op_restore(struct work *w) {
        return fail(w, -EOPNOTSUPP, "a domain with functions of tdid cannot be restored from a saved state, which does not have that of its functions: "
                                    "start it anew ('virsh managedsave-remove' or 'virsh start --force-boot')");
}

static const struct operation {
        const char *name, *suboperation;
        enum domain_part part;
        int (*run)(struct work *w);
} operations[] = {
        { "prepare", "begin", DOMAIN_ALL, op_prepare },   { "start", "begin", DOMAIN_ALL, op_start },
        { "started", "begin", DOMAIN_WHO, op_started },   { "stopped", "end", DOMAIN_WHO, op_end },
        { "release", "end", DOMAIN_WHO, op_end },         { "migrate", "begin", DOMAIN_WHO, op_migrate },
        { "restore", "begin", DOMAIN_WHO, op_restore },   { "reconnect", "begin", DOMAIN_WHO, op_adopt },
        { "attach", "begin", DOMAIN_WHO, op_adopt },
};

int hook_run(const struct hook *h, const char *xml, size_t size) {
        struct work w = { .hook = h, .lock = -EBADF, .signal_fd = -EBADF, .parent = getppid() };
        const struct operation *o = NULL;
        _cleanup_free_ char *error = NULL;
        sigset_t mask;
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(operations) && !o; i++)
                if (streq(operations[i].name, h->operation) && streq(operations[i].suboperation, h->suboperation))
                        o = &operations[i];
        if (!o)
                return 0;
        r = domain_read(xml, size, o->part, &w.domain, &error);
        if (r < 0)
                return error ? fail(&w, r, "%s (see tdid-hook(8))", error) : fail_oom(&w);
        if (!w.domain.ours)
                return 0;
        /* A signal is a reason to give back, not to leave it half done; nobody may read what is said any more. */
        (void) signal(SIGPIPE, SIG_IGN);
        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGHUP);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        w.signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        openlog("tdid-hook", LOG_PID, LOG_DAEMON);
        r = o->run(&w);
        w.client = tdi_client_free(w.client);
        close_fd(w.signal_fd);
        close_fd(w.lock);
        domain_done(&w.domain);
        return r;
}
