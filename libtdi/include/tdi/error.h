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
        TDI_ERROR_INVALID_ARGUMENT,
        TDI_ERROR_NOT_FOUND,
        TDI_ERROR_EXISTS,
        TDI_ERROR_IN_USE,
        TDI_ERROR_BUSY,
        TDI_ERROR_INVALID_STATE,
        TDI_ERROR_DENIED,
        TDI_ERROR_POLICY,
        TDI_ERROR_EVIDENCE,
        TDI_ERROR_NOT_SUPPORTED,
        TDI_ERROR_CLASS_MISMATCH,
        TDI_ERROR_QUARANTINED,
        TDI_ERROR_LIMIT,
        TDI_ERROR_TIMEOUT,
        TDI_ERROR_CANCELLED,
        TDI_ERROR_KERNEL,
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
