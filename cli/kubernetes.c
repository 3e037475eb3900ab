/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `tdictl nfd` and `tdictl cdi`: how Kubernetes learns what a host has, and how a container gets the vPCI sockets of a VM. Nothing is
 * scheduled or started here.
 *
 * nfd: a file for the local source of Node Feature Discovery, a feature a line, which become labels of the node: names and values are what
 * a label's may be. It says what the host has, not what is free: labels are no counters.
 *
 * cdi: a spec of the Container Device Interface, version 0.5.0 (the first in which a device's name may begin with a digit): each served
 * function by its BDF, with its socket; and each VM by its UUID, with the folder of all of its sockets, those that come later too.
 */
#include "fleet.h"

#include <ctype.h>
#include <stdio.h>

#define LABEL_MAX 63
#define CDI_VERSION "0.5.0"
#define CDI_KIND "org.tdid1/vpci"

/* ---- Node Feature Discovery ---- */

/* A value of a label: letters, digits and "-_." between two of the first; cut to 63. buf: of LABEL_MAX + 1. */
static const char *label(const char *text, char *buf) {
        size_t n = 0;

        for (; *text && n < LABEL_MAX; text++)
                if (isalnum((unsigned char) *text))
                        buf[n++] = *text;
                else if (n > 0)
                        buf[n++] = strchr("-_.", *text) ? *text : '_';
        while (n > 0 && !isalnum((unsigned char) buf[n - 1]))
                n--;
        buf[n] = '\0';
        return buf;
}

/* Whether it can be a TDI. Ports, which have IDE and perhaps TEE-IO for what is behind them, cannot. */
static bool is_tee(json_object *device) {
        json_object *tee = json_member(device, "tee");

        for (size_t i = 0; i < fleet_length(tee); i++)
                if (streq(json_object_get_string(json_object_array_get_idx(tee, i)), "tee-io"))
                        return !startswith(fleet_text(device, "class"), "0x0604");
        return false;
}

/* The functions with the ids of the i-th; 0 where an earlier one has them too. */
static unsigned same_ids(json_object *devices, size_t i) {
        json_object *o = json_object_array_get_idx(devices, i);
        unsigned n = 0;

        for (size_t k = 0; k < fleet_length(devices); k++) {
                json_object *other = json_object_array_get_idx(devices, k);

                if (!is_tee(other) || !streq(fleet_text(o, "vendor"), fleet_text(other, "vendor")) || !streq(fleet_text(o, "device"), fleet_text(other, "device")))
                        continue;
                if (k < i)
                        return 0;
                n++;
        }
        return n;
}

/* "0x8086" */
static const char *digits(const char *id) {
        return startswith(id, "0x") ? id + 2 : id;
}

static void put_features(FILE *f, json_object *model) {
        json_object *devices = json_member(model, "devices"), *host = json_member(model, "host"), *provider = json_member(host, "provider");
        char buf[LABEL_MAX + 1];
        unsigned n = 0;

        fprintf(f, "tdid.version=%s\n", label(fleet_text(json_member(model, "tdid"), "version"), buf));
        fprintf(f, "tdid.platform=%s\n", label(fleet_text(json_member(host, "platform"), "name"), buf));
        fprintf(f, "tdid.bind-provider=%s\n", label(fleet_text(provider, "name"), buf));
        fprintf(f, "tdid.guard=%s\n", streq(fleet_text(json_member(model, "tdid"), "guard"), "on") ? "true" : "false");
        fprintf(f, "tdid.tsm=%s\n", fleet_length(json_member(model, "tsms")) > 0 ? "true" : "false");
        for (size_t i = 0; i < fleet_length(devices); i++) {
                json_object *o = json_object_array_get_idx(devices, i);
                unsigned same;

                if (!is_tee(o))
                        continue;
                n++;
                same = same_ids(devices, i);
                if (same > 0)
                        fprintf(f, "tdid.tee-%s-%s=%u\n", digits(fleet_text(o, "vendor")), digits(fleet_text(o, "device")), same);
        }
        fprintf(f, "tdid.tee-functions=%u\n", n);
}

/* As JSON: the same lines as members. */
static int features_json(struct tdictl *t, char *text, json_object **ret) {
        _cleanup_(json_object_putp) json_object *model = NULL, *features = json_object_new_object();
        char *save = NULL;
        int r;

        r = model_new(t, &model);
        if (r < 0)
                return r;
        if (!features)
                return fail_oom(t);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *value = strchr(line, '=');

                *value++ = '\0';
                if (json_put_string(features, line, value) < 0)
                        return fail_oom(t);
        }
        if (json_put(model, "features", json_object_get(features)) < 0)
                return fail_oom(t);
        *ret = TAKE_PTR(model);
        return 0;
}

int verb_nfd(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *json = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f;
        int r;

        r = fleet_model(t, &model);
        if (r < 0)
                return r;
        f = open_memstream(&text, &size);
        if (!f)
                return fail_oom(t);
        put_features(f, model);
        if (fclose(f) != 0)
                return fail_oom(t);
        if (!t->json)
                return fleet_write(t, text, size);
        r = features_json(t, text, &json);
        if (r < 0)
                return r;
        free(text);
        text = NULL;
        if (asprintf(&text, "%s\n", json_text(json)) < 0)
                return fail_oom(t);
        return fleet_write(t, text, strlen(text));
}

