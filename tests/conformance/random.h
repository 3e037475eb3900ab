/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the generator of random calls share: its dice, its descriptors, the functions it plays with. */
#ifndef TDI_CONFORMANCE_RANDOM_H
#define TDI_CONFORMANCE_RANDOM_H

#include "host/host.h"

#define PCI "/sys/bus/pci/"
#define FUNCTIONS 2

enum kind { CDEV, IOMMUFD, KVM, KVM_VM, KVM_VFIO, MEMFD, EVENT, UDMABUF, DMABUF, HEAP, OTHER };

/* Ids that calls gave, of whatever iommufd; some do not exist any more. */
struct ids {
        uint32_t id[4];
        unsigned n;
};

struct run {
        TdiHost *host;
        uint64_t state;
        unsigned functions, function;
        const char *bdf[FUNCTIONS];
        char driver[FUNCTIONS][128], power[FUNCTIONS][32], tsm[32];
        struct {
                int fd;
                enum kind kind;
                unsigned function;
        } fd[24];
        size_t n;
        struct ids ioas, hwpt, device;
        char path[4096];
};

uint32_t dice(struct run *r, uint32_t n); /* 0 … n - 1 */
bool chance(struct run *r, uint32_t percent);
/* Takes a new descriptor; passes errors on. */
int keep(struct run *r, enum kind kind, int fd);
int some(struct run *r, enum kind kind); /* -1 when there is none */
int any(struct run *r);
uint32_t known(struct run *r, const struct ids *ids);
void learn(struct run *r, struct ids *ids, uint32_t id);
bool is_open(struct run *r);
void close_some(struct run *r);
const char *bdf_of(struct run *r);
const char *attribute(struct run *r, const char *name); /* path, until the next call */
void put(struct run *r, const char *path, const char *format, ...) _printf_(3, 4);
void to_vfio(struct run *r);

void one_call(struct run *r);              /* random-calls.c */
void start_device(struct run *r);          /* random-vfio.c: opened, bound and attached, as tdid does it */
void device_call(struct run *r, int fd);   /* random-vfio.c */
void iommufd_call(struct run *r, int fd);  /* random-iommufd.c */

#endif
