/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of the PCI address parser: what it takes comes back the same in every form. */
#include <tdi/bdf.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct tdi_bdf bdf = { 1, 2, 3 }, back;
        char text[TDI_BDF_MAX], form[32];
        char *copy = malloc(size + 1);
        size_t n;
        int r;

        if (!copy)
                return 0;
        memcpy(copy, data, size);
        copy[size] = '\0';
        n = strlen(copy);
        r = tdi_bdf_parse(copy, &bdf);
        free(copy);
        must(r == 0 || r == -EINVAL);
        if (r < 0) {
                must(bdf.domain == 1 && bdf.bus == 2 && bdf.devfn == 3);
                return 0;
        }
        must(n == 7 || n == 12 || n == 16);
        must(tdi_bdf_parse(tdi_bdf_format(bdf, text), &back) == 0 && tdi_bdf_number(back) == tdi_bdf_number(bdf));
        snprintf(form, sizeof(form), "pci_%s", tdi_bdf_to_label(bdf, text));
        must(tdi_bdf_parse(form, &back) == 0 && tdi_bdf_number(back) == tdi_bdf_number(bdf));
        return 0;
}
