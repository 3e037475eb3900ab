/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The error table: complete, names and errnos unique, and exit codes as docs/dbus-api.md has them.
 *
 * usage: test-error DBUS-API.MD
 */
#include <limits.h>
#include <tdi/error.h>

#include "test.h"

static void test_table(void) {
        check_int(TDI_ERROR_NONE, 0);
        check_int(TDI_ERROR_INVALID, -EINVAL);
        check_str(tdi_error_to_name(TDI_ERROR_NONE), "");
        check_int(tdi_error_to_errno(TDI_ERROR_NONE), 0);
        check_int(tdi_error_to_exit(TDI_ERROR_NONE), 0);
        for (int i = TDI_ERROR_NONE + 1; i < TDI_ERROR_MAX; i++) {
                const char *name = tdi_error_to_name(i);
                char full[64];

                test_about("error %d", i);
                if (!check(name && name[0] >= 'A' && name[0] <= 'Z'))
                        continue;
                test_about("%s", name);
                check(strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") == strlen(name));
                check(tdi_error_to_errno(i) > 0 && tdi_error_to_errno(i) < 4096);
                check(tdi_error_to_exit(i) >= 2 && tdi_error_to_exit(i) <= 11);
                check_int(tdi_error_from_name(name), i);
                snprintf(full, sizeof(full), TDI_ERROR_PREFIX "%s", name);
                check_int(tdi_error_from_name(full), i);
                for (int k = TDI_ERROR_NONE + 1; k < i; k++) {
                        check(!streq(tdi_error_to_name(k), name));
                        check(tdi_error_to_errno(k) != tdi_error_to_errno(i));
                }
        }
        test_about("%s", "");
}

static void test_strangers(void) {
        static const char *const names[] = {
                NULL, "", "None", "notfound", "NotFound ", "NotFoundX", "org.tdid1.Error.", "org.tdid1.Error", "org.tdid1.Error.None",
                "org.tdid1.NotFound", "org.freedesktop.DBus.Error.NoReply", "org.tdid1.Error.org.tdid1.Error.NotFound",
        };
        static const int values[] = { TDI_ERROR_INVALID, -1, TDI_ERROR_MAX, TDI_ERROR_MAX + 1, INT_MAX, INT_MIN };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                test_about("%s", names[i] ? names[i] : "(null)");
                check_int(tdi_error_from_name(names[i]), TDI_ERROR_INVALID);
        }
        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                test_about("%d", values[i]);
                check_str(tdi_error_to_name(values[i]), NULL);
                check_int(tdi_error_to_errno(values[i]), EINVAL);
                check_int(tdi_error_to_exit(values[i]), 1);
        }
        test_about("%s", "");
}

/* Lines such as "| NotFound | no such VM, function, TSM, job | 3 |" */
static void test_document(const char *path) {
        unsigned seen[TDI_ERROR_MAX] = {};
        FILE *f = fopen(path, "re");
        bool errors = false;
        char line[1024];

        require(f);
        while (fgets(line, sizeof(line), f)) {
                char name[64], rest[1024], *code;
                int error;

                if (startswith(line, "## "))
                        errors = streq(line, "## Errors\n");
                if (!errors || sscanf(line, "| %63[A-Za-z] | %1023[^\n]", name, rest) != 2 || streq(name, "name"))
                        continue;
                test_about("%s in %s", name, path);
                code = strstr(rest, "| ");
                if (!check(code))
                        continue;
                error = tdi_error_from_name(name);
                if (!check(error > TDI_ERROR_NONE))
                        continue;
                check_int(atoi(code + 2), tdi_error_to_exit(error)); /* NOLINT(cert-err34-c) */
                seen[error]++;
        }
        (void) fclose(f);
        for (int i = TDI_ERROR_NONE + 1; i < TDI_ERROR_MAX; i++) {
                test_about("%s in %s", tdi_error_to_name(i), path);
                check_int(seen[i], 1);
        }
}

int main(int argc, char *argv[]) {
        require(argc == 2);
        test_table();
        test_strangers();
        test_document(argv[1]);
        return test_end();
}
