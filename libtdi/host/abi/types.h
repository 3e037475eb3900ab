/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the other headers of this folder share: fixed-width integers and the ioctl number macros.
 *
 * The folder declares the parts of the kernel's user ABI that tdid uses, under names of our own (TDI_X for X, struct tdi_x for
 * struct x), because the system headers we build with are older than the kernels we run on. Nothing here calls the kernel.
 * tests/unit/abi compares every name of this folder with the headers of a real kernel.
 */
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

/* Aligned to 8 even where a plain 64-bit integer is not (32-bit x86): a 32-bit caller then shares the layout of a 64-bit kernel. */
typedef uint64_t tdi_aligned_u64 __attribute__((aligned(8)));
