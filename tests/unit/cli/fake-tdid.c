/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A tdid that only talks: it has the objects and methods of docs/dbus-api.md that the client uses, over made-up functions, and
 * each function's number says how its jobs go. It proves the client and tdictl; it proves nothing about tdid.
 *
 *   fake-tdid            on the bus of DBUS_SYSTEM_BUS_ADDRESS; says "ready" on standard output when it owns the name
 *
 * Jobs of 0000:BB:00.0 by BB:
 *   01  end before the reply to the call that started them
 *   02  take 400 ms and two steps
 *   03  fail as Quarantined; Describe() tells more than Finished. Of other jobs it is denied.
 *   04  go on until cancelled, then take 100 ms to undo
 *   05  tdid exits 50 ms into them
 *   06  are refused at once as InUse
 *   07  become done before Finished is signalled
 *   08  are told as failed by a stranger's signal, and end well after 200 ms
 *   09  get no reply at all
 *   0a  tdid exits instead of replying
 *   0b  are stuck for 600 ms
 *   0c  as 04, but take 10 s to undo
 *
 * What Describe() of a VM tells of their vPCI sockets: 02 nothing at all, 07 that there is none, all others a path. Handoff() of 02 is
 * refused, all others give an eventfd for the iommufd and a memfd for the device.
 * Exports by BAR:
 *   0   with all that root is told, then a revoke and a return
 *   1   revoked from the beginning, for somebody else than root, with members that nobody knows
 *   2-4 answers that cannot be: other addresses than runs, an unknown class, half a page
 *   5   refused
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "util/util.h"

#define N_FUNCTIONS 12

struct vm {
        unsigned id;
        char path[64], name[64], uuid[40], platform[16], phase[16], options[512], seen[256];
        uint32_t owner;
        sd_event_source *lease;
        bool awaited;
        sd_bus_slot *slot;
};

struct function {
        unsigned number;
        char bdf[16], device_path[64], tdi_path[64], vm[64], custody[16], driver[16], quarantine[32], tsm[16], state[16];
        uint32_t guest_rid;
        bool wanted; /* by the attach job that runs */
        sd_bus_slot *tdi_slot;
};

struct job {
        unsigned id;
        char path[64], object[64], step[16], state[16], kind[16];
        struct function *function;
        struct vm *vm;
        void (*done)(struct job *j);
        int stage;
        sd_event_source *timer;
        sd_bus_slot *slot;
};

static sd_event *event;
static sd_bus *bus;
static struct vm vms[64];
static struct function functions[N_FUNCTIONS + 1];
static struct job jobs[256];
static unsigned n_vms, n_jobs;
static char last_caller[64];

static void check(int r, const char *what) {
        if (r < 0) {
                fprintf(stderr, "fake-tdid: %s: %s\n", what, strerror(-r));
                exit(1);
        }
}

#define set(to, from) snprintf(to, sizeof(to), "%s", from)

/* ---- jobs ---- */

static void changed(const char *path, const char *interface, const char *property) {
        (void) sd_bus_emit_properties_changed(bus, path, interface, property, NULL);
}

static void job_finish(struct job *j, const char *state, const char *error, const char *text) {
        sd_event_source_disable_unref(j->timer);
        j->timer = NULL;
        set(j->state, state);
        if (streq(state, "done") && j->done)
                j->done(j);
        if (j->function && j->function->number == 7) {
                changed(j->path, "org.tdid1.Job", "State");
                check(sd_bus_flush(bus), "flush");
        }
        check(sd_bus_emit_signal(bus, j->path, "org.tdid1.Job", "Finished", "ss", error, text), "emit Finished");
        if (!j->function || j->function->number != 7)
                changed(j->path, "org.tdid1.Job", "State");
}

/* Signals what is not true from a connection that is not tdid's, straight to the caller. */
static void forge(const struct job *j) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *stranger = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        check(sd_bus_open_system(&stranger), "connect as a stranger");
        check(sd_bus_message_new_signal(stranger, &m, j->path, "org.tdid1.Job", "Finished"), "make a forged signal");
        check(sd_bus_message_append(m, "ss", "org.tdid1.Error.Policy", "forged"), "make a forged signal");
        check(sd_bus_message_set_destination(m, last_caller), "make a forged signal");
        check(sd_bus_send(stranger, m, NULL), "send a forged signal");
}

static void job_arm(struct job *j, uint64_t usec);

