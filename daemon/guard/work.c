/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guard step: what of the function the host could map, reset or move is put into the guard's maps; then mappings are looked for that
 * exist already, as no program hears of those. In that order: what is mapped in between is refused, and what was mapped before is found.
 * Between the two is only who has been let through and has not mapped yet, so the open step looks once more.
 */
#include <stdio.h>
#include <tdi/bdf.h>
#include <unistd.h>

#include "guard/names.h"
#include "guard/set.h"
#include "worker/work.h"

#define WRITERS_MAX 8

static __u32 number(const char *bdf) {
        struct tdi_bdf b;

        return tdi_bdf_parse(bdf, &b) < 0 ? GUARD_NO_FUNCTION : tdi_bdf_number(b);
}

static int fail(struct work *w, int r, const char *why) {
        snprintf(w->text, sizeof(w->text), "%s: the mmap guard: %s", w->bdf, why);
        return r;
}

/* ---- who is there already ---- */

struct search {
        __u32 function;
        size_t n;
        struct guard_found first;
        struct json_object *list; /* or NULL */
};

/* A process may call itself anything. */
static void clean(char comm[static 16]) {
        comm[15] = '\0';
        for (char *c = comm; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

static void on_found(const struct guard_found *found, void *userdata) {
        struct search *s = userdata;
        char text[128];

        if (found->function != s->function)
                return;
        if (s->n++ == 0) {
                s->first = *found;
                clean(s->first.comm);
        }
        if (s->list && s->n <= WRITERS_MAX) {
                struct guard_found one = *found;

                clean(one.comm);
                snprintf(text, sizeof(text), "process %u (%s) has %s open for writing", one.pid, one.comm, guard_kind_describe(one.kind));
                json_push_str(s->list, text);
        }
}

static int look_for_mappings(struct work *w, struct guard_set *set) {
        struct search s = { .function = number(w->bdf) };
        char why[GUARD_WHY_MAX];
        int r;

        r = guard_find_mappings(set, on_found, &s, why);
        if (r < 0)
                return fail(w, r, why);
        if (s.n == 0)
                return 0;
        snprintf(w->text, sizeof(w->text), "%s: process %u (%s) has %s mapped, and keeps that whatever is refused from now on; end it, or have it unmap that, "
                 "and try again", w->bdf, s.first.pid, s.first.comm, guard_kind_describe(s.first.kind));
        return -EUSERS;
}

/* Who may write config space, or reset the function, by what it has open: nobody can take that away, so it is told. */
static int look_for_writers(struct work *w, struct guard_set *set) {
        struct search s = { .function = number(w->bdf), .list = json_new_array() };
        char why[GUARD_WHY_MAX];
        int r;

        json_set_take(w->values, "guard_writers", s.list);
        r = guard_find_writers(set, on_found, &s, why);
        return r < 0 ? fail(w, r, why) : 0;
}

/* ---- the step ---- */

static int put_in(struct work *w, const struct guard_ids *ids, struct guard_set *ret, char why[static GUARD_WHY_MAX]) {
        _cleanup_close_ int lock = guard_lock(json_str_or(w->args, "state", ""), why);
        int r;

        if (lock < 0)
                return lock;
        r = guard_set_need(ret, why);
        return r < 0 ? r : guard_add(ret, number(w->bdf), ids, why);
}

/* values: "guard_set": the name of the set that it is in; "guard_writers": [text, …]. */
int guard_on_do(struct work *w) {
        _cleanup_guard_set_ struct guard_set set = GUARD_SET_NONE;
        char why[GUARD_WHY_MAX] = "";
        struct guard_ids ids;
        int r;

        r = guard_identify(w->bdf, number(w->bdf), &ids, why);
        if (r >= 0)
                r = put_in(w, &ids, &set, why);
        if (r < 0)
                return fail(w, r, why);
        json_set_str(w->values, "guard_set", set.name);
        r = look_for_mappings(w, &set);
        return r < 0 ? r : look_for_writers(w, &set);
}

int guard_on_undo(struct work *w) {
        _cleanup_guard_set_ struct guard_set set = GUARD_SET_NONE;
        char why[GUARD_WHY_MAX] = "";
        _cleanup_close_ int lock = guard_lock(json_str_or(w->args, "state", ""), why);
        int r;

        if (lock < 0)
                return fail(w, lock, why);
        r = guard_set_open(&set, why);
        if (r < 0)
                /* No set, or one of a build that is not ours to read: it goes with the last function. */
                return json_bool_or(w->args, "others_guarded", false) ? 0 : (r = guard_sets_drop(NULL, why)) < 0 ? fail(w, r, why) : 0;
        /* Programs that know of no function refuse nothing; when they go is tdid's to say. */
        r = guard_remove(&set, number(w->bdf), why);
        return r < 0 ? fail(w, r, why) : 0;
}

int guard_on_probe(struct work *w) {
        _cleanup_guard_set_ struct guard_set set = GUARD_SET_NONE;
        char why[GUARD_WHY_MAX];

        return guard_set_open(&set, why) >= 0 && guard_has(&set, number(w->bdf));
}

/* The device is open in this process, where the guard learns what it shares its pages with: its number alone says nothing of a legacy descriptor. */
int guard_take_device(struct work *w) {
        _cleanup_guard_set_ struct guard_set set = GUARD_SET_NONE;
        char why[GUARD_WHY_MAX] = "";
        int r;

        if (!json_bool_or(w->args, "guard", false))
                return 0;
        r = guard_set_open(&set, why);
        if (r >= 0)
                r = guard_learn(&set, gettid(), why);
        if (r >= 0 && !guard_knows_mapping(&set, number(w->bdf))) {
                r = -ENXIO;
                snprintf(why, sizeof(why), "the kernel's iterator does not show the device that this worker has just opened");
        }
        return r < 0 ? fail(w, r, why) : look_for_mappings(w, &set);
}

void guard_let_write(struct work *w, bool yes) {
        if (streq(w->host->ops->name, "linux"))
                guard_excuse(yes);
}

/* ---- when tdid starts ---- */

/* A function that is guarded, by its journal, is in this build's set too. What cannot be had of it any more the probe finds missing. */
static int take_over(struct work *w, struct guard_set *set, const char *bdf) {
        char why[GUARD_WHY_MAX];
        struct guard_ids ids;
        int r;

        if (guard_has(set, number(bdf)))
                return 0;
        r = guard_identify(bdf, number(bdf), &ids, why);
        if (r < 0)
                return r;
        r = guard_add(set, number(bdf), &ids, why);
        return r < 0 ? fail(w, r, why) : 1;
}

/*
 * args: "functions": [BDF, …] that are guarded. Fails, saying why, where there can be no guard. What another build has pinned is replaced:
 * the new programs refuse before the old ones are taken away.
 * values: "guard_set".
 */
int guard_look_do(struct work *w) {
        _cleanup_guard_set_ struct guard_set set = GUARD_SET_NONE;
        _cleanup_close_ int lock = -EBADF;
        char why[GUARD_WHY_MAX] = "";
        struct json_object *list;
        size_t n = 0;
        int r;

        r = guard_set_try(json_str_or(w->args, "state", ""), json_str_or(w->args, "boot", ""), why);
        if (r >= 0) {
                lock = guard_lock(json_str_or(w->args, "state", ""), why);
                r = lock < 0 ? lock : 0;
        }
        if (r < 0) {
                snprintf(w->text, sizeof(w->text), "%s", why);
                return r;
        }
        if (json_get_array(w->args, "functions", &list) >= 0)
                n = json_object_array_length(list);
        if (n == 0)
                return 0;
        r = guard_set_need(&set, why);
        for (size_t i = 0; i < n && r >= 0; i++)
                (void) take_over(w, &set, json_object_get_string(json_object_array_get_idx(list, i)));
        if (r >= 0)
                r = guard_learn(&set, 0, why);
        if (r >= 0 && guard_sets_others())
                r = guard_sets_drop(set.name, why);
        if (r < 0) {
                snprintf(w->text, sizeof(w->text), "%s", why);
                return r;
        }
        json_set_str(w->values, "guard_set", set.name);
        return 0;
}

/* Nothing is guarded: what is pinned all the same has no owner any more. */
int guard_sweep_do(struct work *w) {
        char why[GUARD_WHY_MAX] = "";
        _cleanup_close_ int lock = guard_lock(json_str_or(w->args, "state", ""), why);
        int r = lock < 0 ? lock : guard_sets_drop(NULL, why);

        if (r < 0)
                snprintf(w->text, sizeof(w->text), "%s", why);
        return r;
}
