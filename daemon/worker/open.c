/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The open step: the function's VFIO node is opened, bound to the VM's iommufd (which resets the function:
 * vfio_pci_core_enable), and closed again.
 *
 * The last close resets the function inside the closer (vfio_pci_core_close_device). So the descriptor goes from the holder
 * to a worker by `take`, which keeps it until `undo`, or until the worker's own end: whoever dies on the way, it is a worker
 * that closes last.
 */
#include "worker/work.h"

#include <limits.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "host/abi/vfio.h"

#define BIND_RETRIES 40
#define BIND_PAUSE_USEC 50000

static int taken = -EBADF;

/* Descriptors: the device; of one that its TSM refuses to unbind also what keeps it bound. */
int take_do(struct work *w) {
        if (w->fds.n != 1 && w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "take the device of %s", w->bdf);
        close_fd(taken);
        taken = ipc_fds_take(&w->fds, 0);
        if (w->fds.n == 2)
                bind_keep(w, ipc_fds_take(&w->fds, 1));
        return 0;
}

int open_cdev_do(struct work *w) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX];
        int r;

        r = host_list(w->host, work_path(w, path, sizeof(path), "vfio-dev"), &names);
        if (r < 0 || !names[0])
                return work_fail(w, r < 0 ? r : -ENODEV, "the kernel needs CONFIG_VFIO_DEVICE_CDEV",
                                 "find the VFIO device node of %s in %s", w->bdf, path);
        snprintf(path, sizeof(path), "/dev/vfio/devices/%s", names[0]);
        r = host_open(w->host, path, O_RDWR);
        if (r < 0)
                return work_fail(w, r, NULL, "open %s of %s", path, w->bdf);
        w->out.fd[w->out.n++] = r;
        json_set_str(w->values, "cdev", names[0]);
        return guard_take_device(w);
}

int open_cdev_undo(struct work *w) {
        int r;

        if (taken < 0)
                return 0;
        r = host_close(w->host, TAKE_FD(taken));
        if (r < 0)
                return work_fail(w, r, NULL, "close the device of %s", w->bdf);
        return 0;
}

static int hex_nibble(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
                return (c | 0x20) - 'a' + 10;
        return -1;
}

/* The 16 bytes of a UUID text, which tdid has checked. */
static void uuid_bytes(const char *text, uint8_t ret[16]) {
        size_t n = 0;

        for (; *text && n < 32; text++) {
                int v = hex_nibble(*text);

                if (v < 0)
                        continue;
                ret[n / 2] = (uint8_t) (n % 2 ? ret[n / 2] | v : v << 4);
                n++;
        }
}

/*
 * Whoever wanted it back before there was an interrupt to ring rings again only after 10 s. But it has taken the node away by then
 * (vfio_unregister_group_dev: cdev_device_del, then the rings).
 */
static bool is_wanted_back(struct work *w) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX];
        int r = host_list(w->host, work_path(w, path, sizeof(path), "vfio-dev"), &names);

        return r == -ENOENT || (r >= 0 && !names[0]);
}

/*
 * When the host wants a function back (unplug, VFs switched off), vfio-pci rings the request interrupt and waits until the
 * device is closed (vfio_pci_core_request), and all PCI hotplug with it. The eventfd goes to tdid, and outlives it in the holder.
 */
static int listen_for_requests(struct work *w) {
        union {
                struct tdi_vfio_irq_set set;
                char room[sizeof(struct tdi_vfio_irq_set) + sizeof(int32_t)];
        } irq = {};
        _cleanup_close_ int event = -EBADF;
        int32_t fd;
        int r;

        event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (event < 0)
                return work_fail(w, -errno, NULL, "make an eventfd for %s", w->bdf);
        irq.set.argsz = sizeof(irq.room);
        irq.set.flags = TDI_VFIO_IRQ_SET_DATA_EVENTFD | TDI_VFIO_IRQ_SET_ACTION_TRIGGER;
        irq.set.index = TDI_VFIO_PCI_REQ_IRQ_INDEX;
        irq.set.count = 1;
        fd = event;
        memcpy(irq.set.data, &fd, sizeof(fd));
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_SET_IRQS, &irq);
        if (r < 0)
                return work_fail(w, r, NULL, "VFIO_DEVICE_SET_IRQS of the request interrupt of %s", w->bdf);
        if (is_wanted_back(w))
                return work_fail(w, -ENODEV, "the host wants it back: it is being unplugged, or unbound from vfio-pci", "keep %s", w->bdf);
        w->out.fd[w->out.n++] = TAKE_FD(event);
        return 0;
}

