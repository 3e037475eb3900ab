/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * IDE streams: which there are (the links of drivers/pci/ide.c below the host bridges), what both ports' registers say of each, and what a
 * bridge has left. The registers are read in config space through sysfs: VFIO hides them, and a reset restores none of them.
 */
#include "worker/ide.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <tdi/bdf.h>

#include "model/ide.h"

#define BRIDGES_MAX 256
#define STREAMS_MAX 4096
#define STREAMS_PER_ANSWER 256

struct config_file {
        TdiHost *host;
        int fd;
};

static int read_config(void *userdata, unsigned at, uint32_t *ret) {
        struct config_file *f = userdata;
        uint8_t b[4];
        ssize_t n;

        n = host_pread(f->host, f->fd, b, sizeof(b), at);
        if (n < 0)
                return (int) n;
        if (n != sizeof(b))
                return -ENODATA;
        *ret = b[0] | (uint32_t) b[1] << 8 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 24;
        return 0;
}

/* The capability, with the file open; anything below 0 closes it. */
static int open_capability(struct work *w, const char *bdf, struct config_file *f, struct ide_capability *c) {
        char path[PATH_MAX];
        int r;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s/config", bdf);
        f->host = w->host;
        f->fd = host_open(w->host, path, O_RDONLY);
        if (f->fd < 0)
                return f->fd;
        r = ide_find(read_config, f, c);
        if (r < 0)
                (void) host_close(w->host, f->fd);
        return r;
}

static bool read_block(struct work *w, const char *bdf, unsigned index, struct ide_block *ret) {
        struct ide_capability c;
        struct config_file f;
        int r;

        if (open_capability(w, bdf, &f, &c) < 0)
                return false;
        r = ide_read_selective(read_config, &f, &c, index, ret);
        (void) host_close(w->host, f.fd);
        return r >= 0;
}

/* 1 when it can have selective streams, 0 when it cannot, -1 when config space does not say. */
static int has_selective(struct work *w, const char *bdf) {
        struct ide_capability c;
        struct config_file f;
        int r;

        r = open_capability(w, bdf, &f, &c);
        if (r < 0)
                return r == -ENOENT ? 0 : -1;
        (void) host_close(w->host, f.fd);
        return c.n_selective > 0;
}

struct place {
        char bridge[16];          /* "pci0000:00" */
        char port[TDI_BDF_MAX];   /* the root port above, "" for a function of the root complex itself */
};

