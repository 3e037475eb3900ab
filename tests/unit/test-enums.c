/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The states: names both ways, and every pair of every transition table against the pairs listed here. */
#include <limits.h>
#include <tdi/enums.h>
#include <tdi/request.h>

#include "test.h"

#define CHECK_NAMES(prefix, max, invalid, ...)                                          \
        do {                                                                            \
                static const char *const names[] = { __VA_ARGS__ };                     \
                                                                                        \
                test_about("%s", #prefix);                                              \
                check_int(ARRAY_SIZE(names), max);                                      \
                check_int(invalid, -EINVAL);                                            \
                for (int i = 0; i < (int) ARRAY_SIZE(names); i++) {                     \
                        check_str(prefix##_to_string(i), names[i]);                     \
                        check_int(prefix##_from_string(names[i]), i);                   \
                        for (int k = 0; k < i; k++)                                     \
                                check(!streq(names[i], names[k]));                      \
                }                                                                       \
                check_str(prefix##_to_string(max), NULL);                               \
                check_str(prefix##_to_string(invalid), NULL);                           \
                check_str(prefix##_to_string(-1), NULL);                                \
                check_str(prefix##_to_string(INT_MAX), NULL);                           \
                check_str(prefix##_to_string(INT_MIN), NULL);                           \
                check_int(prefix##_from_string(NULL), invalid);                         \
                check_int(prefix##_from_string(""), invalid);                           \
                check_int(prefix##_from_string("no such name"), invalid);               \
                check_int(prefix##_from_string("Running"), invalid);                    \
                check_int(prefix##_from_string("running "), invalid);                   \
        } while (0)

static void test_names(void) {
        CHECK_NAMES(tdi_vm_phase, TDI_VM_PHASE_MAX, TDI_VM_PHASE_INVALID, "preparing", "sealed", "running", "closing", "gone");
        CHECK_NAMES(tdi_state, TDI_STATE_MAX, TDI_STATE_INVALID, "attaching", "prepared", "bound", "running", "detaching", "failed", "gone");
        CHECK_NAMES(tdi_custody, TDI_CUSTODY_MAX, TDI_CUSTODY_INVALID, "none", "claim", "guard", "open", "connect", "prepare", "bind", "run");
        CHECK_NAMES(tdi_job_state, TDI_JOB_STATE_MAX, TDI_JOB_STATE_INVALID, "running", "stuck", "done", "failed", "cancelled");
        CHECK_NAMES(tdi_tdisp, TDI_TDISP_MAX, TDI_TDISP_INVALID, "unlocked", "locked", "run", "error", "unknown", "none");
        CHECK_NAMES(tdi_request_kind, TDI_REQUEST_KIND_MAX, TDI_REQUEST_KIND_INVALID, "info", "report", "state-change", "lock", "start", "stop");
        CHECK_NAMES(tdi_dmabuf_state, TDI_DMABUF_STATE_MAX, TDI_DMABUF_STATE_INVALID, "exported", "revoked", "closed");
}

/* Every pair, out of range too, is allowed if and only if it is listed. */
#define CHECK_MOVES(prefix, max, invalid, ...)                                                                        \
        do {                                                                                                          \
                static const struct { int from, to; } moves[] = { __VA_ARGS__ };                                      \
                                                                                                                      \
                for (int from = invalid - 1; from <= (max) + 33; from++)                                              \
                        for (int to = invalid - 1; to <= (max) + 33; to++) {                                          \
                                bool listed = false;                                                                  \
                                                                                                                      \
                                for (size_t i = 0; i < ARRAY_SIZE(moves); i++)                                        \
                                        listed |= moves[i].from == from && moves[i].to == to;                         \
                                test_about("%s: %d (%s) to %d (%s)", #prefix, from, strempty(prefix##_to_string(from)), \
                                           to, strempty(prefix##_to_string(to)));                                     \
                                check_int(prefix##_may_follow(from, to), listed);                                     \
                        }                                                                                             \
        } while (0)

static void test_moves(void) {
        CHECK_MOVES(tdi_vm_phase, TDI_VM_PHASE_MAX, TDI_VM_PHASE_INVALID,
                    { TDI_VM_PREPARING, TDI_VM_SEALED },
                    { TDI_VM_PREPARING, TDI_VM_CLOSING },
                    { TDI_VM_SEALED, TDI_VM_RUNNING },
                    { TDI_VM_SEALED, TDI_VM_CLOSING },
                    { TDI_VM_RUNNING, TDI_VM_CLOSING },
                    { TDI_VM_CLOSING, TDI_VM_GONE });

        CHECK_MOVES(tdi_state, TDI_STATE_MAX, TDI_STATE_INVALID,
                    { TDI_STATE_ATTACHING, TDI_STATE_PREPARED },
                    { TDI_STATE_ATTACHING, TDI_STATE_DETACHING },
                    { TDI_STATE_ATTACHING, TDI_STATE_FAILED },
                    { TDI_STATE_PREPARED, TDI_STATE_BOUND },
                    { TDI_STATE_PREPARED, TDI_STATE_DETACHING },
                    { TDI_STATE_PREPARED, TDI_STATE_FAILED },
                    { TDI_STATE_BOUND, TDI_STATE_PREPARED },
                    { TDI_STATE_BOUND, TDI_STATE_RUNNING },
                    { TDI_STATE_BOUND, TDI_STATE_DETACHING },
                    { TDI_STATE_BOUND, TDI_STATE_FAILED },
                    { TDI_STATE_RUNNING, TDI_STATE_PREPARED },
                    { TDI_STATE_RUNNING, TDI_STATE_BOUND },
                    { TDI_STATE_RUNNING, TDI_STATE_DETACHING },
                    { TDI_STATE_RUNNING, TDI_STATE_FAILED },
                    { TDI_STATE_DETACHING, TDI_STATE_FAILED },
                    { TDI_STATE_DETACHING, TDI_STATE_GONE },
                    { TDI_STATE_FAILED, TDI_STATE_DETACHING },
                    { TDI_STATE_FAILED, TDI_STATE_GONE });

        CHECK_MOVES(tdi_job_state, TDI_JOB_STATE_MAX, TDI_JOB_STATE_INVALID,
                    { TDI_JOB_RUNNING, TDI_JOB_STUCK },
                    { TDI_JOB_RUNNING, TDI_JOB_DONE },
                    { TDI_JOB_RUNNING, TDI_JOB_FAILED },
                    { TDI_JOB_RUNNING, TDI_JOB_CANCELLED },
                    { TDI_JOB_STUCK, TDI_JOB_RUNNING },
                    { TDI_JOB_STUCK, TDI_JOB_DONE },
                    { TDI_JOB_STUCK, TDI_JOB_FAILED },
                    { TDI_JOB_STUCK, TDI_JOB_CANCELLED });

        CHECK_MOVES(tdi_dmabuf_state, TDI_DMABUF_STATE_MAX, TDI_DMABUF_STATE_INVALID,
                    { TDI_DMABUF_EXPORTED, TDI_DMABUF_REVOKED },
                    { TDI_DMABUF_EXPORTED, TDI_DMABUF_CLOSED },
                    { TDI_DMABUF_REVOKED, TDI_DMABUF_EXPORTED },
                    { TDI_DMABUF_REVOKED, TDI_DMABUF_CLOSED });

        /* PCIe 6, 11.2.4; tdid cannot always follow. */
        CHECK_MOVES(tdi_tdisp, TDI_TDISP_MAX, TDI_TDISP_INVALID,
                    { TDI_TDISP_UNLOCKED, TDI_TDISP_LOCKED },
                    { TDI_TDISP_UNLOCKED, TDI_TDISP_ERROR },
                    { TDI_TDISP_UNLOCKED, TDI_TDISP_UNKNOWN },
                    { TDI_TDISP_UNLOCKED, TDI_TDISP_NONE },
                    { TDI_TDISP_LOCKED, TDI_TDISP_UNLOCKED },
                    { TDI_TDISP_LOCKED, TDI_TDISP_RUN },
                    { TDI_TDISP_LOCKED, TDI_TDISP_ERROR },
                    { TDI_TDISP_LOCKED, TDI_TDISP_UNKNOWN },
                    { TDI_TDISP_LOCKED, TDI_TDISP_NONE },
                    { TDI_TDISP_RUN, TDI_TDISP_UNLOCKED },
                    { TDI_TDISP_RUN, TDI_TDISP_ERROR },
                    { TDI_TDISP_RUN, TDI_TDISP_UNKNOWN },
                    { TDI_TDISP_RUN, TDI_TDISP_NONE },
                    { TDI_TDISP_ERROR, TDI_TDISP_UNLOCKED },
                    { TDI_TDISP_ERROR, TDI_TDISP_UNKNOWN },
                    { TDI_TDISP_ERROR, TDI_TDISP_NONE },
                    { TDI_TDISP_UNKNOWN, TDI_TDISP_UNLOCKED },
                    { TDI_TDISP_UNKNOWN, TDI_TDISP_LOCKED },
                    { TDI_TDISP_UNKNOWN, TDI_TDISP_RUN },
                    { TDI_TDISP_UNKNOWN, TDI_TDISP_ERROR },
                    { TDI_TDISP_UNKNOWN, TDI_TDISP_NONE },
                    { TDI_TDISP_NONE, TDI_TDISP_UNLOCKED },
                    { TDI_TDISP_NONE, TDI_TDISP_UNKNOWN });
}

static void test_requests(void) {
        test_about("%s", "what requests are for");
        check_int(tdi_request_target(TDI_REQUEST_INFO), TDI_TDISP_INVALID);
        check_int(tdi_request_target(TDI_REQUEST_REPORT), TDI_TDISP_INVALID);
        check_int(tdi_request_target(TDI_REQUEST_STATE_CHANGE), TDI_TDISP_UNKNOWN);
        check_int(tdi_request_target(TDI_REQUEST_LOCK), TDI_TDISP_LOCKED);
        check_int(tdi_request_target(TDI_REQUEST_START), TDI_TDISP_RUN);
        check_int(tdi_request_target(TDI_REQUEST_STOP), TDI_TDISP_UNLOCKED);
        check_int(tdi_request_target(TDI_REQUEST_KIND_MAX), TDI_TDISP_INVALID);
        check_int(tdi_request_target(TDI_REQUEST_KIND_INVALID), TDI_TDISP_INVALID);
}

int main(void) {
        test_names();
        test_moves();
        test_requests();
        return test_end();
}
