/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl device evidence`: what a device says of itself, shown, judged, and written to files for other tools. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "model.h"
#include "print.h"

static int write_file(struct tdictl *t, int folder, const char *dir, const char *name, const void *data, size_t size) {
        _cleanup_close_ int fd = -EBADF;
        const char *p = data;

        fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        while (fd >= 0 && size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0)
                        break;
                p += n;
                size -= (size_t) n;
        }
        return fd >= 0 && size == 0 ? 0 : fail(t, "Failed", EXIT_OTHER, "Could not write %s/%s: %s.", dir, name, strerror(errno));
}

static int write_objects(struct tdictl *t, int folder, const char *dir, json_object *evidence, const uint8_t *raw, size_t size) {
        json_object *objects = json_member(evidence, "objects");
        size_t n = json_object_is_type(objects, json_type_array) ? json_object_array_length(objects) : 0;
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                json_object *o = json_object_array_get_idx(objects, i);
                const char *type = json_string(o, "type"), *form = json_string(o, "form");
                uint64_t offset = json_object_get_uint64(json_member(o, "offset")), length = json_object_get_uint64(json_member(o, "size"));
                char name[64];

                if (isempty(type) || isempty(form) || strchr(type, '/') || strchr(form, '/') || offset > size || length > size - offset)
                        return fail(t, "Failed", EXIT_OTHER, "Could not understand where tdid has put the objects.");
                snprintf(name, sizeof(name), "%.32s.%.16s", type, streq(form, "raw") ? "bin" : form);
                r = write_file(t, folder, dir, name, raw + offset, length);
        }
        return r;
}

static int write_raw(struct tdictl *t, const char *dir, json_object *evidence, const char *text, int fd) {
        _cleanup_close_ int folder = -EBADF;
        struct stat st;
        void *raw = NULL;
        int r;

        if (mkdir(dir, 0755) < 0 && errno != EEXIST)
                return fail(t, "Failed", EXIT_OTHER, "Could not make the folder %s: %s.", dir, strerror(errno));
        folder = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0)
                return fail(t, "Failed", EXIT_OTHER, "Could not open the folder %s: %s.", dir, strerror(errno));
        if (fstat(fd, &st) < 0)
                return fail(t, "Failed", EXIT_OTHER, "Could not look at the evidence: %s.", strerror(errno));
        if (st.st_size > 0) {
                raw = mmap(NULL, (size_t) st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
                if (raw == MAP_FAILED)
                        return fail(t, "Failed", EXIT_OTHER, "Could not map the evidence: %s.", strerror(errno));
        }
        r = write_objects(t, folder, dir, evidence, raw, (size_t) st.st_size);
        if (raw)
                (void) munmap(raw, (size_t) st.st_size);
        return r < 0 ? r : write_file(t, folder, dir, "evidence.json", text, strlen(text));
}

/* Something that the policy wants was looked at, and nothing of it is well. */
static bool is_refused(json_object *evidence) {
        json_object *list = json_member(evidence, "verified");
        size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

        for (size_t i = 0; i < n; i++)
                if (json_object_get_boolean(json_member(json_object_array_get_idx(list, i), "ok")))
                        return false;
        return true;
}

int verb_device_evidence(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *evidence = NULL;
        const struct arguments *a = &t->arguments;
        bool verify = arguments_has(a, "verify");
        _cleanup_close_ int raw = -EBADF;
        _cleanup_free_ char *text = NULL;
        struct tdi_bdf bdf;
        int r;

        r = tdictl_bdf(t, a->words[0], &bdf);
        if (r >= 0)
                r = model_connect(t);
        if (r < 0)
                return r;
        if (arguments_has(a, "archived") && arguments_has(a, "nonce"))
                return fail_usage(t, "--nonce is of no use with --archived.");
        r = arguments_has(a, "archived") ? tdi_client_archived_evidence(t->client, bdf, verify, &text, &raw) :
                                           tdi_client_evidence(t->client, bdf, arguments_text(a, "nonce"), verify, &text, &raw);
        if (r < 0)
                return fail_client(t, r);
        evidence = json_tokener_parse(text);
        if (!json_object_is_type(evidence, json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's answer.");
        if (arguments_has(a, "raw")) {
                r = write_raw(t, arguments_text(a, "raw"), evidence, text, raw);
                if (r < 0)
                        return r;
        }
        r = model_new(t, &model);
        if (r >= 0 && json_put(model, "evidence", json_object_get(evidence)) < 0)
                r = fail_oom(t);
        if (r >= 0)
                r = print_model(t, model, evidence_view);
        return r < 0 ? r : verify && is_refused(evidence) ? tdi_error_to_exit(TDI_ERROR_EVIDENCE) : 0;
}
