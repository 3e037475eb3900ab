/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdid's end of the vPCI server: requests, events, what Describe() shows of it, and the folders of the sockets. */
#include "vpci.h"

#include <stdio.h>
#include <sys/stat.h>
#include <tdi/request.h>

#include "audit.h"
#include "bus/bus.h"
#include "device.h"
#include "export.h"
#include "handoff.h"

/* The first version of a holder's messages that has vpci.*. */
#define HOLDER_VERSION 2
#define HOLDER_VERSION_REQUESTS 3
/* A client can cause events without end: what is beyond this is counted. */
#define EVENTS_LOGGED_MAX 32
#define EVENTS_WINDOW_USEC (10 * 1000000ULL)
/* And while a VM is taken up again: a client that goes on for ever does not keep it from that. */
#define ASKED_AGAIN_MAX 8

/* ---- requests ---- */

bool vpci_is_there(const VM *vm) {
        return holder_alive(vm->holder) && holder_version(vm->holder) >= HOLDER_VERSION;
}

static struct json_object *request(const char *op, const Custody *c) {
        struct json_object *q = json_new();

        json_set_str(q, "op", op);
        if (c)
                json_set_str(q, "bdf", c->name);
        return q;
}

int vpci_serve(Custody *c, struct json_object *serve, int socket, holder_done done) {
        struct json_object *q, *limits;
        VM *vm = c->vm;

        if (!vm || !holder_alive(vm->holder))
                return -ENOTCONN;
        if (!vpci_is_there(vm))
                return -EOPNOTSUPP;
        q = request("vpci.serve", c);
        json_set_u64(q, "ioas", json_u64_or(c->values, "ioas", 0));
        json_set_str(q, "on_illegal_config_write", json_str_or(c->values, "on_illegal_config_write", NULL));
        json_object_object_foreach(serve, key, value)
                json_set_take(q, key, json_object_get(value));
        /* A VM that was allowed it once is not for good. */
        if (vm->peer_to_peer && vm->manager->config.peer_to_peer) {
                const Device *d = device_find(vm->manager, c->bdf);

                json_set_bool(q, "peer_to_peer", d && device_is_isolated(d));
        }
        if (!isempty(vm->seclabel))
                json_set_str(q, "seclabel", vm->seclabel);
        limits = json_new();
        json_set_u64(limits, "bytes", (uint64_t) vm->max_pinned_mib << 20);
        json_set_u64(limits, "maps", vm->max_maps);
        json_set_take(q, "limits", limits);
        return holder_call(vm->holder, q, &socket, 1, done, c);
}

int vpci_stop(Custody *c, bool idle, holder_done done, void *userdata) {
        struct json_object *q;

        if (!c->vm || !vpci_is_there(c->vm))
                return -ENOTCONN;
        q = request("vpci.stop", c);
        if (idle)
                json_set_bool(q, "idle", true);
        return holder_call(c->vm->holder, q, NULL, 0, done, userdata);
}

int vpci_viommu(VM *vm, uint32_t id, bool on, holder_done done, void *userdata) {
        struct json_object *q;

        if (!vpci_takes_requests(vm))
                return -EOPNOTSUPP;
        q = request("vpci.viommu", NULL);
        json_set_u64(q, "id", id);
        json_set_u64(q, "type", vm->platform->viommu_type);
        json_set_bool(q, "on", on);
        return holder_call(vm->holder, q, NULL, 0, done, userdata);
}

int vpci_stop_all(VM *vm, holder_done done, void *userdata) {
        if (!vpci_is_there(vm))
                return -ENOTCONN;
        return holder_call(vm->holder, request("vpci.stop_all", NULL), NULL, 0, done, userdata);
}

static const char *const bound_states[_BIND_LEAVES_MAX] = {
        [BIND_LEAVES_UNKNOWN] = "unknown", [BIND_LEAVES_UNLOCKED] = "bound", [BIND_LEAVES_LOCKED] = "locked"
};

