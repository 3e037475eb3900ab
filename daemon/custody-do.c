/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One command on the way up. */
#include "custody-engine.h"

#include <stdio.h>

#include "audit.h"
#include "association.h"
#include "custody-rules.h"
#include "fault.h"
#include "journal.h"
#include "unit.h"
#include "vpci.h"

static void on_request_held(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        if (r < 0)
                custody_failed(c, ACTION_OPEN_BIND, false, r, "could not give the request interrupt to the VM's holder");
        else
                custody_ended(c, ACTION_OPEN_BIND, false);
}

static void on_held(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (r < 0) {
                /* Its copy goes with the worker; ours is taken over by the next one, which closes last. */
                c->worker = worker_free(c->worker);
                custody_failed(c, ACTION_OPEN_CDEV, false, r, "could not give the device to the VM's holder");
                return;
        }
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        custody_ended(c, ACTION_OPEN_CDEV, false);
}

static void on_served(int r, struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        const char *wanted = json_str_or(c->values, "on_illegal_config_write", NULL);

        custody_idle(c);
        if (r >= 0 && wanted && !streq_ptr(json_str_or(answer, "on_illegal_config_write", NULL), wanted)) {
                c->worker = worker_free(c->worker);
                custody_failed(c, ACTION_PREPARE_SOCKET, false, -EOPNOTSUPP,
                               "the VM's holder was started by an earlier tdid, and does not do what the policy wants of illegal writes to config space: destroy the VM and create it anew");
                return;
        }
        if (r < 0) {
                c->worker = worker_free(c->worker);
                custody_failed(c, ACTION_PREPARE_SOCKET, false, r, r == -EOPNOTSUPP ?
                               "the VM's holder was started by an earlier tdid and has no vPCI server: destroy the VM and create it anew" :
                               "the VM's holder does not serve the function's vPCI socket; its log tells more");
                return;
        }
        fault_point(custody_table[ACTION_PREPARE_SOCKET].name, "do", "served");
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        custody_ended(c, ACTION_PREPARE_SOCKET, false);
}

/* The socket goes to the holder before the worker lets go of its copy; what else the worker has said is for the holder too. */
static void hand_over_socket(Custody *c, struct json_object *values, int socket) {
        _cleanup_json_ struct json_object *serve = NULL;
        struct json_object *o;
        int r = -EBADMSG;

        if (c->vm && json_get_object(values, "serve", &o) >= 0) {
                serve = json_object_get(o);
                json_object_object_del(values, "serve");
                /* Not whom it was meant for, where tdid may not give files away. */
                json_set_u64(c->values, "vmm_uid", json_u64_or(serve, "uid", c->vm->vmm_uid));
                if (!c->vm->folder) {
                        c->vm->folder = true;
                        vm_touch(c->vm);
                }
                fault_point(custody_table[ACTION_PREPARE_SOCKET].name, "do", "opened");
                r = vpci_serve(c, serve, socket, on_served);
        }
        if (r < 0)
                on_served(r, NULL, NULL, c);
}

static const char *could_not_write(const Custody *c, int r, char *buf, size_t size) {
        snprintf(buf, size, "could not write the journal below %s: %s; nothing is done without it", c->manager->state_dir, strerror(-r));
        return buf;
}

/* Whoever is left with the worker's end undoes it: see unsaid in worker/worker.c. */
static void not_held(Custody *c, int r, const char *text) {
        custody_idle(c);
        c->binding = close_fd(c->binding);
        c->worker = worker_free(c->worker);
        /* By then iommufd may have given the number to another one. */
        if (json_bool_or(c->values, "vdevice_binds", false))
                custody_forget_vdevice(c);
        custody_failed(c, ACTION_BIND_TSM, false, r, text);
}

static void on_bound(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        if (r < 0) {
                not_held(c, r, "could not give the binding to the VM's holder");
                return;
        }
        custody_idle(c);
        fault_point(custody_table[ACTION_BIND_TSM].name, "do", "held");
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        custody_ended(c, ACTION_BIND_TSM, false);
}

/* The holder has it before the worker lets go: whose end is the last, it is after tdid's. */
static void hold_binding(Custody *c, struct json_object *values, int fd) {
        char text[160];
        int r;

        custody_merge(c, values);
        c->binding = fd;
        /* Who has bound it, a later tdid must know as soon as the holder has it. */
        r = journal_write(c);
        if (r < 0) {
                not_held(c, r, could_not_write(c, r, text, sizeof(text)));
                return;
        }
        r = custody_hold(c, "bind", fd, on_bound);
        if (r < 0)
                on_bound(r, NULL, NULL, c);
}

static void on_locked(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (custody_ask_again(c, r))
                return;
        if (r < 0)
                custody_failed(c, ACTION_BIND_LOCK, false, r, r == -EAGAIN ?
                               "a request of its client is in the kernel still, or its BARs are mapped for the VM's other functions" :
                               "the VM's holder does not keep its client from changing what the TSM locks");
        else
                custody_ended(c, ACTION_BIND_LOCK, false);
}

