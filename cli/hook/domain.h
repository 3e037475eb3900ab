/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a libvirt domain's XML says to tdid: the <tdid:vm> of its metadata, and what libvirt itself has written of the process that will
 * be its VMM. Only reads: who a name is, and what is done with it, is the hook's.
 */
#ifndef TDID_HOOK_DOMAIN_H
#define TDID_HOOK_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <tdi/client.h>

#include "util/util.h"

/* The namespace of our elements; what comes behind the prefix is the version of their meaning. */
#define DOMAIN_NAMESPACE_PREFIX "urn:tdid:libvirt:"
#define DOMAIN_NAMESPACE DOMAIN_NAMESPACE_PREFIX "1"

/* As many functions as a VM may have at most. */
#define DOMAIN_FUNCTIONS_MAX 256

struct domain {
        bool ours;  /* there is an element of ours; without it nothing else is filled in */
        char *name; /* of the domain */
        char *uuid;
        char *vm_name; /* NULL: the domain's */
        char *platform, *bind;
        char *vmm_user, *vmm_group; /* names or numbers; NULL: as the domain's DAC label says */
        char *dac_label;            /* "USER:GROUP", once libvirt has chosen it */
        char *seclabel;             /* of SELinux or AppArmor, once libvirt has chosen it */
        bool hotplug, peer_to_peer;
        bool shared; /* the guest's memory can be shared with tdid */
        uint32_t await_vmm;
        struct tdi_function *functions; /* their strings are ours */
        size_t n_functions;
};

/** enum domain_part - how much of it is read */
enum domain_part {
        DOMAIN_WHO, /* ours, name and uuid: what it takes to give back, however wrong the rest has become */
        DOMAIN_ALL,
};

/**
 * domain_read() - read a domain's XML
 * @xml:       text of @size bytes, without terminator, as libvirt gives it to its hooks
 * @ret:       filled in on success only; domain_done() ends it
 * @ret_error: what is wrong, for people; the caller's, free(); may be left NULL for want of memory
 *
 * A text in which our namespace does not occur is that of a domain that is not ours, well-formed or not: such domains are not to feel
 * that there is a hook. In ours, whatever is not understood is an error.
 *
 * Return: 0, -EINVAL with @ret_error, or -ENOMEM.
 */
int domain_read(const char *xml, size_t size, enum domain_part part, struct domain *ret, char **ret_error);

void domain_done(struct domain *d);

/**
 * domain_ids() - which user and group the VMM runs as
 *
 * What the metadata says has priority over the DAC label. Asks the name service for names.
 *
 * Return: 0, -EINVAL with @ret_error, or -ENOMEM.
 */
int domain_ids(const struct domain *d, uid_t *ret_uid, gid_t *ret_gid, char **ret_error);

#endif