/* "../../../devices/pci0000:00/0000:00:03.0/0000:03:00.0" */
static int find_place(struct work *w, const char *bdf, struct place *ret) {
        char path[PATH_MAX], target[PATH_MAX], *save = NULL;
        struct tdi_bdf parsed;
        struct place p = {};
        ssize_t n;

        snprintf(path, sizeof(path), WORK_SYSFS_PCI "%s", bdf);
        n = host_readlink(w->host, path, target, sizeof(target));
        if (n < 0)
                return (int) n;
        for (char *s = strtok_r(target, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
                if (startswith(s, "pci") && strlen(s) < sizeof(p.bridge))
                        strcpy(p.bridge, s);
                else if (*p.bridge && !*p.port && !streq(s, bdf) && tdi_bdf_parse(s, &parsed) >= 0)
                        tdi_bdf_format(parsed, p.port);
                else if (*p.bridge && !*p.port)
                        break;
        }
        if (!*p.bridge)
                return -ENOENT;
        *ret = p;
        return 0;
}

static uint16_t requester_id(const char *bdf) {
        struct tdi_bdf b;

        return tdi_bdf_parse(bdf, &b) < 0 ? 0 : (uint16_t) tdi_bdf_number(b);
}

/* "streamH.R.E": number at the host bridge, selective block of the root port, of the function (pci_ide_stream_register()). */
static bool parse_name(const char *name, unsigned *ret_port, unsigned *ret_function) {
        unsigned host;
        int end = 0;

        return sscanf(name, "stream%3u.%3u.%3u%n", &host, ret_port, ret_function, &end) == 3 && name[end] == '\0';
}

struct json_object *ide_read_stream(struct work *w, const char *name, const char *bdf) {
        enum ide_state at_port = IDE_UNKNOWN, at_function = IDE_UNKNOWN;
        struct ide_block port = {}, function = {};
        unsigned port_block, function_block;
        struct json_object *o = json_new();
        struct place place = {};
        bool has_port = false, has_function = false;
        int secure;

        if (find_place(w, bdf, &place) >= 0 && parse_name(name, &port_block, &function_block)) {
                has_function = read_block(w, bdf, function_block, &function);
                has_port = *place.port && read_block(w, place.port, port_block, &port);
        }
        if (has_function)
                at_function = *place.port ? ide_state_of(&function, requester_id(place.port)) : IDE_UNKNOWN;
        if (has_port)
                at_port = ide_state_of(&port, requester_id(bdf));
        /* Both are enabled, for different streams. */
        if (has_port && has_function && port.enabled && function.enabled && port.id != function.id)
                at_port = at_function = IDE_MISMATCHED;
        secure = ide_is_secure(at_function, at_port);

        json_set_str(o, "name", name);
        json_set_take(o, "id", has_port && port.enabled ? json_object_new_int(port.id) :
                               has_function && function.enabled ? json_object_new_int(function.id) : NULL);
        json_set_str(o, "bridge", place.bridge);
        json_set_str(o, "function", bdf);
        json_set_str(o, "function_state", ide_state_to_string(at_function));
        json_set_str(o, "port", place.port);
        json_set_str(o, "port_state", ide_state_to_string(at_port));
        json_set_bool(o, "integrity_failed", port.integrity_failed || function.integrity_failed);
        json_set_str(o, "secure", secure > 0 ? "yes" : secure == 0 ? "no" : "unknown");
        return o;
}

void ide_links_free(struct ide_links *l) {
        for (size_t i = 0; i < l->n; i++) {
                free(l->links[i].name);
                free(l->links[i].function);
        }
        free(l->links);
        json_putp(&l->bridges);
        *l = (struct ide_links){};
}

static int add_link(struct ide_links *l, const char *name, const char *function) {
        struct ide_link *t = reallocarray(l->links, l->n + 1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        l->links = t;
        t += l->n;
        *t = (struct ide_link){ .name = strdup(name), .function = strdup(function) };
        if (!t->name || !t->function) {
                free(t->name);
                free(t->function);
                return -ENOMEM;
        }
        l->n++;
        return 0;
}

static int read_bridge(struct work *w, const char *bridge, struct ide_links *l) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX], target[256];
        struct json_object *o;
        unsigned in_use = 0;
        uint64_t left;
        int r;

        snprintf(path, sizeof(path), "/sys/devices/%s", bridge);
        r = host_list(w->host, path, &names);
        if (r < 0)
                return r == -ENOENT ? 0 : work_fail(w, r, NULL, "list %s", path);
        for (char **n = names; *n; n++) {
                if (!startswith(*n, "stream") || strchr(*n, '.') == NULL)
                        continue;
                snprintf(path, sizeof(path), "/sys/devices/%s/%s", bridge, *n);
                r = host_read_link_name(w->host, path, target, sizeof(target));
                if (r == -ENOENT)
                        continue; /* it has just gone */
                if (r >= 0)
                        r = l->n < STREAMS_MAX ? add_link(l, *n, target) : -E2BIG;
                if (r < 0)
                        return work_fail(w, r, NULL, "read the IDE streams of %s", bridge);
                in_use++;
        }
        snprintf(path, sizeof(path), "/sys/devices/%s/available_secure_streams", bridge);
        o = json_new();
        json_set_str(o, "name", bridge);
        json_set_u64(o, "in_use", in_use);
        json_set_take(o, "left", host_read_u64(w->host, path, &left) < 0 ? NULL : json_object_new_int64((int64_t) left));
        /* Not to be told of is not to be there: their streams count all the same. */
        if (json_object_array_length(l->bridges) < BRIDGES_MAX)
                json_push_take(l->bridges, o);
        else
                json_object_put(o);
        return 0;
}

