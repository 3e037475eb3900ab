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

int verb_tsm_show(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *model = NULL;
        int r;

        r = model_snapshot(t, &snapshot);
        if (r >= 0)
                r = model_new(t, &model);
        for (size_t i = 0; r >= 0 && i < t->arguments.n_words; i++) {
                json_object *tsm = model_find(snapshot, "tsms", "name", t->arguments.words[i]);

                if (!tsm)
                        return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                                    "There is no TSM '%s'. See 'tdictl tsm list'.", t->arguments.words[i]);
                r = model_add(t, model, "tsms", tsm);
        }
        return r < 0 ? r : print_model(t, model, tsm_view);
}
