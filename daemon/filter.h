/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * System call filters: lists of what a process may call. libseccomp writes them: it knows the call numbers of every architecture. A call that is
 * not listed fails with EPERM: killing the process would close a VM, or leave a function half done, and gains nothing over refusing.
 */
#ifndef TDID_FILTER_H
#define TDID_FILTER_H

#include <seccomp.h>
#include <stdbool.h>

#include "util/util.h"

/* The run-time of a sanitizer needs what is forbidden: such a build has no filters. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FILTER_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define FILTER_SANITIZED 1
#endif
#endif
#ifndef FILTER_SANITIZED
#define FILTER_SANITIZED 0
#endif

static inline void filter_freep(scmp_filter_ctx *filter) {
        seccomp_release(*filter);
}
#define _cleanup_filter_ _cleanup_(filter_freep)

/* One that allows nothing; -ENOMEM. */
int filter_new(scmp_filter_ctx *ret);
/* 0, or a negative errno, as of libseccomp. */
int filter_allow(scmp_filter_ctx filter, const int *calls, size_t n);
/* What every program of ours does once it runs: reads, writes, its memory, its signals, the time; new threads, but no new processes. */
int filter_allow_basics(scmp_filter_ctx filter);
/* VFIO's and iommufd's ioctls, which share a type. */
int filter_allow_vfio(scmp_filter_ctx filter);
/* Loads it, after which this process has no way back. */
int filter_load(scmp_filter_ctx filter);

#endif
