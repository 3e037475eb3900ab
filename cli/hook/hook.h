/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What libvirt's operations on a domain mean for its functions. See tdid-hook(8).
 */
#ifndef TDID_HOOK_HOOK_H
#define TDID_HOOK_HOOK_H

#include <stddef.h>

/** struct hook - one call of libvirt's; the strings are borrowed */
struct hook {
        const char *bus;        /* as of tdi_client_connect() */
        const char *state;      /* folder with a file for each domain whose VM is this hook's */
        const char *domain;     /* its name, for messages */
        const char *operation;  /* "prepare", "start", … */
        const char *suboperation; /* "begin", "end" */
};

/**
 * hook_run() - do what an operation asks for
 * @xml: the domain's, @size bytes
 *
 * An operation that is none of ours, and a domain that is not: nothing is done, and nobody is asked. libvirt is never called: it waits for us
 * with the domain locked.
 *
 * Return: 0; or a negative errno, and standard error says why, which libvirt makes part of its own error.
 */
int hook_run(const struct hook *h, const char *xml, size_t size);

#endif
