/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* For who is a VMM on another kernel than this machine's: the tests, on the simulation. */
#ifndef TDI_ASSOCIATION_INTERNAL_H
#define TDI_ASSOCIATION_INTERNAL_H

/* ioctl(2) with a negative errno as its failure; called in the process that shares the caller's memory. */
typedef int (*association_ioctl)(int fd, unsigned long request, void *argument, void *userdata);

/* tdi_association_serve() with calls by @call. */
int association_serve_by(int channel, int kvm_vm, int timeout_ms, association_ioctl call, void *userdata);

#endif
