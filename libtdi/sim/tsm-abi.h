/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a guest asks the link TSM of the simulation (tsm-request.c). On a real kernel the test module tests/kmod/tdid_test_tsm takes the
 * same requests; a test compares. No TSM of hardware has them.
 *
 * A request starts with its operation, a u32, and goes on with its data.
 */
#ifndef TDI_SIM_TSM_ABI_H
#define TDI_SIM_TSM_ABI_H

/* enum pci_tsm_req_scope, as far as the PCI/TSM core lets requests through. */
#define TDI_TEST_TSM_SCOPE_INFO 0u
#define TDI_TEST_TSM_SCOPE_STATE_CHANGE 1u

#define TDI_TEST_TSM_REQ_MAX 65536u

#define TDI_TEST_TSM_OP_ECHO 0u  /* information: the data, every bit inverted */
#define TDI_TEST_TSM_OP_STATE 1u /* information: the TDISP state, a u32 */
#define TDI_TEST_TSM_OP_START 2u /* state change: locked to run */
#define TDI_TEST_TSM_OP_STOP 3u  /* state change: locked or run to unlocked; stays bound */
#define TDI_TEST_TSM_OP_LOCK 5u  /* state change: unlocked to locked */
/*
 * Information: a device interface report of TDISP, made of the BARs that the function has: the first one is trusted memory, the others
 * are not. The data, a u32, may ask for what is not so.
 */
#define TDI_TEST_TSM_OP_REPORT 6u
#define TDI_TEST_TSM_REPORT_SHIFT 1u  /* an offset is added to all addresses; legitimate */
#define TDI_TEST_TSM_REPORT_ATS 2u    /* it was locked with ATS */
#define TDI_TEST_TSM_REPORT_BEYOND 4u /* the first range is longer than its BAR */
#define TDI_TEST_TSM_REPORT_SHORT 8u  /* it ends in the middle */

/*
 * Objects, while the test has given it any: as Arm CCA's host driver has them in the patches of 2026. As information, of exactly these lengths: u32 1 and
 * u32 object, the answer is its size, a u32; u32 2, u32 object and u64 offset, the answer is all of it, from the offset 0 only. By iommufd's operations
 * OBJECT_INFO and READ_OBJECT: u32 object; u32 object, u32 0 and u64 offset. The interface report is made where it was not given. -EINVAL: there is none.
 */
#define TDI_TEST_TSM_OBJECT_CERTIFICATE 1u
#define TDI_TEST_TSM_OBJECT_MEASUREMENTS 2u
#define TDI_TEST_TSM_OBJECT_REPORT 3u
#define TDI_TEST_TSM_OBJECT_VCA 4u
#define TDI_TEST_TSM_OBJECT_MAX 65536u

/* TDISP states, by the numbers of the PCIe specification. */
#define TDI_TEST_TSM_UNLOCKED 0u
#define TDI_TEST_TSM_LOCKED 1u
#define TDI_TEST_TSM_RUN 2u

#define TDI_TEST_TSM_CODE_OK 0u
#define TDI_TEST_TSM_CODE_INVALID 1u /* unknown or too short */
#define TDI_TEST_TSM_CODE_WRONG_STATE 4u
#define TDI_TEST_TSM_CODE_WRONG_SCOPE 5u
#define TDI_TEST_TSM_CODE_INJECTED 0xbadu /* a rule made it fail */

#endif
