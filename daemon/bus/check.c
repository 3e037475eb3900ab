/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Check(): what this host can do, looked at by a worker when somebody asks, at most once a second, for others than root every 10 s. What names other users' processes and
 * files only root is told.
 */
#include "admission.h"
#include "bus/reading.h"
#include "custody.h"

#define PATIENCE_USEC 20000000ULL /* sd-bus gives up after 25 s */
#define AGE_USEC 1000000ULL
#define AGE_OTHERS_USEC 10000000ULL /* looking takes processor time, and transactions on every link */

static struct json_object *without_details(struct json_object *found) {
        struct json_object *copy = NULL, *list;

        if (json_object_deep_copy(found, &copy, NULL) < 0)
                log_oom();
        for (size_t i = 0; json_get_array(copy, "checks", &list) >= 0 && i < json_object_array_length(list); i++)
                json_set_take(json_object_array_get_idx(list, i), "details", json_new_array());
        return copy;
}

/* What the checks want to know of tdid. */
static struct json_object *arguments(Manager *m) {
        struct json_object *args = json_new(), *own = json_new_array();

        for (size_t i = 0; i < m->n_custodies; i++)
                json_push_str(own, m->custodies[i]->name);
        json_set_take(args, "own", own);
        json_set_take(args, "policy", admission_describe(m));
        return args;
}

static struct json_object *take(struct json_object *values) {
        struct json_object *found;

        return json_get_object(values, "check", &found) >= 0 ? json_object_get(found) : NULL;
}

/* What is old would be judged as if it were now: it is not shown. */
static int answer(_unused_ Manager *m, sd_bus_message *call, uid_t uid, struct json_object *found, enum reading_state state, sd_bus_error *e) {
        switch (state) {
        case READING_CROWDED:
                return bus_error(e, TDI_ERROR_LIMIT, "%d others wait for what this host can do", READING_WAITING_MAX);
        case READING_PATIENCE:
                return bus_error(e, TDI_ERROR_TIMEOUT, "the worker that looks at this host has not come back in 20 s; 'tdictl check --local' shows as root where it stands");
        case READING_FAILED:
                return bus_error(e, TDI_ERROR_TIMEOUT, "the worker that looks at this host failed; the log tells more");
        case READING_DONE:
                break;
        }
        return bus_reply_description(call, "check", access_sees_addresses(uid) ? json_object_get(found) : without_details(found));
}

static const struct reading_kind check = {
        .op = "check.host", .about = "what this host can do", .patience = PATIENCE_USEC, .arguments = arguments, .take = take, .answer = answer,
};

static int method_check(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        return bus_check(userdata, call, e);
}

int bus_check(Manager *m, sd_bus_message *call, sd_bus_error *e) {
        uid_t uid;
        int r = access_caller(m, call, method_check, &uid, e);

        if (r <= 0)
                return r < 0 ? r : 1;
        return reading_ask(&m->host_check, m, &check, call, uid, access_sees_addresses(uid) ? AGE_USEC : AGE_OTHERS_USEC, e);
}
