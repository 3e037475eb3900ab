/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A process that maps guest memory in the VMM's place: pages that IOMMU_IOAS_MAP_FILE has to allocate, and the kernel's own notes about
 * them, are charged to the memory cgroup of whoever makes the call. So tdid starts this process, puts it into the VMM's cgroup, and
 * gives the holder one end of a SOCK_SEQPACKET pair.
 *
 * One packet asks, one packet answers, in whatever order the kernel is done: a map that takes minutes holds up no other. Both
 * ends are tdid's own; a packet that is not well formed ends the connection.
 */
#ifndef TDID_VPCI_DMA_HELPER_H
#define TDID_VPCI_DMA_HELPER_H

#include "host/host.h"

enum dma_helper_op {
        DMA_HELPER_MAP = 1, /* IOMMU_IOAS_MAP_FILE of the descriptor that comes along */
        DMA_HELPER_COPY,    /* IOMMU_IOAS_COPY from the same address of @source, no descriptor */
};

struct dma_helper_request {
        uint32_t op;
        uint32_t id;     /* of the request, comes back with the answer */
        uint32_t ioas;
        uint32_t source; /* another IOAS, of COPY */
        uint32_t flags;  /* TDI_IOMMU_IOAS_MAP_READABLE, _WRITEABLE */
        uint32_t reserved;
        uint64_t iova, size;
        uint64_t offset; /* into the file */
};

struct dma_helper_reply {
        uint32_t id;
        int32_t r; /* 0 or a negative errno */
};

/* Requests that the process works on at a time; it reads no further ones meanwhile. */
#define DMA_HELPER_THREADS 64

/* ---- the holder's end: any thread may call anything, but for free() ---- */

struct dma_helper;

/*
 * The end of a request: 0 or what the kernel said; -EPIPE when the process has ended before. Called from a thread of the helper's own, or from
 * dma_helper_take(), without a lock, exactly once; and before that at most once with -EINPROGRESS, when the answer is overdue.
 */
typedef void (*dma_helper_done)(int r, void *userdata);

/* Takes the socket, whatever the result. */
int dma_helper_new(int socket, struct dma_helper **ret);
/*
 * Asks. @request's id is filled in; @fd stays the caller's, -EBADF for none; @overdue: milliseconds. Never sleeps. @take, or NULL: set to
 * whether nobody takes answers; then the caller does, by dma_helper_take(), at once.
 *
 * Return: 0 when @done will be called; -ESHUTDOWN after dma_helper_end(), -ETIMEDOUT while an answer is overdue (nobody waits for a
 * process that is stuck), -EPIPE when it is gone, -EAGAIN, -ENOMEM: @done is not called then.
 */
int dma_helper_submit(struct dma_helper *h, struct dma_helper_request *request, int fd, unsigned overdue, dma_helper_done done,
                      void *userdata, bool *take);
/* Takes answers until that to request @id has come, for so many ms at most; those to others are the thread's to tell. */
void dma_helper_take(struct dma_helper *h, uint32_t id, unsigned msec);
/* No further requests: the process ends when it has answered those that it has. Quick. */
void dma_helper_end(struct dma_helper *h);
/* No answer is awaited: free() would not sleep. Quick. */
bool dma_helper_idle(struct dma_helper *h);
/* Waits for every answer. Not from a dma_helper_done. */
struct dma_helper *dma_helper_free(struct dma_helper *h);

/* ---- the process ---- */

/**
 * dma_helper_serve() - map until the other end hangs up
 * @iommufd: the VM's, stays the caller's
 * @socket:  stays the caller's
 *
 * Returns when every request that it took is done; what was mapped and could not be answered for is unmapped again.
 *
 * Return: 0 after the hang-up; -EBADMSG after a packet that is none; what recvmsg(2) or the C library say.
 */
int dma_helper_serve(TdiHost *host, int iommufd, int socket);

#endif
