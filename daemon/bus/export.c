/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.TDI.ExportDmabuf and org.tdid1.VM.CreateSharedBuffer: what is asked is checked here, export.c does it. */
#include "export.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/bus.h"
#include "bus/bus-vm.h"
#include "host/abi/vfio.h"

/* VFIO's region indexes; 0 to 5 are BARs. */
static const char *region_name(uint32_t region) {
        return region == TDI_VFIO_PCI_ROM_REGION_INDEX ? "the expansion ROM" : region == TDI_VFIO_PCI_CONFIG_REGION_INDEX ? "config space" : "none";
}

/* A VFIO BAR is revoked, and comes back; nothing else can be promised of it. */
#define BAR_CLASSES TDI_DMABUF_SET(TDI_DMABUF_REVOCABLE)

static int read_classes(sd_bus_message *call, unsigned *ret, sd_bus_error *e) {
        const char *name;
        unsigned set = 0;
        int r;

        r = sd_bus_message_enter_container(call, 'a', "s");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(call, 's', &name)) > 0) {
                enum tdi_dmabuf_class class = tdi_dmabuf_class_from_string(name);

                if (class < 0)
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "\"%.64s\" is no class: pinned, revocable or dynamic", name);
                if (set & TDI_DMABUF_SET(class))
                        return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "class %s is named twice", name);
                set |= TDI_DMABUF_SET(class);
        }
        *ret = set;
        return r < 0 ? r : sd_bus_message_exit_container(call);
}

static int check_tdi(const TDI *t, sd_bus_error *e) {
        if (tdi_is_attached(t))
                return 0;
        return bus_error(e, TDI_ERROR_INVALID_STATE, "the function is %s: its memory can be exported from when it is prepared until it is detached",
                         tdi_state_to_string(t->state));
}

static int begin(VM *vm, const struct export_request *q, sd_bus_error *e) {
        _cleanup_free_ char *text = NULL;

        return export_new(vm, q, &text) < 0 ? bus_error(e, TDI_ERROR_LIMIT, "%s", text) : 1;
}

