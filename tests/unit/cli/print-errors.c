/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Prints libtdi's error table, for the test that compares it with the documents. */
#include <stdio.h>

#include <tdi/error.h>

int main(void) {
        for (int i = TDI_ERROR_NONE + 1; i < TDI_ERROR_MAX; i++)
                printf("%s %d\n", tdi_error_to_name((enum tdi_error) i), tdi_error_to_exit((enum tdi_error) i));
        return 0;
}
