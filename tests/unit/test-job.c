/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs: how they end, the first error that stays, and the limit that only results make room in. */
#include "counters.h"
#include "histogram.h"
#include "job.h"
#include "test.h"

static Manager *manager;

static bool never(_unused_ Job *j) {
        return false;
}

static Job *new_job(void) {
        Job *j = NULL;

        require(job_new(manager, JOB_DETACH, NULL, never, &j) == 0);
        return j;
}

static void test_kinds(void) {
        static const char *const names[] = { "attach", "detach", "seal", "destroy", "connect", "disconnect", "restore", "bind", "unbind" };

        check_int(ARRAY_SIZE(names), JOB_KIND_MAX);
        for (int i = 0; i < JOB_KIND_MAX; i++)
                check_str(job_kind_to_string(i), names[i]);
}

static void test_ends(void) {
        static const struct {
                enum tdi_error error;
                enum tdi_job_state state;
        } cases[] = {
                { TDI_ERROR_NONE, TDI_JOB_DONE }, { TDI_ERROR_CANCELLED, TDI_JOB_CANCELLED }, { TDI_ERROR_KERNEL, TDI_JOB_FAILED },
                { TDI_ERROR_TIMEOUT, TDI_JOB_FAILED },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
                for (int stuck = 0; stuck < 2; stuck++) {
                        Job *j = new_job();
                        char path[64], expected[64];

                        test_about("%s%s", tdi_error_to_name(cases[i].error), stuck ? " while stuck" : "");
                        check_int(j->state, TDI_JOB_RUNNING);
                        check(!job_is_finished(j) && job_find(manager, j->id) == j);
                        snprintf(expected, sizeof(expected), "/org/tdid1/job/%" PRIu64, j->id);
                        check_str(job_path(j, path), expected);
                        if (stuck)
                                job_set_state(j, TDI_JOB_STUCK);
                        check(!job_is_finished(j));
                        if (cases[i].error != TDI_ERROR_NONE)
                                job_fail(j, cases[i].error, "first %d", 1);
                        /* The first error stays. */
                        if (cases[i].error != TDI_ERROR_NONE)
                                job_fail(j, TDI_ERROR_EXISTS, "second");
                        job_finish(j);
                        check(job_is_finished(j) && j->finished >= j->started);
                        check_int(j->state, cases[i].state);
                        check_int(j->error, cases[i].error);
                        check_str(j->text, cases[i].error == TDI_ERROR_NONE ? NULL : "first 1");
                        check_int(job_deadline(j), 0);
                        /* Once it has ended nothing changes. */
                        job_set_state(j, TDI_JOB_RUNNING);
                        job_refresh(j);
                        job_finish(j);
                        check_int(j->state, cases[i].state);
                        job_free(j);
                }
        check(!job_free(NULL) && !job_find(manager, 0) && !job_find(manager, UINT64_MAX));
}

static void test_objects(void) {
        Job *j = new_job();

        test_about("%s", "objects");
        job_add_object(j, "web");
        job_add_bdf(j, (struct tdi_bdf){ 0, 1, 0 });
        job_add_bdf(j, (struct tdi_bdf){ 0xffff, 0xff, 0xff });
        check_int(j->n_objects, 3);
        check_int(j->n_bdfs, 2);
        check_str(j->objects[0], "web");
        check_str(j->objects[1], "0000:01:00.0");
        check_str(j->objects[2], "ffff:ff:1f.7");
        job_free(j);
}

static void test_limit(void) {
        Job *jobs[16], *j = NULL;
        uint64_t first;

        test_about("%s", "limit");
        manager->config.jobs = ARRAY_SIZE(jobs);
        for (size_t i = 0; i < ARRAY_SIZE(jobs); i++)
                jobs[i] = new_job();
        check_int(job_new(manager, JOB_SEAL, NULL, never, &j), -EDQUOT);
        check(!j);
        /* A result that is merely kept gives way, the oldest first, and only one. */
        job_finish(jobs[5]);
        job_finish(jobs[9]);
        first = jobs[5]->id;
        check_int(job_new(manager, JOB_SEAL, NULL, never, &j), 0);
        check(!job_find(manager, first) && job_find(manager, jobs[9]->id));
        check_int(manager->n_jobs, ARRAY_SIZE(jobs));
        check_int(job_new(manager, JOB_SEAL, NULL, never, &j), 0);
        check_int(job_new(manager, JOB_SEAL, NULL, never, &j), -EDQUOT);
        check(j->id > jobs[15]->id);
}

static uint64_t number(struct json_object *o, const char *key) {
        uint64_t n = UINT64_MAX;

        check(json_get_u64(o, key, &n) >= 0);
        return n;
}

static struct json_object *member(struct json_object *o, const char *key) {
        struct json_object *value = NULL;

        require(json_object_object_get_ex(o, key, &value));
        return value;
}

/* Every job is counted once, in its kind, by how it ended; and so is what took how long. */
static void test_counted(void) {
        _cleanup_json_ struct json_object *before = counters_describe(), *after = NULL;
        static const char *const ends[] = { "done", "failed", "cancelled" };
        static const enum tdi_error errors[] = { TDI_ERROR_NONE, TDI_ERROR_KERNEL, TDI_ERROR_CANCELLED };
        struct json_object *was, *is;
        uint64_t counted = 0;

        test_about("%s", "counters");
        for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
                Job *j = new_job();

                if (errors[i] != TDI_ERROR_NONE)
                        job_fail(j, errors[i], "why");
                job_finish(j);
                job_finish(j);
                job_free(j);
        }
        counters_refused("Busy");
        counters_refused("org.freedesktop.DBus.Error.InvalidArgs");
        after = counters_describe();
        was = member(member(before, "jobs"), "detach");
        is = member(member(after, "jobs"), "detach");
        for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
                check_int(number(is, ends[i]), number(was, ends[i]) + 1);
        is = member(member(is, "took"), "counts");
        for (size_t i = 0; i < json_object_array_length(is); i++)
                counted += json_object_get_uint64(json_object_array_get_idx(is, i));
        check_int(counted, number(member(member(after, "jobs"), "detach"), "done") + number(member(member(after, "jobs"), "detach"), "failed") +
                           number(member(member(after, "jobs"), "detach"), "cancelled"));
        check_int(number(member(member(after, "jobs"), "attach"), "done"), 0);
        check_int(number(member(after, "refused"), "Busy"), 1);
        check_int(number(member(after, "refused"), "other"), 1);
        /* What strangers can cause without end is not told as exact. */
        check(!json_object_object_get_ex(member(after, "events"), "refused", NULL));
        check_int(number(member(after, "events"), "job-done"), number(member(before, "events"), "job-done") + 1);
}

static void test_histogram(void) {
        static const uint64_t bounds[] = { 10, 100 }, values[] = { 0, 10, 11, 100, 101, UINT64_MAX };
        static const size_t slots[] = { 0, 0, 1, 1, 2, 2 };

        for (size_t i = 0; i < ARRAY_SIZE(values); i++)
                check_int(histogram_slot(bounds, ARRAY_SIZE(bounds), values[i]), slots[i]);
}

int main(void) {
        require(manager_new(&manager) == 0);
        test_kinds();
        test_ends();
        test_objects();
        test_counted();
        test_histogram();
        test_limit();
        manager_free(manager);
        return test_end();
}
