/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions, as devices and as TDIs. */
#include "fake-tdid.h"

#include <inttypes.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

struct function *function_of(const char *bdf) {
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (streq(functions[i].bdf, bdf))
                        return &functions[i];
        return NULL;
}

void function_free(struct function *f) {
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

/* Requests of guests: an end that nobody serves; and each byte inverted. */
static int tdi_open_requests(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        struct function *f = userdata;
        int fds[2], r;

        if (f->number == 2)
                return sd_bus_error_set(e, "org.tdid1.Error.Limit", "0000:02:00.0 has as many sockets as it can have: close one.");
        check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0, "socketpair");
        r = sd_bus_reply_method_return(m, "h", fds[0]);
        close_fd(fds[0]);
        close_fd(fds[1]);
        return r;
}

static int tdi_guest_request(sd_bus_message *m, _unused_ void *userdata, sd_bus_error *e) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        uint8_t out[256];
        const uint8_t *in;
        const char *kind;
        size_t n;

        check(sd_bus_message_read(m, "s", &kind), "read a kind");
        check(sd_bus_message_read_array(m, 'y', (const void **) &in, &n), "read a request");
        if (!streq(kind, "info"))
                return sd_bus_error_setf(e, "org.tdid1.Error.Kernel", "the TSM refused %s: TSM code 0x4", kind);
        for (size_t i = 0; i < n && i < sizeof(out); i++)
                out[i] = (uint8_t) ~in[i];
        check(sd_bus_message_new_method_return(m, &reply), "answer");
        check(sd_bus_message_append_array(reply, 'y', out, n), "answer");
        check(sd_bus_message_append(reply, "t", UINT64_C(9)), "answer");
        return sd_bus_send(NULL, reply, NULL);
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

const sd_bus_vtable tdi_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Detach", "a{sv}", "o", tdi_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Bind", "a{sv}", "o", tdi_bind, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Handoff", "", "hh", tdi_handoff, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("OpenRequests", "", "h", tdi_open_requests, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("GuestRequest", "say", "ayt", tdi_guest_request, SD_BUS_VTABLE_UNPRIVILEGED),
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
                return sd_bus_message_append(reply, "(qqqq)", 0x8086, f->number == 7 ? 0x1000 : 0x10d3, 0x8086, (int) f->number);
        if (streq(property, "Present"))
                return sd_bus_message_append(reply, "b", f->number != 12);
        if (streq(property, "Class"))
                return sd_bus_message_append(reply, "u", 0x010802);
        if (streq(property, "IOMMUGroup"))
                return sd_bus_message_append(reply, "i", f->number == 2 ? -1 : (int) f->number);
        if (streq(property, "TEE"))
                return f->number == 1 ? sd_bus_message_append(reply, "as", 2, "tee-io", "ide") : sd_bus_message_append(reply, "as", 0);
        if (streq(property, "SRIOV"))
                return sd_bus_message_append(reply, "s", "none");
        if (streq(property, "Bridges"))
                return sd_bus_message_append(reply, "as", 1, "0000:00:01.0");
        if (streq(property, "Streams"))
                return sd_bus_message_append(reply, "as", 0);
        if (streq(property, "Name"))
                return sd_bus_message_append(reply, "s", "Made-up controller");
        if (streq(property, "ClassName"))
                return sd_bus_message_append(reply, "s", "NVMe");
        return sd_bus_message_append(reply, "s", ""); /* PhysFn, DSM, Bound */
}

const sd_bus_vtable device_vtable[] = {
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
        SD_BUS_PROPERTY("SRIOV", "s", device_value, 0, 0),
        SD_BUS_PROPERTY("Bridges", "as", device_value, 0, 0),
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

int find_device(_unused_ sd_bus *b, const char *path, _unused_ const char *interface, _unused_ void *userdata, void **ret, _unused_ sd_bus_error *e) {
        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                if (streq(functions[i].device_path, path)) {
                        *ret = &functions[i];
                        return 1;
                }
        return 0;
}

int list_devices(_unused_ sd_bus *b, _unused_ const char *prefix, _unused_ void *userdata, char ***ret, _unused_ sd_bus_error *e) {
        char **nodes = calloc(N_FUNCTIONS + 1, sizeof(*nodes));

        for (unsigned i = 1; i <= N_FUNCTIONS; i++)
                nodes[i - 1] = strdup(functions[i].device_path);
        *ret = nodes;
        return 0;
}
