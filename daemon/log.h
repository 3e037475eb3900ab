/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Log lines on stderr, which the service manager files; the priority is prefixed only where it reads it (sd-daemon(3)). */
#ifndef TDID_LOG_H
#define TDID_LOG_H

#include <syslog.h>

#include "util/util.h"

void log_open(const char *name);
void log_line(int priority, const char *format, ...) _printf_(2, 3);

#define log_error(...) log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* Out of memory in the middle of a transition: the kernel's state and the journal outlive us, half-kept state must not. */
void __attribute__((__noreturn__)) log_oom(void);

#endif
