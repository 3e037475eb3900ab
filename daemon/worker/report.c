/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Looks at a device interface report: what it says, whether its MMIO can be in the BARs that the function has, and whether the host has
 * enabled what the device has locked. The report is a stranger's bytes, which nobody else parses.
 */
#include "worker/work.h"

#include <inttypes.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <stdarg.h>
#include <stdio.h>

#include "evidence/report.h"

#define IORESOURCE_MEM 0x200 /* include/linux/ioport.h */
#define REPORT_MAX 65536
#define CONFIG_MAX 4096
#define EXT_CHAIN_MAX ((CONFIG_MAX - PCI_CFG_SPACE_SIZE) / 8)

static int read_bars(struct work *w, struct tdisp_bar bars[static TDISP_BARS]) {
        char path[PATH_MAX], text[4096], *line = text;
        ssize_t r;

        r = host_read_text(w->host, work_path(w, path, sizeof(path), "resource"), text, sizeof(text));
        if (r < 0)
                return work_fail(w, (int) r, NULL, "read %s", path);
        for (size_t i = 0; i < TDISP_BARS && line; i++) {
                uint64_t start, end, flags;

                if (sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &end, &flags) == 3 && end > start && flags & IORESOURCE_MEM)
                        bars[i] = (struct tdisp_bar){ start, end - start + 1 };
                line = strchr(line, '\n');
                line = line ? line + 1 : NULL;
        }
        return 0;
}

/* ---- what the host has enabled ---- */

static const struct enable {
        const char *name;
        uint16_t report;     /* its bit of interface_info */
        uint16_t capability, at, mask; /* of the extended capability */
        bool own;            /* a VF has one of its own; of the others its PF's counts (PCIe 6, 10.5) */
} enables[] = {
        { "ats", TDISP_INFO_ATS, PCI_EXT_CAP_ID_ATS, PCI_ATS_CTRL, PCI_ATS_CTRL_ENABLE, true },
        { "pasid", TDISP_INFO_DMA_WITH_PASID, PCI_EXT_CAP_ID_PASID, PCI_PASID_CTRL, PCI_PASID_CTRL_ENABLE, false },
        { "prs", TDISP_INFO_PRS, PCI_EXT_CAP_ID_PRI, PCI_PRI_CTRL, PCI_PRI_CTRL_ENABLE, false },
};

