/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a dma-buf is made of: runs of consecutive pages. A source that knows its page frame numbers builds a list of runs, and
 * everything that an importer wants follows from it: a plan of maps into an I/O address space, a scatter list, its pages one
 * by one, whether two pieces meet, and how well it is aligned.
 *
 * Numbers of pages and page frames are of 4 KiB (TDI_PAGE_SIZE) on every machine. A list is an array of struct tdi_run in the
 * order of the buffer: the first run is at offset 0, each other where the one before it ends. Building and deriving are linear;
 * nothing is allocated per page, and deriving allocates nothing.
 *
 * Threads: a struct tdi_runs is used by one thread at a time; functions of a plain array only read it.
 */
#ifndef TDI_RUNS_H
#define TDI_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TDI_PAGE_SHIFT 12
#define TDI_PAGE_SIZE (UINT64_C(1) << TDI_PAGE_SHIFT)

/* Physical addresses have at most 64 bits. */
#define TDI_PFN_MAX ((UINT64_C(1) << (64 - TDI_PAGE_SHIFT)) - 1)

/* The longest run, 8 TiB. What is longer is several, which loses no alignment. */
#define TDI_RUN_PAGES_MAX (UINT32_C(1) << 31)

/* Attributes. Those of I/O memory of a device are usually P2P | MMIO, those of memory CPU | CACHEABLE | SNOOP. */
#define TDI_RUN_P2P (UINT16_C(1) << 0)       /* a device's memory: reached over its bus, not the memory controller */
#define TDI_RUN_CPU (UINT16_C(1) << 1)       /* a processor may map it through the buffer */
#define TDI_RUN_MMIO (UINT16_C(1) << 2)      /* I/O memory: uncached, accesses have effects */
#define TDI_RUN_CACHEABLE (UINT16_C(1) << 3) /* not together with MMIO */
#define TDI_RUN_SNOOP (UINT16_C(1) << 4)     /* a device's access sees what is in the caches; only with CACHEABLE */
#define TDI_RUN_ATTRIBUTES \
        (TDI_RUN_P2P | TDI_RUN_CPU | TDI_RUN_MMIO | \
         TDI_RUN_CACHEABLE | TDI_RUN_SNOOP)

/* The provider of ordinary memory. Others number the buses or devices as whoever makes the list likes. */
#define TDI_PROVIDER_MEMORY UINT16_C(0)

/** struct tdi_run - pages that follow each other, of one provider and with the same attributes */
struct tdi_run {
        uint64_t pfn;        /* of the first page, at most TDI_PFN_MAX */
        uint32_t pages;      /* 1 to TDI_RUN_PAGES_MAX; the last is at most TDI_PFN_MAX */
        uint16_t provider;   /* whose memory it is: the same frame number may mean another thing elsewhere */
        uint16_t attributes; /* TDI_RUN_… */
};

/**
 * tdi_run_attribute_to_string() - name of an attribute, as tdid gives it: "p2p", "cpu-mappable", "mmio", "cacheable", "snoop"
 * @attribute:  one of TDI_RUN_…
 *
 * Return: a constant string, NULL for anything else. Thread-safe.
 */
const char *tdi_run_attribute_to_string(uint16_t attribute);

/**
 * tdi_run_attribute_from_string() - attribute of a name
 * @name:       may be NULL
 *
 * Return: one of TDI_RUN_…, 0 for a name that is none of ours. Thread-safe.
 */
uint16_t tdi_run_attribute_from_string(const char *name);

/* ---- building ---- */

struct tdi_runs;

/**
 * tdi_runs_new() - an empty list
 * @ret:        the list, the caller's; ends with tdi_runs_free()
 *
 * Return: 0 or -ENOMEM.
 */
int tdi_runs_new(struct tdi_runs **ret);

/**
 * tdi_runs_free() - free a list
 * @runs:       may be NULL
 *
 * Return: NULL.
 */
struct tdi_runs *tdi_runs_free(struct tdi_runs *runs);