int vpci_lock(Custody *c, bool lock, holder_done done) {
        struct json_object *q;

        if (!c->vm || !vpci_is_there(c->vm))
                return -ENOTCONN;
        q = request("vpci.lock", c);
        /* An earlier holder knows no other; to be too strict ends no TDI. */
        json_set_str(q, "state", !lock ? "unlocked" : vpci_takes_requests(c->vm) ? bound_states[c->vm->platform->bind_leaves] : "locked");
        return holder_call(c->vm->holder, q, NULL, 0, done, c);
}

bool vpci_takes_requests(const VM *vm) {
        return holder_alive(vm->holder) && holder_version(vm->holder) >= HOLDER_VERSION_REQUESTS;
}

int vpci_pass_requests(Custody *c, bool on, holder_done done) {
        struct json_object *q;

        if (!c->vm || !vpci_takes_requests(c->vm))
                return -ENOTCONN;
        q = request("vpci.requests", c);
        json_set_bool(q, "on", on);
        if (on) {
                json_set_str(q, "provider", json_str_or(c->values, "provider", ""));
                json_set_u64(q, "vdevice", json_u64_or(c->values, "vdevice", 0));
                json_set_u64(q, "tvm_arch", c->vm->platform->tvm_arch);
        }
        return holder_call(c->vm->holder, q, NULL, 0, done, c);
}

int vpci_report(Custody *c, holder_done done, void *userdata) {
        if (!c->vm || !vpci_takes_requests(c->vm))
                return -ENOTCONN;
        return holder_call(c->vm->holder, request("vpci.report", c), NULL, 0, done, userdata);
}

void vpci_set_tee(Custody *c, struct json_object *ranges) {
        struct json_object *q;

        if (!c->vm || !vpci_takes_requests(c->vm)) {
                json_object_put(ranges);
                return;
        }
        q = request("vpci.tee", c);
        json_set_take(q, "ranges", ranges);
        (void) holder_call(c->vm->holder, q, NULL, 0, NULL, NULL);
}

unsigned vpci_allowed_requests(const Manager *m) {
        unsigned kinds = 0;

        for (int k = 0; k < TDI_REQUEST_KIND_MAX; k++)
                if (tdi_request_target(k) == TDI_TDISP_INVALID ? m->config.guest_requests : m->config.guest_state_changes)
                        kinds |= 1u << k;
        return kinds;
}

static int open_requests(Custody *c, int socket, unsigned kinds, bool own, holder_done done, void *userdata) {
        const Manager *m = c->manager;
        struct json_object *q;

        if (!c->vm || !vpci_takes_requests(c->vm))
                return -EOPNOTSUPP;
        q = request("vpci.open_requests", c);
        json_set_u64(q, "kinds", kinds);
        json_set_bool(q, "own", own);
        json_set_u64(q, "per_second", m->config.guest_requests_per_second);
        json_set_str(q, "vm", c->vm->name);
        return holder_call(c->vm->holder, q, &socket, 1, done, userdata);
}

int vpci_open_requests(Custody *c, int socket, holder_done done, void *userdata) {
        return open_requests(c, socket, vpci_allowed_requests(c->manager), false, done, userdata);
}

int vpci_open_own_requests(Custody *c, int socket, unsigned kinds) {
        return open_requests(c, socket, kinds, true, NULL, NULL);
}

void vpci_ring(Custody *c) {
        if (c->vm && custody_is_done(c, ACTION_PREPARE_SOCKET) && vpci_is_there(c->vm))
                (void) holder_call(c->vm->holder, request("vpci.request", c), NULL, 0, NULL, NULL);
}

void vpci_stopped(Custody *c, bool stuck) {
        TDI *t = tdi_of(c);

        if (!c->vm)
                return;
        if (stuck) {
                log_warning("%s: a request of its client has not come back from the kernel: going on without it", c->name);
                json_set_bool(c->values, "stuck", true);
        }
        keeper_end_vpci(c->vm, c->bdf, "the function is being given back");
        if (t) {
                json_putp(&t->vpci);
                t->vpci = NULL;
        }
        /* What its client had mapped may still be there, and unmapping may take long: that is for the VM's end. */
        if (stuck)
                vm_space_leave(c->vm, c);
}

/* A packet holds what some functions have to say: the others follow. The VM has those that are not answered yet. */
struct asking {
        VM *vm;
        struct asking *next;
        struct json_object *functions;
        holder_done done;
        void *userdata;
};

