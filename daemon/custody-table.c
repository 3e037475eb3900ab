/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The rows of the custody table. */
#include "custody-table.h"

#include "config.h"

#define D(field) offsetof(struct config, field)

const struct custody_row custody_table[ACTION_MAX] = {
        /*                         name              step                  do           undo         fds undo joins  deadlines */
        [ACTION_CLAIM_CHECK] =    { "claim.check",    TDI_CUSTODY_CLAIM,   RUNS_WORKER, RUNS_LOCAL,  0, 0, false, D(claim),   D(claim) },
        [ACTION_CLAIM_NOTE] =     { "claim.note",     TDI_CUSTODY_CLAIM,   RUNS_WORKER, RUNS_LOCAL,  0, 0,  true,  D(claim),   D(claim) },
        [ACTION_CLAIM_PM] =       { "claim.pm",       TDI_CUSTODY_CLAIM,   RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(claim),   D(claim) },
        [ACTION_CLAIM_OVERRIDE] = { "claim.override", TDI_CUSTODY_CLAIM,   RUNS_WORKER, RUNS_WORKER, 0, 0,  true,  D(claim),   D(claim) },
        [ACTION_CLAIM_REBIND] =   { "claim.rebind",   TDI_CUSTODY_CLAIM,   RUNS_WORKER, RUNS_WORKER, 0, 0,  true,  D(claim),   D(claim) },
        [ACTION_GUARD_ON] =       { "guard.on",       TDI_CUSTODY_GUARD,   RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(claim),   D(claim) },
        [ACTION_OPEN_CDEV] =      { "open.cdev",      TDI_CUSTODY_OPEN,    RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(open),    D(close) },
        [ACTION_OPEN_ASSOCIATE] = { "open.associate", TDI_CUSTODY_OPEN,    RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(open),    D(close) },
        [ACTION_OPEN_BIND] =      { "open.bind",      TDI_CUSTODY_OPEN,    RUNS_WORKER, RUNS_LOCAL,  2, 0, false, D(open),    D(close) },
        [ACTION_CONNECT_NOTE] =   { "connect.note",   TDI_CUSTODY_CONNECT, RUNS_WORKER, RUNS_LOCAL,  0, 0, false, D(connect), D(connect) },
        [ACTION_CONNECT_TSM] =    { "connect.tsm",    TDI_CUSTODY_CONNECT, RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(connect), D(connect) },
        [ACTION_PREPARE_VIOMMU] = { "prepare.viommu", TDI_CUSTODY_PREPARE, RUNS_WORKER, RUNS_LOCAL,  2, 0, false, D(prepare), D(prepare) },
        [ACTION_PREPARE_VDEVICE] = { "prepare.vdevice", TDI_CUSTODY_PREPARE, RUNS_WORKER, RUNS_WORKER, 2, 2, false, D(prepare), D(prepare) },
        [ACTION_PREPARE_ATTACH] = { "prepare.attach", TDI_CUSTODY_PREPARE, RUNS_WORKER, RUNS_WORKER, 2, 1, false, D(prepare), D(prepare) },
        [ACTION_PREPARE_WITHDRAW] = { "prepare.withdraw", TDI_CUSTODY_PREPARE, RUNS_LOCAL, RUNS_WORKER, 0, 2, false, D(prepare), D(prepare) },
        [ACTION_PREPARE_SOCKET] = { "prepare.socket", TDI_CUSTODY_PREPARE, RUNS_WORKER, RUNS_WORKER, 1, 0, false, D(prepare), D(prepare) },
        [ACTION_BIND_CONNECT] =   { "bind.connect",   TDI_CUSTODY_BIND,    RUNS_WORKER, RUNS_WORKER, 0, 0, false, D(connect), D(connect) },
        [ACTION_BIND_LOCK] =      { "bind.lock",      TDI_CUSTODY_BIND,    RUNS_HOLDER, RUNS_HOLDER, 0, 0, false, D(bind),    D(bind) },
        [ACTION_BIND_TSM] =       { "bind.tsm",       TDI_CUSTODY_BIND,    RUNS_WORKER, RUNS_WORKER, 3, 2, false, D(bind),    D(bind) },
        [ACTION_BIND_REQUESTS] =  { "bind.requests",  TDI_CUSTODY_BIND,    RUNS_HOLDER, RUNS_HOLDER, 0, 0, false, D(bind),    D(bind) },
};

enum custody_action custody_action_from_name(const char *name) {
        for (int i = 0; name && i < ACTION_MAX; i++)
                if (streq(custody_table[i].name, name))
                        return i;
        return ACTION_NONE;
}
