/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls of /dev/tdid_test_importer, which attaches to dma-bufs as KVM, RDMA and GPU drivers do. In the simulation it is importer.c; on a
 * real kernel the test module tests/kmod/tdid_test_importer has the same calls, without those that say "simulation". No kernel has it
 * by itself.
 *
 * What is attached belongs to the open file, and goes with it.
 */
#ifndef TDI_SIM_IMPORTER_ABI_H
#define TDI_SIM_IMPORTER_ABI_H

#include <linux/ioctl.h>
#include <stdint.h>

#define TDI_TEST_IMPORTER_PATH "/dev/tdid_test_importer"
#define TDI_TEST_IMPORTER_TYPE 0xDB

/* Numbers of enum tdi_importer and enum tdi_dmabuf_class (tdi/dmabuf.h). */
struct tdi_test_import_attach {
        int32_t fd;            /* the dma-buf */
        uint32_t importer;     /* whose part is played; the module plays "any" only */
        uint32_t dmabuf_class; /* how it copes: pinned listens to nothing, revocable and dynamic do */
        uint32_t flags;        /* TDI_TEST_IMPORT_… */
        uint32_t device;       /* domain, bus, devfn: in whose name it attaches. The simulation takes any function that is there. */
        uint32_t id;           /* out */
};
#define TDI_TEST_IMPORT_HOLD 1u      /* when told of a move or revoke, it does not let go before UNMAP */
#define TDI_TEST_IMPORT_NO_P2P 2u    /* it cannot do without struct pages */
/* EPROTONOSUPPORT: such an importer does not know the class. Otherwise what the exporter says: EOPNOTSUPP, ENODEV. */
#define TDI_TEST_IMPORT_ATTACH _IOWR(TDI_TEST_IMPORTER_TYPE, 0x60, struct tdi_test_import_attach)

struct tdi_test_import_state {
        uint32_t id;
        uint32_t flags;    /* out, all below too */
        uint32_t notified; /* how often the exporter told it that the buffer moves or is revoked */
        uint32_t maps;     /* how often it mapped, with success or not */
        int32_t error;     /* of the last map: 0 or a negative errno */
        uint32_t segments; /* of the scatter list */
        uint64_t address;  /* of the first segment */
        uint64_t length;   /* of all */
};
#define TDI_TEST_IMPORT_MAPPED 1u
#define TDI_TEST_IMPORT_STATE _IOWR(TDI_TEST_IMPORTER_TYPE, 0x61, struct tdi_test_import_state)

/* The argument is the id. MAP: 0, EBUSY when it is mapped, or the exporter's errno. UNMAP: 0, EINVAL when it is not. */
#define TDI_TEST_IMPORT_MAP _IO(TDI_TEST_IMPORTER_TYPE, 0x62)
#define TDI_TEST_IMPORT_UNMAP _IO(TDI_TEST_IMPORTER_TYPE, 0x63)
#define TDI_TEST_IMPORT_DETACH _IO(TDI_TEST_IMPORTER_TYPE, 0x64)

/* Simulation: 8 bytes of the buffer, as the device reaches them. One that is not mapped and may fault maps first, as MAP does. */
struct tdi_test_import_access {
        uint32_t id;
        uint32_t write;
        uint64_t offset;
        uint64_t value;
};
#define TDI_TEST_IMPORT_ACCESS _IOWR(TDI_TEST_IMPORTER_TYPE, 0x65, struct tdi_test_import_access)

/* Simulation: a dma-buf of memory that moves, as a graphics driver's; its descriptor is what the call returns. */
struct tdi_test_source {
        uint64_t size; /* whole pages, at most TDI_TEST_SOURCE_MAX */
};
#define TDI_TEST_SOURCE_MAX (UINT64_C(16) << 20)
#define TDI_TEST_SOURCE_CREATE _IOW(TDI_TEST_IMPORTER_TYPE, 0x66, struct tdi_test_source)

/* Simulation: it goes elsewhere, when everybody has let go of it. */
struct tdi_test_source_move {
        int32_t fd;
        uint32_t reserved;
};
#define TDI_TEST_SOURCE_MOVE _IOW(TDI_TEST_IMPORTER_TYPE, 0x67, struct tdi_test_source_move)

#endif
