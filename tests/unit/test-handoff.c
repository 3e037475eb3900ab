/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handed-off functions: what is written down and read again, when a text blames a copy, and who of a group waits for whom. */
#include <sys/stat.h>

#include "custody-engine.h"
#include "custody-rules.h"
#include "handoff.h"
#include "journal.h"
#include "test.h"
#include "vm.h"

#define BOOT "0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d11"

static Manager *new_manager(const char *dir) {
        char path[96];
        Manager *m;

        require(manager_new(&m) == 0);
        require(free_and_strdup(&m->state_dir, dir) == 0);
        snprintf(m->boot_id, sizeof(m->boot_id), "%s", BOOT);
        snprintf(path, sizeof(path), "%s/journal", dir);
        (void) mkdir(path, 0700);
        return m;
}

static Custody *new_custody(Manager *m, uint8_t bus, int32_t group) {
        Custody *c = custody_new(m, (struct tdi_bdf){ 0, bus, 0 }, group);

        c->done = BIT(ACTION_MAX) - 1;
        json_set_str(c->values, "cdev", "vfio7");
        return c;
}

static void test_journal(void) {
        uint64_t before = now_realtime();
        struct json_object *none = NULL, *first = NULL;
        Manager *m, *next;
        Custody *c, *again;
        char dir[64];

        test_about("%s", "journal");
        test_make_dir(dir);
        m = new_manager(dir);
        c = new_custody(m, 1, 7);
        check(!custody_is_handed_off(c) && !custody_handoff(c));
        check_int(custody_note_handoff(c, 1000, &none), 0);
        check(!none);
        check_int(custody_note_handoff(c, UINT32_MAX - 1, &first), 0);
        check_int(json_u64_or(first, "uid", 0), 1000);
        check(custody_is_handed_off(c));
        check_int(json_u64_or(custody_handoff(c), "count", 0), 2);
        check(json_u64_or(custody_handoff(c), "uid", 0) == UINT32_MAX - 1);
        check(json_u64_or(custody_handoff(c), "time", 0) >= before);

        /* The next tdid knows it from the file alone. */
        next = new_manager(dir);
        check_int(journal_load(next), 0);
        again = custody_find(next, c->bdf);
        require(again);
        check(json_object_equal(custody_handoff(again), custody_handoff(c)));
        manager_free(next);

        /* Taken back, one by one. */
        custody_take_back_handoff(c, first);
        check_int(json_u64_or(custody_handoff(c), "uid", 0), 1000);
        custody_take_back_handoff(c, none);
        check(!custody_is_handed_off(c));
        next = new_manager(dir);
        check_int(journal_load(next), 0);
        again = custody_find(next, c->bdf);
        require(again);
        check(!custody_is_handed_off(again));
        manager_free(next);
        manager_free(m);
        test_remove_dir(dir);
}

/* What could not be written has not happened: nothing goes out. */
static void test_no_journal(void) {
        struct json_object *before = NULL;
        Manager *m;
        Custody *c;
        char dir[64];

        test_about("%s", "no journal");
        test_make_dir(dir);
        m = new_manager(dir);
        c = new_custody(m, 1, 7);
        test_remove_dir(dir);
        check_int(custody_note_handoff(c, 0, &before), -ENOENT);
        check(!custody_is_handed_off(c));
        json_set_take(c->values, "handoff", json_new());
        json_set_u64(custody_handoff(c), "count", 4);
        check_int(custody_note_handoff(c, 0, &before), -ENOENT);
        check_int(json_u64_or(custody_handoff(c), "count", 0), 4);
        manager_free(m);
}

static void hand_off(Custody *c) {
        json_set_take(c->values, "handoff", json_new());
        json_set_u64(custody_handoff(c), "uid", 1000);
        json_set_u64(custody_handoff(c), "time", UINT64_C(1763000000000000));
}

/* Its unbinding sleeps in the kernel. */
static void leave(Custody *c) {
        c->goal = GOAL_DOWN;
        c->done = BIT(ACTION_CLAIM_REBIND) - 1;
        c->begun = BIT(ACTION_CLAIM_REBIND);
        c->busy = true;
}

static void test_text(void) {
        char dir[64], text[400] = "";
        Manager *m;
        Custody *c;

        test_about("%s", "text");
        test_make_dir(dir);
        m = new_manager(dir);
        c = new_custody(m, 1, 7);
        leave(c);
        c->stuck = true;
        check(!custody_waits_for_handoff(c, text, sizeof(text)));
        hand_off(c);
        check(custody_waits_for_handoff(c, text, sizeof(text)));
        check(strstr(text, "0000:01:00.0 is still open") && strstr(text, "uid 1000 at 2025-11-13 02:13:20 UTC") && strstr(text, "/dev/vfio/devices/vfio7"));
        /* Not yet late. */
        c->stuck = false;
        check(!custody_waits_for_handoff(c, text, sizeof(text)));
        /* An earlier tdid's worker is at it. */
        c->busy = false;
        c->locked_since = 1;
        check(!custody_waits_for_handoff(c, text, sizeof(text)));
        c->locked_out = true;
        check(custody_waits_for_handoff(c, text, sizeof(text)));
        c->locked_since = 0;
        c->locked_out = false;
        /* What hangs elsewhere is not a copy's fault. */
        c->stuck = c->busy = true;
        c->begun = BIT(ACTION_PREPARE_ATTACH);
        check(!custody_waits_for_handoff(c, text, sizeof(text)));
        c->begun = BIT(ACTION_CLAIM_REBIND);
        c->goal = GOAL_UP;
        check(!custody_waits_for_handoff(c, text, sizeof(text)));
        c->busy = false;
        manager_free(m);
        test_remove_dir(dir);
}

static void test_group(void) {
        Custody *a, *b, *other;
        Manager *m;
        char dir[64];

        test_about("%s", "group");
        test_make_dir(dir);
        m = new_manager(dir);
        a = new_custody(m, 1, 7);
        b = new_custody(m, 2, 7);
        other = new_custody(m, 3, 8);
        hand_off(b);
        hand_off(other);
        leave(b);
        leave(other);
        a->goal = GOAL_DOWN;
        a->done = BIT(ACTION_CLAIM_REBIND + 1) - 1;
        /* One that nobody else has waits until the copies of the other are closed, and gives up with it. */
        check(!custody_may_undo(a, ACTION_CLAIM_REBIND));
        check(!custody_waits_in_vain(a, ACTION_CLAIM_REBIND));
        b->stuck = true;
        check(custody_waits_in_vain(a, ACTION_CLAIM_REBIND));
        b->stuck = b->busy = false;
        b->begun = b->done = BIT(ACTION_CLAIM_REBIND) - 1;
        check(custody_may_undo(a, ACTION_CLAIM_REBIND));
        /* Two that were handed off do not wait for each other, until the kernel has refused one its driver. */
        hand_off(a);
        leave(b);
        check(custody_may_undo(a, ACTION_CLAIM_REBIND));
        check(custody_group_waits_for_handoff(a));
        a->group_kept = true;
        check(!custody_may_undo(a, ACTION_CLAIM_REBIND));
        b->busy = false;
        check(!custody_group_waits_for_handoff(a));
        check(custody_may_undo(a, ACTION_CLAIM_REBIND));
        other->busy = false;
        manager_free(m);
        test_remove_dir(dir);
}

int main(void) {
        test_journal();
        test_no_journal();
        test_text();
        test_group();
        return test_end();
}