/**
 * tdi_runs_add() - append pages that follow each other
 * @pfn:        of the first
 * @pages:      how many; more than TDI_RUN_PAGES_MAX become several runs
 * @provider:   whose
 * @attributes: TDI_RUN_…
 *
 * They continue the last run where they follow it and are of its kind.
 *
 * Return: 0; -EINVAL for no pages, frames beyond TDI_PFN_MAX, or attributes that contradict each other (MMIO and CACHEABLE, SNOOP
 * without CACHEABLE, unknown bits); -EOVERFLOW when the buffer gets larger than 2^63 bytes; -ENOMEM. On failure the list is as before.
 */
int tdi_runs_add(struct tdi_runs *runs, uint64_t pfn, uint64_t pages, uint16_t provider, uint16_t attributes);

/**
 * tdi_runs_add_pfns() - append pages that are named one by one
 * @pfns:       @n frame numbers in the order of the buffer
 * @n:          may be 0
 * @provider:   whose
 * @attributes: TDI_RUN_…
 *
 * Return: as tdi_runs_add(). On failure the list is as before.
 */
int tdi_runs_add_pfns(struct tdi_runs *runs, const uint64_t *pfns, size_t n, uint16_t provider, uint16_t attributes);

/**
 * tdi_runs_reserve() - make room
 * @n:          runs that can then be there without allocating. The memory is touched.
 *
 * Return: 0 or -ENOMEM.
 */
int tdi_runs_reserve(struct tdi_runs *runs, size_t n);

/** tdi_runs_clear() - forget the runs and keep the room */
void tdi_runs_clear(struct tdi_runs *runs);

/**
 * tdi_runs_get() - the list as an array
 * @ret:        the array, the list's, valid until the list changes; NULL when it is empty
 *
 * Return: how many runs.
 */
size_t tdi_runs_get(const struct tdi_runs *runs, const struct tdi_run **ret);

/* ---- looking at a list ---- */

/**
 * tdi_runs_check() - is an array what this header says? For one that comes from somebody else.
 *
 * Return: 0; -EINVAL; -EOVERFLOW when the buffer is larger than 2^63 bytes. The functions below need a list for which this is 0.
 */
int tdi_runs_check(const struct tdi_run *runs, size_t n);

/** tdi_runs_pages() - how many pages in all */
uint64_t tdi_runs_pages(const struct tdi_run *runs, size_t n);

/**
 * tdi_runs_alignment() - the largest pages that could map the buffer
 *
 * Return: the largest power of two, in bytes, of which every run's address, every run's length, and so every run's offset in
 * the buffer is a multiple; 0 for an empty list.
 */
uint64_t tdi_runs_alignment(const struct tdi_run *runs, size_t n);

/**
 * tdi_runs_overlap() - do two lists, or two runs of one list, have a page in common?
 * @a:          @n_a runs
 * @b:          @n_b runs, or NULL to look for a page that is twice in @a
 * @ret_a:      may be NULL; index of a run that is hit
 * @ret_b:      may be NULL; index of a run that hits it (of @b, or of @a where that is NULL)
 *
 * Pages of different providers are different pages. Where each list is in the order of (provider, pfn), as most are, this is linear and
 * allocates nothing; else it sorts.
 *
 * Return: 1 when they have, 0 when not, -ENOMEM.
 */
int tdi_runs_overlap(const struct tdi_run *a, size_t n_a, const struct tdi_run *b, size_t n_b, size_t *ret_a, size_t *ret_b);

/* ---- maps into an I/O address space ---- */

/** struct tdi_window - I/O addresses that may be used, both ends included */
struct tdi_window {
        uint64_t start, last;
};

/** struct tdi_map - one call of IOMMU_IOAS_MAP_FILE with the buffer's descriptor */
struct tdi_map {
        uint64_t iova;       /* where to */
        uint64_t offset;     /* in the buffer: the call's start */
        uint64_t length;     /* bytes */
        uint16_t provider;   /* of all that is in it */
        uint16_t attributes;
        uint32_t reserved;   /* 0 */
};

