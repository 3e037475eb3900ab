/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The custody table: what the engine, the journal and the kill points rely on. test_custody_table.py compares it with the worker. */
#include "config.h"
#include "custody-table.h"
#include "plan.h"
#include "test.h"

static void test_rows(void) {
        for (int a = 0; a < ACTION_MAX; a++) {
                const struct custody_row *row = custody_table + a;
                const char *dot, *step;

                test_about("row %d", a);
                if (!check(row->name))
                        continue;
                test_about("%s", row->name);
                step = tdi_custody_to_string(row->step);
                dot = strchr(row->name, '.');
                /* "step.action", in the letters that a kill point and a file name may have */
                check(dot && dot[1] && step && strlen(step) == (size_t) (dot - row->name) && startswith(row->name, step));
                check(strspn(row->name, "abcdefghijklmnopqrstuvwxyz.") == strlen(row->name));
                check(row->step > TDI_CUSTODY_NONE && row->step < TDI_CUSTODY_MAX);
                if (a > 0)
                        check(row->step >= row[-1].step);
                for (int b = 0; b < a; b++)
                        check(!streq(row->name, custody_table[b].name));
                check_int(custody_action_from_name(row->name), a);
                check(!isempty(plan_words(a, false)) && !isempty(plan_words(a, true)));
                check(row->do_ == RUNS_WORKER || row->do_ == RUNS_LOCAL || row->do_ == RUNS_HOLDER);
                check(row->undo == RUNS_WORKER || row->undo == RUNS_LOCAL || row->undo == RUNS_HOLDER);
                /* What every function has comes first, and all of it. */
                check(!!(CUSTODY_PREPARED & 1u << a) == (row->step < TDI_CUSTODY_BIND));
                /* Two at most, and only a worker gets them */
                check(row->fds <= 3 && row->fds_undo <= 2);
                check(row->do_ == RUNS_WORKER || row->fds == 0);
                check(row->undo == RUNS_WORKER || row->fds_undo == 0);
                /* What runs in one command gets no descriptors, opens none, and knows only what is in the journal. */
                if (row->joins && check(a > 0)) {
                        check(row->step == row[-1].step && row->do_ == RUNS_WORKER && row[-1].do_ == RUNS_WORKER);
                        check(row->fds + row->fds_undo + row[-1].fds + row[-1].fds_undo == 0);
                        check(row->deadline == row[-1].deadline && row->deadline_undo == row[-1].deadline_undo);
                }
        }
}

static void test_deadlines(void) {
        static const size_t deadlines[] = {
                offsetof(struct config, claim), offsetof(struct config, open), offsetof(struct config, connect),
                offsetof(struct config, prepare), offsetof(struct config, bind), offsetof(struct config, close),
        };
        bool used[ARRAY_SIZE(deadlines)] = {};

        for (int a = 0; a < ACTION_MAX; a++) {
                bool up = false, down = false;

                test_about("%s", custody_table[a].name);
                for (size_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
                        up |= custody_table[a].deadline == deadlines[i];
                        down |= custody_table[a].deadline_undo == deadlines[i];
                        used[i] |= custody_table[a].deadline == deadlines[i] || custody_table[a].deadline_undo == deadlines[i];
                }
                check(up && down);
        }
        for (size_t i = 0; i < ARRAY_SIZE(deadlines); i++) {
                test_about("deadline %zu", i);
                check(used[i]);
        }
}

static void test_order(void) {
        test_about("%s", "order");
        /* What was there before is noted before the first change, and the function is found free before that. */
        check(ACTION_CLAIM_CHECK < ACTION_CLAIM_NOTE && ACTION_CLAIM_NOTE < ACTION_CLAIM_PM);
        /* And is in the journal by then. */
        check(!custody_table[ACTION_CLAIM_PM].joins);
        /* BIND resets the function: a connected TSM would lose it. */
        check(ACTION_OPEN_BIND < ACTION_CONNECT_TSM);
        check(ACTION_CONNECT_NOTE < ACTION_CONNECT_TSM);
        /* Guest memory goes first on the way down. */
        check_int(ACTION_PREPARE_ATTACH, ACTION_BIND_CONNECT - 3);
        /* But who could reach the device before that. */
        check_int(ACTION_PREPARE_SOCKET, ACTION_BIND_CONNECT - 1);
        /* And before all of it the TDI is unbound; until then its client is held back from what would end it. */
        check(ACTION_BIND_LOCK < ACTION_BIND_TSM);
        check_int(ACTION_BIND_TSM, ACTION_MAX - 2);
        /* An unbind would wait for a request that is under way. */
        check_int(ACTION_BIND_REQUESTS, ACTION_MAX - 1);
        check(!custody_table[ACTION_PREPARE_SOCKET].joins);
        /* The journal and the engine keep them as bits of 32. */
        check(ACTION_MAX < 32);
}

static void test_strangers(void) {
        test_about("%s", "strangers");
        check_int(custody_action_from_name(NULL), ACTION_NONE);
        check_int(custody_action_from_name(""), ACTION_NONE);
        check_int(custody_action_from_name("claim"), ACTION_NONE);
        check_int(custody_action_from_name("claim.check "), ACTION_NONE);
        check_int(custody_action_from_name("Claim.check"), ACTION_NONE);
}

int main(void) {
        test_rows();
        test_deadlines();
        test_order();
        test_strangers();
        return test_end();
}
