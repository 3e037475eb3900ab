/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of the config filter run against: a simulated machine whose functions have every register that the filter knows, and
 * a host that looks at each access on its way to that kernel.
 */
#ifndef TDID_VCONFIG_MACHINE_H
#define TDID_VCONFIG_MACHINE_H

#ifdef __clang__
/* A struct with what trails it, side by side: that is what the calls of sim-kernel.h take. */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

#include <linux/pci_regs.h>

#include "sim-kernel.h"
#include "vm/vpci/vconfig.h"

#define RICH "0000:01:00.0"  /* its config space is rich_config() */
#define FIRST "0000:02:00.0" /* its extended capabilities begin with one that is hidden */
#define PF "0000:03:00.0"
#define VF "0000:04:00.1"
#define PLAIN "plain"        /* no function of that kernel: rich_config() in memory, as a kernel would show it that hides nothing */

/* Where rich_config() has what. */
#define AT_PM 0x40
#define AT_VPD 0x48
#define AT_MSI 0x50
#define AT_MSIX 0x68
#define AT_AF 0x74
#define AT_VNDR 0x7c
#define AT_EXP 0x84
#define AT_GAP 0xc8
#define AT_AER 0x100
#define AT_ATS 0x150
#define AT_PRI 0x160
#define AT_PASID 0x180
#define AT_TPH 0x190
#define AT_DVSEC 0x1a0
#define AT_DOE 0x1c0
#define AT_VSEC 0x200
#define AT_EXT_GAP 0x300

static inline void le16(uint8_t *p, unsigned v) {
        p[0] = (uint8_t) v;
        p[1] = (uint8_t) (v >> 8);
}

static inline void le32(uint8_t *p, uint32_t v) {
        le16(p, v & 0xffff);
        le16(p + 2, v >> 16);
}

static inline void header(uint8_t c[4096], unsigned device) {
        memset(c, 0, 4096);
        le16(c + PCI_VENDOR_ID, 0x1234);
        le16(c + PCI_DEVICE_ID, device);
        le16(c + PCI_COMMAND, PCI_COMMAND_MEMORY);
        le16(c + PCI_STATUS, PCI_STATUS_CAP_LIST);
        c[PCI_CLASS_DEVICE + 1] = 0xff;
        c[PCI_CAPABILITY_LIST] = AT_PM;
}

static inline void capability(uint8_t *c, unsigned id, unsigned at, unsigned next) {
        c[at] = (uint8_t) id;
        c[at + 1] = (uint8_t) next;
}

static inline void extended(uint8_t *c, unsigned id, unsigned at, unsigned next) {
        le32(c + at, id | 1u << 16 | next << 20);
}

