/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The TDISP state of a function. */
#include "vm/vpci/tdisp.h"

#include <stdlib.h>

#include "log.h"
#include "vm/vpci/function.h"

#define BEGIN_PATIENCE_MSEC 1000

/* With the function's lock. What is not known counts as locked: to be too strict ends no TDI. */
static void filter(struct function *f) {
        enum vconfig_state state = VCONFIG_UNLOCKED;

        if (!f->config)
                return;
        if (f->bound)
                state = f->tdisp == TDI_TDISP_RUN                                ? VCONFIG_RUN :
                        f->tdisp == TDI_TDISP_ERROR                              ? VCONFIG_ERROR :
                        f->tdisp == TDI_TDISP_UNLOCKED && !f->tdisp_under_way    ? VCONFIG_BOUND :
                                                                                   VCONFIG_LOCKED;
        vconfig_set_state(f->config, state);
        /* What is not known to be locked only may run. */
        atomic_store(&f->guards_tee, f->n_tee > 0 && f->bound && f->tdisp != TDI_TDISP_UNLOCKED && f->tdisp != TDI_TDISP_LOCKED);
        function_settle_soon(f);
        pthread_cond_broadcast(&f->changed);
}

/* With the function's lock: what a report says is of the interface that was locked then. */
static void forget_report(struct function *f) {
        free(f->report);
        f->report = NULL;
        f->report_size = 0;
        f->n_tee = 0;
}

static void set(struct function *f, enum tdi_tdisp state) {
        enum tdi_tdisp was = f->tdisp;

        f->tdisp = state;
        if (state == TDI_TDISP_UNLOCKED)
                forget_report(f);
        filter(f);
        if (was == state)
                return;
        /* The TSM has the last word: what we believed was wrong. What is unbound begins anew. */
        if (f->bound && !tdi_tdisp_may_follow(was, state))
                log_warning("%s: its TSM took it from TDISP state %s to %s, which TDISP does not have: it was not in the state that tdid took it to be in",
                            f->bdf, tdi_tdisp_to_string(was), tdi_tdisp_to_string(state));
        vpci_event_tdisp(f->vpci, f->bdf, was, state);
}

int tdisp_set_bound(struct function *f, bool bound, enum tdi_tdisp state) {
        int r;

        pthread_mutex_lock(&f->lock);
        /* Not yet there, or gone with the function's end: nobody reaches it then. */
        r = bound ? -EAGAIN : 0;
        /* What may become TEE memory is nobody's peer before it is locked. */
        if (f->config)
                r = dma_client_withhold_bars(f->dma, bound);
        /* A request that was let in before is not over. */
        if (f->config && bound && f->changing > 0)
                r = -EAGAIN;
        /* What has failed has failed. */
        if (r == -EAGAIN && f->config && state == TDI_TDISP_ERROR)
                r = 0;
        if (r >= 0) {
                f->bound = bound;
                set(f, state);
        }
        pthread_mutex_unlock(&f->lock);
        return r;
}

int tdisp_begin(struct function *f, enum tdi_tdisp target) {
        struct timespec until = function_in_msec(BEGIN_PATIENCE_MSEC);
        int r = 0;

        if (target == TDI_TDISP_UNLOCKED || target == TDI_TDISP_INVALID)
                return 0;
        pthread_mutex_lock(&f->lock);
        while (f->changing > 0 && r == 0)
                r = pthread_cond_timedwait(&f->changed, &f->lock, &until);
        r = f->changing > 0 ? -EBUSY : 0;
        if (r >= 0) {
                f->tdisp_under_way = true;
                filter(f);
        }
        pthread_mutex_unlock(&f->lock);
        return r;
}

void tdisp_end(struct function *f, enum tdi_tdisp reached) {
        pthread_mutex_lock(&f->lock);
        f->tdisp_under_way = false;
        /* What was asked for before the device failed does not mend it. */
        if (f->tdisp == TDI_TDISP_ERROR)
                reached = TDI_TDISP_INVALID;
        if (f->bound && reached != TDI_TDISP_INVALID)
                set(f, reached);
        else
                filter(f);
        pthread_mutex_unlock(&f->lock);
}

