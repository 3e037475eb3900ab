/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bind step, by way of the bind provider's device (host/tdid_bind.h). What it opens keeps the function bound and goes to the
 * VM's holder; until then it is this process's, whose end unbinds. Whoever dies, a TDI is unbound before its device can be reset.
 */
#include "worker/ide.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>
#include <tdi/bdf.h>

#include "host/tdid_bind.h"

#define UNBOUND_TRIES 100
#define UNBOUND_PAUSE_USEC 50000

static const char *why_not(int r) {
        switch (r) {
        case -ENOTCONN:
                return "no TSM is connected for it any more";
        case -EOPNOTSUPP:
                return "the driver of its TSM cannot bind: a later kernel's may";
        case -EBUSY:
                return "somebody else has bound it";
        case -EEXIST:
                return "the TSM has this requester ID for another function of the VM";
        case -EINVAL:
                return "its VFIO device is not open, or what the VM has as KVM VM is none";
        default:
                return "the TSM refused; its driver tells more in dmesg";
        }
}

/* args: "tdi_id": the guest's requester ID; "dsm", "require_secure": are its streams looked at first? Descriptors: the VFIO device, the KVM VM. values: "provider". */
int bind_tsm_do(struct work *w) {
        struct tdid_bind_info info = { .argsz = sizeof(info) };
        struct tdid_bind_bind bind = { .argsz = sizeof(bind), .tdi_id = (uint32_t) json_u64_or(w->args, "tdi_id", UINT32_MAX) };
        _cleanup_close_ int fd = -EBADF;
        struct tdi_bdf bdf;
        char provider[64];
        int r;

        if (w->fds.n != 2 || bind.tdi_id > UINT16_MAX || tdi_bdf_parse(w->bdf, &bdf) < 0)
                return work_fail(w, -EINVAL, NULL, "bind %s", w->bdf);
        /* Now, and not when somebody last looked: a reset ends a stream. */
        r = json_bool_or(w->args, "require_secure", true) ? ide_must_be_secure(w, json_str_or(w->args, "dsm", "")) : 0;
        if (r < 0)
                return r;
        fd = host_open(w->host, TDID_BIND_DEV, O_RDWR);
        if (fd == -ENOENT)
                return work_fail(w, -EOPNOTSUPP, "this kernel offers user space TSM connect and disconnect only; the module tdid-bind adds what is missing",
                                 "bind %s without " TDID_BIND_DEV, w->bdf);
        if (fd < 0)
                return work_fail(w, fd, NULL, "open " TDID_BIND_DEV);
        r = host_ioctl(w->host, fd, TDID_BIND_IOC_INFO, &info);
        if (r >= 0 && info.api != TDID_BIND_API)
                r = -EPROTONOSUPPORT;
        if (r < 0)
                return work_fail(w, r, "the module tdid-bind is of another version than tdid", "ask " TDID_BIND_DEV " for its version");
        bind.function = tdi_bdf_number(bdf);
        bind.device_fd = w->fds.fd[0];
        bind.vm_fd = w->fds.fd[1];
        r = host_ioctl(w->host, fd, TDID_BIND_IOC_BIND, &bind);
        if (r < 0)
                return work_fail(w, r, why_not(r), "bind %s to the VM as TDI 0x%04x", w->bdf, bind.tdi_id);
        snprintf(provider, sizeof(provider), TDID_BIND_NAME " %u", info.api);
        json_set_str(w->values, "provider", provider);
        w->out.fd[w->out.n++] = TAKE_FD(fd);
        return 0;
}

/* 1 or 0 as the TSM core says. -ENOENT: it says nothing of the function (any more), or the function has gone. */
static int read_bound(struct work *w) {
        char path[PATH_MAX], now[64];
        ssize_t n;

        n = host_read_text(w->host, work_path(w, path, sizeof(path), "tsm/bound"), now, sizeof(now));
        return n == -ENODEV ? -ENOENT : n < 0 ? (int) n : now[0] != '\0';
}

/* A function without PCIe capability has no files of the TSM core: it is bound as long as its DSM is connected. */
int bind_tsm_probe(struct work *w) {
        int r = read_bound(w);

        return r == -ENOENT ? connect_tsm_probe(w) : r;
}

/* Without a descriptor the last close has unbound it, or is at it: a worker that was killed, or one that was left with it. */
static int wait_until_unbound(struct work *w) {
        int r;

        for (unsigned i = 0; (r = read_bound(w)) > 0 && i < UNBOUND_TRIES; i++)
                (void) usleep(UNBOUND_PAUSE_USEC);
        if (r > 0)
                return work_fail(w, -EBUSY, "the TSM has not let go of it yet", "see %s unbound", w->bdf);
        return r < 0 && r != -ENOENT ? work_fail(w, r, NULL, "read tsm/bound of %s", w->bdf) : 0;
}

static int kept = -EBADF;

void bind_keep(int fd) {
        close_fd(kept);
        kept = fd;
}

void bind_let_go(TdiHost *host) {
        unsigned seconds = 1;
        int r;

        while (kept >= 0 && (r = host_ioctl(host, kept, TDID_BIND_IOC_UNBIND, NULL)) < 0 && r != -ENOTCONN) {
                (void) sleep(seconds);
                seconds = seconds < 32 ? seconds * 2 : 60;
        }
}

/*
 * args: "unwind_dma": the function must not reach memory while the TSM takes it out of its VM; "stays": it is attached again then. Descriptors:
 * the binding, the device. Bus mastering stays on: switched off it would be the TDI's error.
 */
int bind_tsm_undo(struct work *w) {
        bool detach = json_bool_or(w->args, "unwind_dma", false) && w->fds.n > 1;
        int r;

        if (w->fds.n < 1)
                return wait_until_unbound(w);
        r = detach ? work_detach(w, w->fds.fd[1]) : 0;
        if (r < 0)
                return r;
        r = host_ioctl(w->host, w->fds.fd[0], TDID_BIND_IOC_UNBIND, NULL);
        if (r < 0 && r != -ENOTCONN) {
                /* It is the guest's as before, with the memory that the guest shares. */
                if (detach && json_bool_or(w->args, "stays", false))
                        (void) work_attach(w, w->fds.fd[1]);
                return work_fail(w, r, "the TSM does not let go of it; it is tried again", "unbind %s", w->bdf);
        }
        kept = close_fd(kept);
        return detach && json_bool_or(w->args, "stays", false) ? work_attach(w, w->fds.fd[1]) : 0;
}
