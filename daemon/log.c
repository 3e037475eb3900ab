/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Log lines. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static const char *log_name = "tdid";
static bool with_priority, with_debug;

void log_open(const char *name) {
        log_name = name;
        with_priority = getenv("JOURNAL_STREAM") != NULL;
        with_debug = getenv("TDID_DEBUG") != NULL;
}

void log_line(int priority, const char *format, ...) {
        char line[1024];
        va_list ap;

        if (priority == LOG_DEBUG && !with_debug)
                return;
        va_start(ap, format);
        vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        if (with_priority)
                fprintf(stderr, "<%d>%s\n", priority, line);
        else
                fprintf(stderr, "%s: %s\n", log_name, line);
}

void log_oom(void) {
        log_error("out of memory: ending; holders keep everything, the next start goes on from the journal");
        abort();
}
