/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Jobs that nobody waits for, against fake-tdid: their beginning and end are told inside tdi_client_process(). */
#include <poll.h>

#include "test-client.h"

struct started {
        struct tdi_client *c;
        unsigned begun, ended;
        enum tdi_job_state state;
        enum tdi_error error;
        int result;
        char id[24], text[256];
};

static void on_report(const struct tdi_job_report *r, void *userdata) {
        struct started *s = userdata;
        char *json;

        check(s->ended == 0);
        check(tdi_client_snapshot(s->c, &json) == -EDEADLK);
        check(tdi_client_seal(s->c, "1") == -EDEADLK);
        if (r->state == TDI_JOB_RUNNING) {
                check(++s->begun == 1 && *r->id && r->result == 0 && r->error == TDI_ERROR_NONE && streq(r->text, ""));
                (void) snprintf(s->id, sizeof(s->id), "%s", r->id);
                return;
        }
        s->ended++;
        check(streq(s->id, r->id));
        s->state = r->state;
        s->error = r->error;
        s->result = r->result;
        (void) snprintf(s->text, sizeof(s->text), "%s", r->text);
}

/* A loop of one's own, until the job has begun, or ended. */
static int loop(struct tdi_client *c, const unsigned *until) {
        int r = 0;

        while (*until == 0 && r >= 0) {
                struct pollfd p = { .fd = tdi_client_get_fd(c) };
                uint64_t at;

                check(p.fd >= 0 && tdi_client_get_poll(c, &p.events, &at) == 0);
                check(poll(&p, 1, at == UINT64_MAX ? 60000 : at == 0 ? 0 : 20) >= 0);
                r = tdi_client_process(c);
        }
        return r;
}

static void start(struct tdi_client *c, struct started *s) {
        *s = (struct started){ .c = c };
        tdi_client_set_async(c, on_report, s);
}

static void ended(struct tdi_client *c, struct started *s, enum tdi_job_state state, enum tdi_error error, int result, const char *words) {
        (void) loop(c, &s->ended);
        if (s->ended != 1 || s->state != state || s->error != error || s->result != result || !strstr(s->text, words)) {
                fprintf(stderr, "ended %u as %d %d %d '%s'\n", s->ended, (int) s->state, (int) s->error, s->result, s->text);
                check(false);
        }
        check_error(c, TDI_ERROR_NONE, "");
}

