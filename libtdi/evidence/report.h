/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device interface report of TDISP (PCIe 6, 11.3.11): what a TDI has locked, and which of its MMIO is trusted memory. It comes from
 * the device; nothing of it is believed that is not checked. These functions allocate nothing and are thread-safe.
 */
#ifndef TDI_EVIDENCE_REPORT_H
#define TDI_EVIDENCE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* interface_info */
#define TDISP_INFO_NO_FIRMWARE_UPDATE 0x01u
#define TDISP_INFO_DMA_WITHOUT_PASID 0x02u
#define TDISP_INFO_DMA_WITH_PASID 0x04u
#define TDISP_INFO_ATS 0x08u
#define TDISP_INFO_PRS 0x10u
#define TDISP_INFO_XT 0x20u

/* attributes of a range */
#define TDISP_RANGE_MSIX_TABLE 0x1u
#define TDISP_RANGE_MSIX_PBA 0x2u
#define TDISP_RANGE_NON_TEE 0x4u
#define TDISP_RANGE_UPDATABLE 0x8u

/* More than any function needs: six BARs, of which a few have parts. */
#define TDISP_RANGES_MAX 64
#define TDISP_BARS 6
#define TDISP_PAGE 4096u

struct tdisp_range {
        uint64_t first_page; /* as it was reported: public sources disagree on whether it counts bytes or pages of 4 KiB */
        uint32_t pages;      /* of 4 KiB */
        uint16_t attributes, id; /* id: the BAR's number */
};

struct tdisp_report {
        uint16_t info, msix_control, lnr_control;
        uint32_t tph_control;
        size_t n_ranges;
        struct tdisp_range ranges[TDISP_RANGES_MAX];
        size_t device_specific; /* bytes of it */
        size_t trailing;        /* bytes behind all that; some TSMs answer with whole pages */
};

/*
 * -EBADMSG: it ends too early, or its lengths lead out of it; -E2BIG: more than TDISP_RANGES_MAX ranges.
 */
int tdisp_report_parse(const void *data, size_t size, struct tdisp_report *ret);

/* A BAR as the host has it: where it is and how long, in bytes. Size 0: there is none. */
struct tdisp_bar {
        uint64_t address, size;
};

/*
 * Finds out where in its BAR each range is: the TSM may have added one offset to all addresses, which the host does not know. Fills in
 * offset[i], in bytes, for each range. Of several offsets that fit, 0 is taken where it does, then the one with which the first range of
 * a BAR begins there.
 *
 * Return: 0; -ENOENT with *ret_range: it has the number of no BAR; -ERANGE with *ret_range: longer than its BAR, or outside of it
 * whatever the offset; -EINVAL with *ret_range: it overlaps another.
 */
int tdisp_report_place(const struct tdisp_report *report, const struct tdisp_bar bars[static TDISP_BARS], uint64_t offset[static TDISP_RANGES_MAX],
                       size_t *ret_range);

#endif