static int on_timer(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct job *j = userdata;
        unsigned n = j->function ? j->function->number : 0;

        j->stage++;
        if (streq(j->step, "undo"))
                job_finish(j, "cancelled", "org.tdid1.Error.Cancelled", "The job was cancelled and undone.");
        else if (n == 2 && j->stage == 1) {
                set(j->step, "open");
                changed(j->path, "org.tdid1.Job", "Step");
                job_arm(j, 200000);
        } else if (n == 3)
                job_finish(j, "failed", "org.tdid1.Error.Quarantined", "0000:03:00.0: Quarantined");
        else if (n == 4 || n == 12)
                job_arm(j, 10000000);
        else if (n == 5)
                exit(0);
        else if (n == 8 && j->stage == 1) {
                forge(j);
                job_arm(j, 200000);
        } else if (n == 11 && j->stage == 1) {
                set(j->state, "stuck");
                changed(j->path, "org.tdid1.Job", "State");
                job_arm(j, 600000);
        } else
                job_finish(j, "done", "", "");
        return 0;
}

static void job_arm(struct job *j, uint64_t usec) {
        sd_event_source_disable_unref(j->timer);
        j->timer = NULL;
        check(sd_event_add_time_relative(event, &j->timer, CLOCK_MONOTONIC, usec, 1, on_timer, j), "add a timer");
}

static int job_cancel(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *j = userdata;

        if (!streq(j->kind, "attach"))
                return sd_bus_error_setf(e, "org.tdid1.Error.NotSupported", "A %s job cannot be cancelled.", j->kind);
        set(j->step, "undo");
        changed(j->path, "org.tdid1.Job", "Step");
        job_arm(j, j->function && j->function->number == 12 ? 10000000 : 100000);
        return sd_bus_reply_method_return(m, "");
}

static int job_describe(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct job *j = userdata;

        if (!j->function || j->function->number != 3)
                return sd_bus_error_set(e, "org.tdid1.Error.Denied", "Not for you.");
        return sd_bus_reply_method_return(m, "s", "{\"schema\":\"tdid/1\",\"job\":{\"error\":\"org.tdid1.Error.Quarantined\","
                                                  "\"text\":\"0000:03:00.0 is withheld: its reset set is not clean.\"}}");
}

static int job_objects(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
                       void *userdata, _unused_ sd_bus_error *e) {
        struct job *j = userdata;

        return sd_bus_message_append(reply, "as", 1, j->object);
}

static int get_text(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", (const char *) userdata);
}

static int get_zero(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    _unused_ void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "t", streq(property, "Started") ? UINT64_C(1700000000000000) : UINT64_C(0));
}

#define TEXT(name, type, field) SD_BUS_PROPERTY(name, "s", get_text, offsetof(struct type, field), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", job_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Describe", "", "s", job_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        TEXT("Kind", job, kind),
        TEXT("Step", job, step),
        TEXT("State", job, state),
        SD_BUS_PROPERTY("Objects", "as", job_objects, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Started", "t", get_zero, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Deadline", "t", get_zero, 0, 0),
        SD_BUS_SIGNAL("Finished", "ss", 0),
        SD_BUS_VTABLE_END,
};

/* async must be asked for: the client must never wait inside a call. */
static int read_async(sd_bus_message *m) {
        const char *key;
        int async = 0, r;

        check(sd_bus_message_enter_container(m, 'a', "{sv}"), "read options");
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                check(sd_bus_message_read(m, "s", &key), "read an option");
                if (streq(key, "async"))
                        check(sd_bus_message_read(m, "v", "b", &async), "read async");
                else
                        check(sd_bus_message_skip(m, "v"), "skip an option");
                check(sd_bus_message_exit_container(m), "leave an option");
        }
        check(r, "read options");
        check(sd_bus_message_exit_container(m), "leave options");
        return async;
}

static int job_start(sd_bus_message *m, const char *kind, struct function *f, struct vm *vm, void (*done)(struct job *), const char *tdi, sd_bus_error *e) {
        struct job *j = &jobs[n_jobs++ % ARRAY_SIZE(jobs)];
        unsigned n = f ? f->number : 0;

        if (!read_async(m))
                return sd_bus_error_set(e, "org.tdid1.Error.InvalidArgument", "The test wants async.");
        if (n == 6)
                return sd_bus_error_set(e, "org.tdid1.Error.InUse", "0000:06:00.0 is in use: /dev/nvme5n1 is mounted on /data.");
        if (n == 9)
                return 1;
        if (n == 10)
                exit(0);
        set(last_caller, sd_bus_message_get_sender(m));
        sd_bus_slot_unref(j->slot);
        *j = (struct job){ .id = n_jobs, .function = f, .vm = vm, .done = done };
        snprintf(j->path, sizeof(j->path), "/org/tdid1/job/%u", j->id);
        set(j->kind, kind);
        set(j->step, "claim");
        set(j->state, "running");
        set(j->object, f ? f->bdf : vm->name);
        check(sd_bus_add_object_vtable(bus, &j->slot, j->path, "org.tdid1.Job", job_vtable, j), "add a job");
        check(sd_bus_emit_object_added(bus, j->path), "announce a job");
        if (n == 1)
                job_finish(j, "done", "", "");
        else
                job_arm(j, n == 2 || n == 8 ? 200000 : 50000);
        if (tdi)
                return sd_bus_reply_method_return(m, "aoo", 1, tdi, j->path);
        return sd_bus_reply_method_return(m, "o", j->path);
}