void test_async(void) {
        struct tdi_client *c = new_client();
        struct started s, other;
        char *id, *other_id, *json;
        int lease, other_lease;

        check(tdi_client_create_vm(c, "async", NULL, &id, &lease) == 0);
        check(tdi_client_create_vm(c, "async2", NULL, &other_id, &other_lease) == 0);

        /* Its end is signalled before its call is answered. */
        start(c, &s);
        check(attach(c, id, 1) == 0);
        check(s.begun == 0 && s.ended == 0);
        ended(c, &s, TDI_JOB_DONE, TDI_ERROR_NONE, 0, "");
        check(s.begun == 1);
        /* A state that comes before the end, and an end that a stranger tells. */
        start(c, &s);
        check(attach(c, id, 7) == 0);
        ended(c, &s, TDI_JOB_DONE, TDI_ERROR_NONE, 0, "");
        start(c, &s);
        check(attach(c, id, 8) == 0);
        ended(c, &s, TDI_JOB_DONE, TDI_ERROR_NONE, 0, "");
        /* The whole reason is read; what is refused at once has no job. */
        start(c, &s);
        check(attach(c, id, 3) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_QUARANTINED, -EUCLEAN, "its reset set is not clean");
        start(c, &s);
        check(attach(c, id, 6) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_IN_USE, -EUSERS, "mounted on /data");
        check(s.begun == 0 && streq(s.id, ""));
        start(c, &s);
        check(attach(c, id, 0x20) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_NOT_FOUND, -ENOENT, "");
        start(c, &s);
        check(tdi_client_seal(c, "999") == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_NOT_FOUND, -ENOENT, "there is no VM 999");

        /* What cannot even be sent is no job. */
        start(c, &s);
        check(tdi_client_attach(c, id, NULL, 0) == -EINVAL);
        check(tdi_client_prepare_vm(c, "x", NULL, NULL, 0, &json, &lease) == -EINVAL);
        check_error(c, TDI_ERROR_INVALID_ARGUMENT, "one by one");
        check(tdi_client_process(c) == 0 && s.ended == 0);

        /* Several at once, each with its own callback's data; another call is answered in between; one is cancelled. */
        start(c, &s);
        check(attach(c, id, 4) == 0);
        start(c, &other);
        check(tdi_client_seal(c, other_id) == 0);
        check(tdi_client_describe(c, id, &json) == 0);
        free(json);
        ended(c, &other, TDI_JOB_DONE, TDI_ERROR_NONE, 0, "");
        (void) loop(c, &s.begun);
        check(s.begun == 1 && s.ended == 0);
        check(tdi_client_cancel_job(c, s.id) == 0);
        ended(c, &s, TDI_JOB_CANCELLED, TDI_ERROR_CANCELLED, -ECANCELED, "cancelled and undone");
        check(tdi_client_cancel_job(c, "") == -EINVAL && tdi_client_cancel_job(c, "1/2") == -EINVAL && tdi_client_cancel_job(c, NULL) == -EINVAL);
        check(tdi_client_cancel_job(c, "99999") == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "no job 99999");

        /* A function that waits again delivers what is still under way. */
        start(c, &s);
        check(attach(c, id, 12) == 0);
        (void) loop(c, &s.begun);
        check(tdi_client_cancel_job(c, s.id) == 0);
        start(c, &other);
        check(attach(c, id, 2) == 0);
        tdi_client_set_async(c, NULL, NULL);
        check(attach(c, id, 11) == 0);
        check(other.ended == 1 && other.state == TDI_JOB_DONE && s.ended == 0);

        /* Dropped without a word, and nothing is lost of what they took. */
        tdi_client_free(c);
        check(s.ended == 0);
        close(lease);
        close(other_lease);
        free(id);
        free(other_id);
}

void test_async_daemon_goes(void) {
        struct tdi_client *c = new_client();
        struct started s, other;
        char *id;
        int lease;

        check(tdi_client_create_vm(c, "async", NULL, &id, &lease) == 0);
        start(c, &other);
        check(attach(c, id, 12) == 0);
        start(c, &s);
        check(attach(c, id, 5) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_NONE, -ECONNRESET, "tdid went away");
        ended(c, &other, TDI_JOB_FAILED, TDI_ERROR_NONE, -ECONNRESET, "the job may go on");
        stop_fake();
        start(c, &s);
        check(tdi_client_seal(c, id) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_NONE, -EHOSTUNREACH, "tdid is not running");
        close(lease);
        free(id);

        start_fake();
        tdi_client_set_async(c, NULL, NULL);
        check(tdi_client_create_vm(c, "async", NULL, &id, &lease) == 0);
        start(c, &s);
        check(attach(c, id, 10) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_NONE, -ECONNRESET, "It may have begun");
        check(s.begun == 0);
        stop_fake();
        close(lease);
        free(id);
        tdi_client_free(c);

        start_fake();
        check(setenv("SYSTEMD_BUS_TIMEOUT", "3", 1) == 0);
        c = new_client();
        check(unsetenv("SYSTEMD_BUS_TIMEOUT") == 0);
        check(tdi_client_create_vm(c, "slow", NULL, &id, &lease) == 0);
        start(c, &s);
        check(attach(c, id, 9) == 0);
        ended(c, &s, TDI_JOB_FAILED, TDI_ERROR_TIMEOUT, -ETIMEDOUT, "did not answer in time");
        close(lease);
        free(id);
        tdi_client_free(c);
}