static void on_requests(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (r < 0)
                custody_failed(c, ACTION_BIND_REQUESTS, false, r, "the VM's holder does not pass requests of the guest on");
        else
                custody_ended(c, ACTION_BIND_REQUESTS, false);
}

static void on_done(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata);

static void on_associated(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;

        custody_idle(c);
        if (r < 0) {
                /* The worker's copy is the last, and its close ends the association. */
                if (c->vm)
                        c->vm->association.device = close_fd(c->vm->association.device);
                c->worker = worker_free(c->worker);
                custody_failed(c, ACTION_OPEN_ASSOCIATE, false, r, "could not give the kvm-vfio device to the VM's holder");
                return;
        }
        fault_point(custody_table[ACTION_OPEN_ASSOCIATE].name, "do", "held");
        audit_associated(c);
        if (c->worker)
                (void) worker_acknowledge(c->worker);
        custody_ended(c, ACTION_OPEN_ASSOCIATE, false);
}

/* The VM's kvm-vfio device, which the VMM has made for its first function. */
static void hold_association(Custody *c, int device) {
        int r;

        close_fd(c->vm->association.device);
        c->vm->association.device = device;
        r = custody_hold_as(c, "kvm-vfio", device, on_associated);
        if (r < 0)
                on_associated(r, NULL, NULL, c);
}

/* From here on its VMM may have the node: that is in the journal before it is asked. */
static int associate(Custody *c) {
        int fds[3];
        size_t n;

        if (c->vm->association.channel < 0)
                return -ENOTCONN;
        n = association_fds(c, fds);
        return custody_call(c, false, fds, n, on_done);
}

/* PID 1 has made its list anew by then, or it was not that. */
#define LISTED_USEC (3 * 1000000ULL)

/* The node may not be opened: for want of a newer list, which is asked for once? Then it is tried again until that must be there. */
static bool wait_for_list(Custody *c) {
        if (c->asked == 0) {
                if (unit_look_for_devices(c->manager) < 0)
                        return false;
                c->asked = now_monotonic();
        } else if (now_monotonic() - c->asked > LISTED_USEC) {
                c->asked = 0;
                return false;
        }
        c->worker = worker_free(c->worker);
        custody_later(c);
        return true;
}

static void on_done(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Custody *c = userdata;
        enum custody_action a = custody_highest(c->command);

        if (r >= 0 && a == ACTION_OPEN_BIND && fds->n == 1) {
                custody_merge(c, values);
                custody_take_request(c, ipc_fds_take(fds, 0));
                r = custody_hold(c, "request", c->request, on_request_held);
                if (r >= 0)
                        return;
                custody_idle(c);
                c->worker = worker_free(c->worker);
                custody_failed(c, a, false, r, "could not give the request interrupt to the VM's holder");
                return;
        }
        if (r >= 0 && a == ACTION_OPEN_CDEV && fds->n == 1) {
                custody_merge(c, values);
                c->device = ipc_fds_take(fds, 0);
                /* It goes to the holder before the worker lets go of its copy: there is no moment at which only tdid has it. */
                r = custody_hold(c, "cdev", c->device, on_held);
                if (r >= 0)
                        return; /* on_held() goes on */
                custody_idle(c);
                /* The worker still has it: the last close stays out of this process. */
                c->device = close_fd(c->device);
                c->worker = worker_free(c->worker);
                custody_failed(c, a, false, r, "could not give the device to the VM's holder");
                return;
        }
        if (r >= 0 && a == ACTION_PREPARE_SOCKET && fds->n == 1) {
                hand_over_socket(c, values, fds->fd[0]);
                return;
        }
        if (r >= 0 && a == ACTION_OPEN_ASSOCIATE && fds->n == 1 && c->vm) {
                hold_association(c, ipc_fds_take(fds, 0));
                return;
        }
        if (r >= 0 && a == ACTION_BIND_TSM && fds->n == 1) {
                hold_binding(c, values, ipc_fds_take(fds, 0));
                return;
        }
        if (values)
                json_object_object_del(values, "serve");
        custody_idle(c);
        if (r == -EPERM && a == ACTION_OPEN_CDEV && wait_for_list(c))
                return;
        custody_merge(c, values);
        json_object_object_del(c->values, "answered");
        if (r >= 0 && a == ACTION_CONNECT_TSM)
                json_set_str(c->values, "connected_by", "tdid");
        if (r >= 0 && (a == ACTION_CONNECT_TSM || a == ACTION_BIND_CONNECT))
                audit_tsm_connected(custody_dsm(c), json_str_or(c->values, "tsm", ""), c);
        if (r >= 0 && a == ACTION_BIND_CONNECT)
                custody_connected_again(c);
        /* Where it was not answered, that may come yet, on this channel. */
        if (r < 0 && a == ACTION_OPEN_ASSOCIATE && c->vm && !json_bool_or(values, "answered", false))
                association_hang_up(c->vm);
        if (r == -ECONNRESET) {
                c->worker = worker_free(c->worker);
                custody_failed(c, a, false, r, text);
                return;
        }
        a = custody_command_ended(c, false, worker_ran(w));
        if (r < 0) {
                /* One that opened something waits for an answer to that; any other can go on. */
                if (a == ACTION_OPEN_CDEV)
                        c->worker = worker_free(c->worker);
                custody_failed(c, a, false, r, text);
        }
}

