/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Eventfds: those that the model signals, and those that it listens to (struct virqfd). They are real ones, of a stranger: nothing
 * here may block on one.
 */
#include "sim/iommufd.h"
#include "sim/vfio.h"

#include <poll.h>
#include <stdio.h>
#include <sys/uio.h>

#define WATCH_PAUSE_MS 1

int vfio_event_take(const struct sim_ioctl *io, unsigned i, int32_t value) {
        char path[40], name[32];
        ssize_t n;

        if (i >= io->n_in || value < 0)
                return -EBADF;
        if (io->in[i].file)
                return -EINVAL;
        if (io->in[i].fd < 0)
                return -EBADF;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", io->in[i].fd);
        n = readlink(path, name, sizeof(name) - 1);
        if (n < 0)
                return -EBADF;
        name[n] = '\0';
        if (!streq(name, "anon_inode:[eventfd]"))
                return -EINVAL;
        return fd_dup(io->in[i].fd);
}

/* A full counter would make write(2) wait; the kernel's own eventfd_signal() leaves it as it is. */
void vfio_event_signal(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        uint64_t one = 1;

        if (fd >= 0 && poll(&p, 1, 0) == 1 && p.revents & POLLOUT)
                (void) (write(fd, &one, sizeof(one)) < 0);
}

/* virqfd_wakeup(): what was signalled is taken. */
static bool take_event(int fd) {
        uint64_t n;
        struct iovec iov = { &n, sizeof(n) };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t r;

        r = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);
        /* qemu-user has no such call. */
        if (r < 0 && (errno == ENOSYS || errno == EOPNOTSUPP) && poll(&p, 1, 0) == 1 && p.revents & POLLIN)
                r = read(fd, &n, sizeof(n));
        return r == (ssize_t) sizeof(n);
}

/* One thread for all of a machine, as long as there is something to listen to. */
static void watch(struct sim_call *c, void *data) {
        struct vfio_machine *m = data;

        while (m->watches) {
                for (struct vfio_watch *w = m->watches, *next; w; w = next) {
                        next = w->next;
                        if (w->fd >= 0 && take_event(w->fd)) {
                                /* The list may have changed: start again. */
                                w->fired(c, w);
                                break;
                        }
                }
                sim_sleep(c, WATCH_PAUSE_MS);
        }
        m->watching = false;
}

int vfio_watch_add(struct sim_vfio *v, int fd, void (*fired)(struct sim_call *c, struct vfio_watch *w), struct vfio_watch **ret) {
        struct vfio_machine *m = vfio_machine(v->sim);
        struct vfio_watch *w;
        int r;

        w = calloc(1, sizeof(*w));
        if (!w)
                return -ENOMEM;
        w->fd = fd;
        w->fired = fired;
        w->vfio = v;
        if (!m->watching) {
                r = sim_run(v->sim, watch, m);
                if (r < 0) {
                        free(w);
                        return r;
                }
                m->watching = true;
        }
        w->next = m->watches;
        m->watches = w;
        *ret = w;
        return 0;
}

void vfio_watch_remove(struct sim_vfio *v, struct vfio_watch *w) {
        struct vfio_machine *m = vfio_machine(v->sim);

        for (struct vfio_watch **p = &m->watches; *p; p = &(*p)->next)
                if (*p == w) {
                        *p = w->next;
                        close_fd(w->fd);
                        free(w);
                        return;
                }
}

int sim_iommu_event(struct sim_function *fn, uint8_t event, uint64_t address) {
        return iommufd_report_event(fn->vfio ? fn->vfio->idev : NULL, event, address);
}
