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
 * What Describe() of a VM tells of their vPCI sockets: 02 nothing at all, 07 that there is none, all others a path, to which a VMM has
 * connected, but for 0b. Handoff() of 02 is
 * refused, all others give an eventfd for the iommufd and a memfd for the device.
 * Exports by BAR:
 *   0   with all that root is told, then a revoke and a return
 *   1   revoked from the beginning, for somebody else than root, with members that nobody knows
 *   2-4 answers that cannot be: other addresses than runs, an unknown class, half a page
 *   5   refused
 */
#include "fake-tdid.h"

#include <sys/socket.h>

sd_event *event;
sd_bus *bus;
struct vm vms[64];
struct function functions[N_FUNCTIONS + 1];
unsigned n_vms;

void check(int r, const char *what) {
        if (r < 0) {
                fprintf(stderr, "fake-tdid: %s: %s\n", what, strerror(-r));
                exit(1);
        }
}

static int manager_create(sd_bus_message *m, _unused_ void *userdata, sd_bus_error *e) {
        _cleanup_close_ int given = -EBADF;
        struct vm *vm = &vms[n_vms];
        const char *name, *uuid;
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
        uuid = strstr(vm->options, "uuid=s:");
        if (uuid)
                snprintf(vm->uuid, sizeof(vm->uuid), "%.36s", uuid + strlen("uuid=s:"));
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

static int manager_check(sd_bus_message *m, _unused_ void *userdata, sd_bus_error *e) {
        const char *check_answer = getenv("FAKE_CHECK");

        if (!check_answer)
                return sd_bus_error_set(e, "org.tdid1.Error.Timeout", "the worker has not come back");
        return sd_bus_reply_method_return(m, "s", check_answer);
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
        SD_BUS_METHOD("Check", "", "s", manager_check, SD_BUS_VTABLE_UNPRIVILEGED),
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
