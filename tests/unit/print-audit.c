/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of audit events, one a line, for the test that compares it with the manual: name, ID, priority, fields, and those that may be. */
#include <stdio.h>

#include "audit.h"

static void print_fields(uint64_t set) {
        for (int f = 0; f < AUDIT_FIELD_MAX; f++)
                if (set & UINT64_C(1) << f)
                        printf(" %s", audit_field_name(f));
}

int main(void) {
        for (int e = 0; e < AUDIT_EVENT_MAX; e++) {
                printf("%s %s %d", audit_table[e].name, audit_table[e].id, audit_table[e].priority);
                print_fields(audit_table[e].fields);
                printf(" |");
                print_fields(audit_table[e].optional);
                putchar('\n');
        }
        printf("fields");
        print_fields((UINT64_C(1) << AUDIT_FIELD_MAX) - 1);
        putchar('\n');
        return 0;
}
