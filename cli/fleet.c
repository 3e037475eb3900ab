/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is written for fleets. See fleet.h. */
#include "fleet.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

const char *fleet_text(json_object *o, const char *key) {
        return strempty(json_string(o, key));
}

uint64_t fleet_number(json_object *o, const char *key) {
        return json_object_get_uint64(json_member(o, key));
}

size_t fleet_length(json_object *array) {
        return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static int add_host(struct tdictl *t, json_object *model) {
        _cleanup_(json_object_putp) json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *host;
        int r;

        r = tdi_client_describe_host(t->client, &text);
        if (r < 0)
                return fail_client(t, r);
        o = json_tokener_parse(text);
        host = json_member(o, "host");
        if (!json_object_is_type(host, json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's description of this host.");
        return json_put(model, "host", json_object_get(host)) < 0 ? fail_oom(t) : 0;
}

/* A VM may be gone by now, or somebody else's. */
static int add_description(struct tdictl *t, json_object *model, const char *id) {
        _cleanup_(json_object_putp) json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *vm;

        if (tdi_client_describe(t->client, id, &text) < 0)
                return 0;
        o = json_tokener_parse(text);
        vm = json_member(o, "vm");
        return json_object_is_type(vm, json_type_object) ? model_add(t, model, "described", vm) : 0;
}

int fleet_model(struct tdictl *t, json_object **ret) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        json_object *vms;
        int r;

        r = model_snapshot(t, &model);
        if (r >= 0)
                r = add_host(t, model);
        vms = json_member(model, "vms");
        for (size_t i = 0; r >= 0 && i < fleet_length(vms); i++)
                r = add_description(t, model, fleet_text(json_object_array_get_idx(vms, i), "id"));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(model);
        return 0;
}

static int write_all(int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        text += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

static int write_file(const char *path, const char *text, size_t size, const char **ret_what) {
        _cleanup_free_ char *other = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        /* A name that readers of a folder's *.prom and *.json do not look at. */
        if (asprintf(&other, "%s.XXXXXX", path) < 0)
                return -ENOMEM;
        *ret_what = "make a file beside";
        fd = mkostemp(other, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret_what = "write";
        r = write_all(fd, text, size);
        if (r >= 0 && (fchmod(fd, 0644) < 0 || fsync(fd) < 0))
                r = -errno;
        if (r >= 0) {
                *ret_what = "replace";
                r = rename(other, path) < 0 ? -errno : 0;
        }
        if (r < 0)
                (void) unlink(other);
        return r;
}

int fleet_write(struct tdictl *t, const char *text, size_t size) {
        const char *path = arguments_text(&t->arguments, "output"), *what = "write";
        int r;

        if (!path) {
                if (fwrite(text, 1, size, stdout) != size || fflush(stdout) != 0)
                        return fail(t, "Failed", EXIT_OTHER, "Could not write to standard output: %s.", strerror(errno));
                return 0;
        }
        r = write_file(path, text, size, &what);
        if (r == -ENOMEM)
                return fail_oom(t);
        if (r < 0)
                return fail(t, "Failed", EXIT_OTHER, "Could not %s %s: %s. Is its folder there, and may this user write to it?", what, path, strerror(-r));
        return 0;
}

int fleet_remove(struct tdictl *t) {
        const char *path = arguments_text(&t->arguments, "output");

        if (!path)
                return 1;
        if (unlink(path) < 0 && errno != ENOENT)
                return fail(t, "Failed", EXIT_OTHER, "Could not remove %s, of which nothing is true any more: %s.", path, strerror(errno));
        return 0;
}
