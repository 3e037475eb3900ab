/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's memory, as its functions reach it: a table of maps for each I/O address space (one an IOMMU group, which is all that the
 * kernel gives: iommufd_hw_pagetable_attach), filled by IOMMU_IOAS_MAP_FILE from the memfds that the VMM sends, and shared between spaces
 * by IOMMU_IOAS_COPY. Our processes are not in the path of any DMA.
 *
 * What a VMM sends is not trusted: range, alignment, the file's kind, mode and seals, its size, and that the peer itself maps it
 * shared (/proc/PID/maps), are checked before the kernel sees anything. Guest RAM is charged to whom the helper process belongs to.
 *
 * A map may take seconds (pages are allocated and pinned): one that would is accepted at once and made by a thread of its own, in the
 * order in which they came; until it is done the function must not become bus master, and after one has failed it must not be (dma_master()).
 *
 * Any thread may call anything here, except that calls for one client must not overlap each other. Calls may sleep, but for those marked
 * "quick", which a supervisor may use.
 */
#ifndef TDID_VPCI_DMA_H
#define TDID_VPCI_DMA_H

#include "host/host.h"
#include "model/json.h"

/* All spaces of a VM. */
struct dma;
/* One function's socket: what it has mapped. */
struct dma_client;

struct dma_limits {
        uint64_t bytes; /* pinned, of the whole VM */
        uint64_t maps;  /* entries in all tables of the VM */
        /*
         * So many 2 MiB of all address spaces may have had a BAR, 0: 16384; more where there are more than 64 functions. Page tables that the kernel has made for one stay until the address
         * space goes, whoever pays for them, and it is the guest that says where.
         */
        uint64_t granules;
};

/*
 * Something that tdid shall hear of; @text is for people. Called from any thread, that of another client or of a helper too, without a
 * lock held that dma_ calls take: it must not sleep, nor call what may. Of failures no more than 16 a minute are told.
 */
enum dma_event {
        DMA_EVENT_FAILED,   /* a map failed, or is overdue: the function is kept from bus mastering */
        DMA_EVENT_UNBACKED, /* the first range without a descriptor, of this connection */
        DMA_EVENT_MASTER,   /* dma_master() has changed; @text is NULL */
};
typedef void (*dma_notify)(enum dma_event event, const char *text, void *userdata);

int dma_new(TdiHost *host, const struct dma_limits *limits, struct dma **ret);
struct dma *dma_free(struct dma *d);
/* The VM's iommufd, which stays the caller's. Once, before the first client. */
void dma_set_iommufd(struct dma *d, int iommufd);
/* Bytes of guest memory that are mapped for devices, with those under way. Any thread. */
uint64_t dma_pinned(struct dma *d);
/*
 * Who the peer is: its open /proc/PID/maps, and a socket to the helper process that maps in the peer's memory cgroup (dma-helper.h),
 * or -EBADF where there is none, and this process maps. Takes both; replaces what was there. Without it every map with a descriptor
 * waits for it up to 2 s and fails then. @maps -EBADF: it has ended, and the next one is not known yet. Quick.
 */
void dma_set_peer(struct dma *d, int maps, int helper);

/*
 * A client of the IOAS @ioas, shared with the other clients of that number, at most 64 (-EUSERS). Reads the space's IOVA windows
 * (IOMMU_IOAS_IOVA_RANGES).
 *
 * With @peer_to_peer its BARs are mapped into the spaces of the other clients that take part, and theirs into its, if all clients of a
 * space do. At most 256 of a VM; where there is no room for it, it stays out (dma_client_has_peers()).
 */
int dma_client_new(struct dma *d, uint32_t ioas, bool peer_to_peer, dma_notify notify, void *userdata, struct dma_client **ret);
/* Drops all that it has mapped, and waits for what is being mapped and for what is being told. Not from a dma_notify. */
struct dma_client *dma_client_free(struct dma_client *c);
/* The connection has ended: drops all that it has mapped. */
void dma_client_clear(struct dma_client *c);

/*
 * How long a call for the client may wait from now on, 3000 ms at first: a request that has waited already has less. With 0 a map is
 * always made later. Between calls; quick.
 */
void dma_client_set_patience(struct dma_client *c, unsigned msec);

