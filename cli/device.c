/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl device …`: the host's PCI functions. Attached ones are also in attach.c, as what their VM has. */
#include "act.h"
#include "model.h"
#include "print.h"

/* One of the words, where there are some. */
static bool is_named(const struct arguments *a, json_object *device) {
        for (size_t i = 0; i < a->n_words; i++) {
                char text[TDI_BDF_MAX];
                struct tdi_bdf bdf;

                if (tdi_bdf_parse(a->words[i], &bdf) >= 0 && streq_ptr(json_string(device, "bdf"), tdi_bdf_format(bdf, text)))
                        return true;
        }
        return a->n_words == 0;
}

static bool has_state(json_object *d, const char *state) {
        json_object *present = json_member(d, "present");
        bool gone = present && !json_object_get_boolean(present), used = !streq(strempty(json_string(d, "custody")), "none");

        if (streq(state, "quarantined"))
                return json_string(d, "quarantine");
        if (streq(state, "gone"))
                return gone;
        return streq(state, "used") ? used : !used && !gone && !json_string(d, "quarantine");
}

static bool has_tee(json_object *d, const char *what) {
        json_object *tee = json_member(d, "tee");

        for (size_t i = 0; json_object_is_type(tee, json_type_array) && i < json_object_array_length(tee); i++)
                if (streq_ptr(json_object_get_string(json_object_array_get_idx(tee, i)), what))
                        return true;
        return false;
}

static bool is_wanted(const struct arguments *a, json_object *d) {
        const char *vm = arguments_text(a, "vm"), *driver = arguments_text(a, "driver"), *state = arguments_text(a, "state");

        return is_named(a, d) && (!vm || streq_ptr(json_string(d, "vm"), vm) || streq_ptr(json_string(d, "vm_id"), vm)) &&
                (!driver || streq_ptr(json_string(d, "driver"), driver)) && (!state || has_state(d, state)) && (!arguments_has(a, "tee-io") || has_tee(d, "tee-io"));
}

static int check_words(struct tdictl *t) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < t->arguments.n_words; i++) {
                struct tdi_bdf bdf;

                r = tdictl_bdf(t, t->arguments.words[i], &bdf);
        }
        return r;
}

int verb_device_list(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *all = NULL, *model = NULL;
        json_object *list;
        int r;

        r = check_words(t);
        if (r >= 0)
                r = model_list(t, "devices", &all);
        if (r >= 0)
                r = model_new(t, &model);
        if (r >= 0)
                r = model_add(t, model, "devices", NULL);
        list = json_member(all, "devices");
        for (size_t i = 0; r >= 0 && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
                if (is_wanted(&t->arguments, json_object_array_get_idx(list, i)))
                        r = model_add(t, model, "devices", json_object_array_get_idx(list, i));
        return r < 0 ? r : print_model(t, model, devices_view);
}

static int not_found(struct tdictl *t, const char *bdf) {
        return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                    "There is no PCI function %s. See 'tdictl device list'.", bdf);
}

/* Of an earlier tdid, which says nothing of a guard, nothing. */
static int add_guard(json_object *device, json_object *description) {
        const char *state = json_string(description, "guard");
        json_object *refused = json_member(description, "refused");

        if (isempty(state))
                return 0;
        if (json_put_string(device, "guard", state) < 0)
                return -ENOMEM;
        return !refused || json_put(device, "refused", json_object_get(refused)) >= 0 ? 0 : -ENOMEM;
}

/* What tdid tells this user besides: why it is quarantined, in full, its IDE streams, its serial number, and what the guard has refused of it. */
static int add_description(struct tdictl *t, struct tdi_bdf bdf, json_object *device) {
        _cleanup_(json_object_putp) json_object *description = NULL;
        bool quarantined = json_string(device, "quarantine");
        _cleanup_free_ char *text = NULL;
        const char *reason, *serial;
        json_object *streams;

        if (tdi_client_describe_device(t->client, bdf, &text) < 0)
                return 0;
        description = json_tokener_parse(text);
        reason = json_string(json_member(description, "device"), "quarantine");
        if (quarantined && !isempty(reason) && json_put_string(device, "quarantine", reason) < 0)
                return fail_oom(t);
        serial = json_string(json_member(description, "device"), "serial");
        if (!isempty(serial) && json_put_string(device, "serial", serial) < 0)
                return fail_oom(t);
        if (add_guard(device, json_member(description, "device")) < 0)
                return fail_oom(t);
        streams = json_member(json_member(description, "device"), "streams");
        if (!quarantined && json_object_is_type(streams, json_type_array) && json_object_array_length(streams) == 0)
                return 0;
        return !streams || json_put(device, "ide", json_object_get(streams)) >= 0 ? 0 : fail_oom(t);
}

/* Shows the named functions as they are now; one that is not there is left out where `may_be_gone`. */
static int show(struct tdictl *t, const struct section *view, bool may_be_gone) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL, *model = NULL;
        int r;

        r = check_words(t);
        if (r >= 0)
                r = model_snapshot(t, &snapshot);
        if (r >= 0)
                r = model_new(t, &model);
        if (r >= 0)
                r = model_add(t, model, "devices", NULL);
        for (size_t i = 0; r >= 0 && i < t->arguments.n_words; i++) {
                char text[TDI_BDF_MAX];
                json_object *device;
                struct tdi_bdf bdf;

                r = tdictl_bdf(t, t->arguments.words[i], &bdf);
                if (r < 0)
                        return r;
                device = model_find(snapshot, "devices", "bdf", tdi_bdf_format(bdf, text));
                if (!device && may_be_gone)
                        continue;
                if (!device)
                        return not_found(t, text);
                r = add_description(t, bdf, device);
                if (r >= 0)
                        r = model_add(t, model, "devices", device);
        }
        return r < 0 ? r : print_model(t, model, view);
}

int verb_device_show(struct tdictl *t) {
        return show(t, device_view, false);
}

static int connect_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_connect_device(t->client, bdf, arguments_text(&t->arguments, "tsm"));
}

static int disconnect_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_disconnect_device(t->client, bdf);
}

static int restore_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_restore_device(t->client, bdf, arguments_has(&t->arguments, "force"));
}

static int act_and_show(struct tdictl *t, int (*one)(struct tdictl *t, struct tdi_bdf bdf), const struct section *view) {
        int r = act_on_functions(t, 0, one);

        if (r < 0 || r == ACT_PLANNED)
                return r < 0 ? r : 0;
        /* Restoring a function that has gone from the host ends what tdid knows of it. */
        r = show(t, view, true);
        return r < 0 ? fail_prefix(t, r, "It is done, but: ") : r;
}

int verb_device_connect(struct tdictl *t) {
        return act_and_show(t, connect_one, devices_view);
}

int verb_device_disconnect(struct tdictl *t) {
        return act_and_show(t, disconnect_one, devices_view);
}

int verb_device_restore(struct tdictl *t) {
        return act_and_show(t, restore_one, given_back_view);
}

static int detach_one(struct tdictl *t, struct tdi_bdf bdf) {
        return tdi_client_detach(t->client, bdf);
}

/* Here because what it leaves is a function of the host. */
int verb_detach(struct tdictl *t) {
        return act_and_show(t, detach_one, given_back_view);
}
