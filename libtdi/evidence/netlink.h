/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Evidence from the kernel's generic netlink family "device-evidence", where the kernel has one (host/device_evidence.h). It asks this machine's
 * kernel, whatever host the devices are on: not to be called for devices of the simulation.
 */
#ifndef TDI_EVIDENCE_NETLINK_H
#define TDI_EVIDENCE_NETLINK_H

#include "evidence/evidence.h"
#include "evidence/reason.h"

#define EVIDENCE_NETLINK_TYPES ((1u << EVIDENCE_CHALLENGE) - 1) /* all that the family knows */
#define EVIDENCE_NETLINK_TOTAL_MAX (32u << 20)                   /* bytes, all objects together */
#define EVIDENCE_NETLINK_ATTEMPTS 8u                             /* dumps, when the evidence changes while it is read */
#define EVIDENCE_NETLINK_TIMEOUT 30u                             /* seconds, all of them together */

/**
 * evidence_netlink_collect() - read what the kernel has of a PCI function's evidence
 * @bdf:        the function
 * @nonce:      for new measurements, EVIDENCE_NONCE bytes; NULL: those that the kernel has, which may be none
 * @nonce_size: EVIDENCE_NONCE; 0 without a nonce
 * @type_mask:  1 << enum evidence_type, of EVIDENCE_NETLINK_TYPES
 * @ret:        the objects of those types; what the kernel does not have, and what is empty, is not there. Whoever calls owns it
 * @why:        may be NULL; filled in on every error but -EINVAL and -ENOMEM
 *
 * Needs CAP_NET_ADMIN and blocks: a kernel that measures a device does so within the call, for as long as the device takes (a signal that
 * ends the process ends that). What can be limited is. For a worker, not for an event loop. Threads do not share anything.
 *
 * Return: 0; -EOPNOTSUPP: the kernel has no such family, or not for PCI, or cannot measure anew; -ENODEV: it has nothing on this function;
 * -EPERM: no CAP_NET_ADMIN; -EBADMSG: what came is refused, or the kernel failed in another way; -EINVAL: wrong arguments; -ENOMEM.
 */
int evidence_netlink_collect(const char *bdf, const uint8_t *nonce, size_t nonce_size, unsigned type_mask, struct evidence *ret,
                             struct evidence_why *why);

#endif