static uint32_t get32(const uint8_t *p) {
        return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* 1, 0; -ENOENT: the function has no such capability. */
static int is_enabled(const uint8_t *c, size_t size, const struct enable *e) {
        unsigned at = PCI_CFG_SPACE_SIZE;

        for (unsigned left = EXT_CHAIN_MAX; at >= PCI_CFG_SPACE_SIZE && at + 4 <= size && left > 0; left--) {
                uint32_t h = get32(c + at);

                if (h == 0 || h == UINT32_MAX)
                        break;
                if (PCI_EXT_CAP_ID(h) == e->capability)
                        return at + e->at + 2u <= size ? !!((c[at + e->at] | c[at + e->at + 1] << 8) & e->mask) : -ENOENT;
                at = PCI_EXT_CAP_NEXT(h);
        }
        return -ENOENT;
}

static void problem(struct json_object *list, const char *format, ...) _printf_(2, 3);
static void problem(struct json_object *list, const char *format, ...) {
        char text[256];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        json_push_str(list, text);
}

static void check_enables(struct work *w, const struct tdisp_report *report, struct json_object *o, struct json_object *problems) {
        struct json_object *on = json_new_array();
        uint8_t config[CONFIG_MAX];
        char path[PATH_MAX];
        ssize_t n = -1;
        int fd;

        fd = host_open(w->host, work_path(w, path, sizeof(path), "config"), O_RDONLY);
        if (fd >= 0) {
                n = host_pread(w->host, fd, config, sizeof(config), 0);
                (void) host_close(w->host, fd);
        }
        /* Without its extended part nothing can be said. */
        for (size_t i = 0; n > PCI_CFG_SPACE_SIZE && i < ARRAY_SIZE(enables); i++) {
                int enabled = is_enabled(config, (size_t) n, &enables[i]);
                bool locked = report->info & enables[i].report;

                if (enabled == 1)
                        json_push_str(on, enables[i].name);
                if (enabled == 1 && !locked)
                        problem(problems, "the host has switched %s on, and the TDI was locked without it", enables[i].name);
                if (locked && (enabled == 0 || (enabled < 0 && enables[i].own)))
                        problem(problems, "the TDI was locked with %s, which the host has not switched on", enables[i].name);
        }
        json_set_take(o, "enabled", n > PCI_CFG_SPACE_SIZE ? on : NULL);
        if (n <= PCI_CFG_SPACE_SIZE)
                json_object_put(on);
}

/* ---- what it says ---- */

static struct json_object *bits(unsigned v, const char *const names[], size_t n) {
        struct json_object *list = json_new_array();

        for (size_t i = 0; i < n; i++)
                if (v & 1u << i)
                        json_push_str(list, names[i]);
        return list;
}

static void check_ranges(const struct tdisp_report *report, const struct tdisp_bar *bars, struct json_object *o, struct json_object *problems) {
        static const char *const names[] = { "msix-table", "msix-pba", "non-tee", "updatable" };
        uint64_t offset[TDISP_RANGES_MAX], tee = 0, shared = 0;
        struct json_object *list = json_new_array();
        size_t which = 0;
        int r;

        r = tdisp_report_place(report, bars, offset, &which);
        if (r == -ENOENT)
                problem(problems, "range %zu is in BAR %u, which the function does not have", which, report->ranges[which].id);
        else if (r == -ERANGE)
                problem(problems, "range %zu does not lie in BAR %u, whatever was added to its address", which, report->ranges[which].id);
        else if (r < 0)
                problem(problems, "range %zu overlaps another one", which);
        for (size_t i = 0; i < report->n_ranges; i++) {
                const struct tdisp_range *range = &report->ranges[i];
                uint64_t size = (uint64_t) range->pages * TDISP_PAGE;
                struct json_object *one = json_new();

                json_set_u64(one, "bar", range->id);
                json_set_take(one, "offset", r < 0 ? NULL : json_object_new_uint64(offset[i]));
                json_set_u64(one, "size", size);
                json_set_u64(one, "first_page", range->first_page);
                json_set_take(one, "attributes", bits(range->attributes, names, ARRAY_SIZE(names)));
                json_push_take(list, one);
                *(range->attributes & TDISP_RANGE_NON_TEE ? &shared : &tee) += size;
        }
        json_set_take(o, "ranges", list);
        json_set_u64(o, "tee_bytes", tee);
        json_set_u64(o, "shared_bytes", shared);
}

/* args: "report": the bytes, in hex. values: "report", as docs/dbus-api.md has it. */
int check_report_do(struct work *w) {
        static const char *const names[] = { "no-firmware-update", "dma-without-pasid", "dma-with-pasid", "ats", "prs", "xt" };
        struct json_object *o, *problems;
        struct tdisp_bar bars[TDISP_BARS] = {};
        static uint8_t bytes[REPORT_MAX];
        struct tdisp_report report;
        size_t size = 0;
        int r;

        r = work_decode_hex(json_str_or(w->args, "report", ""), bytes, sizeof(bytes), &size);
        if (r < 0)
                return work_fail(w, r, NULL, "read a report of %s", w->bdf);
        r = read_bars(w, bars);
        if (r < 0)
                return r;
        o = json_new();
        problems = json_new_array();
        r = tdisp_report_parse(bytes, size, &report);
        if (r < 0)
                problem(problems, "it is no device interface report (%zu bytes): %s", size,
                        r == -E2BIG ? "it has more ranges than a function can have" : "its lengths lead out of it");
        else {
                json_set_take(o, "flags", bits(report.info, names, ARRAY_SIZE(names)));
                json_set_u64(o, "msix_control", report.msix_control);
                json_set_u64(o, "lnr_control", report.lnr_control);
                json_set_u64(o, "tph_control", report.tph_control);
                json_set_u64(o, "device_specific", report.device_specific);
                check_ranges(&report, bars, o, problems);
                check_enables(w, &report, o, problems);
        }
        json_set_u64(o, "bytes", size);
        json_set_take(o, "problems", problems);
        json_set_take(w->values, "report", o);
        return 0;
}