/* ---- functions ---- */

static struct function *function_of(const char *bdf) {
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (streq(functions[i].bdf, bdf))
                        return &functions[i];
        return NULL;
}

static void function_free(struct function *f) {
        check(sd_bus_emit_object_removed(bus, f->tdi_path), "announce a TDI's end");
        f->tdi_slot = sd_bus_slot_unref(f->tdi_slot);
        set(f->vm, "");
        set(f->custody, "none");
        changed(f->device_path, "org.tdid1.Device", "Custody");
        changed(f->device_path, "org.tdid1.Device", "VM");
}

static void tdi_gone(struct job *j) {
        function_free(j->function);
}

static int tdi_detach(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return job_start(m, "detach", userdata, NULL, tdi_gone, NULL, e);
}

static int tdi_bind(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return job_start(m, "bind", userdata, NULL, NULL, NULL, e);
}

static int tdi_handoff(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        _cleanup_close_ int iommufd = -EBADF, device = -EBADF;
        struct function *f = userdata;

        if (f->number == 2)
                return sd_bus_error_set(e, "org.tdid1.Error.Policy", "\"handoff\" in \"policy\" of /etc/tdid/tdid.conf is not true.");
        iommufd = eventfd(0, EFD_CLOEXEC);
        device = memfd_create(f->bdf, MFD_CLOEXEC);
        return sd_bus_reply_method_return(m, "hh", iommufd, device);
}

static int append_description(sd_bus_message *m, uint32_t bar, uint64_t size) {
        check(sd_bus_message_open_container(m, 'a', "{sv}"), "describe an export");
        if (bar == 1)
                check(sd_bus_message_append(m, "{sv}{sv}", "later", "a(ss)", 1, "a", "b", "mood", "d", 1.5), "describe an export");
        check(sd_bus_message_append(m, "{sv}{sv}{sv}", "id", "t", UINT64_C(7), "size", "t", size, "state", "s", bar == 1 ? "revoked" : "exported"),
              "describe an export");
        check(sd_bus_message_append(m, "{sv}", "runs", "a(stas)", 2, "0000:01:00.0", UINT64_C(4096), 2, "p2p", "mmio", "0000:01:00.0",
                                    bar == 4 ? UINT64_C(2048) : UINT64_C(8192), 3, "p2p", "mmio", "warm"), "describe runs");
        if (bar != 1)
                check(sd_bus_message_append(m, "{sv}", "pfns", "at", bar == 2 ? 1 : 2, UINT64_C(0xfe000), UINT64_C(0xfe100)), "describe frames");
        return sd_bus_message_close_container(m);
}

static int tdi_export(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_close_ int dmabuf = -EBADF, event_fd = -EBADF;
        struct function *f = userdata;
        const char *importer, *class;
        uint64_t offset, size;
        char accept[64] = "";
        uint32_t bar;
        int r;

        check(sd_bus_message_read(m, "utts", &bar, &offset, &size, &importer), "read an export");
        check(sd_bus_message_enter_container(m, 'a', "s"), "read classes");
        while ((r = sd_bus_message_read_basic(m, 's', &class)) > 0)
                snprintf(accept + strlen(accept), sizeof(accept) - strlen(accept), " %s", class);
        check(r, "read classes");
        if (bar == 5)
                return sd_bus_error_setf(e, "org.tdid1.Error.ClassMismatch", "%" PRIu64 " %" PRIu64 " %s%s", offset, size, importer, accept);
        /* Two that can be told from each other. */
        dmabuf = memfd_create("dmabuf", MFD_CLOEXEC);
        event_fd = eventfd(1, EFD_CLOEXEC);
        check(sd_bus_message_new_method_return(m, &reply), "answer");
        check(sd_bus_message_append(reply, "hhs", dmabuf, event_fd, bar == 3 ? "eternal" : "revocable"), "give a dma-buf");
        check(append_description(reply, bar, size), "describe an export");
        check(sd_bus_send(NULL, reply, NULL), "answer");
        if (bar == 0) {
                check(sd_bus_emit_signal(bus, f->tdi_path, "org.tdid1.TDI", "Revoked", "t", UINT64_C(7)), "emit Revoked");
                check(sd_bus_emit_signal(bus, f->tdi_path, "org.tdid1.TDI", "Restored", "t", UINT64_C(7)), "emit Restored");
        }
        return 1;
}

