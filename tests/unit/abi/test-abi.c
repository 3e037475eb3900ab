/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compares our declarations of the kernel's ABI with the headers of a real kernel: sizes, offsets, signedness and numbers.
 *
 * All comparisons happen when this file is compiled. The program only prints what was compared, so that coverage.py can see that
 * nothing is missing: a table that shrank to nothing would compile just as well. It makes no call to the kernel. ABI_TABLE is
 * the file made by `coverage.py emit`. ABI_BROKEN=1…8 adds one wrong declaration each, which must not compile.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>
#include <linux/udmabuf.h>
#include <linux/version.h>
#include <linux/vfio.h>

/* After the real ones, so that a clash of names shows. */
#include "dmabuf.h"
#include "iommufd.h"
#include "kvm.h"
#include "types.h"
#include "udmabuf.h"
#include "vfio.h"

/* A struct that changed before the kernel we declare would be blamed on us. */
_Static_assert(LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0), "these kernel headers are too old: 7.3 or later is needed");

#define SAME(what, a, b) _Static_assert((a) == (b), "ABI differs: " what)
#define IS_SIGNED(type) (!((type)-1 > 0))
#define OURS(s, f) (((struct tdi_##s *)0)->f)
#define REAL(s, f) (((struct s *)0)->f)
#define SAME_PLACE(s, f) SAME("offset of " #s "." #f, offsetof(struct tdi_##s, f), offsetof(struct s, f))
#define SAME_SIZE(s, f) SAME("size of " #s "." #f, sizeof(OURS(s, f)), sizeof(REAL(s, f)))
#define SAME_SIGN(s, f, e) SAME("sign of " #s "." #f, IS_SIGNED(__typeof__(OURS(s, f) e)), IS_SIGNED(__typeof__(REAL(s, f) e)))

#define STRUCT(s)                                                               \
        SAME("size of " #s, sizeof(struct tdi_##s), sizeof(struct s));          \
        SAME("alignment of " #s, _Alignof(struct tdi_##s), _Alignof(struct s));
#define SCALAR(s, f)      \
        SAME_PLACE(s, f); \
        SAME_SIZE(s, f);  \
        SAME_SIGN(s, f, );
#define ALTERNATIVE(s, f) SCALAR(s, f)
#define NESTED(s, f)      \
        SAME_PLACE(s, f); \
        SAME_SIZE(s, f);
#define ARRAY_SCALAR(s, f)                                                                      \
        SAME_PLACE(s, f);                                                                       \
        SAME_SIZE(s, f);                                                                        \
        SAME("element of " #s "." #f, sizeof(OURS(s, f)[0]), sizeof(REAL(s, f)[0]));            \
        SAME_SIGN(s, f, [0]);
#define FLEXIBLE_SCALAR(s, f)                                                                   \
        SAME_PLACE(s, f);                                                                       \
        SAME("element of " #s "." #f, sizeof(OURS(s, f)[0]), sizeof(REAL(s, f)[0]));            \
        SAME_SIGN(s, f, [0]);
#define FLEXIBLE_NESTED(s, f)                                                                   \
        SAME_PLACE(s, f);                                                                       \
        SAME("element of " #s "." #f, sizeof(OURS(s, f)[0]), sizeof(REAL(s, f)[0]));
/* The kernel's structs have no hidden padding; a field that the reader of our headers lost would leave a hole. */
#define NO_HOLES(s, total) SAME("holes in " #s, sizeof(struct tdi_##s), (total));
/* Equal in value and in sign: -1 == 0xffffffff by itself. */
#define CONSTANT(c)                                             \
        SAME("value of " #c, TDI_##c, c);                       \
        SAME("sign of " #c, (TDI_##c) < 0, (c) < 0);
/* Spelt out: passing `c` on to CONSTANT would expand it first. */
#if defined(__x86_64__) || defined(__i386__)
#define X86_CONSTANT(c)                                         \
        SAME("value of " #c, TDI_##c, c);                       \
        SAME("sign of " #c, (TDI_##c) < 0, (c) < 0);
#else
#define X86_CONSTANT(c)
#endif

#pragma GCC diagnostic ignored "-Wtype-limits" /* (c) < 0 on unsigned constants */
#include ABI_TABLE

#ifdef ABI_BROKEN
struct broken { uint32_t a, b; uint64_t c; uint8_t d[8]; uint16_t e[]; };
struct tdi_broken {
#if ABI_BROKEN == 1
        uint64_t a, b;
#elif ABI_BROKEN == 2
        uint32_t b, a;
#elif ABI_BROKEN == 3
        uint32_t a;
        int32_t b;
#else
        uint32_t a, b;
#endif
        uint64_t c;
#if ABI_BROKEN == 4
        uint32_t d[2];
#else
        uint8_t d[8];
#endif
#if ABI_BROKEN == 5
        uint32_t e[];
#else
        uint16_t e[];
#endif
};
#define BROKEN 0xffffffffU
#define TDI_BROKEN (ABI_BROKEN == 6 ? 0xfffffffeU : BROKEN)
#define BROKEN_SIGN (-1)
#define TDI_BROKEN_SIGN (ABI_BROKEN == 7 ? 0xffffffffU : -1)
STRUCT(broken)
SCALAR(broken, a)
SCALAR(broken, b)
SCALAR(broken, c)
ARRAY_SCALAR(broken, d)
FLEXIBLE_SCALAR(broken, e)
NO_HOLES(broken, 24 - 4 * (ABI_BROKEN == 8))
CONSTANT(BROKEN)
#if ABI_BROKEN == 7
CONSTANT(BROKEN_SIGN)
#endif
#endif

#undef STRUCT
#undef SCALAR
#undef ALTERNATIVE
#undef NESTED
#undef ARRAY_SCALAR
#undef FLEXIBLE_SCALAR
#undef FLEXIBLE_NESTED
#undef NO_HOLES
#undef CONSTANT
#undef X86_CONSTANT

#define STRUCT(s) "struct " #s,
#define FIELD(s, f) "field " #s "." #f,
#define SCALAR(s, f) FIELD(s, f)
#define ALTERNATIVE(s, f) FIELD(s, f)
#define NESTED(s, f) FIELD(s, f)
#define ARRAY_SCALAR(s, f) FIELD(s, f)
#define FLEXIBLE_SCALAR(s, f) FIELD(s, f)
#define FLEXIBLE_NESTED(s, f) FIELD(s, f)
#define NO_HOLES(s, total)
#define CONSTANT(c) "constant " #c,
#if defined(__x86_64__) || defined(__i386__)
#define X86_CONSTANT(c) "constant " #c,
#else
#define X86_CONSTANT(c) "skipped " #c,
#endif

static const char *const compared[] = {
#include ABI_TABLE
};

int main(void) {
        size_t n = sizeof(compared) / sizeof(compared[0]);

        for (size_t i = 0; i < n; i++)
                puts(compared[i]);
        printf("total %zu\n", n);
        return 0;
}
