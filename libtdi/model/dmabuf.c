/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Classes and importers of dma-bufs: tables, and what is read from them. */
#include <tdi/dmabuf.h>

#include <stdarg.h>
#include <stdio.h>

#include "model/names.h"

DEFINE_NAMES(tdi_dmabuf_class, enum tdi_dmabuf_class, TDI_DMABUF_CLASS_MAX, TDI_DMABUF_CLASS_INVALID,
             [TDI_DMABUF_PINNED] = "pinned", [TDI_DMABUF_REVOCABLE] = "revocable", [TDI_DMABUF_DYNAMIC] = "dynamic")

DEFINE_NAMES(tdi_importer, enum tdi_importer, TDI_IMPORTER_MAX, TDI_IMPORTER_INVALID,
             [TDI_IMPORTER_KVM] = "kvm", [TDI_IMPORTER_IOMMUFD] = "iommufd", [TDI_IMPORTER_RDMA] = "rdma",
             [TDI_IMPORTER_GPU] = "gpu", [TDI_IMPORTER_ANY] = "any")

#define PINNED TDI_DMABUF_SET(TDI_DMABUF_PINNED)
#define REVOCABLE TDI_DMABUF_SET(TDI_DMABUF_REVOCABLE)
#define DYNAMIC TDI_DMABUF_SET(TDI_DMABUF_DYNAMIC)
#define ALL (PINNED | REVOCABLE | DYNAMIC)

/* What each can take, and why not the rest. */
static const struct {
        unsigned classes;
        const char *why;
} importers[TDI_IMPORTER_MAX] = {
        [TDI_IMPORTER_KVM] = { ALL, "" },
        [TDI_IMPORTER_IOMMUFD] = { PINNED | REVOCABLE, "an I/O address space has no faults to map again by" },
        [TDI_IMPORTER_RDMA] = { PINNED | DYNAMIC, "a memory region is pinned or faults (on-demand paging); a revoke would leave it registered and broken" },
        [TDI_IMPORTER_GPU] = { PINNED | DYNAMIC, "its page tables are mapped again after a move, and know no memory that goes away for good" },
        [TDI_IMPORTER_ANY] = { 0, "that is all its user accepts" },
};

static const char *const promises[TDI_DMABUF_CLASS_MAX] = {
        [TDI_DMABUF_PINNED] = "it never changes while anybody is attached",
        [TDI_DMABUF_REVOCABLE] = "decoding switched off or a reset takes it away",
        [TDI_DMABUF_DYNAMIC] = "it moves",
};

unsigned tdi_importer_classes(enum tdi_importer importer) {
        return importer >= 0 && importer < TDI_IMPORTER_MAX ? importers[importer].classes : 0;
}

char *tdi_dmabuf_set_format(unsigned set, char *buf, size_t size) {
        unsigned left = set & ALL;
        size_t n = 0;

        snprintf(buf, size, "%s", left ? "" : "nothing");
        for (int i = 0; left && i < TDI_DMABUF_CLASS_MAX; i++) {
                int k;

                if (!(left & TDI_DMABUF_SET(i)))
                        continue;
                left &= ~TDI_DMABUF_SET(i);
                k = snprintf(buf + n, size - n, "%s%s", n == 0 ? "" : left ? ", " : " or ", tdi_dmabuf_class_names[i]);
                if (k < 0 || (size_t) k >= size - n)
                        break;
                n += (size_t) k;
        }
        return buf;
}

_printf_(3, 4) static int refuse(char *reason, int r, const char *format, ...) {
        va_list ap;

        if (!reason)
                return r;
        va_start(ap, format);
        vsnprintf(reason, TDI_DMABUF_REASON_MAX, format, ap);
        va_end(ap);
        return r;
}

int tdi_dmabuf_negotiate(unsigned offered, enum tdi_importer importer, unsigned accept, enum tdi_dmabuf_class *ret_class, char *reason) {
        char have[48], want[48];
        unsigned can, common;
        const char *why;
        int best;

        if (importer < 0 || importer >= TDI_IMPORTER_MAX)
                return refuse(reason, -EINVAL, "there is no such importer: kvm, iommufd, rdma, gpu or any");
        if (offered == 0 || offered & ~ALL || accept & ~ALL)
                return refuse(reason, -EINVAL, "a set of classes holds pinned, revocable and dynamic, and a source promises at least one");
        can = importers[importer].classes;
        if (importer == TDI_IMPORTER_ANY) {
                if (accept == 0)
                        return refuse(reason, -EINVAL, "importer any has to list the classes that it accepts");
                can = accept;
        } else if (accept & ~can)
                return refuse(reason, -EINVAL, "%s cannot take a buffer that is %s: %s", tdi_importer_names[importer],
                              tdi_dmabuf_set_format(accept & ~can, want, sizeof(want)), importers[importer].why);
        common = offered & can & (accept ? accept : ALL);
        if (common) {
                *ret_class = (enum tdi_dmabuf_class) __builtin_ctz(common);
                return 0;
        }
        best = __builtin_ctz(offered);
        why = accept ? importers[TDI_IMPORTER_ANY].why : importers[importer].why;
        return refuse(reason, -EPROTONOSUPPORT, "the source is %s (%s), and %s takes %s: %s", tdi_dmabuf_set_format(offered, have, sizeof(have)),
                      promises[best], importer == TDI_IMPORTER_ANY ? "the importer" : tdi_importer_names[importer],
                      tdi_dmabuf_set_format(accept ? accept : can, want, sizeof(want)), why);
}