static int tdi_path_of(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                       void *userdata, _unused_ sd_bus_error *e) {
        struct function *f = userdata;

        return sd_bus_message_append(reply, "o", streq(property, "VM") ? f->vm : f->device_path);
}

static int get_unknown(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
                       _unused_ void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", "unknown");
}

static const sd_bus_vtable tdi_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Detach", "a{sv}", "o", tdi_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Bind", "a{sv}", "o", tdi_bind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Handoff", "", "hh", tdi_handoff, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ExportDmabuf", "uttsas", "hhsa{sv}", tdi_export, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Device", "o", tdi_path_of, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("VM", "o", tdi_path_of, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        TEXT("State", function, state),
        SD_BUS_PROPERTY("TDISP", "s", get_unknown, 0, 0),
        SD_BUS_PROPERTY("GuestRID", "u", NULL, offsetof(struct function, guest_rid), 0),
        SD_BUS_SIGNAL("Failed", "s", 0),
        SD_BUS_SIGNAL("Revoked", "t", 0),
        SD_BUS_SIGNAL("Restored", "t", 0),
        SD_BUS_VTABLE_END,
};

static void connected(struct job *j) {
        set(j->function->tsm, "tsm0");
        changed(j->function->device_path, "org.tdid1.Device", "TSM");
}

static void disconnected(struct job *j) {
        set(j->function->tsm, "");
        changed(j->function->device_path, "org.tdid1.Device", "TSM");
}

static int device_connect(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        const char *tsm;

        check(sd_bus_message_read(m, "s", &tsm), "read a TSM");
        if (*tsm && !streq(tsm, "tsm0"))
                return sd_bus_error_setf(e, "org.tdid1.Error.NotFound", "There is no TSM '%s'.", tsm);
        return job_start(m, "connect", userdata, NULL, connected, NULL, e);
}

static int device_disconnect(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return job_start(m, "disconnect", userdata, NULL, disconnected, NULL, e);
}

static int device_describe(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct function *f = userdata;

        if (f->number != 3)
                return sd_bus_error_set(e, "org.tdid1.Error.Denied", "Not for you.");
        return sd_bus_reply_method_return(m, "s", "{\"schema\":\"tdid/1\",\"device\":{\"bdf\":\"0000:03:00.0\","
                                                  "\"quarantine\":\"undo of open failed: process 7 (nosy) holds it\"}}");
}

static int device_value(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                        void *userdata, _unused_ sd_bus_error *e) {
        struct function *f = userdata;

        if (streq(property, "IDs"))
                return sd_bus_message_append(reply, "(qqqq)", 0x8086, 0x10d3, 0x8086, (int) f->number);
        if (streq(property, "Present"))
                return sd_bus_message_append(reply, "b", f->number != 12);
        if (streq(property, "Class"))
                return sd_bus_message_append(reply, "u", 0x010802);
        if (streq(property, "IOMMUGroup"))
                return sd_bus_message_append(reply, "i", f->number == 2 ? -1 : (int) f->number);
        if (streq(property, "TEE"))
                return f->number == 1 ? sd_bus_message_append(reply, "as", 2, "tee-io", "ide") : sd_bus_message_append(reply, "as", 0);
        if (streq(property, "Streams"))
                return sd_bus_message_append(reply, "as", 0);
        if (streq(property, "Name"))
                return sd_bus_message_append(reply, "s", "Made-up controller");
        if (streq(property, "ClassName"))
                return sd_bus_message_append(reply, "s", "NVMe");
        return sd_bus_message_append(reply, "s", ""); /* PhysFn, DSM, Bound */
}

