/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `tdictl check`: what this host can do. tdid is asked when it runs, as it sees more than most users; otherwise, or for what tdid cannot be asked,
 * tdictl looks itself, with the same code. Nothing is started for it, and nothing changed.
 */
#include "check.h"

#include <stdio.h>

#include "check/check.h"
#include "model.h"
#include "policy/policy.h"

/* What the checks want to know of a policy: as tdid describes its own. */
static int look_at_policy(struct tdictl *t, json_object **ret) {
        static const char *const standard[] = POLICY_DIRS;
        _cleanup_free_ const char **given = calloc(t->arguments.n_options + 1, sizeof(*given));
        _cleanup_(json_object_putp) json_object *o = json_object_new_object();
        _cleanup_policy_ struct policy *p = NULL;
        json_object *files = json_object_new_array();
        struct policy_error why;
        char text[1024];
        size_t n = 0;
        int r;

        if (!given || json_put(o, "files", files) < 0)
                return fail_oom(t);
        for (const struct option_value *v; (v = arguments_option(&t->arguments, "policy", n));)
                given[n++] = v->text;
        r = policy_load(n > 0 ? given : standard, n > 0 ? n : ARRAY_SIZE(standard), &p, &why);
        if (r == -ENOMEM)
                return fail_oom(t);
        for (size_t i = 0; p && i < policy_n_files(p); i++) {
                bool masked;
                const char *file = policy_get_file(p, i, &masked);

                if (!masked)
                        json_object_array_add(files, json_object_new_string(file));
        }
        if (json_put(o, "loaded", json_object_new_boolean(p != NULL)) < 0 || json_put(o, "denied", json_object_new_boolean(r == -EACCES || r == -EPERM)) < 0 ||
            json_put(o, "rules", json_object_new_uint64(p ? policy_n_rules(p) : 0)) < 0 ||
            (r < 0 && json_put_string(o, "error", policy_error_format(&why, text, sizeof(text))) < 0))
                return fail_oom(t);
        *ret = TAKE_PTR(o);
        return 0;
}

static int fail_host(struct tdictl *t, const char *spec, int r) {
        if (r == -ENOMEM)
                return fail_oom(t);
        if (r == -EINVAL)
                return fail_usage(t, "--host: '%s' is neither linux nor sim:SOCKET.", spec);
        return fail(t, "Unreachable", EXIT_UNREACHABLE, "--host: could not reach '%s': %s. Is tdi-sim listening there?", spec, strerror(-r));
}

static int take_devices(struct tdictl *t, TdiHost *host, struct tdi_bdf **ret, size_t *ret_n) {
        _cleanup_free_ struct tdi_bdf *list = calloc(t->arguments.n_options + 1, sizeof(*list));
        const struct option_value *v;
        size_t n = 0;

        if (!list)
                return fail_oom(t);
        for (; (v = arguments_option(&t->arguments, "device", n)); n++) {
                char path[128], bdf[TDI_BDF_MAX], text[32];
                int r;

                r = tdictl_bdf(t, v->text, list + n);
                if (r < 0)
                        return r;
                snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/class", tdi_bdf_format(list[n], bdf));
                if (host_read_text(host, path, text, sizeof(text)) < 0)
                        return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND), "There is no PCI function %s on this host. See 'lspci -D'.", bdf);
        }
        *ret = TAKE_PTR(list);
        *ret_n = n;
        return 0;
}

static int look_here(struct tdictl *t, json_object **ret) {
        const char *spec = arguments_text(&t->arguments, "host");
        _cleanup_(json_object_putp) json_object *policy = NULL;
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        _cleanup_free_ struct tdi_bdf *devices = NULL;
        struct check_input in = {};
        int r;

        r = tdi_host_new(spec ? spec : "linux", &host);
        if (r < 0)
                return fail_host(t, strempty(spec), r);
        r = take_devices(t, host, &devices, &in.n_devices);
        if (r >= 0)
                r = look_at_policy(t, &policy);
        if (r < 0)
                return r;
        in.host = host;
        in.devices = devices;
        in.policy = policy;
        *ret = check_run(&in);
        return 0;
}

/* 0 without an answer: nobody is there to ask. */
static int ask_tdid(struct tdictl *t, json_object **ret) {
        _cleanup_(json_object_putp) json_object *answer = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = tdi_client_connect(t->client, arguments_text(&t->arguments, "bus"));
        if (r >= 0)
                r = tdi_client_check(t->client, &text);
        if (r == -EHOSTUNREACH || r == -EOPNOTSUPP)
                return 0;
        if (r < 0)
                return fail_client(t, r);
        answer = json_tokener_parse(text);
        *ret = json_object_get(json_member(answer, "check"));
        return json_object_is_type(json_member(*ret, "checks"), json_type_array) ? 1 : fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's answer.");
}

/* About what tdid was not asked to look at, or with what it does not have. */
static bool is_special(const struct arguments *a) {
        return arguments_has(a, "local") || arguments_has(a, "host") || arguments_has(a, "device") || arguments_has(a, "policy");
}

int verb_check(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *found = NULL;
        bool by_tdid = false;
        int r;

        r = model_new(t, &model);
        if (r < 0)
                return r;
        if (arguments_has(&t->arguments, "list"))
                found = check_list();
        else if (!is_special(&t->arguments)) {
                r = ask_tdid(t, &found);
                by_tdid = r > 0;
        }
        if (r >= 0 && !found)
                r = look_here(t, &found);
        if (r < 0)
                return r;
        json_object_object_foreach(found, key, value) {
                if (json_put(model, key, json_object_get(value)) < 0)
                        return fail_oom(t);
        }
        if (!arguments_has(&t->arguments, "list") && json_put_string(model, "looked_by", by_tdid ? "tdid" : "tdictl") < 0)
                return fail_oom(t);
        r = print_checks(t, model);
        if (r < 0)
                return r;
        return streq(strempty(json_string(json_member(model, "summary"), "verdict")), "fail") ? tdi_error_to_exit(TDI_ERROR_NOT_SUPPORTED) : 0;
}