int ide_read_links(struct work *w, struct ide_links *ret) {
        _cleanup_(host_names_freep) char **all = NULL;
        int r;

        *ret = (struct ide_links){ .bridges = json_new_array() };
        r = host_list(w->host, "/sys/devices", &all);
        if (r < 0)
                return work_fail(w, r, NULL, "list /sys/devices");
        for (char **n = all; *n && r >= 0; n++)
                if (startswith(*n, "pci"))
                        r = read_bridge(w, *n, ret);
        return r;
}

/*
 * args: "from": index of the first to read. values: "streams": [..], "more": index to go on with when the answer is full; "bridges": [..] in
 * the first. As ide.h has them. It waits for whatever resets a port or a function (pci_wait_cfg()), and no signal ends that.
 */
int read_ide_do(struct work *w) {
        struct json_object *streams = json_new_array();
        size_t from = (size_t) json_u64_or(w->args, "from", 0);
        _cleanup_(ide_links_free) struct ide_links l = {};
        int r;

        json_set_take(w->values, "streams", streams);
        r = ide_read_links(w, &l);
        if (r < 0)
                return r;
        if (from == 0)
                json_set_take(w->values, "bridges", json_object_get(l.bridges));
        for (size_t i = from; i < l.n; i++) {
                if (i - from == STREAMS_PER_ANSWER) {
                        json_set_u64(w->values, "more", i);
                        break;
                }
                json_push_take(streams, ide_read_stream(w, l.links[i].name, l.links[i].function));
        }
        return 0;
}

/* ---- what may be done ---- */

int ide_admit(struct work *w, const char *dsm, uint64_t reserved, int *ret_lock) {
        _cleanup_close_ int lock = -EBADF;
        char path[PATH_MAX], what[256];
        struct place place;
        uint64_t left;

        /* What cannot be found out is left to the kernel. A function without the capability takes no stream. */
        if (find_place(w, dsm, &place) < 0 || !*place.port || has_selective(w, dsm) <= 0 || has_selective(w, place.port) <= 0)
                return 0;
        /* Two at a time would see the same stream left. The kernel makes them one after the other in any case, and counts by itself when nothing is kept. */
        if (reserved > 0) {
                lock = open(json_str_or(w->args, "state", ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (lock < 0 || flock(lock, LOCK_EX) < 0)
                        return work_fail(w, -errno, NULL, "lock the state folder to count IDE streams");
        }
        snprintf(path, sizeof(path), "/sys/devices/%s/available_secure_streams", place.bridge);
        if (host_read_u64(w->host, path, &left) < 0 || left > reserved) {
                *ret_lock = TAKE_FD(lock);
                return 0;
        }
        snprintf(what, sizeof(what), "connect %s: host bridge %s has %llu IDE streams left, and tdid.conf keeps %llu (ide.reserved_streams)", dsm,
                 place.bridge, (unsigned long long) left, (unsigned long long) reserved);
        return work_fail(w, -EDQUOT, "disconnect what is not needed: tdictl tsm show names the streams", "%s", what);
}

int ide_must_be_secure(struct work *w, const char *dsm) {
        bool needed = json_bool_or(w->args, "require_stream", false), found = false;
        _cleanup_(ide_links_free) struct ide_links l = {};
        int r;

        r = ide_read_links(w, &l);
        for (size_t i = 0; i < l.n && r >= 0; i++) {
                _cleanup_json_ struct json_object *o = NULL;

                if (!streq(l.links[i].function, dsm))
                        continue;
                found = true;
                o = ide_read_stream(w, l.links[i].name, dsm);
                if (!streq(json_str_or(o, "secure", ""), "yes"))
                        r = work_fail(w, -EKEYREJECTED, "disconnect and connect it anew, or allow it in tdid.conf (ide.require_secure)",
                                      "bind %s: %s of its DSM is not known to be secure: function %s is %s, port %s is %s", w->bdf,
                                      l.links[i].name, dsm, json_str_or(o, "function_state", ""), json_str_or(o, "port", ""),
                                      json_str_or(o, "port_state", ""));
        }
        if (r >= 0 && needed && !found)
                r = work_fail(w, -EKEYREJECTED, "connect its DSM to a TSM that makes one", "give %s to a VM: the policy requires a secure IDE stream, and %s has none", w->bdf,
                              isempty(dsm) ? "it has no DSM, and so" : "its DSM");
        return r;
}