static const sd_bus_vtable device_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Connect", "sa{sv}", "o", device_connect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Disconnect", "a{sv}", "o", device_disconnect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Describe", "", "s", device_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        TEXT("BDF", function, bdf),
        SD_BUS_PROPERTY("Present", "b", device_value, 0, 0),
        SD_BUS_PROPERTY("IDs", "(qqqq)", device_value, 0, 0),
        SD_BUS_PROPERTY("Class", "u", device_value, 0, 0),
        SD_BUS_PROPERTY("Name", "s", device_value, 0, 0),
        SD_BUS_PROPERTY("ClassName", "s", device_value, 0, 0),
        TEXT("Driver", function, driver),
        SD_BUS_PROPERTY("IOMMUGroup", "i", device_value, 0, 0),
        SD_BUS_PROPERTY("TEE", "as", device_value, 0, 0),
        SD_BUS_PROPERTY("PhysFn", "s", device_value, 0, 0),
        SD_BUS_PROPERTY("DSM", "s", device_value, 0, 0),
        TEXT("TSM", function, tsm),
        SD_BUS_PROPERTY("Bound", "s", device_value, 0, 0),
        SD_BUS_PROPERTY("TSMRead", "t", get_zero, 0, 0),
        SD_BUS_PROPERTY("Streams", "as", device_value, 0, 0),
        TEXT("Custody", function, custody),
        TEXT("VM", function, vm),
        TEXT("Quarantine", function, quarantine),
        /* A newer tdid may have more: it must be skipped. */
        SD_BUS_PROPERTY("Later", "(qqqq)", device_value, 0, SD_BUS_VTABLE_HIDDEN),
        SD_BUS_VTABLE_END,
};

static int find_device(_unused_ sd_bus *b, const char *path, _unused_ const char *interface, _unused_ void *userdata, void **ret, _unused_ sd_bus_error *e) {
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (streq(functions[i].device_path, path)) {
                        *ret = &functions[i];
                        return 1;
                }
        return 0;
}

static int list_devices(_unused_ sd_bus *b, _unused_ const char *prefix, _unused_ void *userdata, char ***ret, _unused_ sd_bus_error *e) {
        char **nodes = calloc(N_FUNCTIONS + 1, sizeof(*nodes));

        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                nodes[i - 1] = strdup(functions[i].device_path);
        *ret = nodes;
        return 0;
}

/* ---- VMs ---- */

static void vm_close(struct vm *vm) {
        check(sd_bus_emit_signal(bus, vm->path, "org.tdid1.VM", "Closing", "s", "no keeper is left"), "emit Closing");
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (functions[i].tdi_slot && streq(functions[i].vm, vm->path))
                        function_free(&functions[i]);
        check(sd_bus_emit_object_removed(bus, vm->path), "announce a VM's end");
        if (vm->lease) {
                (void) close(sd_event_source_get_io_fd(vm->lease));
                vm->lease = sd_event_source_disable_unref(vm->lease);
        }
        vm->slot = sd_bus_slot_unref(vm->slot);
}

static int on_lease(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t events, void *userdata) {
        struct vm *vm = userdata;

        if (!vm->awaited)
                vm_close(vm);
        else {
                (void) close(fd);
                vm->lease = sd_event_source_disable_unref(vm->lease);
        }
        return 0;
}

static void vm_destroyed(struct job *j) {
        vm_close(j->vm);
}

static void vm_sealed(struct job *j) {
        set(j->vm->phase, "sealed");
        changed(j->vm->path, "org.tdid1.VM", "Phase");
}

static void attached(struct job *j) {
        for (unsigned i = 1; i <= N_FUNCTIONS; i++) {
                struct function *f = &functions[i];

                if (!f->wanted)
                        continue;
                f->wanted = false;
                set(f->vm, j->vm->path);
                set(f->state, "prepared");
                set(f->custody, "prepare");
                check(sd_bus_add_object_vtable(bus, &f->tdi_slot, f->tdi_path, "org.tdid1.TDI", tdi_vtable, f), "add a TDI");
                check(sd_bus_emit_object_added(bus, f->tdi_path), "announce a TDI");
                changed(f->device_path, "org.tdid1.Device", "Custody");
                changed(f->device_path, "org.tdid1.Device", "VM");
        }
        changed(j->vm->path, "org.tdid1.VM", "TDIs");
}

/* What came, in words, so that a test sees each option with its type. */
static void note_options(sd_bus_message *m, char *to, size_t n) {
        const char *key, *contents, *s;
        uint32_t u;
        char type;
        int r, b;

        check(sd_bus_message_enter_container(m, 'a', "{sv}"), "read options");
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                size_t used = strlen(to);

                check(sd_bus_message_read(m, "s", &key), "read an option");
                check(sd_bus_message_peek_type(m, &type, &contents), "read an option");
                if (streq(contents, "s")) {
                        check(sd_bus_message_read(m, "v", "s", &s), "read a string");
                        snprintf(to + used, n - used, "%s=s:%s;", key, s);
                } else if (streq(contents, "u")) {
                        check(sd_bus_message_read(m, "v", "u", &u), "read a number");
                        snprintf(to + used, n - used, "%s=u:%u;", key, u);
                } else if (streq(contents, "b")) {
                        check(sd_bus_message_read(m, "v", "b", &b), "read a boolean");
                        snprintf(to + used, n - used, "%s=b:%d;", key, b);
                } else {
                        snprintf(to + used, n - used, "%s={", key);
                        check(sd_bus_message_enter_container(m, 'v', "a{sv}"), "read options in options");
                        note_options(m, to, n);
                        check(sd_bus_message_exit_container(m), "leave options in options");
                        used = strlen(to);
                        snprintf(to + used, n - used, "};");
                }
                check(sd_bus_message_exit_container(m), "leave an option");
        }
        check(r, "read options");
        check(sd_bus_message_exit_container(m), "leave options");
}

