/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Device.Connect and Device.Disconnect: an operator's own wish for a DSM, made by a worker outside any custody. What an operator
 * connected, only an operator disconnects.
 */
#include "audit.h"
#include "device.h"
#include "ide.h"
#include "job.h"
#include "worker.h"

static void on_connected(_unused_ Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds,
                         void *userdata) {
        Job *j = userdata;

        if (r < 0)
                job_fail(j, r == -EDQUOT ? TDI_ERROR_LIMIT : TDI_ERROR_KERNEL, "%s", text);
        else if (j->kind == JOB_CONNECT)
                audit_tsm_connected(j->objects[0], j->tsm, NULL);
        else
                audit_tsm_disconnected(j->objects[0], j->tsm, NULL);
        j->committing = true;
        j->sequence = inventory_refresh_tsm(j->manager);
}

int connect_start(Job *j, const char *verb) {
        _cleanup_json_ struct json_object *args = json_new();
        int r;

        json_set_str(args, "dsm", j->objects[0]);
        json_set_str(args, "bdf", j->objects[0]);
        json_set_str(args, "tsm", j->tsm);
        json_set_str(args, "state", j->manager->state_dir);
        json_set_u64(args, "reserved_streams", j->manager->config.reserved_streams);
        r = worker_new(j->manager, -EBADF, &j->worker);
        if (r >= 0)
                r = worker_call(j->worker, "connect.tsm", verb, args, NULL, 0, on_connected, j);
        return r;
}

bool connect_settle(Job *j) {
        /* Who hears that it is done shall also see it: the answer waits for the reading. */
        if (!j->committing || !inventory_tsm_round_is_done(j->manager, j->sequence) || ide_is_reading(j->manager))
                return false;
        job_finish(j);
        return true;
}