static int ask_from(struct asking *a, uint64_t from);

static void asking_free(struct asking *a) {
        struct asking **p = &a->vm->asking;

        while (*p != a)
                p = &(*p)->next;
        *p = a->next;
        json_putp(&a->functions);
        free(a);
}

void vpci_ask_end(VM *vm) {
        while (vm->asking)
                asking_free(vm->asking);
}

static void asked(struct asking *a, int r, struct json_object *answer, struct ipc_fds *fds) {
        holder_done done = a->done;
        void *userdata = a->userdata;

        if (r >= 0)
                json_set_take(answer, "functions", TAKE_PTR(a->functions));
        asking_free(a);
        done(r, answer, fds, userdata);
}

static void on_state(int r, struct json_object *answer, struct ipc_fds *fds, void *userdata) {
        struct asking *a = userdata;
        struct json_object *list;
        uint64_t next;

        if (r >= 0)
                r = json_get_array(answer, "functions", &list);
        for (size_t i = 0; r >= 0 && i < json_object_array_length(list); i++)
                json_push_take(a->functions, json_object_get(json_object_array_get_idx(list, i)));
        /* Functions that come or go between two packets are the next question's: this one ends all the same. */
        if (r >= 0 && json_get_u64(answer, "next", &next) >= 0 && json_object_array_length(list) > 0) {
                r = ask_from(a, next);
                if (r >= 0)
                        return;
        }
        asked(a, r < 0 ? r : 0, answer, fds);
}

static int ask_from(struct asking *a, uint64_t from) {
        struct json_object *q = request("vpci.state", NULL);

        json_set_u64(q, "from", from);
        return holder_call(a->vm->holder, q, NULL, 0, on_state, a);
}

int vpci_ask(VM *vm, holder_done done, void *userdata) {
        struct asking *a;
        int r;

        if (!vpci_is_there(vm))
                return -ENOTCONN;
        a = calloc(1, sizeof(*a));
        if (!a)
                log_oom();
        *a = (struct asking){ vm, vm->asking, json_new_array(), done, userdata };
        vm->asking = a;
        r = ask_from(a, 0);
        if (r < 0)
                asking_free(a);
        return r;
}

/* ---- events ---- */

static TDI *find(const VM *vm, const char *bdf) {
        struct tdi_bdf parsed;

        if (tdi_bdf_parse(bdf, &parsed) < 0)
                return NULL;
        for (size_t i = 0; i < vm->n_tdis; i++)
                if (tdi_bdf_number(vm->tdis[i]->bdf) == tdi_bdf_number(parsed))
                        return vm->tdis[i];
        return NULL;
}

static bool may_log(VM *vm, struct log_budget *b, const char *what) {
        uint64_t now = now_monotonic();

        if (now - b->since > EVENTS_WINDOW_USEC) {
                if (b->left_out > 0)
                        log_warning("VM %s: %u more events of its %s were not logged", vm->name, b->left_out, what);
                b->since = now;
                b->logged = b->left_out = 0;
        }
        if (b->logged >= EVENTS_LOGGED_MAX) {
                b->left_out++;
                return false;
        }
        b->logged++;
        return true;
}

bool vpci_may_log(VM *vm) {
        return may_log(vm, &vm->events, "functions");
}

bool vpci_may_log_iommu(VM *vm) {
        return may_log(vm, &vm->iommu_events, "vIOMMUs");
}

