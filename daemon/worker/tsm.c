/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI/TSM: connecting a DSM, and reading what the TSM core shows. Every access here may sleep for as long as somebody's SPDM
 * and IDE handshake takes: drivers/pci/tsm.c serves all of them under one semaphore.
 */
#include "worker/work.h"

#include <limits.h>
#include <stdio.h>

/* What the kernel shows of one is short; a whole answer must stay below IPC_SIZE_MAX. */
#define FUNCTIONS_PER_ANSWER 128

static int read_connect(struct work *w, const char *bdf, char *buf, size_t size) {
        char path[PATH_MAX];
        ssize_t n;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm/connect", bdf);
        n = host_read_text(w->host, path, buf, size);
        return n < 0 ? (int) n : 0;
}

/*
 * Whether a connection is ours must not be lost with tdid: the journal is written before, when nobody knows yet what will come of
 * it. So the worker that connects leaves a mark of its own, one byte in the function's lock file, which only workers of this function
 * have, one after the other. It is as lasting as the journal, and read only for a connect that tdid has not seen the end of.
 */
#define MARK_NONE '-'     /* nothing tried, or refused by the kernel: what is connected is another's */
#define MARK_TRYING '?'   /* the kernel was asked, and the worker did not live to tell */
#define MARK_CONNECTED '+'

static int set_mark(struct work *w, char mark) {
        ssize_t n;

        /* An operator's own wish, outside any custody. */
        if (w->lock < 0)
                return 0;
        n = pwrite(w->lock, &mark, 1, 0);
        if (n != 1)
                return work_fail(w, n < 0 ? -errno : -EIO, "is the state folder full?", "write to the lock file of %s", w->bdf);
        return 0;
}

static char get_mark(struct work *w) {
        char mark = MARK_NONE;

        return w->lock >= 0 && pread(w->lock, &mark, 1, 0) < 0 ? MARK_TRYING : mark;
}

/* args: "dsm" (BDF). values: "connect_before": the TSM that it is connected to, "" when none. */
int connect_note_do(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", "");
        char now[64];
        int r;

        r = read_connect(w, dsm, now, sizeof(now));
        if (r < 0)
                return work_fail(w, r, "has the TSM driver gone?", "read tsm/connect of %s", dsm);
        json_set_str(w->values, "connect_before", now);
        return set_mark(w, MARK_NONE);
}

/* args: "dsm" (BDF), "tsm" (name). */
int connect_tsm_do(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", ""), *tsm = json_str_or(w->args, "tsm", "");
        char path[PATH_MAX], now[64];
        int r;

        r = set_mark(w, MARK_TRYING);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm/connect", dsm);
        r = host_write_text(w->host, path, tsm);
        (void) set_mark(w, r < 0 ? MARK_NONE : MARK_CONNECTED);
        if (r < 0)
                return work_fail(w, r,
                                 r == -ENXIO ? "the TSM refused the device, or its driver has gone" :
                                 r == -EBUSY ? "somebody else connected it at this moment" :
                                 "the TSM's driver tells more in dmesg",
                                 "write \"%s\" to %s", tsm, path);
        r = read_connect(w, dsm, now, sizeof(now));
        if (r < 0 || !streq(now, tsm))
                return work_fail(w, r < 0 ? r : -EIO, "dmesg tells more", "connect %s to %s: tsm/connect reads \"%s\" afterwards", dsm,
                                 tsm, r < 0 ? "" : now);
        return 0;
}

/* args: "dsm", "tsm", "connected_by": "perhaps" where only the mark knows. values: "connected_by": "unknown" where that does not either. */
int connect_tsm_undo(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", ""), *tsm = json_str_or(w->args, "tsm", "");
        bool in_doubt = streq(json_str_or(w->args, "connected_by", ""), "perhaps");
        char path[PATH_MAX], now[64];
        int r;

        if (in_doubt && get_mark(w) == MARK_NONE)
                return 0;
        r = read_connect(w, dsm, now, sizeof(now));
        /* The function or the TSM's driver has gone, and the connection with it. */
        if (r == -ENOENT || r == -ENODEV)
                return 0;
        if (r < 0)
                return work_fail(w, r, NULL, "read tsm/connect of %s", dsm);
        if (!streq(now, tsm))
                return 0;
        if (in_doubt && get_mark(w) != MARK_CONNECTED) {
                json_set_str(w->values, "connected_by", "unknown");
                return work_fail(w, -EOWNERDEAD,
                                 "tdictl device restore gives the function back and leaves the connection; tdictl device disconnect ends it then",
                                 "tell whether tdid or somebody else connected %s to %s, as the worker that tried it was killed", dsm, tsm);
        }
        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm/disconnect", dsm);
        r = host_write_text(w->host, path, tsm);
        if (r < 0 && r != -ENXIO && r != -ENOENT)
                return work_fail(w, r, NULL, "write \"%s\" to %s", tsm, path);
        return 0;
}

int connect_tsm_probe(struct work *w) {
        char now[64];
        int r;

        r = read_connect(w, json_str_or(w->args, "dsm", ""), now, sizeof(now));
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : streq(now, json_str_or(w->args, "tsm", ""));
}

