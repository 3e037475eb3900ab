/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Counters. See counters.h. */
#include "counters.h"

#include "histogram.h"

#define MSEC 1000000ULL
#define SECOND (1000 * MSEC)

static const uint64_t job_bounds[] = { 10 * MSEC,  50 * MSEC,   100 * MSEC,  500 * MSEC,  SECOND,
                                       5 * SECOND, 15 * SECOND, 30 * SECOND, 60 * SECOND, 120 * SECOND };

static struct {
        uint64_t started; /* CLOCK_REALTIME, µs; 0: nothing was counted or told yet */
        uint64_t events[AUDIT_EVENT_MAX];
        uint64_t refused[TDI_ERROR_MAX]; /* of TDI_ERROR_NONE: errors that are not ours */
        struct {
                uint64_t ended[TDI_JOB_STATE_MAX];
                uint64_t counts[ARRAY_SIZE(job_bounds) + 1];
                uint64_t sum;
        } jobs[JOB_KIND_MAX];
} counters;

static void begin(void) {
        if (counters.started == 0)
                counters.started = now_realtime();
}

void counters_event(enum audit_event event) {
        begin();
        counters.events[event]++;
}

void counters_refused(const char *error) {
        enum tdi_error e = tdi_error_from_name(error);

        begin();
        counters.refused[e > TDI_ERROR_NONE && e < TDI_ERROR_MAX ? e : TDI_ERROR_NONE]++;
}

void counters_job(const Job *j) {
        uint64_t took = (now_monotonic() - j->begun) * 1000;

        begin();
        counters.jobs[j->kind].ended[j->state]++;
        counters.jobs[j->kind].counts[histogram_slot(job_bounds, ARRAY_SIZE(job_bounds), took)]++;
        counters.jobs[j->kind].sum += took;
}

/* A stranger can cause any number of them, of which the journal gets some: those are counted by error. */
static bool is_sampled(enum audit_event event) {
        return event == AUDIT_DENIED || event == AUDIT_REFUSED || event == AUDIT_REQUEST_REFUSED || event == AUDIT_GUARD_REFUSED || event == AUDIT_LOST;
}

struct json_object *counters_describe(void) {
        struct json_object *o = json_new(), *events = json_new(), *refused = json_new(), *jobs = json_new();

        begin();
        for (int i = 0; i < AUDIT_EVENT_MAX; i++)
                if (!is_sampled(i))
                        json_set_u64(events, audit_table[i].name, counters.events[i]);
        for (int i = 0; i < TDI_ERROR_MAX; i++)
                json_set_u64(refused, i == TDI_ERROR_NONE ? "other" : tdi_error_to_name(i), counters.refused[i]);
        for (int i = 0; i < JOB_KIND_MAX; i++) {
                struct json_object *job = json_new();

                for (int s = TDI_JOB_DONE; s < TDI_JOB_STATE_MAX; s++)
                        json_set_u64(job, tdi_job_state_to_string(s), counters.jobs[i].ended[s]);
                json_set_take(job, "took", histogram_describe(job_bounds, counters.jobs[i].counts, ARRAY_SIZE(job_bounds), counters.jobs[i].sum));
                json_set_take(jobs, job_kind_to_string(i), job);
        }
        json_set_u64(o, "since", counters.started);
        json_set_take(o, "events", events);
        json_set_take(o, "refused", refused);
        json_set_take(o, "jobs", jobs);
        return o;
}
