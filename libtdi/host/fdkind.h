/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a stranger's descriptor is, found out by its name alone: nothing here calls into the file behind it, which may be a FUSE
 * file that never answers. Names that the kernel makes (anon_inode, pidfs) cannot be forged: a path starts with '/'.
 */
#ifndef TDI_HOST_FDKIND_H
#define TDI_HOST_FDKIND_H

#include "host/host.h"

/* 0; -EBADF for a descriptor without access (O_PATH), -EINVAL for anything but a KVM VM. ret_what tells what it is instead. */
int host_check_kvm_vm(TdiHost *host, int fd, char *ret_what, size_t size);
/* 0 with the process's number; -ESRCH when it has ended; -EINVAL for anything but a pidfd. */
int host_check_pidfd(TdiHost *host, int fd, pid_t *ret, char *ret_what, size_t size);
/* 0; -EBADF for a descriptor without access, -EINVAL for anything but an eventfd, as the kernel says of them (eventfd_ctx_fdget()). Quick. */
int host_check_eventfd(TdiHost *host, int fd);
/*
 * How many references the file of a dma-buf has: descriptors in all processes, and importers in the kernel (dma_buf_show_fdinfo()).
 * -ENODATA for what is no dma-buf. Quick.
 */
int host_dmabuf_references(TdiHost *host, int fd, unsigned *ret);

#endif