/** struct tdi_plan - what is planned; zero it, set what is wanted, and give it to tdi_plan_begin() */
struct tdi_plan {
        /* the caller's */
        uint64_t iova;                    /* address of offset 0 */
        uint64_t alignment;               /* of the address space (IOMMU_IOAS_IOVA_RANGES: out_iova_alignment); 0: TDI_PAGE_SIZE */
        uint64_t length_max;              /* of one map, a multiple of the alignment; 0: as long as it goes */
        const struct tdi_window *windows; /* sorted, without overlap; borrowed while the plan is used; NULL: everything */
        size_t n_windows;

        /* the library's */
        const struct tdi_run *runs;
        size_t n, at;
        uint64_t offset, in_run;
};

/**
 * tdi_plan_begin() - check a plan
 * @plan:       with the caller's members set; borrows @runs
 *
 * A map holds neighbouring runs as long as provider and attributes stay the same: what is scattered within it is the kernel's to sort
 * out. So a contiguous BAR of any size is one map.
 *
 * Return: 0; -EINVAL: iova, or a border between maps, is not aligned, or the alignment is no power of two of at least TDI_PAGE_SIZE; -EOVERFLOW:
 * the buffer ends beyond the last address; -ERANGE: a part of it lies outside of every window.
 */
int tdi_plan_begin(struct tdi_plan *plan, const struct tdi_run *runs, size_t n);

/**
 * tdi_plan_next() - the next map
 *
 * Return: false at the end.
 */
bool tdi_plan_next(struct tdi_plan *plan, struct tdi_map *ret);

/* ---- scatter list ---- */

/** struct tdi_segment - an entry of a scatter list */
struct tdi_segment {
        uint64_t address;    /* physical */
        uint64_t length;     /* bytes */
        uint16_t provider;
        uint16_t attributes;
        uint32_t reserved;   /* 0 */
};

/** struct tdi_segments - where the walk is; the library's */
struct tdi_segments {
        const struct tdi_run *runs;
        size_t n, at;
        uint64_t done, length_max, boundary;
};

/**
 * tdi_segments_begin() - cut a list into segments as a device can take them
 * @length_max: the longest segment in bytes, a multiple of TDI_PAGE_SIZE (dma_get_max_seg_size()); 0: none
 * @boundary:   no segment crosses a multiple of this (dma_get_seg_boundary() + 1), a power of two of at least TDI_PAGE_SIZE; 0: none
 *
 * Return: 0 or -EINVAL. @runs is borrowed while the walk goes on.
 */
int tdi_segments_begin(struct tdi_segments *segments, const struct tdi_run *runs, size_t n, uint64_t length_max, uint64_t boundary);

/** tdi_segments_next() - the next segment. Return: false at the end. */
bool tdi_segments_next(struct tdi_segments *segments, struct tdi_segment *ret);

/* ---- pages ---- */

/** struct tdi_pages - where the walk is; the library's */
struct tdi_pages {
        const struct tdi_run *runs;
        size_t n, at;
        uint64_t done;
};

/**
 * tdi_pages_begin() - walk the pages of a list
 * @first:      number of the page in the buffer to begin with
 *
 * Return: 0; -ERANGE when @first is not in the buffer (the number of its pages is). @runs is borrowed while the walk goes on.
 */
int tdi_pages_begin(struct tdi_pages *pages, const struct tdi_run *runs, size_t n, uint64_t first);

/**
 * tdi_pages_next() - the next page
 * @ret_run:    may be NULL; index of its run
 *
 * Return: false at the end.
 */
bool tdi_pages_next(struct tdi_pages *pages, uint64_t *ret_pfn, size_t *ret_run);

/**
 * tdi_pages_fill() - the next pages at once
 * @pfns:       room for @n frame numbers
 *
 * Return: how many there are in @pfns, less than @n only at the end.
 */
size_t tdi_pages_fill(struct tdi_pages *pages, uint64_t *pfns, size_t n);

#ifdef __cplusplus
}
#endif

#endif
