/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds a bound TDI of a device, and opens a socket for requests about it. */
#include "evidence-tsm.h"

#include <sys/socket.h>
#include <tdi/request.h>

#include "device.h"
#include "evidence.h"
#include "model/platform.h"
#include "provider.h"
#include "vm.h"
#include "vpci.h"

static bool takes_requests(const TDI *t) {
        return t->custody && tdi_is_attached(t) && custody_is_done(t->custody, ACTION_BIND_REQUESTS) && vpci_takes_requests(t->vm);
}

/* The function's own, or else another of the same device. */
static TDI *find(Manager *m, const Device *d, const Device *speaker) {
        TDI *own = tdi_find(m, d->bdf);

        if (own && takes_requests(own))
                return own;
        for (size_t i = 0; i < m->n_vms; i++)
                for (size_t k = 0; k < m->vms[i]->n_tdis; k++) {
                        TDI *t = m->vms[i]->tdis[k];
                        Device *other = takes_requests(t) ? device_find(m, t->bdf) : NULL;

                        if (other && evidence_speaker(other) == speaker)
                                return t;
                }
        return NULL;
}

static struct json_object *describe(const TDI *t, const Device *speaker, bool own) {
        const char *provider = json_str_or(t->custody->values, "provider", "");
        struct json_object *o = json_new();

        json_set_str(o, "name", speaker->tsm ? speaker->tsm : "its TSM");
        json_set_str(o, "provider", provider);
        json_set_bool(o, "operations", provider_find(provider) == PROVIDER_IOMMUFD_V7);
        json_set_u64(o, "tvm_arch", t->vm->platform->tvm_arch);
        json_set_bool(o, "own", own);
        if (own && t->raw_report) {
                json_set_str(o, "report", t->raw_report);
                json_set_u64(o, "report_time", t->report_read);
        }
        return o;
}

int evidence_tsm_way(Manager *m, const Device *d, const Device *speaker, struct json_object *args) {
        TDI *t = find(m, d, speaker);
        struct json_object *o;
        int pair[2], r;

        if (!t)
                return -ENOTCONN;
        o = describe(t, speaker, t == tdi_find(m, d->bdf));
        json_set_take(args, "tsm", o);
        r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
        if (r >= 0) {
                /* A holder that does not take it closes it, which the worker sees. */
                r = vpci_open_own_requests(t->custody, pair[1], 1u << TDI_REQUEST_INFO);
                close_fd(pair[1]);
                if (r < 0)
                        close_fd(pair[0]);
        }
        if (r < 0)
                json_set_str(o, "no_socket", strerror(-r));
        return r < 0 ? r : pair[0];
}