static inline void rich_config(uint8_t c[4096]) {
        header(c, 1);
        capability(c, PCI_CAP_ID_PM, AT_PM, AT_VPD);
        le16(c + AT_PM + PCI_PM_PMC, 3);
        le16(c + AT_PM + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
        capability(c, PCI_CAP_ID_VPD, AT_VPD, AT_MSI);
        capability(c, PCI_CAP_ID_MSI, AT_MSI, AT_MSIX);
        le16(c + AT_MSI + PCI_MSI_FLAGS, PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT | 2 << 1);
        capability(c, PCI_CAP_ID_MSIX, AT_MSIX, AT_AF);
        le16(c + AT_MSIX + PCI_MSIX_FLAGS, 69); /* 70 vectors: two words of pending bits */
        le32(c + AT_MSIX + PCI_MSIX_TABLE, 0x1000 | 2);
        le32(c + AT_MSIX + PCI_MSIX_PBA, 0x1800 | 2);
        capability(c, PCI_CAP_ID_AF, AT_AF, AT_VNDR);
        c[AT_AF + 2] = PCI_CAP_AF_SIZEOF;
        c[AT_AF + PCI_AF_CAP] = PCI_AF_CAP_TP | PCI_AF_CAP_FLR;
        capability(c, PCI_CAP_ID_VNDR, AT_VNDR, AT_EXP);
        c[AT_VNDR + PCI_CAP_FLAGS] = 8;
        capability(c, PCI_CAP_ID_EXP, AT_EXP, 0);
        le16(c + AT_EXP + PCI_EXP_FLAGS, 2);
        le32(c + AT_EXP + PCI_EXP_DEVCAP, 0x8002u | PCI_EXP_DEVCAP_FLR);
        le16(c + AT_EXP + PCI_EXP_DEVCTL, 0x2810);

        extended(c, PCI_EXT_CAP_ID_ERR, AT_AER, AT_ATS);
        extended(c, PCI_EXT_CAP_ID_ATS, AT_ATS, AT_PRI);
        extended(c, PCI_EXT_CAP_ID_PRI, AT_PRI, AT_PASID);
        le32(c + AT_PRI + 8, 0x100);
        extended(c, PCI_EXT_CAP_ID_PASID, AT_PASID, AT_TPH);
        le16(c + AT_PASID + PCI_PASID_CAP, 0x1406);
        extended(c, PCI_EXT_CAP_ID_TPH, AT_TPH, AT_DVSEC);
        extended(c, PCI_EXT_CAP_ID_DVSEC, AT_DVSEC, AT_DOE);
        le32(c + AT_DVSEC + PCI_DVSEC_HEADER1, 0x14u << 20 | 0x1234);
        extended(c, PCI_EXT_CAP_ID_DOE, AT_DOE, AT_VSEC);
        extended(c, PCI_EXT_CAP_ID_VNDR, AT_VSEC, 0);
        le32(c + AT_VSEC + PCI_VNDR_HEADER, 0x10u << 20 | 1);
}

static inline void first_config(uint8_t c[4096]) {
        header(c, 2);
        capability(c, PCI_CAP_ID_EXP, AT_PM, 0);
        le16(c + AT_PM + PCI_EXP_FLAGS, 2);
        extended(c, PCI_EXT_CAP_ID_PRI, 0x100, 0x120);
        extended(c, PCI_EXT_CAP_ID_PRI, 0x120, 0x140);
        extended(c, PCI_EXT_CAP_ID_ATS, 0x140, 0x160);
        extended(c, PCI_EXT_CAP_ID_PASID, 0x160, 0x180);
        extended(c, PCI_EXT_CAP_ID_PRI, 0x180, 0);
}

static inline void put_hex(char *to, const uint8_t *c) {
        for (unsigned i = 0; i < 4096; i++)
                sprintf(to + 2UL * i, "%02x", c[i]);
}

static inline void machine_start(void) {
        static char text[20000], rich[8193], first[8193];
        uint8_t c[4096];

        rich_config(c);
        put_hex(rich, c);
        first_config(c);
        put_hex(first, c);
        require(snprintf(text, sizeof(text),
                         "{\"schema\": \"tdi-sim/1\", \"platform\": \"plain\","
                         " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"},"
                         "             {\"bdf\": \"0000:00:03.0\", \"bus\": \"03\", \"ide\": true},"
                         "             {\"bdf\": \"0000:00:04.0\", \"bus\": \"04\"}],"
                         " \"functions\": ["
                         "  {\"bdf\": \"" RICH "\", \"driver\": \"vfio-pci\", \"model\": \"memory\", \"config\": \"%s\","
                         "   \"bars\": [{\"size\": 4096}, {\"bar\": 2, \"size\": \"8K\", \"kind\": \"mem64\"}]},"
                         "  {\"bdf\": \"" FIRST "\", \"driver\": \"vfio-pci\", \"config\": \"%s\", \"bars\": [{\"size\": 4096}]},"
                         "  {\"bdf\": \"" PF "\", \"driver\": \"vfio-pci\", \"ids\": \"1234:0003\", \"model\": \"memory\", \"flr\": true,"
                         "   \"doe\": true, \"ide\": true, \"bars\": [{\"size\": 4096}],"
                         "   \"sriov\": {\"total\": 1, \"vf\": {\"ids\": \"1234:0004\", \"bars\": [{\"size\": 4096}]}}},"
                         "  {\"bdf\": \"0000:04:00.0\", \"driver\": \"nic\", \"ids\": \"1234:0005\", \"bars\": [{\"size\": 4096}],"
                         "   \"sriov\": {\"total\": 1, \"enabled\": 1, \"vf\": {\"ids\": \"1234:0006\", \"driver\": \"vfio-pci\","
                         "               \"model\": \"memory\", \"bars\": [{\"size\": 4096}]}}}]}",
                         rich, first) < (int) sizeof(text));
        kernel_start(text);
}

static inline struct sim_function *function(const char *bdf) {
        return sim_function_find(sim_machine(kernel), bdf);
}

/* ---- the host in between ---- */

struct spy {
        TdiHost base;
        unsigned reads, writes;
        int fail_read, fail_write;                 /* instead of doing it */
        uint8_t mask[4096], value[4096];           /* bytes that were written, since spy_forget() */
};

