/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl status` and `tdictl tsm …`: looking only. */
#include "model.h"
#include "print.h"

int verb_status(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        int r = model_snapshot(t, &model);

        return r < 0 ? r : print_model(t, model, status_view);
}

int verb_tsm_list(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        int r = model_list(t, "tsms", &model);

        return r < 0 ? r : print_model(t, model, tsms_view);
}

/* What tdid says of its host becomes the model's. */
static int add_host(struct tdictl *t, json_object *model) {
        _cleanup_(json_object_putp) json_object *description = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = tdi_client_describe_host(t->client, &text);
        if (r < 0)
                return fail_client(t, r);
        description = json_tokener_parse(text);
        if (!json_object_is_type(json_member(description, "host"), json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's description of this host.");
        return json_put(model, "host", json_object_get(json_member(description, "host"))) < 0 ? fail_oom(t) : 0;
}

int verb_tsm_show(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *model = NULL;
        json_object *all;
        int r;

        r = model_snapshot(t, &snapshot);
        if (r >= 0)
                r = model_new(t, &model);
        if (r >= 0)
                r = add_host(t, model);
        if (r >= 0)
                r = model_add(t, model, "tsms", NULL);
        all = json_member(snapshot, "tsms");
        for (size_t i = 0; r >= 0 && t->arguments.n_words == 0 && i < json_object_array_length(all); i++)
                r = model_add(t, model, "tsms", json_object_array_get_idx(all, i));
        for (size_t i = 0; r >= 0 && i < t->arguments.n_words; i++) {
                json_object *tsm = model_find(snapshot, "tsms", "name", t->arguments.words[i]);

                if (!tsm)
                        return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                                    "There is no TSM '%s'. See 'tdictl tsm list'.", t->arguments.words[i]);
                r = model_add(t, model, "tsms", tsm);
        }
        return r < 0 ? r : print_model(t, model, tsm_view);
}
