/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How the argument of each ioctl travels: one table, used by the client (which packs what the pointers in a struct point to) and
 * by the simulation (which unpacks it). A request that is not in the table is -ENOTTY in the client already, as from a file that
 * does not know it.
 *
 * Payload of a call: a u32 bit mask that says which of the row's descriptors are passed; the struct, as long as it says it is (of
 * VFIO's argsz no more than the struct's known version, where the kernel reads no more); then for each pointer of the row, in its
 * order, a u64 with the length and so many bytes, UINT64_MAX for a NULL pointer or one that is not looked at. Descriptors that a member
 * names travel by SCM_RIGHTS in the row's order; a member that holds a negative number (or whose condition does not hold) passes none.
 * A request whose argument is no pointer has no payload at all. The answer is the same with a mask of 0 and what the kernel wrote; the
 * length of what a pointer points to is then 0 where the kernel only reads it, and the struct is longer where argsz had room for more.
 */
#ifndef TDI_SIM_MARSHAL_H
#define TDI_SIM_MARSHAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SIM_BLOBS_MAX 4
#define SIM_ARG_MAX 32768u   /* of a struct with its trailing data, and of what one pointer points to unless its row says otherwise */
#define SIM_SIZED_MAX 4096u  /* of a struct of iommufd */
#define SIM_IOCTL_FDS_MAX 32

struct sim_file;

/* One ioctl as the model sees it. The model changes arg, the blobs and the answers in place. */
struct sim_ioctl {
        unsigned long request;
        uint64_t value;             /* the third argument, where it is no pointer */
        uint8_t *arg;               /* the struct; size bytes, zeroed up to the size of the largest known version of the struct */
        size_t size;                /* as the caller said it, at most SIM_ARG_MAX; the memory is as long as that at least */
        struct {
                uint8_t *data;      /* what the i-th pointer of the row points to; NULL for a NULL pointer */
                size_t size;        /* as the struct says it; room for answers is cut at SIM_ARG_MAX, input beyond it is refused */
        } blob[SIM_BLOBS_MAX];
        /* What the fd members name, in the row's order (for arrays: in the array's). Borrowed: dup() or sim_file_get() what is kept. */
        struct {
                int fd;             /* a real descriptor (eventfd, memfd, a simulated file's socket); -1: negative or not used */
                struct sim_file *file; /* when it is a simulated file, else NULL */
        } in[SIM_IOCTL_FDS_MAX];
        unsigned n_in;
        /* New files that the call makes: references handed over. The client returns the first, or puts it into the row's member. */
        struct sim_file *out[2];
        unsigned n_out;
        size_t sent;                /* marshal.c's own: how much of the struct came */
};

/* The name of a request for fault rules and logs: "VFIO_DEVICE_BIND_IOMMUFD"; "?" for one that is not in the table. */
const char *sim_ioctl_name(unsigned long request);

/* ---- client ---- */

/*
 * Packs a call. fds: borrowed from the struct. *ret_size is 0 where the argument is the value itself. Return: 0; -ENOTTY for a request
 * that is not in the table; -EFAULT for a NULL argument; -E2BIG.
 */
int sim_ioctl_pack(unsigned long request, const void *arg, uint8_t *buf, size_t room, size_t *ret_size, int ret_fds[SIM_IOCTL_FDS_MAX],
                   unsigned *ret_n_fds);
/*
 * Writes an answer back into the caller's struct and to where its pointers point; also for a failed call (iommufd writes on errors, VFIO
 * argsz too). Takes the descriptors: the caller's afterwards, or closed. Return: r, or the new descriptor where the call returns one;
 * -EPROTO for an answer that is none.
 */
int sim_ioctl_apply(unsigned long request, void *arg, int64_t r, const uint8_t *answer, size_t size, const int *fds, unsigned n_fds);
/*
 * For recording calls on a real kernel: how many bytes of the caller's struct an answer may change (0 where the argument is no
 * pointer); and the answer, as sim_ioctl_answer() would have packed it, taken from the caller's memory. before: so many bytes as
 * they were before the call.
 */
size_t sim_ioctl_room(unsigned long request, const void *arg);
int sim_ioctl_result(unsigned long request, const void *before, const void *after, uint8_t *buf, size_t room, size_t *ret_size);

/* ---- simulation ---- */

/* Unpacks a call; in[].file is left NULL, in[].fd borrowed from fds. -EINVAL for what no client of ours packs (hostile bytes), -ENOTTY. */
int sim_ioctl_unpack(unsigned long request, uint64_t value, const uint8_t *payload, size_t size, const int *fds, unsigned n_fds,
                     struct sim_ioctl *ret);
int sim_ioctl_answer(const struct sim_ioctl *io, uint8_t *buf, size_t room, size_t *ret_size);
void sim_ioctl_done(struct sim_ioctl *io); /* frees arg and blobs */

#endif