static struct spy spy;
static uint8_t plain[4096];
static int device_fd = -EBADF; /* none: plain */
static struct vconfig *space;

static inline ssize_t spy_pread(TdiHost *h, int fd, void *buf, size_t size, uint64_t offset) {
        struct spy *s = (struct spy *) h;

        s->reads++;
        check(offset >= CONFIG && offset - CONFIG < 4096 && size <= 4096 - (offset - CONFIG));
        if (s->fail_read)
                return s->fail_read;
        if (fd >= 0)
                return host_pread(host, fd, buf, size, offset);
        memcpy(buf, plain + (offset - CONFIG), size);
        return (ssize_t) size;
}

static inline ssize_t spy_pwrite(TdiHost *h, int fd, const void *buf, size_t size, uint64_t offset) {
        struct spy *s = (struct spy *) h;
        uint64_t at = offset - CONFIG;

        s->writes++;
        check(at < 4096 && size <= 4096 - at && (size == 1 || size == 2 || size == 4) && at % size == 0);
        if (s->fail_write)
                return s->fail_write;
        memset(s->mask + at, 0xff, size);
        memcpy(s->value + at, buf, size);
        if (fd >= 0)
                return host_pwrite(host, fd, buf, size, offset);
        memcpy(plain + at, buf, size);
        return (ssize_t) size;
}

static inline void spy_forget(void) {
        static const struct tdi_host_ops ops = { .name = "spy", .pread = spy_pread, .pwrite = spy_pwrite };

        spy = (struct spy){ .base.ops = &ops };
}

/* ---- one function ---- */

static inline void open_function(const char *bdf) {
        int iommufd;

        if (streq(bdf, PLAIN)) {
                rich_config(plain);
        } else {
                iommufd = host_open(host, "/dev/iommu", O_RDWR);
                device_fd = open_vfio(bdf);
                require(device_fd >= 0 && iommufd >= 0);
                require(bind_vfio(device_fd, iommufd, NULL) == 0);
                check_int(host_close(host, iommufd), 0);
        }
        spy_forget();
        require(vconfig_new(&spy.base, device_fd, CONFIG, 4096, &space) == 0);
        vconfig_set_name(space, bdf);
}

static inline void close_function(void) {
        space = vconfig_free(space);
        if (device_fd >= 0)
                check_int(host_close(host, TAKE_FD(device_fd)), 0);
}

static inline uint32_t get(unsigned at, unsigned size) {
        uint8_t b[4] = {};

        check_int(vconfig_read(space, b, size, at), size);
        return b[0] | (uint32_t) b[1] << 8 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 24;
}

static inline void put(unsigned at, unsigned size, uint32_t v) {
        uint8_t b[4];

        le32(b, v);
        check_int(vconfig_write(space, b, size, at), size);
}

/* The hardware's registers. */
static inline uint32_t hw_get(const char *bdf, unsigned at, unsigned size) {
        uint32_t v = 0;

        sim_lock(kernel);
        memcpy(&v, (streq(bdf, PLAIN) ? plain : function(bdf)->config) + at, size);
        sim_unlock(kernel);
        return v;
}

/* Bits of the hardware, as if it had done so by itself; they can be written from now on. */
static inline void hw_put(const char *bdf, unsigned at, unsigned size, uint32_t mask, uint32_t v) {
        struct sim_function *fn;

        sim_lock(kernel);
        fn = streq(bdf, PLAIN) ? NULL : function(bdf);
        for (unsigned i = 0; i < size; i++) {
                uint8_t *reg = fn ? &fn->config[at + i] : &plain[at + i];

                *reg = (uint8_t) ((*reg & ~(mask >> 8 * i)) | (v & mask) >> 8 * i);
                if (fn)
                        fn->writable[at + i] |= (uint8_t) (mask >> 8 * i);
        }
        sim_unlock(kernel);
}

static inline uint64_t counted(const char *which, const char *name) {
        _cleanup_json_ struct json_object *o = vconfig_describe(space);
        struct json_object *counts;

        require(json_get_object(o, which, &counts) == 0);
        return json_u64_or(counts, name, 0);
}

static inline bool master_is(const char *key) {
        _cleanup_json_ struct json_object *o = vconfig_describe(space);
        struct json_object *master;

        require(json_get_object(o, "bus_master", &master) == 0);
        return json_bool_or(master, key, false);
}

#endif
