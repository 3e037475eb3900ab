/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The calls of /dev/tdid_test_tsm, by which a test does to the kernel's PCI/TSM core what no user
 * interface of that core offers: bind a function to a VM, unbind it, and pass a guest's request to
 * its TSM.
 *
 * It is a test's interface and never a product's: root only, no stability, no policy. Reserved
 * fields are zero.
 */
#ifndef TDID_TEST_TSM_H
#define TDID_TEST_TSM_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TDID_TEST_TSM_NAME "tdid_test_tsm"
#define TDID_TEST_TSM_DEV "/dev/" TDID_TEST_TSM_NAME

struct tdid_test_tsm_fn {
	__u16 segment;
	__u8 bus;
	__u8 devfn;
};

/*
 * The errors are those of pci_tsm_bind(): EINVAL not connected, EBUSY bound to another VM, 0
 * without effect when bound to the same one; and of this module: EBADF, EINVAL no KVM VM, ENODEV no
 * such function, EEXIST the id is taken in that VM, or what a rule says.
 */
struct tdid_test_tsm_bind {
	struct tdid_test_tsm_fn fn;
	__u32 tdi_id;
	__s32 vm_fd;
	__u32 reserved;
};

/* ENXIO when the function is not bound. */
struct tdid_test_tsm_unbind {
	struct tdid_test_tsm_fn fn;
	__u32 reserved;
};

/*
 * `scope` is an enum pci_tsm_req_scope (0 information, 1 state change). The request starts with an
 * operation, a 32-bit number, and goes on with its data. On return `out_used` bytes of the answer
 * are valid; tsm_code is set on failure too.
 */
struct tdid_test_tsm_req {
	struct tdid_test_tsm_fn fn;
	__u32 scope;
	__u64 in;
	__u64 out;
	__u32 in_len;
	__u32 out_len;
	__u32 out_used;
	__u32 reserved;
	__u64 tsm_code;
};

#define TDID_TEST_TSM_REQ_MAX 65536

#define TDID_TEST_TSM_OP_ECHO 0	 /* information: the data, every bit inverted */
#define TDID_TEST_TSM_OP_STATE 1 /* information: the TDISP state, 32 bits */
#define TDID_TEST_TSM_OP_START 2 /* state change: locked to run */
#define TDID_TEST_TSM_OP_STOP 3	 /* state change: locked or run to unlocked; stays bound */
/* any: the data, 64 bits, is what the driver returns to the core, whether it makes sense or not */
#define TDID_TEST_TSM_OP_RETURN 4
#define TDID_TEST_TSM_OP_LOCK 5	  /* state change: unlocked to locked */
/*
 * information: a device interface report of TDISP, made of the BARs that the function has: the first
 * one is trusted memory, the others are not. The data, 32 bits, may ask for what is not so.
 */
#define TDID_TEST_TSM_OP_REPORT 6
#define TDID_TEST_TSM_REPORT_SHIFT 1  /* an offset is added to all addresses; legitimate */
#define TDID_TEST_TSM_REPORT_ATS 2    /* it was locked with ATS */
#define TDID_TEST_TSM_REPORT_BEYOND 4 /* the first range is longer than its BAR */
#define TDID_TEST_TSM_REPORT_SHORT 8  /* it ends in the middle */

#define TDID_TEST_TSM_CODE_OK 0
#define TDID_TEST_TSM_CODE_INVALID 1	  /* unknown or too short */
#define TDID_TEST_TSM_CODE_WRONG_STATE 4
#define TDID_TEST_TSM_CODE_WRONG_SCOPE 5
#define TDID_TEST_TSM_CODE_INJECTED 0xbad /* a rule made it fail */

#define TDID_TEST_TSM_IOC_BIND _IOW(0xe7, 0x10, struct tdid_test_tsm_bind)
#define TDID_TEST_TSM_IOC_UNBIND _IOW(0xe7, 0x11, struct tdid_test_tsm_unbind)
#define TDID_TEST_TSM_IOC_REQ _IOWR(0xe7, 0x12, struct tdid_test_tsm_req)

#endif