int bus_method_export_dmabuf(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct export_request q = { .call = call };
        char reason[TDI_DMABUF_REASON_MAX];
        Manager *m = userdata;
        const char *importer;
        unsigned accept;
        int r;

        r = sd_bus_message_read(call, "utts", &q.region, &q.offset, &q.size, &importer);
        if (r >= 0)
                r = read_classes(call, &accept, e);
        if (r < 0)
                return r;
        q.importer = tdi_importer_from_string(importer);
        if (q.importer < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "\"%.64s\" is no importer: kvm, iommufd, rdma, gpu or any", importer);
        if (q.region >= TDI_VFIO_PCI_ROM_REGION_INDEX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "region %u is %s: only BARs, 0 to 5, can be exported", q.region, region_name(q.region));
        r = tdi_dmabuf_negotiate(BAR_CLASSES, q.importer, accept, &q.class, reason);
        if (r < 0)
                return bus_error(e, r == -EPROTONOSUPPORT ? TDI_ERROR_CLASS_MISMATCH : TDI_ERROR_INVALID_ARGUMENT, "%s", reason);
        q.tdi = bus_tdi(m, sd_bus_message_get_path(call));
        if (!q.tdi)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function has been detached");
        r = access_vm(m, POLKIT_MANAGE_ANY_VM, q.tdi->vm, q.tdi->custody->name, call, bus_method_export_dmabuf, &q.uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_vm_is_open(q.tdi->vm, e);
        if (r >= 0)
                r = check_tdi(q.tdi, e);
        return r < 0 ? r : begin(q.tdi->vm, &q, e);
}

struct buffer_options {
        const char *heap;
};

static const struct option buffer_options[] = {
        { "heap", 's', offsetof(struct buffer_options, heap), NULL },
        {},
};

/* A file name below /dev/dma_heap, and nothing that leads elsewhere. */
static bool heap_is_valid(const char *heap) {
        return *heap && *heap != '.' && strlen(heap) <= EXPORT_HEAP_MAX && heap[strspn(heap, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_,.@-")] == '\0';
}

int bus_method_create_shared_buffer(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct export_request q = { .call = call, .importer = TDI_IMPORTER_ANY, .class = TDI_DMABUF_PINNED };
        uint64_t page = (uint64_t) sysconf(_SC_PAGESIZE);
        struct buffer_options o = {};
        Manager *m = userdata;
        VM *vm;
        int r;

        r = sd_bus_message_read_basic(call, 't', &q.size);
        if (r >= 0)
                r = options_read(call, buffer_options, &o, e);
        if (r < 0)
                return r;
        if (q.size == 0 || q.size % page || q.size > INT64_MAX)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "size: shared memory has a number of whole pages of %" PRIu64 " bytes, not %" PRIu64 " bytes", page,
                                 q.size);
        if (o.heap && !heap_is_valid(o.heap))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "heap: \"%.64s\" cannot be the name of a dma-heap; ls /dev/dma_heap shows those there are", o.heap);
        q.heap = o.heap;
        r = bus_vm_of_call(m, call, &vm, e);
        if (r >= 0)
                r = access_vm(m, POLKIT_MANAGE_ANY_VM, vm, NULL, call, bus_method_create_shared_buffer, &q.uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_vm_is_open(vm, e);
        return r < 0 ? r : begin(vm, &q, e);
}

/* ---- answers ---- */

static int append_runs(sd_bus_message *m, const Export *x) {
        char bdf[TDI_BDF_MAX];
        const char *names[6];
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "runs");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(stas)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(stas)");
        for (size_t i = 0; r >= 0 && i < x->n_runs; i++) {
                export_attribute_names(x->run[i].attributes, names);
                r = sd_bus_message_open_container(m, 'r', "stas");
                if (r >= 0)
                        r = sd_bus_message_append(m, "st", export_provider(x, bdf), (uint64_t) x->run[i].pages << TDI_PAGE_SHIFT);
                if (r >= 0)
                        r = sd_bus_message_append_strv(m, (char **) (uintptr_t) names);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_pfns(sd_bus_message *m, const Export *x) {
        uint64_t pfns[EXPORT_RUNS_MAX];
        int r;

        for (size_t i = 0; i < x->n_runs; i++)
                pfns[i] = x->run[i].pfn;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "pfns");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "at");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 't', pfns, x->n_runs * sizeof(*pfns));
        for (int i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_description(sd_bus_message *m, const Export *x) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}", "id", "t", x->id, "size", "t", x->size, "state", "s", tdi_dmabuf_state_to_string(x->state));
        if (r >= 0)
                r = append_runs(m, x);
        if (r >= 0 && access_sees_addresses(x->uid))
                r = append_pfns(m, x);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

void bus_reply_export(Export *x) {
        sd_bus_message *reply = NULL;
        int r;

        if (!x->call)
                return;
        r = sd_bus_message_new_method_return(x->call, &reply);
        /* A heap's buffer has no memfd: there is nothing else to give than the dma-buf. */
        if (r >= 0)
                r = x->is_memory ? sd_bus_message_append(reply, "hh", x->memfd >= 0 ? x->memfd : x->dmabuf, x->dmabuf) :
                                   sd_bus_message_append(reply, "hhs", x->dmabuf, x->event, tdi_dmabuf_class_to_string(x->class));
        if (r >= 0 && !x->is_memory)
                r = append_description(reply, x);
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        if (r < 0)
                log_warning("VM %s: could not reply with a dma-buf: %s", x->vm->name, strerror(-r));
        sd_bus_message_unref(reply);
        x->call = sd_bus_message_unref(x->call);
}

void bus_refuse_export(Export *x, enum tdi_error error, const char *text) {
        sd_bus_error e = SD_BUS_ERROR_NULL;

        bus_set_error(&e, error, "%s", text);
        (void) sd_bus_reply_method_error(x->call, &e);
        bus_method_refused(x->vm->manager, x->call, NULL, -EPROTO, &e);
        sd_bus_error_free(&e);
        x->call = sd_bus_message_unref(x->call);
}

void bus_emit_export(const TDI *t, const char *signal, uint64_t id) {
        char path[64];

        if (t->vm->manager->serving)
                (void) sd_bus_emit_signal(t->vm->manager->bus, tdi_path(t, path), BUS_TDI, signal, "t", id);
}
