/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SPDM to an emulated device that listens on this machine: DOE objects in the frames that QEMU's spdm-socket and DMTF's spdm-emu speak.
 * For tests and for emulated devices; there is nothing in it that would make a network safe.
 */
#ifndef TDI_EVIDENCE_SPDM_TCP_H
#define TDI_EVIDENCE_SPDM_TCP_H

#include "evidence/spdm-requester.h"

/* Connects to a port of the loopback address. 0; -EBADMSG with @why; -ENOMEM. */
int spdm_tcp_open(uint16_t port, struct spdm_transport **ret, struct evidence_why *why);
struct spdm_transport *spdm_tcp_close(struct spdm_transport *t);
DEFINE_CLEANUP(struct spdm_transport *, spdm_tcp_close);

#endif
