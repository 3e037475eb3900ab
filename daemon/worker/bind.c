/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The bind step, by the bind provider that this kernel has (provider.h). What keeps the function bound goes to the VM's holder; the module's file is this
 * process's until then, whose end unbinds. Whoever dies, what the module has bound is unbound before its device can be reset, for it has the device
 * open; iommufd has not, so that when all who hold the device die at once the kernel resets it first.
 */
#include "worker/ide.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>
#include <tdi/bdf.h>

#include "host/tdid_bind.h"
#include "provider.h"

#define UNBOUND_TRIES 100
#define UNBOUND_PAUSE_USEC 50000

/* 1 or 0 as the TSM core says. -ENOENT: it says nothing of the function (any more), or the function has gone. */
static int read_bound(struct work *w) {
        char path[PATH_MAX], now[64];
        ssize_t n;

        n = host_read_text(w->host, work_path(w, path, sizeof(path), "tsm/bound"), now, sizeof(now));
        return n == -ENODEV ? -ENOENT : n < 0 ? (int) n : now[0] != '\0';
}

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
        case -ENODEV:
                return "the kernel binds to the KVM VM that VFIO knows, and it knows none: the VMM has to open a channel for that (OpenAssociation) before the function is attached";
        default:
                return "the TSM refused; its driver tells more in dmesg";
        }
}

/* An open file of the module; a text of what is wrong is written. */
static int open_module(struct work *w, int iommufd_says) {
        struct tdid_bind_info info = { .argsz = sizeof(info) };
        _cleanup_close_ int fd = host_open(w->host, TDID_BIND_DEV, O_RDWR);
        int r;

        if (fd == -ENOENT)
                return work_fail(w, -EOPNOTSUPP, iommufd_says == -EPROTONOSUPPORT ?
                                 "iommufd has calls for TSMs in a form that this tdid does not know; the module tdid-bind adds what is missing" :
                                 "this kernel offers user space TSM connect and disconnect only; the module tdid-bind adds what is missing",
                                 "bind %s without " TDID_BIND_DEV, w->bdf);
        if (fd < 0)
                return work_fail(w, fd, NULL, "open " TDID_BIND_DEV);
        r = host_ioctl(w->host, fd, TDID_BIND_IOC_INFO, &info);
        if (r >= 0 && info.api != TDID_BIND_API)
                r = -EPROTONOSUPPORT;
        if (r < 0)
                return work_fail(w, r, "the module tdid-bind is of another version than tdid", "ask " TDID_BIND_DEV " for its version");
        return TAKE_FD(fd);
}

static bool has_module(struct work *w) {
        int fd = host_open(w->host, TDID_BIND_DEV, O_RDWR);

        if (fd >= 0)
                (void) host_close(w->host, fd);
        return fd >= 0;
}

/* iommufd's own calls, where the kernel has them and the function what they go by; the module otherwise. */
static int choose(struct work *w, uint32_t viommu, int iommufd, int *ret_fd) {
        int id = viommu ? (int) provider_probe(w->host, iommufd) : -ENOTTY;

        /* Without a KVM VM that VFIO knows of, they have none to bind to. */
        if (id >= 0 && (json_bool_or(w->args, "associated", false) || !has_module(w)))
                *ret_fd = fd_dup(iommufd);
        else {
                *ret_fd = open_module(w, id);
                id = PROVIDER_MODULE;
        }
        return *ret_fd < 0 ? *ret_fd : id;
}

/*
 * args: "tdi_id": the guest's requester ID; "dsm", "require_secure": are its streams looked at first? "viommu", "devid", "vdevice" where it has those.
 * Descriptors: the VFIO device, the KVM VM, the iommufd. values: "provider", "vdevice".
 */
