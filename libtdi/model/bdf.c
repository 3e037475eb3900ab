/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI function addresses: parse and format. Strict: what is not wholly an address is refused. */
#include <tdi/bdf.h>

#include <stdio.h>

#include "util/util.h"

static int hex_digits(const char **s, unsigned n, unsigned *ret) {
        unsigned v = 0;

        for (unsigned i = 0; i < n; i++) {
                char c = (*s)[i];
                unsigned d;

                if (c >= '0' && c <= '9')
                        d = (unsigned) (c - '0');
                else if (c >= 'a' && c <= 'f')
                        d = (unsigned) (c - 'a') + 10;
                else if (c >= 'A' && c <= 'F')
                        d = (unsigned) (c - 'A') + 10;
                else
                        return -EINVAL;
                v = v * 16 + d;
        }
        *s += n;
        *ret = v;
        return 0;
}

static int expect(const char **s, char c) {
        if (**s != c)
                return -EINVAL;
        (*s)++;
        return 0;
}

int tdi_bdf_parse(const char *text, struct tdi_bdf *ret) {
        unsigned domain = 0, bus, dev, fn;
        char sep = ':', dot = '.';
        const char *s = text;

        if (!text)
                return -EINVAL;
        if (startswith(s, "pci_")) {
                s += 4;
                sep = dot = '_';
        }
        /* The domain may be left out only in the form of lspci: "01:00.0" has its first colon at 2. */
        if (sep == '_' || (strlen(s) > 2 && s[2] != ':'))
                if (hex_digits(&s, 4, &domain) < 0 || expect(&s, sep) < 0)
                        return -EINVAL;
        if (hex_digits(&s, 2, &bus) < 0 || expect(&s, sep) < 0 || hex_digits(&s, 2, &dev) < 0 ||
            expect(&s, dot) < 0 || hex_digits(&s, 1, &fn) < 0 || *s || dev > 31 || fn > 7)
                return -EINVAL;

        *ret = (struct tdi_bdf){
                .domain = (uint16_t) domain,
                .bus = (uint8_t) bus,
                .devfn = (uint8_t) (dev << 3 | fn),
        };
        return 0;
}

char *tdi_bdf_format(struct tdi_bdf bdf, char *buf) {
        snprintf(buf, TDI_BDF_MAX, "%04x:%02x:%02x.%x", bdf.domain, bdf.bus, bdf.devfn >> 3, bdf.devfn & 7u);
        return buf;
}

char *tdi_bdf_to_label(struct tdi_bdf bdf, char *buf) {
        snprintf(buf, TDI_BDF_MAX, "%04x_%02x_%02x_%x", bdf.domain, bdf.bus, bdf.devfn >> 3, bdf.devfn & 7u);
        return buf;
}

uint32_t tdi_bdf_number(struct tdi_bdf bdf) {
        return (uint32_t) bdf.domain << 16 | (uint32_t) bdf.bus << 8 | bdf.devfn;
}