void vpci_note(TDI *t, const char *what, const char *text) {
        struct json_object *o = json_new();
        char clean[512];

        /* It may quote what a client has said: one line it stays. */
        snprintf(clean, sizeof(clean), "%s", strempty(text));
        for (char *c = clean; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        *c = '?';
        if (vpci_may_log(t->vm))
                audit_note(t, what, clean);
        json_set_u64(o, "given", now_realtime());
        json_set_str(o, "what", what);
        json_set_str(o, "text", clean);
        if (!t->events)
                t->events = json_new_array();
        if (json_object_array_length(t->events) >= VPCI_EVENTS_MAX)
                (void) json_object_array_del_idx(t->events, 0, 1);
        json_push_take(t->events, o);
}

static void connected(TDI *t, struct json_object *event, struct ipc_fds *fds) {
        pid_t pid = (pid_t) json_i64_or(event, "pid", 0);
        uint64_t serial = json_u64_or(event, "serial", 0);
        uid_t uid = (uid_t) json_u64_or(event, "uid", 0);
        VM *vm = t->vm;

        if (vm->close != CLOSE_NOT || t->state == TDI_STATE_DETACHING)
                return;
        /* One a function: the end of an earlier one has been missed. */
        keeper_end_vpci(vm, t->bdf, "another has come");
        if (vpci_may_log(vm))
                audit_connected(t, pid, uid);
        (void) keeper_new_vpci(vm, t->bdf, pid, uid, 0);
        peer_connected(vm, serial, pid, ipc_fds_take(fds, 0));
}

static void on_event(struct json_object *event, struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        const char *what = json_str_or(event, "what", "");
        TDI *t = find(vm, json_str_or(event, "bdf", ""));

        if (!streq(json_str_or(event, "event", ""), "vpci"))
                return;
        /* It has no functions yet: the answer that is under way may be without this. */
        if (vm->vpci_recovered)
                vm->vpci_moved = true;
        if (streq(what, "peer-gone"))
                peer_gone(vm, json_u64_or(event, "serial", 0));
        if (streq(what, "helper-gone"))
                peer_helper_gone(vm, json_u64_or(event, "serial", 0));
        if (streq(what, "iommu"))
                vm_on_iommu_event(vm, event);
        if (!t)
                return;
        if (streq(what, "connected"))
                connected(t, event, fds);
        else if (streq(what, "disconnected")) {
                /* Its interrupts and memory go with it, which no TDI survives. */
                if (custody_touched(t->custody, ACTION_BIND_LOCK))
                        tdi_unbind(t);
                keeper_end_vpci(vm, t->bdf, json_str_or(event, "why", "it has gone"));
        } else if (streq(what, "failed")) {
                const char *text = json_str_or(event, "text", "its vPCI server has failed");

                vpci_note(t, what, text);
                if (tdi_is_attached(t))
                        tdi_failed(t, text);
                else if (t->state == TDI_STATE_ATTACHING) {
                        /* Whoever waits for the attach must not get it. */
                        t->committed = false;
                        vm_touch(vm);
                        custody_give_up(t->custody, text);
                }
        } else if (streq(what, "reset")) {
                vpci_note(t, what, json_str_or(event, "text", ""));
                tdi_unbind_for_reset(t);
        } else if (streq(what, "illegal-write")) {
                vpci_note(t, what, json_str_or(event, "text", ""));
                tdi_unbind_for_write(t, json_str_or(event, "text", ""));
        } else if (streq(what, "was-reset"))
                tdi_was_reset(t);
        else if (streq(what, "tdisp"))
                tdi_take_tdisp(t, tdi_tdisp_from_string(json_str_or(event, "state", "")));
        else if (streq(what, "report"))
                tdi_look_at_report(t);
        else if (streq(what, "memory"))
                export_on_memory(vm, t->bdf, json_bool_or(event, "enabled", true), json_str_or(event, "why", ""));
        else
                vpci_note(t, what, json_str_or(event, "text", ""));
        manager_touch(vm->manager);
}

void vpci_listen(VM *vm) {
        holder_listen(vm->holder, on_event);
}

/* ---- state ---- */

void vpci_take_state(VM *vm, struct json_object *answer) {
        struct json_object *list, *viommus;

        if (json_get_array(answer, "functions", &list) < 0)
                return;
        vm->pinned = json_u64_or(answer, "pinned", 0);
        json_putp(&vm->viommus);
        vm->viommus = json_get_array(answer, "viommus", &viommus) < 0 ? NULL : json_object_get(viommus);
        for (size_t i = 0; i < vm->n_tdis; i++) {
                json_putp(&vm->tdis[i]->vpci);
                vm->tdis[i]->vpci = NULL;
        }
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);
                TDI *t = json_object_is_type(o, json_type_object) ? find(vm, json_str_or(o, "bdf", "")) : NULL;

                if (!t)
                        continue;
                json_putp(&t->vpci);
                t->vpci = json_object_get(o);
                t->vpci_read = now_realtime();
                /* Of a client that caused more events than are told. */
                tdi_take_tdisp(t, tdi_tdisp_from_string(json_str_or(o, "tdisp", "")));
        }
}

