/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Questions for evidence. */
#include "evidence.h"

#include <stdio.h>

#include "audit.h"
#include "custody-rules.h"
#include "device.h"
#include "evidence-tsm.h"
#include "job.h"
#include "worker.h"

/* More at once would starve what VMs wait for. */
#define ASKING_MAX 8

struct Evidence {
        Manager *manager;
        char bdf[TDI_BDF_MAX]; /* who speaks */
        Worker *worker;
        evidence_done done; /* NULL: nobody waits any more */
        void *userdata;
        sd_event_source *deadline;
        bool archived; /* nobody asks it: what the archive has */
        bool late; /* its worker was killed, and is in the kernel still */
        Evidence *next;
};

static void forget(Evidence *x) {
        Evidence **p = &x->manager->evidence;

        while (*p != x)
                p = &(*p)->next;
        *p = x->next;
        sd_event_source_disable_unref(x->deadline);
        if (x->worker)
                x->worker = worker_rest(x->worker);
        /* Who waits to connect it may. */
        manager_touch(x->manager);
        free(x);
}

static bool is_sealed(int fd) {
        const int wanted = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
        int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);

        return seals >= 0 && (seals & wanted) == wanted;
}

static void write_down(const Evidence *x, struct json_object *values, const struct evidence_answer *a) {
        const char *digest = json_str_or(values, "digest", ""), *nonce = json_str_or(values, "nonce", NULL);

        audit_evidence_collected(x->bdf, a->source, digest, nonce);
        for (size_t i = 0; a->proofs && i < json_object_array_length(a->proofs); i++) {
                struct json_object *o = json_object_array_get_idx(a->proofs, i);
                char why[700];

                snprintf(why, sizeof(why), "%s (anchor %s)", json_str_or(o, "text", ""), json_str_or(o, "anchor", ""));
                audit_evidence_verified(x->bdf, a->source, digest, nonce, json_bool_or(o, "ok", false) ? NULL : why);
        }
}

static void on_answer(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata) {
        Evidence *x = userdata;
        evidence_done done = x->done;
        void *asker = x->userdata;
        struct evidence_answer a = { .raw = -EBADF, .text = -EBADF };

        if (r == -ECONNRESET)
                x->worker = worker_free(w);
        else if (r >= 0) {
                (void) worker_acknowledge(w);
                a = (struct evidence_answer){ json_str_or(values, "source", "?"), json_u64_or(values, "time", 0), NULL, ipc_fds_take(fds, 0), ipc_fds_take(fds, 1) };
                (void) json_get_array(values, "proofs", &a.proofs);
                if (!x->archived)
                        write_down(x, values, &a);
                if (json_str_or(values, "not_archived", NULL))
                        log_warning("evidence of %s: %s", x->bdf, json_str_or(values, "not_archived", ""));
                /* It has parsed a stranger's bytes: what it hands out is looked at. */
                if (!is_sealed(a.raw) || !is_sealed(a.text)) {
                        r = -EBADMSG;
                        text = "the worker's answer is not complete";
                }
        }
        /* First, so that whoever is told may ask again. */
        forget(x);
        if (done)
                done(r < 0 ? r : 0, text, r < 0 ? NULL : &a, asker);
        close_fd(a.raw);
        close_fd(a.text);
}

#define LATE "the device did not answer in time (\"evidence\" in \"deadlines\" of the configuration)"

/* A reader leaves nothing half done: a mailbox is aborted by whoever uses it next. It may take the kernel long to let it go, for which nobody waits. */
static int on_deadline(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        Evidence *x = userdata;
        evidence_done done = x->done;

        worker_kill(x->worker);
        x->done = NULL;
        x->late = true;
        log_warning("evidence of %s: its worker has not come back from the device in time, and is ended; until it has, the device is not asked again nor connected", x->bdf);
        if (done)
                done(-ETIMEDOUT, LATE, NULL, x->userdata);
        return 0;
}

/* NULL: the mailbox may be used. Else why not; the buffer has the text. */
static const char *why_not_mailbox(Manager *m, const Device *d, const char *bdf, char *buf, size_t size) {
        Custody *user = custody_using_dsm(m, bdf);

        if (!m->config.evidence_doe)
                snprintf(buf, size, "\"doe\" in \"evidence\" of %s is not true: the kernel does not know of what user space does to its mailboxes, and may be tainted by it; to allow it all the same, set it and `systemctl restart tdid`", m->config_path);
        else if (!(d->tee & DEVICE_DOE))
                snprintf(buf, size, "%s has no DOE mailbox", bdf);
        else if (d->tsm)
                snprintf(buf, size, "%s is connected to %s, whose mailbox it is then", bdf, d->tsm);
        else if (user || job_acts_on_dsm(m, bdf))
                snprintf(buf, size, "%s is about to be connected to a TSM, or to be disconnected", bdf);
        else if (d->driver && startswith(d->driver, "cxl"))
                snprintf(buf, size, "the driver %s uses the mailboxes of %s", d->driver, bdf);
        else
                return NULL;
        return buf;
}

