/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI/TSM: connecting a DSM, and reading what the TSM core shows. Every access here may sleep for as long as somebody's SPDM
 * and IDE handshake takes: drivers/pci/tsm.c serves all of them under one semaphore.
 */
#include "worker/ide.h"

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

/* To which TSM it is connected, "": to none. */
static int look_at_connection(struct work *w, const char *dsm, char *now, size_t size) {
        int r = read_connect(w, dsm, now, size);

        return r < 0 ? work_fail(w, r, "has the TSM driver gone?", "read tsm/connect of %s", dsm) : 0;
}

/* args: "dsm" (BDF). values: "connect_before": the TSM that it is connected to, "" when none. */
int connect_note_do(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", "");
        char now[64];
        int r;

        r = look_at_connection(w, dsm, now, sizeof(now));
        if (r < 0)
                return r;
        json_set_str(w->values, "connect_before", now);
        return set_mark(w, MARK_NONE);
}

/* args: "dsm" (BDF), "tsm" (name), "reserved_streams". -EDQUOT: its host bridge has no IDE stream left for it. */
int connect_tsm_do(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", ""), *tsm = json_str_or(w->args, "tsm", "");
        _cleanup_close_ int lock = -EBADF;
        char path[PATH_MAX], now[64];
        int r;

        r = ide_admit(w, dsm, json_u64_or(w->args, "reserved_streams", 0), &lock);
        if (r >= 0)
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

/*
 * args: "dsm", "tsm", "connected_by": "perhaps" where only the mark knows, "used": another function of tdid's found it connected, and relies on that.
 * values: "connected_by": "unknown" where the mark does not know either; "left": it is tdid's, and stays connected for that other one.
 */
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
        if (json_bool_or(w->args, "used", false)) {
                json_set_bool(w->values, "left", true);
                return 0;
        }
        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/tsm/disconnect", dsm);
        r = host_write_text(w->host, path, tsm);
        if (r < 0 && r != -ENXIO && r != -ENOENT)
                return work_fail(w, r, NULL, "write \"%s\" to %s", tsm, path);
        return 0;
}

/* args as connect.tsm. values: "connected_by", and "tsm" where somebody else has connected it meanwhile. */
int bind_connect_do(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", "");
        char now[64];
        int r;

        r = look_at_connection(w, dsm, now, sizeof(now));
        if (r < 0)
                return r;
        if (!now[0])
                r = connect_tsm_do(w);
        else {
                r = set_mark(w, MARK_NONE);
                json_set_str(w->values, "tsm", now);
        }
        if (r < 0)
                return r;
        json_set_str(w->values, "connected_by", now[0] ? "other" : "tdid");
        return 0;
}

/* What became of one that was begun, and not seen to its end. values: "connected_by". It stays: connect.tsm undoes it. */
int bind_connect_undo(struct work *w) {
        const char *dsm = json_str_or(w->args, "dsm", ""), *tsm = json_str_or(w->args, "tsm", "");
        bool connected;
        char now[64];

        connected = read_connect(w, dsm, now, sizeof(now)) >= 0 && streq(now, tsm);
        json_set_str(w->values, "connected_by",
                     !connected ? "" : get_mark(w) == MARK_NONE ? "other" : get_mark(w) == MARK_CONNECTED ? "tdid" : "perhaps");
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
 * values: "tsms": [{name, parent, driver}], "functions": [{bdf, connect, dsm, bound, dsm_capable}] in the order of their names,
 * "more": BDF to go on after, when an answer is full.
 */
int read_tsm_do(struct work *w) {
        _cleanup_(host_names_freep) char **tsms = NULL, **all = NULL;
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
        return 0;
}