/* ---- Container Device Interface ---- */

static int add_string(json_object *array, const char *text) {
        json_object *s = json_object_new_string(text);

        if (!s || json_object_array_add(array, s) < 0) {
                json_object_put(s);
                return -ENOMEM;
        }
        return 0;
}

/* {"name", "containerEdits": {"env": [env], "mounts": [path, where it is]}} at the end of devices */
static int add_device(json_object *devices, const char *name, const char *env, const char *path) {
        _cleanup_(json_object_putp) json_object *device = json_object_new_object(), *edits = json_object_new_object(), *mount = json_object_new_object(),
                                                *mounts = json_object_new_array(), *envs = json_object_new_array(), *options = json_object_new_array();
        static const char *const how[] = { "bind", "rw", "nosuid", "nodev", "noexec" };

        if (!device || !edits || !mount || !mounts || !envs || !options)
                return -ENOMEM;
        for (size_t i = 0; i < ARRAY_SIZE(how); i++)
                if (add_string(options, how[i]) < 0)
                        return -ENOMEM;
        if (add_string(envs, env) < 0 || json_put_string(mount, "hostPath", path) < 0 || json_put_string(mount, "containerPath", path) < 0 ||
            json_put(mount, "options", TAKE_PTR(options)) < 0 || json_object_array_add(mounts, json_object_get(mount)) < 0 ||
            json_put(edits, "env", TAKE_PTR(envs)) < 0 || json_put(edits, "mounts", TAKE_PTR(mounts)) < 0 || json_put_string(device, "name", name) < 0 ||
            json_put(device, "containerEdits", TAKE_PTR(edits)) < 0 || json_object_array_add(devices, json_object_get(device)) < 0)
                return -ENOMEM;
        return 0;
}

/* A function that is served; its socket's folder is the VM's. */
static int add_function(json_object *devices, json_object *vm, json_object *tdi, const char *socket, bool *vm_is_there) {
        _cleanup_free_ char *env = NULL, *folder = NULL, *vm_env = NULL;
        const char *bdf = fleet_text(tdi, "bdf");
        char *slash;

        if (asprintf(&env, "TDID_VPCI_%s=%s", bdf, socket) < 0)
                return -ENOMEM;
        /* A name of the environment: of BDFs, "0000_01_00_0". */
        for (char *p = env; *p != '='; p++)
                if (!isalnum((unsigned char) *p))
                        *p = '_';
        if (add_device(devices, bdf, env, socket) < 0)
                return -ENOMEM;
        folder = strdup(socket);
        slash = folder ? strrchr(folder, '/') : NULL;
        if (!slash)
                return folder ? 0 : -ENOMEM;
        *slash = '\0';
        if (*vm_is_there)
                return 0;
        *vm_is_there = true;
        if (asprintf(&vm_env, "TDID_VPCI_DIR=%s", folder) < 0)
                return -ENOMEM;
        return add_device(devices, fleet_text(vm, "uuid"), vm_env, folder);
}

static int add_devices(json_object *devices, json_object *vms) {
        for (size_t i = 0; i < fleet_length(vms); i++) {
                json_object *vm = json_object_array_get_idx(vms, i), *tdis = json_member(vm, "tdis");
                bool vm_is_there = false;

                for (size_t k = 0; k < fleet_length(tdis); k++) {
                        json_object *tdi = json_object_array_get_idx(tdis, k);
                        const char *socket = json_string(json_member(tdi, "vpci"), "socket");

                        if (!isempty(socket) && add_function(devices, vm, tdi, socket, &vm_is_there) < 0)
                                return -ENOMEM;
                }
        }
        return 0;
}

int verb_cdi(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *spec = json_object_new_object(), *devices = json_object_new_array(), *outer = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = fleet_model(t, &model);
        if (r < 0)
                return r;
        if (!spec || !devices || add_devices(devices, json_member(model, "described")) < 0)
                return fail_oom(t);
        if (fleet_length(devices) == 0) {
                r = fleet_remove(t);
                return r != 1 ? r : fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                                         "No function of a VM that you may describe is served on a vPCI socket: there is nothing to specify before one is attached.");
        }
        if (json_put_string(spec, "cdiVersion", CDI_VERSION) < 0 || json_put_string(spec, "kind", CDI_KIND) < 0 ||
            json_put(spec, "devices", json_object_get(devices)) < 0)
                return fail_oom(t);
        if (t->json) {
                r = model_new(t, &outer);
                if (r < 0)
                        return r;
                if (json_put(outer, "cdi", json_object_get(spec)) < 0)
                        return fail_oom(t);
        }
        if (asprintf(&text, "%s\n", t->json ? json_text(outer) :
                                              strempty(json_object_to_json_string_ext(spec, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE))) < 0)
                return fail_oom(t);
        return fleet_write(t, text, strlen(text));
}