/* To whom the socket belongs; and which folder it is in, for whoever removes it when the VM is no more. */
static void name_socket(Custody *c) {
        json_set_str(c->values, "uuid", c->vm->uuid);
        json_set_u64(c->values, "vmm_uid", c->vm->vmm_uid);
        json_set_u64(c->values, "vmm_gid", c->vm->vmm_gid);
}

/* The token of a VF's PF, which is ours to know where we opened that, and wanted only while it is on vfio-pci. */
static void pass_token(Custody *c) {
        const Custody *pf = custody_of_pf(c);
        const char *token = pf && custody_is_done(pf, ACTION_OPEN_BIND) ? json_str_or(pf->values, "vf_token", "") : "";

        if (*token && isempty(json_str_or(c->values, "vf_token", "")))
                json_set_str(c->values, "vf_token", token);
}

static int make_space(Custody *c) {
        struct vm_space *s;
        int r;

        r = vm_space_get(c->vm, c, &s);
        if (r < 0)
                return r;
        json_set_u64(c->values, "ioas", s->ioas);
        json_set_u64(c->values, "viommu_type", c->vm->platform->viommu_type);
        return 0;
}

/* This sub-action, and those after it that run in the same command. */
static uint32_t command_from(Custody *c, enum custody_action a) {
        uint32_t command = BIT(a);

        for (int b = a + 1; b < ACTION_MAX && custody_table[b].joins && !custody_is_done(c, b) && custody_may_do(c, b); b++)
                command |= BIT(b);
        return command;
}

bool custody_run_do(Custody *c, enum custody_action a) {
        char why[256];
        bool local;
        int r;

        if (custody_table[a].step == TDI_CUSTODY_BIND && !custody_dsm_lets_bind(c, why, sizeof(why))) {
                custody_failed(c, a, false, -EBUSY, why);
                return true;
        }
        r = a == ACTION_PREPARE_VIOMMU ? make_space(c) : 0;
        if (r < 0) {
                custody_failed(c, a, false, r, "IOMMU_IOAS_ALLOC failed");
                return true;
        }
        local = custody_is_local(c, a, false);
        r = local || custody_table[a].do_ == RUNS_HOLDER ? 0 : custody_need_worker(c);
        if (r == -EWOULDBLOCK)
                return false;
        if (r < 0) {
                custody_failed(c, a, false, r, "could not start a worker");
                return true;
        }
        if (a == ACTION_PREPARE_SOCKET)
                name_socket(c);
        if (a == ACTION_GUARD_ON)
                json_set_bool(c->values, "guard", !local);
        if (a == ACTION_OPEN_BIND)
                pass_token(c);
        if (a == ACTION_BIND_CONNECT && !local)
                custody_choose_again(c);
        if (a == ACTION_OPEN_ASSOCIATE && !local)
                json_set_bool(c->values, "associated", c->vm->association.channel >= 0);
        c->begun = c->command = local ? BIT(a) : command_from(c, a);
        r = custody_needs_journal(c, a, local) ? journal_write(c) : 0;
        if (r < 0) {
                char text[160];

                c->begun = 0;
                custody_failed(c, a, false, r, could_not_write(c, r, text, sizeof(text)));
                return true;
        }
        fault_point(custody_table[a].name, "do", "before");
        if (local) {
                custody_ended(c, a, false);
                return true;
        }
        if (a == ACTION_BIND_LOCK)
                r = vpci_lock(c, true, on_locked);
        else if (a == ACTION_BIND_REQUESTS)
                r = vpci_pass_requests(c, true, on_requests);
        else if (a == ACTION_OPEN_ASSOCIATE) {
                r = associate(c);
                if (r == -ENOTCONN) {
                        custody_failed(c, a, false, r, "the VM's VMM has closed the channel of its KVM association: it has to open another");
                        return true;
                }
        } else
                r = custody_call(c, false, (int[]){ c->device, a == ACTION_BIND_TSM ? c->vm->kvm : c->vm->iommufd, c->vm->iommufd }, custody_table[a].fds, on_done);
        if (r < 0)
                return custody_call_failed(c, a, false, r);
        custody_arm(c, custody_highest(c->command), false);
        return true;
}
