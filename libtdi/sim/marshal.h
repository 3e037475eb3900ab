/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the argument of each ioctl travels: one table, used by the client (which packs what the pointers in a struct point to) and
 * by the simulation (which unpacks it). A request that is not in the table is -ENOTTY in the client already, as from a file that
 * does not know it.
 *
 * Payload of a call: the struct itself, as long as it says it is; then for each pointer of the row, in its order, a u64 with
 * the length and so many bytes. Descriptors that a member names travel by SCM_RIGHTS in the row's order; a member that holds -1 (or
 * whose condition does not hold) passes none, and a u32 bit mask before the struct says which did. The answer is the same, with
 * what the kernel wrote.
 */
#ifndef TDI_SIM_MARSHAL_H
#define TDI_SIM_MARSHAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SIM_BLOBS_MAX 4
#define SIM_IOCTL_FDS_MAX 16

struct sim_file;

/* One ioctl as the model sees it. The model changes arg, the blobs and the answers in place. */
struct sim_ioctl {
        unsigned long request;
        uint64_t value;             /* the third argument, where it is no pointer */
        uint8_t *arg;               /* the struct; size bytes, zeroed up to the size of the largest known version of the struct */
        size_t size;                /* as the caller said it */
        struct {
                uint8_t *data;      /* what the i-th pointer of the row points to; NULL for a NULL pointer */
                size_t size;
        } blob[SIM_BLOBS_MAX];
        /* What the fd members name, in the row's order (for arrays: in the array's). Borrowed: dup() or sim_file_get() what is kept. */
        struct {
                int fd;             /* -1: the member was -1 or not used; a real descriptor (eventfd, memfd, or a simulated file's socket) */
                struct sim_file *file; /* when it is a simulated file, else NULL */
        } in[SIM_IOCTL_FDS_MAX];
        unsigned n_in;
        /* New files that the call makes: references handed over. The client puts the first into the member that the row names, or returns it. */
        struct sim_file *out[2];
        unsigned n_out;
};

/* The name of a request for fault rules and logs: "VFIO_DEVICE_BIND_IOMMUFD"; "?" for one that is not in the table. */
const char *sim_ioctl_name(unsigned long request);

/* ---- client ---- */

/* Packs a call. fds: borrowed from the struct. Return: 0; -ENOTTY for a request that is not in the table; -EFAULT for a NULL argument; -E2BIG. */
int sim_ioctl_pack(unsigned long request, const void *arg, uint8_t *buf, size_t room, size_t *ret_size, int ret_fds[SIM_IOCTL_FDS_MAX],
                   unsigned *ret_n_fds);
/*
 * Writes an answer back into the caller's struct and to where its pointers point; also for a failed call (iommufd writes on errors, VFIO
 * argsz too). Takes the descriptors: the caller's afterwards, or closed. Return: r, or the new descriptor where the call returns one; -EPROTO.
 */
int sim_ioctl_apply(unsigned long request, void *arg, int64_t r, const uint8_t *answer, size_t size, const int *fds, unsigned n_fds);

/* ---- simulation ---- */

/* Unpacks a call; in[].file is left NULL, in[].fd borrowed from fds. -EINVAL for what no client of ours packs (hostile bytes), -ENOTTY. */
int sim_ioctl_unpack(unsigned long request, uint64_t value, const uint8_t *payload, size_t size, const int *fds, unsigned n_fds,
                     struct sim_ioctl *ret);
int sim_ioctl_answer(const struct sim_ioctl *io, uint8_t *buf, size_t room, size_t *ret_size);
void sim_ioctl_done(struct sim_ioctl *io); /* frees arg and blobs */

#endif
