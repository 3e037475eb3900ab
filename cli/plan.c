/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See plan.h. tdid makes the plan; here plans of several calls become one. */
#include "plan.h"

#include "model.h"
#include "print.h"

bool plan_wanted(struct tdictl *t) {
        bool wanted = arguments_has(&t->arguments, "dry-run");

        if (wanted)
                tdi_client_set_dry_run(t->client, true);
        return wanted;
}

static int append(struct tdictl *t, json_object *to, json_object *from, const char *list) {
        json_object *rows = json_member(from, list);
        int r = 0;

        for (size_t i = 0; r >= 0 && json_object_is_type(rows, json_type_array) && i < json_object_array_length(rows); i++) {
                json_object *row = json_object_array_get_idx(rows, i);
                const char *bdf = json_string(row, "bdf");

                if (!bdf || !model_find(to, list, "bdf", bdf))
                        r = model_add(t, to, list, row);
        }
        return r;
}

int plan_take(struct tdictl *t, json_object **model) {
        _cleanup_(json_object_putp) json_object *answer = json_tokener_parse(strempty(tdi_client_plan(t->client)));
        json_object *plan = json_member(answer, "plan");
        int r;

        if (!json_object_is_type(plan, json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's plan.");
        if (!*model) {
                r = model_new(t, model);
                return r < 0 ? r : json_put(*model, "plan", json_object_get(plan)) < 0 ? fail_oom(t) : 0;
        }
        r = append(t, json_member(*model, "plan"), plan, "functions");
        return r < 0 ? r : append(t, json_member(*model, "plan"), plan, "then");
}

int plan_print(struct tdictl *t, json_object *model) {
        return print_model(t, model, plan_view);
}
