/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A worker's side of the guard: the set of programs and maps that is pinned while any function is guarded, and what is in it. A set
 * outlives every process of tdid; each call opens it anew, so a worker that rests has nothing of it open.
 *
 * Whatever changes a set holds the lock: so of two workers one loads and the other finds, and the last function's release does not
 * take away what the next one's has just found. Nothing that may block is done under it.
 *
 * All calls return a negative errno on failure and then have written why.
 */
#ifndef TDID_GUARD_SET_H
#define TDID_GUARD_SET_H

#include <stdbool.h>
#include <stddef.h>

#include "guard/layout.h"
#include "util/util.h"

#define GUARD_WHY_MAX 400
#define GUARD_KEYS_MAX 48

/* Writes why. Returns @r. */
int guard_fail(char why[static GUARD_WHY_MAX], int r, const char *format, ...) _printf_(3, 4);

/* Descriptors are the set's; guard_set_close(). */
struct guard_set {
        char name[17]; /* of its folder */
        int objects, functions, excused;
        int mappings, writers, learn; /* iterators' programs */
};

/* What can be told about a function from outside the kernel. */
struct guard_ids {
        struct {
                struct guard_key key;
                struct guard_object object;
        } of[GUARD_KEYS_MAX];
        size_t n;
        __u32 group; /* rdev, 0: no node */
};

/* What the iterators find. */
typedef void (*guard_found_func)(const struct guard_found *found, void *userdata);

/* An open file whose close lets go of the lock. @state: tdid's, of which there is one a machine. */
int guard_lock(const char *state, char why[static GUARD_WHY_MAX]);

/*
 * Has the kernel all that is needed? Ends with loading the programs, without attaching them, where no set of this build is pinned; in one boot once
 * for each @state.
 */
int guard_set_try(const char *state, const char *boot, char why[static GUARD_WHY_MAX]);
/* The pinned set of this build; -ENOENT without one. */
int guard_set_open(struct guard_set *ret, char why[static GUARD_WHY_MAX]);
/* The same, which is loaded, attached and pinned where there is none. With the lock. */
int guard_set_need(struct guard_set *ret, char why[static GUARD_WHY_MAX]);
void guard_set_close(struct guard_set *s);
#define _cleanup_guard_set_ _cleanup_(guard_set_close)
#define GUARD_SET_NONE ((struct guard_set){ .objects = -EBADF, .functions = -EBADF, .excused = -EBADF, .mappings = -EBADF, .writers = -EBADF, .learn = -EBADF })
/* Takes away every set but the one of that name, NULL: all of them, and then the folder. With the lock. */
int guard_sets_drop(const char *but, char why[static GUARD_WHY_MAX]);
/* Is there any set of another build? */
bool guard_sets_others(void);
/* This thread may, or may not any more, open for writing what is guarded. No error without a set. */
void guard_excuse(bool yes);

/* Reads sysfs and procfs, and so without the lock. @bdf: as sysfs writes it. */
int guard_identify(const char *bdf, __u32 function, struct guard_ids *ret, char why[static GUARD_WHY_MAX]);
/* Idempotent. With the lock. */
int guard_add(struct guard_set *s, __u32 function, const struct guard_ids *ids, char why[static GUARD_WHY_MAX]);
int guard_remove(struct guard_set *s, __u32 function, char why[static GUARD_WHY_MAX]);
bool guard_has(struct guard_set *s, __u32 function);
/* Of the function is known what shares its pages. */
bool guard_knows_mapping(struct guard_set *s, __u32 function);

/* Files that thread @tid has open, 0: that anybody has, teach the guard what shares the pages of guarded VFIO devices. */
int guard_learn(struct guard_set *s, int tid, char why[static GUARD_WHY_MAX]);
/* Every mapping, in whatever pid namespace, of what is guarded; every descriptor open for writing that could not be opened now. */
int guard_find_mappings(struct guard_set *s, guard_found_func each, void *userdata, char why[static GUARD_WHY_MAX]);
int guard_find_writers(struct guard_set *s, guard_found_func each, void *userdata, char why[static GUARD_WHY_MAX]);

#endif
