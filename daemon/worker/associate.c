/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMM is asked to tell its KVM VM of the function, between the opening of the VFIO node and its being bound: before that no KVM of the
 * function is recorded by VFIO, after it none is taken over any more (vfio_df_ioctl_bind_iommufd). Or to take that back. What a VMM says is
 * a stranger's word: it is looked at here, and nothing else is done with it.
 */
#include "worker/work.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

#include "model/association.h"

/* A VMM's answer, after what it may have said too late. */
static int answer(struct work *w, int channel, const struct association_message *question, uint32_t op, struct association_message *ret,
                  struct association_fds *ret_fds) {
        int timeout_ms = (int) json_u64_or(w->args, "patience", 10) * 1000;
        int r;

        for (unsigned i = 0; i < 16; i++) {
                r = association_receive(channel, timeout_ms, ret, ret_fds);
                if (r < 0)
                        return r;
                if (ret->number == question->number && ret->op == op)
                        return 0;
                association_close(ret_fds);
        }
        return -EBADMSG;
}

static int failed(struct work *w, int r) {
        return work_fail(w, r == -EPIPE || r == -ECONNRESET ? -ENOTCONN : r,
                         r == -ETIMEDOUT ? "its VMM does not serve the channel that it has opened (tdi_association_serve)" :
                         r == -EPIPE || r == -ECONNRESET ? "its VMM has closed the channel: it has to open another (OpenAssociation)" :
                         r == -EAGAIN ? "its VMM does not read what it is told" : "what its VMM says is not understood",
                         "have %s associated with the VM's KVM", w->bdf);
}

static int refused(struct work *w, const struct association_message *m) {
        int r = m->result < 0 && m->result > -4096 ? m->result : -EBADMSG;

        return work_fail(w, r,
                         r == -EBUSY && m->stage == ASSOCIATION_CREATE ?
                         "the VMM has made a kvm-vfio device itself, and a VM has one: it must not" :
                         r == -EIO ? "the VMM serves for a KVM VM that another process has made" : NULL,
                         "have %s associated with the VM's KVM: the VMM's %s failed", w->bdf,
                         m->stage == ASSOCIATION_CREATE ? "KVM_CREATE_DEVICE" : "KVM_SET_DEVICE_ATTR");
}

/* values: "associated": false where that is certain; "answered". fds: VFIO node, channel, kvm-vfio device where there is one. A new one is in @ret, or -EBADF. */
static int converse(struct work *w, uint32_t op, int *ret, struct association_message *done) {
        struct association_message m = { .version = ASSOCIATION_VERSION, .op = ASSOCIATION_ASK }, said;
        int channel = w->fds.fd[1], r, passed[ASSOCIATION_FDS_MAX];
        struct association_fds fds;
        struct timespec now;

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        m.number = (uint32_t) (now.tv_sec * 1000000 + now.tv_nsec / 1000);
        snprintf(m.bdf, sizeof(m.bdf), "%s", w->bdf);
        r = association_send(channel, &m, NULL, 0);
        if (r >= 0)
                r = answer(w, channel, &m, ASSOCIATION_READY, &said, &fds);
        if (r < 0) {
                /* It has not been given anything. */
                json_set_bool(w->values, "associated", op == ASSOCIATION_DEL);
                return failed(w, r);
        }
        association_close(&fds);
        m.op = op;
        passed[0] = w->fds.fd[0];
        passed[1] = w->fds.n > 2 ? w->fds.fd[2] : -EBADF;
        r = association_send(channel, &m, passed, w->fds.n > 2 ? 2 : 1);
        if (r >= 0)
                r = answer(w, channel, &m, ASSOCIATION_DONE, done, &fds);
        if (r < 0)
                return failed(w, r);
        if (fds.n > 0)
                *ret = fds.fd[--fds.n];
        association_close(&fds);
        return 0;
}

int open_associate_do(struct work *w) {
        _cleanup_close_ int made = -EBADF;
        struct association_message done = {};
        char what[PATH_MAX] = "nothing";
        int r;

        if (w->fds.n < 2 || w->fds.n > 3)
                return work_fail(w, -EINVAL, NULL, "have %s associated with the VM's KVM", w->bdf);
        r = converse(w, ASSOCIATION_ADD, &made, &done);
        if (r < 0)
                return r;
        if (done.result != 0) {
                json_set_bool(w->values, "associated", false);
                json_set_bool(w->values, "answered", true);
                return refused(w, &done);
        }
        if (w->fds.n > 2)
                return 0;
        /* No call is made on it, for it may be anything. */
        r = made < 0 ? -ENODATA : host_identify(w->host, made, what, sizeof(what));
        if (r < 0 || !streq(what, "anon_inode:kvm-vfio"))
                return work_fail(w, -EBADMSG, "its VMM has sent something else", "get the VM's kvm-vfio device: not %s", what);
        w->out.fd[w->out.n++] = TAKE_FD(made);
        return 0;
}

/* Only while the VM's other functions stay: otherwise the kvm-vfio device is closed, which nobody has to be asked for. */
int open_associate_undo(struct work *w) {
        _cleanup_close_ int made = -EBADF;
        struct association_message done = {};
        int r;

        if (w->fds.n != 3)
                return work_fail(w, -EINVAL, NULL, "have the association of %s ended", w->bdf);
        r = converse(w, ASSOCIATION_DEL, &made, &done);
        if (r < 0)
                return r;
        /* It is not among them. */
        return done.result == 0 || done.result == -ENOENT ? 0 : refused(w, &done);
}
