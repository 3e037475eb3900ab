/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What kinds of requests of guests there are. */
#include <tdi/request.h>

#include "model/names.h"

DEFINE_NAMES(tdi_request_kind, enum tdi_request_kind, TDI_REQUEST_KIND_MAX, TDI_REQUEST_KIND_INVALID,
             [TDI_REQUEST_INFO] = "info", [TDI_REQUEST_REPORT] = "report", [TDI_REQUEST_STATE_CHANGE] = "state-change",
             [TDI_REQUEST_LOCK] = "lock", [TDI_REQUEST_START] = "start", [TDI_REQUEST_STOP] = "stop")

enum tdi_tdisp tdi_request_target(enum tdi_request_kind kind) {
        static const enum tdi_tdisp targets[TDI_REQUEST_KIND_MAX] = {
                [TDI_REQUEST_INFO] = TDI_TDISP_INVALID,
                [TDI_REQUEST_REPORT] = TDI_TDISP_INVALID,
                [TDI_REQUEST_STATE_CHANGE] = TDI_TDISP_UNKNOWN,
                [TDI_REQUEST_LOCK] = TDI_TDISP_LOCKED,
                [TDI_REQUEST_START] = TDI_TDISP_RUN,
                [TDI_REQUEST_STOP] = TDI_TDISP_UNLOCKED,
        };

        return kind >= 0 && kind < TDI_REQUEST_KIND_MAX ? targets[kind] : TDI_TDISP_INVALID;
}
