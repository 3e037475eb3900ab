/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a TSM has collected of a device, by information requests about a TDI that is bound with it. What such a request looks like is between a guest
 * and its platform, and published for one platform only: Arm CCA's host driver, in the forms that were posted for Linux and are in no released kernel
 *
 *      by scope        u32 1 (size) or 2 (read), u32 object; a read goes on with u64 offset
 *      by operation    IOMMU_VDEVICE_TSM_REQ's OBJECT_INFO with u32 object; READ_OBJECT with u32 object, u32 0, u64 offset
 *
 * where a size is a u32, and a read fills exactly as many bytes. Objects have RHI's numbers (Arm DEN0148). All of that may change: nothing is taken
 * whose size is not first told and then kept to, and that is not of the form that the object must have. A TSM that answers otherwise has nothing here.
 *
 * Measurements are those that were made last, for whoever asked for them: to make new ones would take them from the guest. So their nonce is not ours.
 */
#ifndef TDI_EVIDENCE_TSM_OBJECTS_H
#define TDI_EVIDENCE_TSM_OBJECTS_H

#include "evidence/evidence.h"

enum tsm_form {
        TSM_FORM_NONE,      /* none that anybody has published */
        TSM_FORM_SCOPE,
        TSM_FORM_OPERATION,
};

/* @operations: requests have one; @tvm_arch: of host/iommufd_tsm.h, the platform whose TSM it is. */
enum tsm_form tsm_form_of(bool operations, unsigned tvm_arch);

/*
 * An information request; @op is 0 where the form has none. Fills *ret_used. What the TSM says, or the way to it: a negative errno. The way is broken, and
 * nothing else need be tried, with -ECONNRESET, -ETIMEDOUT, -ENOTCONN, -EBADMSG.
 */
typedef int (*tsm_ask)(void *userdata, uint32_t op, const void *in, size_t in_size, void *out, size_t room, size_t *ret_used);

/**
 * tsm_objects_collect() - read what a TSM has
 * @types: 1 << enum evidence_type: VCA, slot 0, measurements, report; others are not there
 * @room:  the longest answer that a request can have, bytes; at most EVIDENCE_OBJECT_MAX
 * @e:     objects that were read are put into it; others stay
 * @text:  what became of each object, for a person
 *
 * Certificates without SPDM's header get one: the hash in it is then that of the first certificate, made here, in the algorithm that the VCA has.
 * Blocks as long as @ask does. Threads do not share anything.
 *
 * Return: how many objects were read; -EOPNOTSUPP: no form is known; -ENODATA: the TSM has none, or does not know the form; what broke the way; -ENOMEM.
 */
int tsm_objects_collect(enum tsm_form form, unsigned types, size_t room, tsm_ask ask, void *userdata, struct evidence *e, char *text, size_t text_size);

#endif
