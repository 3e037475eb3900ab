/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which action of polkit a caller needs: every action, for who owns the VM and for who does not. */
#include "bus/polkit.h"

#include "test.h"

static void test_names(void) {
        for (int i = 0; i < _POLKIT_ACTION_MAX; i++) {
                const char *name = polkit_action_to_string(i);

                check(name && startswith(name, BUS_NAME "."));
                for (int k = 0; k < i; k++)
                        check(!streq(name, polkit_action_to_string(k)));
        }
        check(!polkit_action_to_string(_POLKIT_ACTION_MAX));
        check(!polkit_action_to_string(_POLKIT_ACTION_INVALID));
}

/* What an owner needs where somebody else needs the first, and what it has of that when polkit is silent. */
static const struct {
        enum polkit_action other, owner;
        bool other_has, owner_has;
} rows[] = {
        { POLKIT_INSPECT, _POLKIT_ACTION_INVALID, false, true },
        { POLKIT_MANAGE_OWN_VM, POLKIT_MANAGE_OWN_VM, true, true },
        { POLKIT_MANAGE_ANY_VM, POLKIT_MANAGE_OWN_VM, false, true },
        { POLKIT_CREATE_VM, POLKIT_CREATE_VM, false, false },
        { POLKIT_CREATE_ANY_VM, POLKIT_CREATE_ANY_VM, false, false },
        { POLKIT_CONNECT, POLKIT_CONNECT, false, false },
        { POLKIT_RESTORE, POLKIT_RESTORE, false, false },
        { POLKIT_RELOAD, POLKIT_RELOAD, false, false },
        { POLKIT_EVIDENCE, POLKIT_EVIDENCE, false, false },
        { POLKIT_FORCE, POLKIT_FORCE, false, false },
};

static bool has(enum polkit_action needed) {
        return needed == _POLKIT_ACTION_INVALID || polkit_action_is_given(needed);
}

static void test_owner(void) {
        check_int(ARRAY_SIZE(rows), _POLKIT_ACTION_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                test_about("%zu", i);
                check_int(rows[i].other, i);
                check_int(polkit_action_of_caller(rows[i].other, false), rows[i].other);
                check_int(polkit_action_of_caller(rows[i].other, true), rows[i].owner);
                check_int(has(polkit_action_of_caller(rows[i].other, false)), rows[i].other_has);
                check_int(has(polkit_action_of_caller(rows[i].other, true)), rows[i].owner_has);
        }
}

int main(void) {
        test_names();
        test_owner();
        return test_end();
}
