/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The last part of the prepare step: the socket on which the VM's VMM reaches the function, STATE/vm/UUID/0000_01_00.0.sock, and what
 * the server in the holder has to know of the device. The listening socket goes to the holder by way of tdid; connections are
 * none of ours.
 *
 * The folder is the VM's: made for its first function, open to be passed through and not to be listed, and never made again while
 * the VM lives, as who has it mounted or open would go on seeing the old one.
 */
#include "worker/work.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <tdi/bdf.h>

#include "host/abi/vfio.h"

#define FOLDER_MODE 0711
#define SOCKET_MODE 0660
/* A crowd of its own user's processes is refused one by one, and shuts nobody out meanwhile. */
#define BACKLOG 128
/* More than any driver has; each is a line of what the holder is told. */
#define REGIONS_MAX 32
#define IRQS_MAX 16

struct paths {
        char folder[256];
        struct sockaddr_un socket, temp;
};

/* Without a name to put it in there is no folder either. */
static int paths_of(struct work *w, struct paths *ret) {
        const char *state = json_str_or(w->args, "state", ""), *uuid = json_str_or(w->args, "uuid", "");
        char label[TDI_BDF_MAX];
        struct tdi_bdf bdf;
        size_t size = sizeof(ret->socket.sun_path);

        if (tdi_bdf_parse(w->bdf, &bdf) < 0 || isempty(state) || isempty(uuid) || strchr(uuid, '/'))
                return work_fail(w, -EINVAL, NULL, "name the vPCI socket of %s", w->bdf);
        tdi_bdf_format(bdf, label);
        label[4] = label[7] = '_';
        *ret = (struct paths){ .socket.sun_family = AF_UNIX, .temp.sun_family = AF_UNIX };
        /* The other name is longer: where it fits, both do. */
        if (snprintf(ret->folder, sizeof(ret->folder), "%s/vm/%s", state, uuid) >= (int) sizeof(ret->folder) ||
            snprintf(ret->socket.sun_path, size, "%s/%s.sock", ret->folder, label) >= (int) size ||
            snprintf(ret->temp.sun_path, size, "%s/.%s.new", ret->folder, label) >= (int) size)
                return work_fail(w, -ENAMETOOLONG, "the path of a socket has at most 107 bytes (unix(7)): choose a shorter --state",
                                 "name the vPCI socket of %s below %s", w->bdf, state);
        return 0;
}

/* Root's, and nobody else may put anything into it: a path that is handed to a VMM must lead nowhere else. */
static int check_folder(struct work *w, const char *folder) {
        struct stat st;

        if (lstat(folder, &st) < 0)
                return work_fail(w, -errno, "it goes with the VM: destroy that and create it anew", "find the VM's folder %s", folder);
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 022))
                return work_fail(w, -EPERM, "it must be a folder that is root's alone: look who has put it there, and remove it",
                                 "use %s for vPCI sockets", folder);
        return 0;
}

static int make_folder(struct work *w, const char *folder) {
        if (json_bool_or(w->args, "make_folder", false)) {
                if (mkdir(folder, 0700) < 0) {
                        if (errno != EEXIST)
                                return work_fail(w, -errno, NULL, "make the VM's folder %s", folder);
                } else if (chmod(folder, FOLDER_MODE) < 0)
                        return work_fail(w, -errno, NULL, "open the VM's folder %s to be passed through", folder);
        }
        return check_folder(w, folder);
}

/* To whom it belongs: a tdid that is not root cannot give files away, and serves who runs it. */
static int give_away(struct work *w, const char *path, struct json_object *serve) {
        uid_t uid = (uid_t) json_u64_or(w->args, "vmm_uid", 0);
        gid_t gid = (gid_t) json_u64_or(w->args, "vmm_gid", 0);

        /* In this order: whom it has been given to does not own what may be changed any more. */
        if (chmod(path, SOCKET_MODE) < 0)
                return work_fail(w, -errno, NULL, "set the mode of %s", path);
        if (chown(path, uid, gid) < 0) {
                if (errno != EPERM || geteuid() == 0)
                        return work_fail(w, -errno, NULL, "give %s to uid %u, gid %u", path, (unsigned) uid, (unsigned) gid);
                uid = geteuid();
                gid = getegid();
        }
        json_set_u64(serve, "uid", uid);
        json_set_u64(serve, "gid", gid);
        return 0;
}

/* Whoever finds it under its name finds it listening, and in the right hands. */
static int make_socket(struct work *w, const struct paths *p, struct json_object *serve) {
        _cleanup_close_ int fd = -EBADF;
        mode_t before;
        int r = 0;

        /* The holder's thread that accepts must never wait for a client who has gone again. */
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return work_fail(w, -errno, NULL, "make the vPCI socket of %s", w->bdf);
        (void) unlink(p->temp.sun_path);
        before = umask(0777);
        if (bind(fd, (const struct sockaddr *) &p->temp, sizeof(p->temp)) < 0)
                r = -errno;
        (void) umask(before);
        if (r < 0)
                return work_fail(w, r, NULL, "bind the vPCI socket %s", p->temp.sun_path);
        if (listen(fd, BACKLOG) < 0)
                r = work_fail(w, -errno, NULL, "listen on %s", p->temp.sun_path);
        if (r >= 0)
                r = give_away(w, p->temp.sun_path, serve);
        if (r >= 0 && rename(p->temp.sun_path, p->socket.sun_path) < 0)
                r = work_fail(w, -errno, NULL, "rename %s to %s", p->temp.sun_path, p->socket.sun_path);
        if (r < 0) {
                (void) unlink(p->temp.sun_path);
                return r;
        }
        w->out.fd[w->out.n++] = TAKE_FD(fd);
        return 0;
}