int bind_tsm_do(struct work *w) {
        struct provider_tdi tdi = {
                .guest_rid = (uint32_t) json_u64_or(w->args, "tdi_id", UINT32_MAX),
                .viommu = (uint32_t) json_u64_or(w->args, "viommu", 0),
                .devid = (uint32_t) json_u64_or(w->args, "devid", 0),
                .vdevice = (uint32_t) json_u64_or(w->args, "vdevice", 0),
        };
        const struct provider *provider;
        _cleanup_close_ int fd = -EBADF;
        struct tdi_bdf bdf;
        int r, id;

        if (w->fds.n != 3 || tdi.guest_rid > UINT16_MAX || tdi_bdf_parse(w->bdf, &bdf) < 0)
                return work_fail(w, -EINVAL, NULL, "bind %s", w->bdf);
        /* Now, and not when somebody last looked: a reset ends a stream. */
        r = json_bool_or(w->args, "require_secure", true) ? ide_must_be_secure(w, json_str_or(w->args, "dsm", "")) : 0;
        if (r < 0)
                return r;
        id = choose(w, tdi.viommu, w->fds.fd[2], &fd);
        if (id < 0)
                return id;
        provider = provider_get((enum provider_id) id);
        tdi.function = tdi_bdf_number(bdf);
        tdi.device = w->fds.fd[0];
        tdi.vm = w->fds.fd[1];
        /* Its virtual device may have been bound when it was made. */
        r = id == PROVIDER_IOMMUFD_V7 && tdi.vdevice != 0 && read_bound(w) > 0 ? 0 : provider->bind(w->host, fd, &tdi);
        json_set_u64(w->values, "vdevice", tdi.vdevice);
        json_set_bool(w->values, "vdevice_binds", id == PROVIDER_IOMMUFD_V7 && tdi.vdevice != 0);
        if (r >= 0 && id == PROVIDER_IOMMUFD_V7 && read_bound(w) == 0)
                r = -ENODEV;
        if (r < 0)
                return work_fail(w, r, why_not(r), "bind %s to the VM as TDI 0x%04x, by %s", w->bdf, tdi.guest_rid, provider->name);
        json_set_str(w->values, "provider", provider->name);
        w->unsaid.provider = provider;
        w->unsaid.fd = fd_dup(fd);
        w->unsaid.vdevice = tdi.vdevice;
        w->out.fd[w->out.n++] = TAKE_FD(fd);
        return 0;
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

/* What this process keeps for a function that was left bound: see bind_let_go(). */
static struct {
        int fd;
        const struct provider *provider;
        uint32_t vdevice;
} kept = { .fd = -EBADF };

/* What has bound it: as it was written down, or where that is lost, by what kind of file it is. */
static const struct provider *provider_of(struct work *w, int fd) {
        const struct provider *p = provider_get(provider_find(json_str_or(w->args, "provider", "")));

        if (!p && fd >= 0)
                p = provider_get(provider_probe(w->host, fd));
        return p ? p : provider_get(PROVIDER_MODULE);
}

void bind_keep(struct work *w, int fd) {
        close_fd(kept.fd);
        kept.fd = fd;
        kept.provider = provider_of(w, fd);
        kept.vdevice = (uint32_t) json_u64_or(w->args, "vdevice", 0);
}

void bind_let_go(TdiHost *host) {
        unsigned seconds = 1;

        while (kept.fd >= 0 && kept.provider->unbind(host, kept.fd, kept.vdevice) < 0) {
                (void) sleep(seconds);
                seconds = seconds < 32 ? seconds * 2 : 60;
        }
}

static void lost_vdevice(struct work *w) {
        json_set_u64(w->values, "vdevice", 0);
        json_set_bool(w->values, "vdevice_binds", false);
        json_set_str(w->values, "no_viommu", "its virtual device went with the unbind, and the next bind makes another");
}

/*
 * Nobody had been given a binding when whoever made it died. The module's ended with that process; iommufd's is in the VM's, and is what the virtual
 * device is now. A worker whose answer nobody takes undoes it; of one that was killed meanwhile the new number may be known to nobody.
 */
static int unbind_unheld(struct work *w, int iommufd) {
        uint32_t vdevice = (uint32_t) json_u64_or(w->args, "vdevice", 0);
        int id, r;

        if (read_bound(w) == 0)
                return 0;
        id = (int) provider_probe(w->host, iommufd);
        if (id >= 0 && vdevice != 0) {
                r = provider_get((enum provider_id) id)->unbind(w->host, iommufd, vdevice);
                if (r < 0)
                        return work_fail(w, r, "the TSM does not let go of it; it is tried again", "unbind %s", w->bdf);
                if (id == PROVIDER_IOMMUFD_V7)
                        lost_vdevice(w);
        }
        return wait_until_unbound(w);
}

/*
 * args: "held": the first descriptor is the binding, not the iommufd; "provider", "vdevice"; "unwind_dma": the function must not reach memory while the TSM takes
 * it out of its VM; "stays": it is attached again then. Descriptors: that one, the device. Bus mastering stays on: switched off it would be the TDI's
 * error. values: "vdevice".
 */
int bind_tsm_undo(struct work *w) {
        bool detach = json_bool_or(w->args, "unwind_dma", false) && w->fds.n > 1;
        const struct provider *provider = provider_of(w, w->fds.n > 0 ? w->fds.fd[0] : -EBADF);
        int r;

        if (w->fds.n < 1)
                return wait_until_unbound(w);
        if (!json_bool_or(w->args, "held", false))
                return unbind_unheld(w, w->fds.fd[0]);
        r = detach ? work_detach(w, w->fds.fd[1]) : 0;
        if (r < 0)
                return r;
        r = provider->unbind(w->host, w->fds.fd[0], (uint32_t) json_u64_or(w->args, "vdevice", 0));
        if (r < 0) {
                /* It is the guest's as before, with the memory that the guest shares. */
                if (detach && json_bool_or(w->args, "stays", false))
                        (void) work_attach(w, w->fds.fd[1]);
                return work_fail(w, r, "the TSM does not let go of it; it is tried again", "unbind %s", w->bdf);
        }
        if (provider == provider_get(PROVIDER_IOMMUFD_V7))
                lost_vdevice(w);
        kept.fd = close_fd(kept.fd);
        return detach && json_bool_or(w->args, "stays", false) ? work_attach(w, w->fds.fd[1]) : 0;
}
