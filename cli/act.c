/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See act.h. */
#include "act.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/signalfd.h>

#include "model.h"
#include "plan.h"

#define QUIET_USEC UINT64_C(1000000) /* a job that is over by then needs no progress */

static void clear_line(struct act *a) {
        if (a->shown)
                fputs("\r\033[K", stderr);
        a->shown = false;
}

static void show(struct act *a, const struct tdi_progress *p) {
        uint64_t seconds = p->elapsed_usec / 1000000;

        if (!a->terminal || p->elapsed_usec < QUIET_USEC)
                return;
        clear_line(a);
        fprintf(stderr, "%s%s%s, %" PRIu64 " s%s%s", p->kind, *p->step ? ": " : "", p->step, seconds,
                streq(p->state, "stuck") ? ", past its deadline: the kernel has not come back" : "",
                a->interrupts > 0 ? ", cancelling (Ctrl-C again leaves it)" : "");
        fflush(stderr);
        a->shown = true;
}

bool act_interrupted(struct act *a) {
        struct signalfd_siginfo si;

        while (a->signal_fd >= 0 && read(a->signal_fd, &si, sizeof(si)) == (ssize_t) sizeof(si))
                a->interrupts++;
        return a->interrupts > 0;
}

static enum tdi_progress_verdict on_progress(const struct tdi_progress *p, void *userdata) {
        struct act *a = userdata;
        unsigned before = a->interrupts;

        if (act_interrupted(a) && before == 0) {
                if (!a->t->json) {
                        clear_line(a);
                        fprintf(stderr, "Cancelling job %s and waiting for it to be undone. Ctrl-C again leaves it to tdid.\n", p->id);
                }
        }
        show(a, p);
        return a->interrupts > 1 ? TDI_PROGRESS_LEAVE : a->interrupts == 1 ? TDI_PROGRESS_CANCEL : TDI_PROGRESS_WAIT;
}

void act_begin(struct act *a, struct tdictl *t) {
        struct sigaction before;
        sigset_t mask;

        *a = (struct act){ .t = t, .signal_fd = -EBADF, .terminal = !t->json && isatty(STDERR_FILENO) };
        /* A blocked signal reaches a signalfd even when it is ignored: whoever had it ignored wants no cancelling. */
        if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
                sigemptyset(&mask);
                sigaddset(&mask, SIGINT);
                a->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
                if (a->signal_fd >= 0)
                        (void) sigprocmask(SIG_BLOCK, &mask, &a->mask_before);
        }
        tdi_client_set_progress(t->client, on_progress, a);
        tdi_client_set_wake_fd(t->client, a->signal_fd);
}

void act_hand_over(struct act *a, sigset_t *mask) {
        tdi_client_set_progress(a->t->client, NULL, NULL);
        tdi_client_set_wake_fd(a->t->client, -1);
        clear_line(a);
        if (a->signal_fd >= 0)
                *mask = a->mask_before;
        a->signal_fd = close_fd(a->signal_fd);
}

void act_end(struct act *a) {
        sigset_t mask;

        if (sigprocmask(SIG_SETMASK, NULL, &mask) < 0)
                return;
        act_hand_over(a, &mask);
        (void) sigprocmask(SIG_SETMASK, &mask, NULL);
}

int act_on_vm(struct tdictl *t, int (*one)(struct tdictl *t, const char *id, void *userdata), void *userdata, char **ret_id) {
        _cleanup_(json_object_putp) json_object *plan = NULL;
        bool planned = plan_wanted(t);
        _cleanup_free_ char *id = NULL;
        struct act a;
        int r;

        r = model_find_vm(t, &id);
        if (r < 0)
                return r;
        act_begin(&a, t);
        r = one(t, id, userdata);
        act_end(&a);
        if (r < 0)
                return fail_client(t, r);
        if (planned) {
                r = plan_take(t, &plan);
                if (r >= 0)
                        r = plan_print(t, plan);
                return r < 0 ? r : ACT_PLANNED;
        }
        *ret_id = TAKE_PTR(id);
        return 0;
}

int act_on_functions(struct tdictl *t, size_t first, int (*one)(struct tdictl *t, struct tdi_bdf bdf)) {
        const struct arguments *args = &t->arguments;
        size_t n = args->n_words - first, i;
        _cleanup_free_ struct tdi_bdf *bdfs = calloc(n, sizeof(*bdfs));
        _cleanup_(json_object_putp) json_object *plan = NULL;
        bool planned = plan_wanted(t);
        struct act a;
        int r = 0;

        if (!bdfs)
                return fail_oom(t);
        for (i = 0; i < n; i++) {
                r = tdictl_bdf(t, args->words[first + i], &bdfs[i]);
                if (r < 0)
                        return r;
        }
        r = model_connect(t);
        if (r < 0)
                return r;
        act_begin(&a, t);
        for (i = 0; i < n; i++) {
                r = one(t, bdfs[i]);
                if (r < 0)
                        break;
                if (planned && (r = plan_take(t, &plan)) < 0) {
                        act_end(&a);
                        return r;
                }
        }
        act_end(&a);
        if (r >= 0 && planned) {
                r = plan_print(t, plan);
                return r < 0 ? r : ACT_PLANNED;
        }
        if (r < 0) {
                char done[128], last[TDI_BDF_MAX];

                r = fail_client(t, r);
                if (i > 0 && !planned) {
                        snprintf(done, sizeof(done), "The first %zu of %zu are done, up to %s. Then: ", i, n, tdi_bdf_format(bdfs[i - 1], last));
                        (void) fail_prefix(t, r, done);
                }
        }
        return r;
}