static int read_regions(struct work *w, int device, uint32_t n, struct json_object *info) {
        struct json_object *list = json_new_array();

        json_set_take(info, "regions", list);
        for (uint32_t i = 0; i < n; i++) {
                struct tdi_vfio_region_info region = { .argsz = sizeof(region), .index = i };
                struct json_object *o = json_new();
                int r = host_ioctl(w->host, device, TDI_VFIO_DEVICE_GET_REGION_INFO, &region);

                json_push_take(list, o);
                /* A function without VGA has the index, and EINVAL for it (vfio_pci_ioctl_get_region_info). */
                if (r == -EINVAL)
                        region.size = region.flags = region.offset = 0;
                else if (r < 0)
                        return work_fail(w, r, NULL, "VFIO_DEVICE_GET_REGION_INFO of region %u of %s", i, w->bdf);
                json_set_u64(o, "size", region.size);
                json_set_u64(o, "flags", region.flags);
                json_set_u64(o, "offset", region.offset);
        }
        return 0;
}

static int read_irqs(struct work *w, int device, uint32_t n, struct json_object *info) {
        struct json_object *list = json_new_array();

        json_set_take(info, "irqs", list);
        for (uint32_t i = 0; i < n; i++) {
                struct tdi_vfio_irq_info irq = { .argsz = sizeof(irq), .index = i };
                struct json_object *o = json_new();
                int r = host_ioctl(w->host, device, TDI_VFIO_DEVICE_GET_IRQ_INFO, &irq);

                json_push_take(list, o);
                /* So has one that is no PCI Express function for errors (vfio_pci_ioctl_get_irq_info). */
                if (r == -EINVAL)
                        irq.count = irq.flags = 0;
                else if (r < 0)
                        return work_fail(w, r, NULL, "VFIO_DEVICE_GET_IRQ_INFO of index %u of %s", i, w->bdf);
                json_set_u64(o, "count", irq.count);
                json_set_u64(o, "flags", irq.flags);
        }
        return 0;
}

static int read_info(struct work *w, struct json_object *serve) {
        struct tdi_vfio_device_info device = { .argsz = sizeof(device) };
        struct json_object *info = json_new();
        int r;

        json_set_take(serve, "info", info);
        r = host_ioctl(w->host, w->fds.fd[0], TDI_VFIO_DEVICE_GET_INFO, &device);
        if (r < 0)
                return work_fail(w, r, NULL, "VFIO_DEVICE_GET_INFO of %s", w->bdf);
        if (device.num_regions > REGIONS_MAX || device.num_irqs > IRQS_MAX)
                return work_fail(w, -E2BIG, NULL, "describe the %u regions and %u kinds of interrupts of %s", device.num_regions,
                                 device.num_irqs, w->bdf);
        json_set_u64(info, "flags", device.flags);
        r = read_regions(w, w->fds.fd[0], device.num_regions, info);
        return r < 0 ? r : read_irqs(w, w->fds.fd[0], device.num_irqs, info);
}

/* args: "state", "uuid", "vmm_uid", "vmm_gid", "make_folder"; values: "serve", which is for vpci.serve and not for the journal. */
int prepare_socket_do(struct work *w) {
        struct json_object *serve = json_new();
        struct paths p;
        int r;

        json_set_take(w->values, "serve", serve);
        if (w->fds.n < 1)
                return work_fail(w, -EINVAL, NULL, "describe %s", w->bdf);
        r = paths_of(w, &p);
        if (r >= 0)
                r = read_info(w, serve);
        if (r >= 0)
                r = make_folder(w, p.folder);
        return r < 0 ? r : make_socket(w, &p, serve);
}

/* args: "last": nothing will come to the folder any more, as its VM is gone. */
int prepare_socket_undo(struct work *w) {
        struct paths p;
        int r;

        r = paths_of(w, &p);
        if (r < 0)
                return r;
        if (unlink(p.temp.sun_path) < 0 && errno != ENOENT)
                return work_fail(w, -errno, NULL, "remove %s", p.temp.sun_path);
        if (unlink(p.socket.sun_path) < 0 && errno != ENOENT)
                return work_fail(w, -errno, NULL, "remove the vPCI socket %s", p.socket.sun_path);
        /* Not empty: other functions of that VM are left behind too. */
        if (json_bool_or(w->args, "last", false) && rmdir(p.folder) < 0 && errno != ENOENT && errno != ENOTEMPTY)
                return work_fail(w, -errno, NULL, "remove the folder %s of a VM that is gone", p.folder);
        return 0;
}

int prepare_socket_probe(struct work *w) {
        struct paths p;
        struct stat st;
        int r;

        r = paths_of(w, &p);
        if (r < 0)
                return r;
        if (lstat(p.socket.sun_path, &st) < 0)
                return errno == ENOENT ? 0 : work_fail(w, -errno, NULL, "find the vPCI socket %s", p.socket.sun_path);
        return S_ISSOCK(st.st_mode);
}
