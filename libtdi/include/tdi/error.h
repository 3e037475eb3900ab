/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The errors of tdid: one table of name, errno and exit code. The names are API
 * (org.tdid1.Error.NAME on the bus) and so are the exit codes of tdictl.
 */
#ifndef TDI_ERROR_H
#define TDI_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

enum tdi_error {
        TDI_ERROR_NONE,
        TDI_ERROR_INVALID_ARGUMENT, /* malformed input, unknown option, wrong type */
        TDI_ERROR_NOT_FOUND,        /* no such VM, function, TSM or job */
        TDI_ERROR_EXISTS,           /* the name, UUID or guest RID is taken */
        TDI_ERROR_IN_USE,           /* the host or another VM uses the function */
        TDI_ERROR_BUSY,             /* another job has the object: try again */
        TDI_ERROR_INVALID_STATE,    /* not in this phase or state */
        TDI_ERROR_DENIED,           /* the caller may not do this */
        TDI_ERROR_POLICY,           /* the policy, or tdid.conf, says no */
        TDI_ERROR_EVIDENCE,         /* evidence is missing or does not match */
        TDI_ERROR_NOT_SUPPORTED,    /* this kernel or platform cannot */
        TDI_ERROR_CLASS_MISMATCH,   /* no class of dma-buf that both sides know */
        TDI_ERROR_QUARANTINED,      /* the function, or one that shares its reset or IOMMU group, is withheld */
        TDI_ERROR_LIMIT,            /* a limit was reached */
        TDI_ERROR_TIMEOUT,          /* a deadline passed; the work may still end */
        TDI_ERROR_CANCELLED,        /* the job was cancelled and undone */
        TDI_ERROR_KERNEL,           /* a kernel call failed */
        TDI_ERROR_MAX,
        TDI_ERROR_INVALID = -22
};

/* The prefix of the names on the bus. */
#define TDI_ERROR_PREFIX "org.tdid1.Error."

/**
 * tdi_error_to_name() - short name of an error, as "NotFound"
 * @error:      the error
 *
 * Return: a constant string; "" for TDI_ERROR_NONE, NULL out of range. Thread-safe.
 */
const char *tdi_error_to_name(enum tdi_error error);

/**
 * tdi_error_from_name() - error of a name, with or without the bus prefix
 * @name:       the name, may be NULL
 *
 * Return: the error, or TDI_ERROR_INVALID for a name that is none of ours. Thread-safe.
 */
enum tdi_error tdi_error_from_name(const char *name);

/**
 * tdi_error_to_errno() - the errno nearest to an error
 * @error:      the error
 *
 * Return: a positive errno, 0 for TDI_ERROR_NONE, EINVAL out of range. Thread-safe.
 */
int tdi_error_to_errno(enum tdi_error error);

/**
 * tdi_error_to_exit() - the exit code that tdictl ends with
 * @error:      the error
 *
 * Return: 0 to 11 as documented in tdictl(1); 1 out of range. Thread-safe.
 */
int tdi_error_to_exit(enum tdi_error error);

#ifdef __cplusplus
}
#endif

#endif
