/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* VMs. */
#include "fake-tdid.h"

#include <inttypes.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

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

int on_lease(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t events, void *userdata) {
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

void note_options(sd_bus_message *m, char *to, size_t n) {
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

static int vm_open_association(sd_bus_message *m, _unused_ void *userdata, _unused_ sd_bus_error *e) {
        static bool opened;

        if (opened)
                return sd_bus_reply_method_errorf(m, "org.tdid1.Error.InUse", "the channel is open");
        opened = true;
        return vm_hold(m, userdata, e);
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
                 "\"options\":\"%s\",\"seen\":\"%s\",\"keepers\":[{\"kind\":\"%s\",\"label\":\"\",\"uid\":0,\"given\":0}],"
                 "\"tdis\":[", vm->id, vm->name, vm->uuid, vm->options, vm->seen, vm->lease ? "lease" : "await");
        for (unsigned i = 1; i <= N_FUNCTIONS; i++) {
                struct function *f = &functions[i];

                if (!f->tdi_slot || !streq(f->vm, vm->path))
                        continue;
                n = strlen(text);
                n += (size_t) snprintf(text + n, sizeof(text) - n, "%s{\"bdf\":\"%s\",\"bind\":\"late\",\"ioas\":3", more ? "," : "", f->bdf);
                if (i == 7)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, ",\"vpci\":null,\"handoff\":{\"uid\":0}");
                else if (i != 2)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, ",\"vpci\":{\"socket\":\"/state/vm/%s/%s\",\"connected\":%s}", vm->uuid, f->bdf,
                                               i == 11 ? "false" : "true");
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

const sd_bus_vtable vm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Attach", "a(sa{sv})a{sv}", "aoo", vm_attach, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Seal", "a{sv}", "o", vm_seal, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Destroy", "a{sv}", "o", vm_destroy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Hold", "s", "h", vm_hold, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("OpenAssociation", "", "h", vm_open_association, SD_BUS_VTABLE_UNPRIVILEGED),
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