void tdisp_device_error(struct function *f) {
        pthread_mutex_lock(&f->lock);
        if (f->bound)
                set(f, TDI_TDISP_ERROR);
        pthread_mutex_unlock(&f->lock);
}

/* ---- the interface report ---- */

void tdisp_take_report(struct function *f, const void *data, size_t size) {
        void *copy = malloc(size ?: 1);

        if (!copy)
                return;
        memcpy(copy, data, size);
        pthread_mutex_lock(&f->lock);
        free(f->report);
        f->report = f->bound ? copy : NULL;
        f->report_size = f->bound ? size : 0;
        if (f->bound)
                copy = NULL;
        pthread_mutex_unlock(&f->lock);
        free(copy);
        vpci_event(f->vpci, f->bdf, "report", NULL);
}

char *tdisp_report_hex(struct function *f) {
        static const char digits[] = "0123456789abcdef";
        char *text = NULL;

        pthread_mutex_lock(&f->lock);
        if (f->report)
                text = malloc(2 * f->report_size + 1);
        for (size_t i = 0; text && i < f->report_size; i++) {
                text[2 * i] = digits[f->report[i] >> 4];
                text[2 * i + 1] = digits[f->report[i] & 15];
        }
        if (text)
                text[2 * f->report_size] = '\0';
        pthread_mutex_unlock(&f->lock);
        return text;
}

static bool take_range(struct json_object *o, struct tee_range *ret) {
        uint64_t v[3];

        if (!json_object_is_type(o, json_type_array) || json_object_array_length(o) != ARRAY_SIZE(v))
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
                struct json_object *n = json_object_array_get_idx(o, i);

                if (!json_object_is_type(n, json_type_int))
                        return false;
                v[i] = json_object_get_uint64(n);
        }
        if (v[0] >= DMA_BARS || v[2] == 0 || v[1] > UINT64_MAX - v[2])
                return false;
        *ret = (struct tee_range){ (uint32_t) v[0], v[1], v[2] };
        return true;
}

/* With the function's lock. Without room for more all of that BAR is meant. */
static void add_tee(struct function *f, const struct tee_range *tee) {
        struct tee_range one = *tee;

        if (f->n_tee >= TDISP_TEE_MAX - DMA_BARS)
                one = (struct tee_range){ .bar = tee->bar, .size = UINT64_MAX };
        for (size_t i = 0; i < f->n_tee; i++)
                if (f->tee[i].bar == one.bar && f->tee[i].at == one.at && f->tee[i].size == one.size)
                        return;
        f->tee[f->n_tee++] = one;
}

int tdisp_set_tee(struct function *f, struct json_object *ranges) {
        struct tee_range tee[TDISP_TEE_MAX];
        size_t n = json_object_array_length(ranges);
        int r = 0;

        if (n > TDISP_TEE_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n; i++)
                if (!take_range(json_object_array_get_idx(ranges, i), &tee[i]))
                        return -EINVAL;
        pthread_mutex_lock(&f->lock);
        /* Of an interface that is unlocked meanwhile it says nothing. */
        if (!f->report)
                r = -ENOENT;
        /* What is locked does not change: a later report, whatever its sender takes for one, only adds. */
        for (size_t i = 0; f->report && i < n; i++)
                add_tee(f, &tee[i]);
        filter(f);
        pthread_mutex_unlock(&f->lock);
        return r;
}

bool tdisp_may_reach(struct function *f, uint32_t bar, uint64_t offset, uint64_t size) {
        bool may = true;

        if (!atomic_load(&f->guards_tee))
                return true;
        pthread_mutex_lock(&f->lock);
        for (size_t i = 0; i < f->n_tee && may; i++) {
                const struct tee_range *t = &f->tee[i];

                may = t->bar != bar || offset >= t->at + t->size || size <= (t->at > offset ? t->at - offset : 0);
        }
        pthread_mutex_unlock(&f->lock);
        return may;
}