struct json_object *vpci_describe(const TDI *t) {
        struct json_object *o;
        char path[256];

        if (!t->custody || !custody_is_done(t->custody, ACTION_PREPARE_SOCKET) || !custody_has_socket(t->custody) ||
            custody_is_handed_off(t->custody) ||
            vpci_path(t->vm, t->bdf, path, sizeof(path)) < 0)
                return NULL;
        o = json_new();
        if (t->vpci) {
                json_object_object_foreach(t->vpci, key, value)
                        if (!streq(key, "bdf"))
                                json_set_take(o, key, json_object_get(value));
        }
        json_set_str(o, "socket", path);
        /* Who is connected is known here without asking. */
        json_set_bool(o, "connected", keeper_find_vpci(t->vm, t->bdf) != NULL);
        json_set_bool(o, "stale", t->vm->vpci_stale);
        json_set_take(o, "read", t->vm->vpci_stale ? json_object_new_uint64(t->vpci_read) : NULL);
        json_set_take(o, "events", t->events ? json_object_get(t->events) : json_new_array());
        return o;
}

/* ---- after a restart ---- */

/* [number of the keeper, since when], where the record knows of the connection. */
static struct json_object *recorded(VM *vm, const char *bdf) {
        struct json_object *list, *c;

        if (json_get_array(vm->adopting, "tdis", &list) < 0)
                return NULL;
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);

                if (streq(json_str_or(o, "bdf", ""), bdf))
                        return json_get_array(o, "connection", &c) < 0 || json_object_array_length(c) != 2 ? NULL : c;
        }
        return NULL;
}

static void on_recovered(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        VM *vm = userdata;
        void (*done)(VM *) = vm->vpci_recovered;
        struct json_object *list;
        uint64_t pid = 0;

        if (r >= 0 && vm->vpci_moved && vm->vpci_asked_again++ < ASKED_AGAIN_MAX) {
                vm->vpci_moved = false;
                if (vpci_ask(vm, on_recovered, vm) >= 0)
                        return;
        }
        if (r >= 0 && json_get_array(answer, "functions", &list) >= 0) {
                (void) json_get_u64(answer, "pid", &pid);
                json_putp(&vm->vpci_state);
                vm->vpci_state = json_object_get(list);
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        struct json_object *o = json_object_array_get_idx(list, i), *c;
                        const char *name = json_str_or(o, "bdf", "");
                        struct tdi_bdf bdf;
                        Custody *function;
                        Keeper *k;

                        if (!json_bool_or(o, "connected", false) || tdi_bdf_parse(name, &bdf) < 0)
                                continue;
                        c = recorded(vm, name);
                        function = custody_find(vm->manager, bdf);
                        k = keeper_new_vpci(vm, bdf, (pid_t) pid, (uid_t) json_u64_or(function ? function->values : NULL, "vmm_uid", vm->vmm_uid), c ? json_object_get_uint64(json_object_array_get_idx(c, 1)) : 0);
                        if (c)
                                k->number = json_object_get_uint64(json_object_array_get_idx(c, 0));
                }
                if (pid > 0)
                        peer_resume(vm, json_u64_or(answer, "serial", 0), (pid_t) pid);
                else
                        peer_none(vm);
                if (pid > 0 && json_bool_or(answer, "helper_gone", false))
                        peer_helper_gone(vm, json_u64_or(answer, "serial", 0));
                /* Where its tdid has died before it said so. */
                vm_spaces_listen(vm);
        } else if (r < 0)
                log_warning("VM %s: its holder does not say what it serves: %s", vm->name, strerror(-r));
        vm->vpci_recovered = NULL;
        done(vm);
}

void vpci_recover(VM *vm, void (*done)(VM *vm)) {
        int r;

        vpci_listen(vm);
        vm->vpci_recovered = done;
        r = vpci_ask(vm, on_recovered, vm);
        if (r < 0)
                on_recovered(r, NULL, NULL, vm);
}

