/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The generic netlink family "device-evidence", in which a kernel tells what devices say of themselves. It was posted for Linux and is in no
 * released kernel (not in host/abi/, which is compared with one); nothing is promised about the numbers. They are those of the form of 2026 in
 * drivers/base/evidence.c and Documentation/netlink/specs/device-evidence.yaml; the form before it was the family "pci-tsm", which had no SUBSYS
 * and nonces of 256 bytes, and is not spoken here.
 *
 * A request is a dump, for CAP_NET_ADMIN in the first user namespace, with TYPE_MASK, SUBSYS and DEV_NAME, and FLAGS and NONCE if there are any.
 * With a nonce the kernel has the device measure itself again first. The answer has the objects in ascending order of their types, also those that
 * are not there, with a length of 0. An object begins in a message with TYPE, GENERATION, LENGTH and the first piece in VAL; what does not fit goes
 * on in messages with nothing but the next piece. EAGAIN, at the end of the dump, says that the evidence has changed meanwhile.
 *
 * Not settled by what was posted: whether the messages that go on may repeat TYPE, GENERATION or LENGTH (the specification does not forbid
 * it), whether one message may hold several pieces (VAL is "multi-attr"), how wide a GENERATION is (32 bits in the specification, 64 in the
 * kernel's own memory), and whether COUNT is ever sent. A reader should take all of these. Nor is it settled what the measurements are: the VCA
 * may be missing "and instead" be in their transcript, while in another place they are the response to GET_MEASUREMENTS alone. That is for whoever
 * reads them; the bytes are passed on as they are.
 */
#ifndef TDI_HOST_DEVICE_EVIDENCE_H
#define TDI_HOST_DEVICE_EVIDENCE_H

#define TDI_DEVICE_EVIDENCE_FAMILY_NAME "device-evidence"
#define TDI_DEVICE_EVIDENCE_FAMILY_VERSION 1

#define TDI_DEVICE_EVIDENCE_CMD_READ 1

#define TDI_DEVICE_EVIDENCE_A_TYPE 1       /* u32; the numbers are those of enum evidence_type, without its last */
#define TDI_DEVICE_EVIDENCE_A_TYPE_MASK 2  /* u32, 1 << type */
#define TDI_DEVICE_EVIDENCE_A_FLAGS 3      /* u32 */
#define TDI_DEVICE_EVIDENCE_A_SUBSYS 4     /* string: "pci" */
#define TDI_DEVICE_EVIDENCE_A_DEV_NAME 5   /* string, with its zero at most 32 bytes */
#define TDI_DEVICE_EVIDENCE_A_NONCE 6      /* bytes */
#define TDI_DEVICE_EVIDENCE_A_GENERATION 7 /* u32: another one when the evidence has changed */
#define TDI_DEVICE_EVIDENCE_A_COUNT 8      /* u64: how often the TSM has seen it change */
#define TDI_DEVICE_EVIDENCE_A_LENGTH 9     /* u32, of the whole object */
#define TDI_DEVICE_EVIDENCE_A_VAL 10       /* bytes: the next piece */

#define TDI_DEVICE_EVIDENCE_FLAG_DIGEST 1 /* digests of the objects instead of them */

#define TDI_DEVICE_EVIDENCE_TYPES 11
#define TDI_DEVICE_EVIDENCE_MAX_OBJECT_SIZE 16777216
#define TDI_DEVICE_EVIDENCE_MAX_NONCE_SIZE 32

#endif