static int vm_attach(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct vm *vm = userdata;
        struct function *f = NULL;
        const char *bdf;
        int r;

        vm->seen[0] = 0;
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                functions[i].wanted = false;
        check(sd_bus_message_enter_container(m, 'a', "(sa{sv})"), "read functions");
        while ((r = sd_bus_message_enter_container(m, 'r', "sa{sv}")) > 0) {
                size_t used = strlen(vm->seen);

                check(sd_bus_message_read(m, "s", &bdf), "read a function");
                snprintf(vm->seen + used, sizeof(vm->seen) - used, "%s:", bdf);
                note_options(m, vm->seen, sizeof(vm->seen));
                f = function_of(bdf);
                if (f) {
                        f->wanted = true;
                        f->guest_rid = strstr(vm->seen + used, "guest_rid") ? 8 : UINT32_MAX;
                }
                check(sd_bus_message_exit_container(m), "leave a function");
        }
        check(r, "read functions");
        check(sd_bus_message_exit_container(m), "leave functions");
        if (!f)
                return sd_bus_error_setf(e, "org.tdid1.Error.NotFound", "There is no PCI function %s.", bdf);
        return job_start(m, "attach", f, vm, attached, f->tdi_path, e);
}

static int vm_seal(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return job_start(m, "seal", NULL, userdata, vm_sealed, NULL, e);
}

static int vm_destroy(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return job_start(m, "destroy", NULL, userdata, vm_destroyed, NULL, e);
}

static int vm_hold(sd_bus_message *m, _unused_ void *userdata, _unused_ sd_bus_error *e) {
        int fds[2], r;

        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0, "socketpair");
        r = sd_bus_reply_method_return(m, "h", fds[0]);
        close_fd(fds[0]);
        close_fd(fds[1]);
        return r;
}

static int vm_buffer(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        _cleanup_close_ int memfd = -EBADF, dmabuf = -EBADF;
        struct vm *vm = userdata;
        uint64_t size;

        check(sd_bus_message_read(m, "t", &size), "read a size");
        snprintf(vm->seen, sizeof(vm->seen), "size=%" PRIu64 ";", size);
        note_options(m, vm->seen, sizeof(vm->seen));
        if (size == 1)
                return sd_bus_error_set(e, "org.tdid1.Error.Limit", "No more.");
        memfd = memfd_create("memfd", MFD_CLOEXEC);
        dmabuf = memfd_create("dmabuf", MFD_CLOEXEC);
        return sd_bus_reply_method_return(m, "hh", memfd, dmabuf);
}

/* Remembers what kind of descriptor came, and with what. */
static int vm_take_fd(sd_bus_message *m, void *userdata, _unused_ sd_bus_error *e) {
        struct vm *vm = userdata;
        struct stat st;
        int fd;

        check(sd_bus_message_read(m, "h", &fd), "read a descriptor");
        check(fstat(fd, &st) < 0 ? -errno : 0, "fstat");
        snprintf(vm->seen, sizeof(vm->seen), "%s inode %lu", sd_bus_message_get_member(m), (unsigned long) st.st_ino);
        return sd_bus_reply_method_return(m, "");
}

