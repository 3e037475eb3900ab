/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Loaded before the C library into a bench's holder: a file in memory answers as an iommufd does when it is asked which addresses can be
 * mapped, so that a function can be served where there is no IOMMU. And any file answers as the bind provider does to a request of a guest,
 * with nothing, at once: what is measured is all but the kernel's part.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "host/abi/iommufd.h"
#include "host/tdid_bind.h"
#include "util/util.h"

#define LAST_ADDRESS ((UINT64_C(1) << 48) - 1)

static int windows(struct tdi_iommu_ioas_iova_ranges *ranges) {
        uint32_t room = ranges->num_iovas;

        ranges->num_iovas = 1;
        ranges->out_iova_alignment = 4096;
        if (room < 1) {
                errno = EMSGSIZE;
                return -1;
        }
        *(struct tdi_iommu_iova_range *) (uintptr_t) ranges->allowed_iovas = (struct tdi_iommu_iova_range){ 0, LAST_ADDRESS };
        return 0;
}

int ioctl(int fd, unsigned long request, ...) {
        static int (*real)(int fd, unsigned long request, ...);
        struct stat st;
        va_list ap;
        void *arg;

        va_start(ap, request);
        arg = va_arg(ap, void *);
        va_end(ap);
        if (request == TDI_IOMMU_IOAS_IOVA_RANGES && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                return windows(arg);
        if (request == TDID_BIND_IOC_REQUEST)
                return 0;
        if (!real)
                real = (int (*)(int, unsigned long, ...)) dlsym(RTLD_NEXT, "ioctl");
        return real(fd, request, arg);
}