/* Has the function VFs, or might it have? Then its token says whose they may be (vfio_pci_core_match_token_uuid). */
static bool has_vfs(struct work *w) {
        char path[PATH_MAX];
        uint64_t n;

        return host_read_u64(w->host, work_path(w, path, sizeof(path), "sriov_totalvfs"), &n) >= 0 && n > 0;
}

/* A random one, as text and as bytes. */
static int make_token(struct work *w, char text[static 37], uint8_t uuid[static 16]) {
        if (getrandom(uuid, 16, 0) != 16)
                return work_fail(w, -errno, NULL, "make a VF token for %s", w->bdf);
        uuid[6] = (uint8_t) ((uuid[6] & 0x0f) | 0x40);
        uuid[8] = (uint8_t) ((uuid[8] & 0x3f) | 0x80);
        snprintf(text, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", uuid[0], uuid[1], uuid[2], uuid[3], uuid[4],
                 uuid[5], uuid[6], uuid[7], uuid[8], uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14], uuid[15]);
        return 0;
}

/* EAGAIN: the device lock was taken for a moment, by sysfs or another reset (vfio_pci_core_enable). */
static int bind_patiently(struct work *w, struct tdi_vfio_device_bind_iommufd *bind) {
        int r;

        for (unsigned i = 0; (r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_BIND_IOMMUFD, bind)) == -EAGAIN && i < BIND_RETRIES; i++)
                (void) usleep(BIND_PAUSE_USEC);
        return r;
}

/* values: "vf_token": the token of the function's VFs, where it has some and none was given. */
int open_bind_do(struct work *w) {
        const char *token = json_str_or(w->args, "vf_token", "");
        uint8_t uuid[16] = {};
        char made[37] = "";
        struct tdi_vfio_device_bind_iommufd bind = {
                .argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr),
        };
        int r;

        if (w->fds.n != 2)
                return work_fail(w, -EINVAL, NULL, "bind %s to the VM's iommufd", w->bdf);
        bind.iommufd = w->fds.fd[1];
        r = !token[0] && has_vfs(w) ? make_token(w, made, uuid) : 0;
        if (r < 0)
                return r;
        if (token[0])
                uuid_bytes(token, uuid);
        if (token[0] || made[0]) {
                bind.argsz = sizeof(bind);
                bind.flags = TDI_VFIO_DEVICE_BIND_FLAG_TOKEN;
                bind.token_uuid_ptr = (uintptr_t) uuid;
        }
        r = bind_patiently(w, &bind);
        /* A kernel that does not know the flag: its VFs are nobody's through us. */
        if (r == -EINVAL && made[0]) {
                bind.argsz = offsetof(struct tdi_vfio_device_bind_iommufd, token_uuid_ptr);
                bind.flags = 0;
                made[0] = '\0';
                r = bind_patiently(w, &bind);
        }
        if (r < 0) {
                const char *hint = NULL;

                if (r == -EINVAL)
                        hint = "somebody else has this function bound or a BAR of it mapped: look for users of its VFIO node";
                else if (r == -EBUSY)
                        hint = "its VFIO group is open";
                else if (r == -EPERM) /* iommufd_device_bind() */
                        hint = "another function of its IOMMU group is on a host driver, or interrupt remapping is missing "
                               "(iommufd.allow_unsafe_interrupts)";
                else if (r == -EACCES)
                        hint = made[0] || has_vfs(w) ? "its VFs are in use: give their VF token" :
                               "its physical function is on vfio-pci: give the VF token, or attach that first";
                return work_fail(w, r, hint, "VFIO_DEVICE_BIND_IOMMUFD on %s of %s", json_str_or(w->args, "cdev", "?"), w->bdf);
        }
        if (made[0])
                json_set_str(w->values, "vf_token", made);
        json_set_u64(w->values, "devid", bind.out_devid);
        return listen_for_requests(w);
}

int open_bind_probe(struct work *w) {
        struct tdi_vfio_device_info info = { .argsz = sizeof(info) };
        int r;

        if (w->fds.n < 1)
                return 0;
        /* Before BIND every call on the node is EINVAL. */
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_GET_INFO, &info);
        if (r == -EINVAL)
                return 0;
        return r < 0 ? r : 1;
}
