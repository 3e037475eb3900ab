/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of tdid.conf's keys, for the test that compares it with the manual page: section, key, kind, range, default, one key a line. */
#include "config.c" /* NOLINT(bugprone-suspicious-include): the table is nobody else's */

int main(void) {
        struct config c;

        config_default(&c);
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
                printf("%s %s %s %u %u %u\n", fields[i].section, fields[i].name, fields[i].is_switch ? "boolean" : "number", fields[i].min, fields[i].max,
                       *(const unsigned *) (const void *) ((const char *) &c + fields[i].offset));
        printf("memory %u %u\n", memory_mib(MIB_MAX), memory_mib(MIB_MAX / VMS_PER_USER));
        return 0;
}
