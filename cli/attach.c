/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl attach`, `bind`, `unbind`: functions as parts of a VM. `detach` is in device.c. */
#include "act.h"
#include "attach.h"
#include "model.h"
#include "print.h"

/* Shows the TDIs of the functions named from word `first` on; one that went meanwhile is left out. */
static int show(struct tdictl *t, size_t first) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *model = NULL;
        int r;

        r = model_snapshot(t, &snapshot);
        if (r >= 0)
                r = model_new(t, &model);
        if (r >= 0)
                r = model_add(t, model, "tdis", NULL);
        for (size_t i = first; r >= 0 && i < t->arguments.n_words; i++) {
                _cleanup_(json_object_putp) json_object *tdi = NULL;
                char text[TDI_BDF_MAX];
                struct tdi_bdf bdf;

                r = tdictl_bdf(t, t->arguments.words[i], &bdf);
                if (r >= 0)
                        r = model_tdi(t, snapshot, tdi_bdf_format(bdf, text), &tdi);
                if (r > 0)
                        r = model_add(t, model, "tdis", tdi);
        }
        if (r >= 0)
                r = print_model(t, model, tdis_view);
        return r < 0 ? fail_prefix(t, r, "It is done, but: ") : r;
}

/* An option that may be given once for all functions (`for_all`), or once for each in their order. */
static int per_function(struct tdictl *t, const char *name, size_t n, bool for_all) {
        size_t given = 0;

        while (arguments_option(&t->arguments, name, given))
                given++;
        if (given == 0 || given == n || (for_all && given == 1))
                return 0;
        return fail_usage(t, "--%s is given %zu times for %zu functions: give it %sonce for each, in their order.", name, given, n, for_all ? "once, or " : "");
}

int attach_read_functions(struct tdictl *t, const char *const bdfs[], struct tdi_function *functions, size_t n) {
        const struct arguments *a = &t->arguments;
        int r;

        r = per_function(t, "guest-rid", n, false);
        if (r >= 0)
                r = per_function(t, "vf-token", n, true);
        for (size_t i = 0; r >= 0 && i < n; i++) {
                const struct option_value *rid = arguments_option(a, "guest-rid", i);
                const struct option_value *token = arguments_option(a, "vf-token", i);

                if (!token)
                        token = arguments_option(a, "vf-token", 0);
                functions[i] = (struct tdi_function){
                        .size = sizeof(functions[i]),
                        .flags = (rid ? TDI_ATTACH_GUEST_RID : 0) | (arguments_has(a, "force") ? TDI_ATTACH_FORCE : 0) |
                                (arguments_has(a, "no-connect") ? TDI_ATTACH_NO_CONNECT : 0),
                        .guest_rid = rid ? rid->number : 0,
                        .bind = arguments_text(a, "bind"),
                        .vf_token = token ? token->text : NULL,
                };
                r = tdictl_bdf(t, bdfs[i], &functions[i].bdf);
        }
        return r;
}

/* The words behind the VM's are functions. */
static int attach(struct tdictl *t, const char *id, void *userdata) {
        return tdi_client_attach(t->client, id, userdata, t->arguments.n_words - 1);
}

int verb_attach(struct tdictl *t) {
        size_t n = t->arguments.n_words - 1;
        _cleanup_free_ struct tdi_function *functions = calloc(n, sizeof(*functions));
        _cleanup_free_ char *id = NULL;
        int r;

        if (!functions)
                return fail_oom(t);
        r = attach_read_functions(t, t->arguments.words + 1, functions, n);
        if (r >= 0)
                r = act_on_vm(t, attach, functions, &id);
        return r < 0 ? r : r == ACT_PLANNED ? 0 : show(t, 1);
}

static int bind_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_bind(t->client, bdf);
}

int verb_bind(struct tdictl *t) {
        int r = act_on_functions(t, 0, bind_one);

        return r < 0 ? r : r == ACT_PLANNED ? 0 : show(t, 0);
}

static int unbind_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_unbind(t->client, bdf);
}

int verb_unbind(struct tdictl *t) {
        int r = act_on_functions(t, 0, unbind_one);

        return r < 0 ? r : r == ACT_PLANNED ? 0 : show(t, 0);
}
