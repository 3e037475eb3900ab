/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* /etc/tdid/tdid.conf: limits, deadlines and what is allowed, strict JSON. An absent file means the defaults; anything unknown is refused. */
#ifndef TDID_CONFIG_H
#define TDID_CONFIG_H

#include <stddef.h>

#include "util/util.h"

#define CONFIG_PATH "/etc/tdid/tdid.conf"

struct config {
        /* limits */
        unsigned vms;          /* on this host */
        unsigned vms_per_user; /* per owner */
        unsigned functions;    /* per VM, unless CreateVM asks for less */
        unsigned keepers;      /* per VM */
        unsigned jobs;         /* running or kept for their result */
        unsigned workers;      /* processes at once */
        unsigned pinned_mib;   /* guest memory mapped for devices, per VM, unless CreateVM asks for less */
        unsigned pinned_mib_per_user; /* the same, of all VMs of an owner */
        unsigned maps;         /* pieces of it, per VM, unless CreateVM asks for less */
        unsigned exports;      /* dma-bufs per VM, and how much they cover: of BARs, and of shared memory */
        unsigned export_mib, buffer_mib;
        unsigned exports_per_user; /* the same for all VMs of an owner */
        unsigned export_mib_per_user, buffer_mib_per_user;
        unsigned guest_requests_per_second; /* per VM, of all its functions; what is beyond waits */
        /* deadlines, in seconds: a step that takes longer is shown as stuck */
        unsigned claim, open, connect, prepare, bind, close;
        unsigned associate; /* what a VMM that is asked to associate a function has for each of its two answers, before the attach fails */
        unsigned evidence;  /* what a device has to answer for all of its evidence */
        /* policy: 1 where it says true */
        unsigned handoff; /* a VM's owner may have the descriptors of its functions themselves */
        unsigned guest_requests; /* a guest's requests to its TSM are passed on: for information, */
        unsigned guest_state_changes; /* and to change the TDISP state. Scopes for debugging never are */
        unsigned unbind_on_mismatch; /* a TDI whose interface report does not fit to the host is unbound */
        unsigned associate_kvm; /* a VM's owner may have its functions associated with its KVM VM, for which the VMM gets their VFIO nodes */
        unsigned peer_to_peer; /* functions of a VM that asks for it may reach each other's BARs */
        /* evidence */
        unsigned evidence_doe;    /* 1: a device's DOE mailbox may be used from user space */
        unsigned archive_mib, archive_records; /* what is kept of it */
        /* ide */
        unsigned reserved_streams; /* of each host bridge, which tdid's connects leave */
        unsigned require_secure;   /* 1: nothing is bound whose IDE stream is not secure */
};

void config_default(struct config *c);
/* -ENOENT when absent; otherwise an error has been described in *ret_text (the caller frees it). */
int config_load(const char *path, struct config *c, char **ret_text);
/* The parser alone. */
int config_parse(const char *text, size_t size, const char *path, struct config *c, char **ret_text);

#endif
