/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* dma-bufs of attached functions. Shared memory is a VM's, and in vm.c. */
#include <stdio.h>
#include <tdi/enums.h>

#include "client-internal.h"
#include "property.h"

/* tdid gives a few; a stranger on a private bus might not know where to stop. */
#define RUNS_MAX 65536

void tdi_export_done(struct tdi_export *x) {
        /* What was filled has no descriptor below 3, and what was not has 0. */
        if (x->dmabuf > 2)
                x->dmabuf = close_fd(x->dmabuf);
        if (x->event > 2)
                x->event = close_fd(x->event);
        free(x->runs);
        x->runs = NULL;
        x->n_runs = 0;
}

/* Room for one more of @n. */
static int add_run(struct tdi_export *x, const struct tdi_run *run) {
        struct tdi_run *t;

        if (x->n_runs >= RUNS_MAX)
                return -EBADMSG;
        t = reallocarray(x->runs, x->n_runs + 1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        x->runs = t;
        x->runs[x->n_runs++] = *run;
        return 0;
}

/* One of a(stas): provider, length, attributes. */
static int read_run(sd_bus_message *m, struct tdi_export *x) {
        const char *provider, *attribute;
        struct tdi_run run = {};
        uint64_t length;
        int r;

        r = sd_bus_message_read(m, "st", &provider, &length);
        if (r < 0)
                return r;
        if (length == 0 || length % TDI_PAGE_SIZE || length >> TDI_PAGE_SHIFT > TDI_RUN_PAGES_MAX)
                return -EBADMSG;
        run.pages = (uint32_t) (length >> TDI_PAGE_SHIFT);
        run.provider = streq(provider, "memory") ? TDI_PROVIDER_MEMORY : 1;
        r = sd_bus_message_enter_container(m, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read_basic(m, 's', &attribute)) > 0)
                run.attributes |= tdi_run_attribute_from_string(attribute); /* what a newer tdid knows is 0 */
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : add_run(x, &run);
}

static int read_runs(sd_bus_message *m, struct tdi_export *x) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(stas)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'r', "stas")) > 0) {
                r = read_run(m, x);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* A member of the description; those that nobody here knows are skipped. */
static int read_member(sd_bus_message *m, struct tdi_export *x, const uint64_t **ret_pfns, size_t *ret_n_pfns) {
        const char *key, *contents, *text;
        const void *numbers;
        size_t size;
        char type;
        int r;

        r = sd_bus_message_read(m, "s", &key);
        if (r >= 0)
                r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        if (streq(key, "id") && streq(contents, "t"))
                return sd_bus_message_read(m, "v", "t", &x->id);
        if (streq(key, "size") && streq(contents, "t"))
                return sd_bus_message_read(m, "v", "t", &x->length);
        if (streq(key, "state") && streq(contents, "s")) {
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r >= 0)
                        x->revoked = tdi_dmabuf_state_from_string(text) == TDI_DMABUF_REVOKED;
                return r;
        }
        if (!(streq(key, "runs") && streq(contents, "a(stas)")) && !(streq(key, "pfns") && streq(contents, "at")))
                return sd_bus_message_skip(m, "v");
        r = sd_bus_message_enter_container(m, 'v', contents);
        if (r >= 0 && streq(key, "runs"))
                r = read_runs(m, x);
        else if (r >= 0) {
                r = sd_bus_message_read_array(m, 't', &numbers, &size);
                if (r >= 0) {
                        *ret_pfns = numbers;
                        *ret_n_pfns = size / sizeof(uint64_t);
                }
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_description(sd_bus_message *m, struct tdi_export *x) {
        const uint64_t *pfns = NULL;
        size_t n_pfns = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_member(m, x, &pfns, &n_pfns);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (pfns && n_pfns != x->n_runs)
                return -EBADMSG;
        for (size_t i = 0; pfns && i < n_pfns; i++)
                x->runs[i].pfn = pfns[i];
        x->has_addresses = pfns != NULL;
        return x->id == 0 || tdi_runs_check(x->runs, x->n_runs) < 0 ? -EBADMSG : 0;
}

static int read_export(sd_bus_message *reply, struct tdi_export *x) {
        const char *class;
        int dmabuf, event, r;

        r = sd_bus_message_read(reply, "hhs", &dmabuf, &event, &class);
        if (r < 0)
                return r;
        x->dmabuf_class = tdi_dmabuf_class_from_string(class);
        if (x->dmabuf_class < 0)
                return -EBADMSG;
        r = read_description(reply, x);
        if (r < 0)
                return r;
        x->dmabuf = fd_dup(dmabuf);
        x->event = x->dmabuf < 0 ? -EBADF : fd_dup(event);
        return x->dmabuf < 0 ? x->dmabuf : x->event < 0 ? x->event : 0;
}

static int append_classes(sd_bus_message *m, unsigned set) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "s");
        for (int i = 0; r >= 0 && i < TDI_DMABUF_CLASS_MAX; i++)
                if (set & TDI_DMABUF_SET(i))
                        r = sd_bus_message_append(m, "s", tdi_dmabuf_class_to_string(i));
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int tdi_client_export_dmabuf(struct tdi_client *c, struct tdi_bdf bdf, uint32_t bar, uint64_t offset, uint64_t length,
                             enum tdi_importer importer, unsigned accept, struct tdi_export *ret) {
        char label[TDI_BDF_MAX], text[TDI_BDF_MAX], path[64], action[64], object[64];
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(tdi_export_done) struct tdi_export x = {};
        const struct client_what what = { action, object };
        size_t size;
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (!ret || ret->size < sizeof(size) || !tdi_importer_to_string(importer) || accept >= TDI_DMABUF_SET(TDI_DMABUF_CLASS_MAX))
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "An export needs a known importer, a set of classes, and a place of known size.");
        snprintf(path, sizeof(path), "%s%s", TDI_PATH_TDI, tdi_bdf_to_label(bdf, label));
        snprintf(action, sizeof(action), "export BAR %u of %s", bar, tdi_bdf_format(bdf, text));
        snprintf(object, sizeof(object), "attached function %s", text);
        r = client_new_call(c, path, TDI_IFACE_TDI, "ExportDmabuf", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "utts", bar, offset, length, tdi_importer_to_string(importer));
        if (r >= 0)
                r = append_classes(m, accept);
        if (r >= 0)
                r = client_call(c, m, &what, &reply);
        if (r < 0)
                return r;
        r = read_export(reply, &x);
        if (r == -EMFILE)
                return client_fail(c, r, TDI_ERROR_NONE, "Could not keep the dma-buf of %s: %s.", text, strerror(-r));
        if (r < 0)
                return client_fail_answer(c, r, &what);
        /* A caller that is older than this library has less room, one that is newer more, which stays as it is. */
        size = ret->size;
        x.size = size;
        memcpy(ret, &x, size < sizeof(x) ? size : sizeof(x));
        x = (struct tdi_export){};
        return 0;
}