const char *vpci_resumed(TDI *t) {
        /* Its socket has been shut for that. */
        if (custody_is_handed_off(t->custody) || !custody_has_socket(t->custody))
                return NULL;
        for (size_t i = 0; t->vm->vpci_state && i < json_object_array_length(t->vm->vpci_state); i++) {
                struct json_object *o = json_object_array_get_idx(t->vm->vpci_state, i);

                if (!streq(json_str_or(o, "bdf", ""), t->custody->name))
                        continue;
                json_putp(&t->vpci);
                t->vpci = json_object_get(o);
                t->vpci_read = now_realtime();
                t->tdisp = tdi_tdisp_from_string(json_str_or(o, "tdisp", ""));
                return json_bool_or(o, "failed", false) ? "its vPCI function failed while no tdid was there; detach it" : NULL;
        }
        return "its holder does not serve its vPCI socket; detach it";
}

/* ---- folders ---- */

int vpci_path(const VM *vm, struct tdi_bdf bdf, char *buf, size_t size) {
        char label[TDI_BDF_MAX];

        /* The path is part of the API: the address as it is written everywhere, but for ':', which QEMU's options would take for their own. */
        tdi_bdf_format(bdf, label);
        label[4] = label[7] = '_';
        return snprintf(buf, size, "%s/vm/%s/%s.sock", vm->manager->state_dir, vm->uuid, label) >= (int) size ? -ENAMETOOLONG : 0;
}

static int folder_of(Manager *m, const char *uuid, char *buf, size_t size) {
        return snprintf(buf, size, "%s/vm/%s", m->state_dir, uuid) >= (int) size ? -ENAMETOOLONG : 0;
}

void vpci_remove_folder(VM *vm) {
        char path[256];

        if (folder_of(vm->manager, vm->uuid, path, sizeof(path)) >= 0 && rmdir(path) < 0 && errno != ENOENT && errno != ENOTEMPTY)
                log_warning("VM %s: could not remove %s: %s", vm->name, path, strerror(errno));
}

/* Functions that are left behind know their VM by its UUID: the last one takes the folder away. */
static bool is_left_behind(Manager *m, const char *uuid) {
        for (size_t i = 0; i < m->n_custodies; i++)
                if (custody_touched(m->custodies[i], ACTION_PREPARE_SOCKET) && streq(json_str_or(m->custodies[i]->values, "uuid", ""), uuid))
                        return true;
        return false;
}

/* Nobody listens there any more: the holder is gone, and so is whoever could have begun a step. */
static void remove_sockets(TdiHost *files, const char *folder) {
        _cleanup_(host_names_freep) char **names = NULL;

        if (host_list(files, folder, &names) < 0)
                return;
        for (char **n = names; *n; n++) {
                const char *dot = strrchr(*n, '.');
                char path[512];

                if (dot && (streq(dot, ".sock") || streq(dot, ".new")) && snprintf(path, sizeof(path), "%s/%s", folder, *n) < (int) sizeof(path))
                        (void) unlink(path);
        }
}

void vpci_sweep(Manager *m) {
        _cleanup_(tdi_host_freep) TdiHost *files = NULL;
        _cleanup_(host_names_freep) char **names = NULL;
        char path[256];

        /* Whose they are, a newer tdid's records say. */
        for (size_t i = 0; i < m->n_vms; i++)
                if (m->vms[i]->frozen)
                        return;
        for (size_t i = 0; i < m->n_custodies; i++)
                if (m->custodies[i]->frozen)
                        return;
        if (snprintf(path, sizeof(path), "%s/vm", m->state_dir) >= (int) sizeof(path) || tdi_host_linux_new(&files) < 0 ||
            host_list(files, path, &names) < 0)
                return;
        for (char **n = names; *n; n++) {
                if (!uuid_is_valid(*n) || vm_find_uuid(m, *n) || is_left_behind(m, *n) || folder_of(m, *n, path, sizeof(path)) < 0)
                        continue;
                remove_sockets(files, path);
                if (rmdir(path) < 0 && errno != ENOENT)
                        log_warning("could not remove %s, the folder of a VM that is no more: %s", path, strerror(errno));
        }
}