static void read_into(struct work *w, struct json_object *o, const char *key, const char *bdf, const char *attribute) {
        char path[PATH_MAX], buf[128];

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/%s", bdf, attribute);
        if (host_read_text(w->host, path, buf, sizeof(buf)) >= 0)
                json_set_str(o, key, buf);
}

static int by_bdf(const void *a, const void *b) {
        return strcmp(json_str_or(*(struct json_object *const *) a, "bdf", ""), json_str_or(*(struct json_object *const *) b, "bdf", ""));
}

/* The function of this name among those of the answer, which stand in the order of their names. */
static struct json_object *find_function(struct json_object *functions, const char *bdf) {
        _cleanup_json_ struct json_object *key = json_new();

        json_set_str(key, "bdf", bdf);
        return json_object_array_bsearch(key, functions, by_bdf);
}

/* The streamH.R.E links below a host bridge name the functions that a stream ends at (drivers/pci/ide.c). */
static void read_streams(struct work *w, struct json_object *functions, const char *bridge) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX], target[256];

        snprintf(path, sizeof(path), "/sys/devices/%s", bridge);
        if (host_list(w->host, path, &names) < 0)
                return;
        for (char **n = names; *n; n++) {
                struct json_object *o, *streams;

                if (!startswith(*n, "stream") || strchr(*n, '.') == NULL)
                        continue;
                snprintf(path, sizeof(path), "/sys/devices/%s/%s", bridge, *n);
                if (host_read_link_name(w->host, path, target, sizeof(target)) < 0)
                        continue;
                o = find_function(functions, target);
                if (!o)
                        continue; /* in another answer */
                if (json_get_array(o, "streams", &streams) < 0) {
                        streams = json_new_array();
                        json_set_take(o, "streams", streams);
                }
                json_push_str(streams, *n);
        }
}

static bool read_tsms(struct work *w, char **names, struct json_object *list) {
        char path[PATH_MAX];

        for (char **n = names; *n; n++) {
                struct json_object *o = json_new();
                char name[256];

                json_set_str(o, "name", *n);
                snprintf(path, sizeof(path), "/sys/class/tsm/%s/device", *n);
                json_set_str(o, "parent", host_read_link_name(w->host, path, name, sizeof(name)) < 0 ? "" : name);
                snprintf(path, sizeof(path), "/sys/class/tsm/%s/device/driver", *n);
                json_set_str(o, "driver", host_read_link_name(w->host, path, name, sizeof(name)) < 0 ? "" : name);
                json_push_take(list, o);
        }
        return names[0];
}

/* Only functions that a TSM manages have the folder. Listing it does not wait, reading in it does. */
static struct json_object *read_function(struct work *w, const char *bdf) {
        _cleanup_(host_names_freep) char **attributes = NULL;
        struct json_object *o;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm", bdf);
        if (host_list(w->host, path, &attributes) < 0)
                return NULL;
        o = json_new();
        json_set_str(o, "bdf", bdf);
        for (char **a = attributes; *a; a++)
                if (streq(*a, "connect"))
                        json_set_bool(o, "dsm_capable", true);
        read_into(w, o, "connect", bdf, "tsm/connect");
        read_into(w, o, "dsm", bdf, "tsm/dsm");
        read_into(w, o, "bound", bdf, "tsm/bound");
        return o;
}

/*
 * args: "after": BDF to read on after it, none from the start.
 * values: "tsms": [{name, parent, driver}], "functions": [{bdf, connect, dsm, bound, dsm_capable, streams: [..]}] in the order of their
 * names, "more": BDF to go on after, when an answer is full.
 */
int read_tsm_do(struct work *w) {
        _cleanup_(host_names_freep) char **tsms = NULL, **all = NULL, **bridges = NULL;
        const char *after = json_str_or(w->args, "after", "");
        struct json_object *list, *functions, *o;
        int r;

        list = json_new_array();
        functions = json_new_array();
        json_set_take(w->values, "tsms", list);
        json_set_take(w->values, "functions", functions);

        r = host_list(w->host, "/sys/class/tsm", &tsms);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return work_fail(w, r, NULL, "list /sys/class/tsm");
        if (!read_tsms(w, tsms, list))
                return 0;

        r = host_list(w->host, "/sys/bus/pci/devices", &all);
        if (r < 0)
                return work_fail(w, r, NULL, "list /sys/bus/pci/devices");
        for (char **n = all; *n; n++) {
                if (strcmp(*n, after) <= 0)
                        continue;
                if (json_object_array_length(functions) == FUNCTIONS_PER_ANSWER) {
                        json_set_str(w->values, "more", *(n - 1));
                        break;
                }
                o = read_function(w, *n);
                if (o)
                        json_push_take(functions, o);
        }
        if (json_object_array_length(functions) > 0 && host_list(w->host, "/sys/devices", &bridges) >= 0)
                for (char **n = bridges; *n; n++)
                        if (startswith(*n, "pci"))
                                read_streams(w, functions, *n);
        return 0;
}