static int vm_describe(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct vm *vm = userdata;
        char text[4096];
        bool more = false;
        size_t n;

        if (startswith(vm->name, "secret"))
                return sd_bus_error_set(e, "org.tdid1.Error.Denied", "Only root and the owner may see this.");
        snprintf(text, sizeof(text), "{\"schema\":\"tdid/1\",\"vm\":{\"id\":\"%u\",\"name\":\"%s\",\"uuid\":\"%s\",\"hotplug\":false,\"holder\":{\"pid\":7,\"unit\":null},"
                 "\"options\":\"%s\",\"seen\":\"%s\",\"keepers\":[{\"kind\":\"lease\",\"label\":\"\",\"uid\":0,\"given\":0}],"
                 "\"tdis\":[", vm->id, vm->name, vm->uuid, vm->options, vm->seen);
        for (unsigned i = 1; i <= N_FUNCTIONS; i++) {
                struct function *f = &functions[i];

                if (!f->tdi_slot || !streq(f->vm, vm->path))
                        continue;
                n = strlen(text);
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s{\"bdf\":\"%s\",\"bind\":\"late\",\"ioas\":3", more ? "," : "", f->bdf);
                if (i == 7)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, ",\"vpci\":null,\"handoff\":{\"uid\":0}");
                else if (i != 2)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, ",\"vpci\":{\"socket\":\"/state/vm/%s/%s\"}", vm->uuid, f->bdf);
                snprintf(text + n, sizeof(text) - n, "}");
                more = true;
        }
        n = strlen(text);
        snprintf(text + n, sizeof(text) - n,
                 "],\"dmabufs\":[{\"id\":7,\"kind\":\"bar\",\"bdf\":\"0000:01:00.0\",\"region\":0,\"offset\":4096,\"size\":8192,\"class\":\"revocable\","
                 "\"importer\":\"kvm\",\"state\":\"exported\"},{\"id\":8,\"kind\":\"memory\",\"heap\":\"\",\"size\":4096,\"class\":\"pinned\","
                 "\"state\":\"exported\"}]}}");
        return sd_bus_reply_method_return(m, "s", text);
}

static int vm_tdis(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, _unused_ const char *property, sd_bus_message *reply,
                   void *userdata, _unused_ sd_bus_error *e) {
        struct vm *vm = userdata;

        check(sd_bus_message_open_container(reply, 'a', "o"), "give TDIs");
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (functions[i].tdi_slot && streq(functions[i].vm, vm->path))
                        check(sd_bus_message_append(reply, "o", functions[i].tdi_path), "give a TDI");
        return sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Attach", "a(sa{sv})a{sv}", "aoo", vm_attach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Seal", "a{sv}", "o", vm_seal, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Destroy", "a{sv}", "o", vm_destroy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Hold", "s", "h", vm_hold, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("SetKVM", "h", "", vm_take_fd, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("SetPidfd", "h", "", vm_take_fd, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CreateSharedBuffer", "ta{sv}", "hh", vm_buffer, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Describe", "", "s", vm_describe, SD_BUS_VTABLE_UNPRIVILEGED),
        TEXT("Name", vm, name),
        TEXT("UUID", vm, uuid),
        TEXT("Platform", vm, platform),
        TEXT("Phase", vm, phase),
        SD_BUS_PROPERTY("TDIs", "ao", vm_tdis, 0, SD_BUS_VTABLE_PROPERTY_EMITS_INVALIDATION),
        SD_BUS_PROPERTY("Owner", "u", NULL, offsetof(struct vm, owner), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_SIGNAL("Closing", "s", 0),
        SD_BUS_VTABLE_END,
};

/* ---- manager ---- */

static int manager_create(sd_bus_message *m, _unused_ void *userdata, sd_bus_error *e) {
        _cleanup_close_ int given = -EBADF;
        struct vm *vm = &vms[n_vms];
        const char *name;
        int fds[2];

        check(sd_bus_message_read(m, "s", &name), "read a name");
        if (n_vms == ARRAY_SIZE(vms))
                return sd_bus_error_set(e, "org.tdid1.Error.Limit", "No more VMs.");
        for (unsigned i = 0; i < n_vms; i++)
                if (vms[i].slot && streq(vms[i].name, name))
                        return sd_bus_error_setf(e, "org.tdid1.Error.Exists", "There is a VM named '%s'.", name);
        *vm = (struct vm){ .id = ++n_vms };
        snprintf(vm->path, sizeof(vm->path), "/org/tdid1/vm/%u", vm->id);
        set(vm->name, name);
        snprintf(vm->uuid, sizeof(vm->uuid), "00000000-0000-4000-8000-%012u", vm->id);
        set(vm->platform, "plain");
        set(vm->phase, "preparing");
        note_options(m, vm->options, sizeof(vm->options));
        vm->awaited = strstr(vm->options, "await_vmm");
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0, "socketpair");
        given = fds[1];
        check(sd_event_add_io(event, &vm->lease, fds[0], 0, on_lease, vm), "watch a lease");
        check(sd_bus_add_object_vtable(bus, &vm->slot, vm->path, "org.tdid1.VM", vm_vtable, vm), "add a VM");
        check(sd_bus_emit_object_added(bus, vm->path), "announce a VM");
        return sd_bus_reply_method_return(m, "oh", vm->path, given);
}

static int manager_get_vm(sd_bus_message *m, _unused_ void *userdata, sd_bus_error *e) {
        const char *name;
        char path[128];

        check(sd_bus_message_read(m, "s", &name), "read a name");
        snprintf(path, sizeof(path), "/org/tdid1/vm/%s", name);
        for (unsigned i = 0; i < n_vms; i++)
                if (vms[i].slot && (streq(vms[i].name, name) || streq(vms[i].uuid, name) || streq(vms[i].path, path)))
                        return sd_bus_reply_method_return(m, "o", vms[i].path);
        return sd_bus_error_setf(e, "org.tdid1.Error.NotFound", "There is no VM '%s'.", name);
}

static int manager_describe_host(sd_bus_message *m, _unused_ void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_reply_method_return(m, "s", "{\"schema\":\"tdid/1\",\"host\":{\"platform\":{\"name\":\"plain\",\"recognised_by\":[\"nothing else, really\"]},"
                                                  "\"kernel\":{\"release\":\"7.3.4\"},\"provider\":{\"name\":\"none\",\"version\":null,\"why\":\"a test\"},"
                                                  "\"lacks\":[{\"what\":\"a TSM\",\"why\":\"a test\",\"without_it\":\"no test\"}]}}");
}

static int manager_value(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                         _unused_ void *userdata, _unused_ sd_bus_error *e) {
        return sd_bus_message_append(reply, "s", streq(property, "Version") ? "0.1.0" : streq(property, "Host") ? "sim" : streq(property, "Platform") ? "plain" :
                                     "none: this is a test");
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CreateVM", "sa{sv}", "oh", manager_create, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("GetVM", "s", "o", manager_get_vm, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("DescribeHost", "", "s", manager_describe_host, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Version", "s", manager_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Host", "s", manager_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Platform", "s", manager_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Guard", "s", manager_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

static int tsm_value(_unused_ sd_bus *b, _unused_ const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                     _unused_ void *userdata, _unused_ sd_bus_error *e) {
        if (!streq(property, "Devices"))
                return sd_bus_message_append(reply, "s", streq(property, "Name") ? "tsm0" : streq(property, "Platform") ? "unknown" : "0000:00:01.0");
        check(sd_bus_message_open_container(reply, 'a', "s"), "give devices");
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (*functions[i].tsm)
                        check(sd_bus_message_append(reply, "s", functions[i].bdf), "give a device");
        return sd_bus_message_close_container(reply);
}

static const sd_bus_vtable tsm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", tsm_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Platform", "s", tsm_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Parent", "s", tsm_value, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Devices", "as", tsm_value, 0, 0),
        SD_BUS_VTABLE_END,
};

