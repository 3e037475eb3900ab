/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this host can do for confidential device assignment: a table of checks, each with a verdict, a reason and, where something is to be
 * done, a remedy, which nobody here does. A worker of tdid runs them for Check(), and tdictl without tdid, as any user. Nothing is changed: files
 * are read, devices that belong to nobody are opened and asked what they know. A function that sleeps is left asleep.
 *
 * Every check judges by what this hardware could do. What the caller may not see is skipped, with the reason.
 *
 * It may sleep in the kernel. Out of memory ends the process, as everywhere where JSON is made.
 */
#ifndef TDI_CHECK_CHECK_H
#define TDI_CHECK_CHECK_H

#include <tdi/bdf.h>

#include "host/host.h"
#include "model/json.h"

/* In ascending weight: of several things that are found the heaviest is the check's verdict. */
enum check_verdict {
        CHECK_SKIP, /* does not concern this host, or cannot be seen by this user */
        CHECK_PASS,
        CHECK_WARN, /* something is not to be had, or is in the way of some function */
        CHECK_FAIL, /* no function can be assigned, or no confidential guest be started where the hardware could */
        CHECK_VERDICT_MAX,
        CHECK_VERDICT_INVALID = -22
};

const char *check_verdict_to_string(enum check_verdict verdict); /* "skip", "pass", "warn", "fail" */
enum check_verdict check_verdict_from_string(const char *name);

struct check_input {
        TdiHost *host;
        const struct tdi_bdf *devices; /* which functions to look at, borrowed; all of the host's when there are none */
        size_t n_devices;
        /* {"loaded", "error", "rules", "files"} of the policy, borrowed; NULL: it is not looked at. "denied": it may not be read. */
        struct json_object *policy;
        /* BDFs that tdid has, borrowed. NULL: those with a journal in /run/tdid. */
        struct json_object *own;
};

/*
 * {"checks": [{"id", "group", "title", "verdict", "reason", "remedy", "functions", "details"}], "summary": {"verdict", "pass", "warn", "fail",
 * "skip"}, "platform"}; the caller's. "remedy" is null where nothing is to be done. "functions" is a list of {"bdf", "verdict", "reason"}, of at most
 * CHECK_FUNCTIONS_MAX, the worst first. "details" is a list of texts that name processes and paths of others: for who may know them.
 */
struct json_object *check_run(const struct check_input *in);

/* {"checks": [{"id", "group", "title", "about", "remedies": [text]}]}: the table; the caller's. */
struct json_object *check_list(void);

#define CHECK_FUNCTIONS_MAX 64
#define CHECK_DETAILS_MAX 64

#endif
