/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DescribeHost(): what this host is and what its kernel lacks, read by a worker when somebody asks, at most once a second. */
#include "admission.h"
#include "bus/reading.h"
#include "counters.h"
#include "recognise.h"

static struct json_object *arguments(_unused_ Manager *m) {
        return recognise_arguments();
}

static struct json_object *take(struct json_object *values) {
        return json_object_get(values);
}

/* Without anything read there is nothing to describe; what is old is better than nothing. */
static int answer(Manager *m, sd_bus_message *call, _unused_ uid_t uid, struct json_object *facts, enum reading_state state, sd_bus_error *e) {
        struct json_object *o;

        if (!facts && state == READING_CROWDED)
                return bus_error(e, TDI_ERROR_LIMIT, "%d others wait for what this host is", READING_WAITING_MAX);
        if (!facts)
                return bus_error(e, TDI_ERROR_TIMEOUT, "the worker that reads /dev/kvm, /dev/iommu and /sys/module has not come back; ask again");
        o = recognise_describe(m, facts, state != READING_DONE);
        json_set_take(o, "policy", admission_describe(m));
        json_set_take(o, "counters", counters_describe());
        return bus_reply_description(call, "host", o);
}

static const struct reading_kind host = {
        .op = "read.host", .about = "what this host is", .patience = 1000000, .arguments = arguments, .take = take, .answer = answer,
};

int bus_describe_host(Manager *m, sd_bus_message *call, sd_bus_error *e) {
        return reading_ask(&m->host_reading, m, &host, call, 0, 1000000, e);
}