int main(void) {
        check(sd_event_default(&event), "make an event loop");
        check(sd_bus_open_system(&bus), "connect");
        check(sd_bus_attach_event(bus, event, 0), "attach the bus");
        check(sd_bus_add_object_manager(bus, NULL, "/org/tdid1"), "add the object manager");
        check(sd_bus_add_object_vtable(bus, NULL, "/org/tdid1", "org.tdid1.Manager", manager_vtable, NULL), "add the manager");
        check(sd_bus_add_object_vtable(bus, NULL, "/org/tdid1/tsm/tsm0", "org.tdid1.TSM", tsm_vtable, NULL), "add the TSM");
        for (unsigned i = 1; i <= N_FUNCTIONS; i++) {
                struct function *f = &functions[i];

                f->number = i;
                snprintf(f->bdf, sizeof(f->bdf), "0000:%02x:00.0", i);
                snprintf(f->device_path, sizeof(f->device_path), "/org/tdid1/device/0000_%02x_00_0", i);
                snprintf(f->tdi_path, sizeof(f->tdi_path), "/org/tdid1/tdi/0000_%02x_00_0", i);
                set(f->custody, "none");
                set(f->driver, i == 2 ? "" : "nvme");
                set(f->quarantine, i == 3 ? "undo of open failed" : "");
        }
        /* Found by path, as tdid does it: what is not there must be told as an unknown object. */
        check(sd_bus_add_fallback_vtable(bus, NULL, "/org/tdid1/device", "org.tdid1.Device", device_vtable, find_device, NULL), "add devices");
        check(sd_bus_add_node_enumerator(bus, NULL, "/org/tdid1/device", list_devices, NULL), "list devices");
        check(sd_bus_request_name(bus, "org.tdid1", 0), "own the name");
        puts("ready");
        fflush(stdout);
        check(sd_event_loop(event), "run");
        return 0;
}