/* Who answers for it: its DSM, where a TSM could make one of it; a VF has no mailbox of its own. */
Device *evidence_speaker(Device *d) {
        Device *dsm = device_dsm(d), *pf = d->phys_fn == UINT32_MAX ? NULL : device_find_number(d->manager, d->phys_fn);

        return dsm ? dsm : pf ? pf : d;
}

/* @args is only read. */
static int start(Manager *m, const char *bdf, const char *op, struct json_object *args, int socket, evidence_done done, void *userdata, Evidence **ret) {
        Evidence *x = calloc(1, sizeof(*x));
        int r;

        if (!x)
                log_oom();
        *x = (Evidence){ .manager = m, .done = done, .userdata = userdata, .archived = streq(op, "read.archived") };
        snprintf(x->bdf, sizeof(x->bdf), "%s", bdf);
        r = worker_new(m, -EBADF, &x->worker);
        if (r >= 0)
                r = worker_call(x->worker, op, "do", args, &socket, socket >= 0, on_answer, x);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &x->deadline, CLOCK_MONOTONIC, (uint64_t) m->config.evidence * 1000000, 0, on_deadline, x);
        if (r < 0) {
                worker_free(x->worker);
                free(x);
                return r;
        }
        x->next = m->evidence;
        m->evidence = x;
        *ret = x;
        return 0;
}

static int may_start(const Manager *m, const char *bdf) {
        unsigned n = 0;

        if (evidence_is_asking(m, bdf))
                return -EBUSY;
        for (const Evidence *x = m->evidence; x; x = x->next)
                n += !x->late;
        return n >= ASKING_MAX ? -EAGAIN : 0;
}

int evidence_ask(Manager *m, Device *d, struct json_object *verify, const char *nonce, evidence_done done, void *userdata, Evidence **ret) {
        _cleanup_json_ struct json_object *args = json_new();
        Device *speaker = evidence_speaker(d);
        char bdf[TDI_BDF_MAX], why[600];
        _cleanup_close_ int tsm = -EBADF;
        int r;

        tdi_bdf_format(speaker->bdf, bdf);
        r = may_start(m, bdf);
        if (r < 0)
                return r;
        json_set_str(args, "bdf", bdf);
        json_set_str(args, "nonce", nonce);
        json_set_str(args, "why_not_doe", why_not_mailbox(m, speaker, bdf, why, sizeof(why)));
        json_set_u64(args, "timeout_usec", (uint64_t) m->config.evidence * 1000000 * 3 / 4);
        json_set_take(args, "verify", verify ? json_object_get(verify) : NULL);
        json_set_str(args, "archive", m->archive_dir);
        json_set_u64(args, "archive_bytes", (uint64_t) m->config.archive_mib << 20);
        json_set_u64(args, "archive_records", m->config.archive_records);
        tsm = evidence_tsm_way(m, d, speaker, args);
        return start(m, bdf, "read.evidence", args, tsm, done, userdata, ret);
}

int evidence_look_up(Manager *m, Device *d, struct json_object *verify, evidence_done done, void *userdata, Evidence **ret) {
        _cleanup_json_ struct json_object *args = json_new();
        char bdf[TDI_BDF_MAX];
        int r;

        tdi_bdf_format(evidence_speaker(d)->bdf, bdf);
        r = may_start(m, bdf);
        if (r < 0)
                return r;
        json_set_str(args, "bdf", bdf);
        json_set_take(args, "verify", verify ? json_object_get(verify) : NULL);
        json_set_str(args, "archive", m->archive_dir);
        return start(m, bdf, "read.archived", args, -EBADF, done, userdata, ret);
}

Evidence *evidence_cancel(Evidence *x) {
        if (x)
                x->done = NULL;
        return NULL;
}

bool evidence_is_asking(const Manager *m, const char *bdf) {
        for (const Evidence *x = m->evidence; x; x = x->next)
                if (streq(x->bdf, bdf))
                        return true;
        return false;
}

void evidence_end(Manager *m) {
        while (m->evidence) {
                Evidence *x = m->evidence;

                x->worker = worker_free(x->worker);
                forget(x);
        }
}