/* ---- the list ---- */

static int add_dmabufs(json_object *list, json_object *vm, json_object *described) {
        json_object *dmabufs;

        if (!json_object_object_get_ex(described, "vm", &described) || !json_object_object_get_ex(described, "dmabufs", &dmabufs) ||
            !json_object_is_type(dmabufs, json_type_array))
                return 0; /* a tdid from before there were any */
        for (size_t i = 0; i < json_object_array_length(dmabufs); i++) {
                _cleanup_(json_object_putp) json_object *o = json_object_new_object();
                json_object *from = json_object_array_get_idx(dmabufs, i);

                if (!o || json_add_string(o, "vm", strempty(json_get_string_of(vm, "name"))) < 0 ||
                    json_add_string(o, "vm_id", strempty(json_get_string_of(vm, "id"))) < 0)
                        return -ENOMEM;
                if (!json_object_is_type(from, json_type_object))
                        return -EBADMSG;
                json_object_object_foreach(from, key, value) {
                        if (json_object_object_add(o, key, json_object_get(value)) < 0) {
                                json_object_put(value);
                                return -ENOMEM;
                        }
                }
                if (json_object_array_add(list, o) < 0)
                        return -ENOMEM;
                TAKE_PTR(o);
        }
        return 0;
}

int tdi_client_list_dmabufs(struct tdi_client *c, char **ret_json) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *root = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *vms, *list;
        char *json;
        int r;

        r = tdi_client_snapshot(c, &text);
        if (r < 0)
                return r;
        snapshot = json_tokener_parse(text);
        root = json_object_new_object();
        list = json_object_new_array();
        if (!root || json_add_string(root, "schema", TDI_JSON_SCHEMA) < 0) {
                json_object_put(list);
                return -ENOMEM;
        }
        if (json_add(root, "dmabufs", list) < 0 || !json_object_object_get_ex(snapshot, "vms", &vms))
                return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(vms); i++) {
                _cleanup_(json_object_putp) json_object *described = NULL;
                json_object *vm = json_object_array_get_idx(vms, i);
                _cleanup_free_ char *description = NULL;
                enum tdi_error error;

                r = tdi_client_describe(c, json_get_string_of(vm, "id"), &description);
                if (r < 0) {
                        (void) tdi_client_error(c, &error);
                        /* Somebody else's, or it went meanwhile. */
                        if (error == TDI_ERROR_DENIED || error == TDI_ERROR_NOT_FOUND)
                                continue;
                        return r;
                }
                described = json_tokener_parse(description);
                r = add_dmabufs(list, vm, described);
                if (r == -EBADMSG)
                        return client_fail(c, r, TDI_ERROR_NONE, "tdid's description of a VM is not understood.");
                if (r < 0)
                        return r;
        }
        (void) client_enter(c); /* what was denied is no failure of this call */
        json = strdup(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        if (!json)
                return -ENOMEM;
        *ret_json = json;
        return 0;
}