/**
 * dma_map() - make [@iova, @iova + @size) of the guest's memory reachable
 * @fd:       taken, whatever the result; -EBADF: memory without a descriptor (a VMM's ROM), recorded as unbacked, as is guest_memfd
 * @offset:   into the file
 * @readable: by the device
 * @writable: by the device
 *
 * The same range of the same file again from another client of the space is counted; a different one that overlaps waits for its end up
 * to 3 s. Ranges of one client never overlap.
 *
 * Return: 0, also when it is made later; -EINVAL (empty, unaligned, wraps round, no access), -EEXIST, -EADDRNOTAVAIL (outside the IOVA
 * windows), -EBADF/-EACCES (not a file for this: no memfd or hugetlbfs file, read-only, sealed against writing, not mapped shared by the
 * peer), -ENXIO (beyond the file), -EDQUOT (pinned bytes), -ENOSPC (too many maps, or 1,023 files), -EBUSY (4,096 maps wait to be made),
 * -ENOTCONN (no peer, and no way to wait for it; else it is checked and made when there is one, and fails after 2 minutes), -EPIPE, -ETIMEDOUT (its helper is gone, or does not answer: dma_set_peer() brings another), or what the kernel
 * says. After any error of a map with or without a descriptor the range counts as failed until it is unmapped, or mapped after all: QEMU
 * ignores the error. A range that is empty or wraps round is none, and is not counted.
 */
int dma_map(struct dma_client *c, uint64_t iova, uint64_t size, int fd, uint64_t offset, bool readable, bool writable);

/**
 * dma_unmap() - the opposite, of one map or of all that lie wholly in the range
 *
 * Every reference is dropped before it returns, but for a map that the kernel is still at after 3 s: that leaves when it is made. -EBUSY only where
 * something else is unmapped, or copied from, all that time.
 *
 * Return: 0; -EINVAL when the range is empty or wraps round, or cuts a map in two (nothing is changed then); -ENOENT when nothing is there;
 * what the kernel says: it holds on to what is still described then. @ret_unmapped: bytes that were mapped or unbacked; of those that
 * only had failed when there was nothing else.
 */
int dma_unmap(struct dma_client *c, uint64_t iova, uint64_t size, uint64_t *ret_unmapped);
/* Everything of the client's. */
int dma_unmap_all(struct dma_client *c, uint64_t *ret_unmapped);

/*
 * A map could not even be tried: it counts as failed, in a range that is not known, until all is unmapped. May overlap other calls; quick but
 * for the telling.
 */
void dma_client_lose(struct dma_client *c);

/* ---- peer-to-peer; these may overlap other calls for the client, and are quick ---- */

#define DMA_BARS 6

/* Where the guest has a BAR, in bytes, whole pages; size 0: nowhere, or memory decoding is off. */
struct dma_place {
        uint64_t iova, size;
};

bool dma_client_has_peers(struct dma_client *c);
/* Once a BAR, before it is placed: its dma-buf, which is taken, or why there is none, a negative errno. */
void dma_client_give_bar(struct dma_client *c, unsigned bar, int dmabuf);
bool dma_client_has_bar(struct dma_client *c, unsigned bar);
/*
 * Where all of them are now. What is mapped follows, in a thread of its own: not over the guest's memory, which may come and go. @revoked:
 * the kernel has revoked the dma-bufs meanwhile, and what was mapped of them is dead.
 */
void dma_client_place_bars(struct dma_client *c, const struct dma_place places[DMA_BARS], bool revoked);
/*
 * None is mapped, wherever it is placed, from now until this is called with false: parts of them are going to be TEE memory. -EAGAIN: some still
 * are, and are being unmapped. A second call tells.
 */
int dma_client_withhold_bars(struct dma_client *c, bool withhold);

/* They are nowhere, whatever is said of them from here on: the function is being stopped. */
void dma_client_close_bars(struct dma_client *c);

enum dma_master {
        DMA_MASTER_NO,    /* a map has failed */
        DMA_MASTER_YES,
        DMA_MASTER_STAYS, /* one is under way: a device that is at work with other memory goes on, none begins */
};

/* May the function be bus master? Quick. */
enum dma_master dma_master(const struct dma_client *c);
/*
 * {"ioas", "maps", "bytes", "pending", "failed_ranges", "failed": [{"iova", "size", "errno", "error"}…], "unbacked": {"ranges", "bytes",
 * "first": [{"iova", "size"}…]}, "windows": [{"start", "last"}…], "peer_to_peer": [{"bar", "iova", "size", "spaces", "mapped", "failed", "error"}…]}. The last: the
 * function's own BARs, how many spaces of others each belongs into, in how many it is, and could not be; null where the client does not take part. Addresses and the sizes beside them are text, "0x…". Lists hold the
 * first 16, counts are whole; neighbours that failed for the same reason are one range. Quick.
 */
struct json_object *dma_client_describe(struct dma_client *c);

#endif
