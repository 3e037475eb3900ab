/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A holder (tdid-vm) of our own for benches, with memory in place of devices: what is measured is the server's binary and dispatch,
 * and no device. Errors end the program.
 */
#ifndef TDID_BENCH_HOLDER_H
#define TDID_BENCH_HOLDER_H

#include "model/json.h"

#define BENCH_BAR_SIZE (UINT64_C(1) << 20)
#define BENCH_CONFIG_SIZE 4096U
/* Where a region begins in a device's file, as VFIO has it: VFIO_PCI_OFFSET_SHIFT. */
#define BENCH_REGION(index) ((uint64_t) (index) << 40)
#define BENCH_CONFIG 7U

struct bench_holder {
        char folder[64];
        pid_t pid;
        int control;
};

/* Starts @program; its threads run where this one may. */
void bench_holder_start(struct bench_holder *h, const char *program);
/* Waits for all children: the last thing that a program does. */
void bench_holder_end(struct bench_holder *h);
/* A file that looks like a device: config space and, where BAR 0 begins, memory. The caller's. */
int bench_memory_device(void);
/* Has @device served as @bdf in an IOAS of its own, and connects to it: the connection has been negotiated and is the caller's, as is @device. */
int bench_holder_serve(struct bench_holder *h, const char *bdf, int device);

/* Its functions make so many requests of guests a second. A socket for those of @bdf, which is served; the caller's. */
int bench_holder_open_requests(struct bench_holder *h, const char *bdf, unsigned per_second);

/* One 4-byte read of region 0, as a VMM makes it: 32 bytes there, 36 back. @offset as in the region. */
void bench_read(int connection, uint64_t offset);
/* A write of four bytes that nobody answers. */
void bench_post(int connection, uint64_t offset, uint32_t value);
uint64_t bench_now_ns(void);

#endif
