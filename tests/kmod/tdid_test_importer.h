/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The calls of /dev/tdid_test_importer, by which a test attaches to dma-bufs as a device driver
 * does, and learns what such a driver would see.
 *
 * The simulation has the same calls, and some more (libtdi/sim/importer-abi.h); a test compares.
 * What is attached belongs to the open file, and goes with it. Root only, no stability.
 */
#ifndef TDID_TEST_IMPORTER_H
#define TDID_TEST_IMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TDID_TEST_IMPORTER_NAME "tdid_test_importer"
#define TDID_TEST_IMPORTER_TYPE 0xDB

/* libtdi's numbers: the part that is played has no name here. */
#define TDID_TEST_IMPORTER_ANY 4
#define TDID_TEST_IMPORT_PINNED 0 /* listens to nothing */
#define TDID_TEST_IMPORT_REVOCABLE 1
#define TDID_TEST_IMPORT_DYNAMIC 2

struct tdid_test_import_attach {
	__s32 fd;
	__u32 importer; /* TDID_TEST_IMPORTER_ANY, else EOPNOTSUPP */
	__u32 dmabuf_class;
	__u32 flags;
	__u32 device; /* domain, bus, devfn of the PCI function in whose name it attaches */
	__u32 id; /* out */
};

/* When told of a move or revoke, it does not let go before UNMAP: the exporter waits. */
#define TDID_TEST_IMPORT_HOLD 1u
/* It cannot do without struct pages. */
#define TDID_TEST_IMPORT_NO_P2P 2u
#define TDID_TEST_IMPORT_ATTACH \
	_IOWR(TDID_TEST_IMPORTER_TYPE, 0x60, struct tdid_test_import_attach)

struct tdid_test_import_state {
	__u32 id;
	__u32 flags; /* out, all below too */
	__u32 notified; /* how often the exporter told it that the buffer moves or is revoked */
	__u32 maps; /* how often it mapped, with success or not */
	__s32 error; /* of the last map: 0 or a negative errno */
	__u32 segments; /* of the scatter list */
	__u64 address; /* of the first segment, as the device has it */
	__u64 length; /* of all */
};

#define TDID_TEST_IMPORT_MAPPED 1u
#define TDID_TEST_IMPORT_STATE _IOWR(TDID_TEST_IMPORTER_TYPE, 0x61, struct tdid_test_import_state)

/* The argument is the id. ENOENT. MAP: EBUSY when it is mapped. UNMAP: EINVAL when it is not. */
#define TDID_TEST_IMPORT_MAP _IO(TDID_TEST_IMPORTER_TYPE, 0x62)
#define TDID_TEST_IMPORT_UNMAP _IO(TDID_TEST_IMPORTER_TYPE, 0x63)
#define TDID_TEST_IMPORT_DETACH _IO(TDID_TEST_IMPORTER_TYPE, 0x64)

#endif
