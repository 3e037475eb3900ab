/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* IDE streams in tdid's own process. See ide.h. */
#include "ide.h"

#include <stdio.h>

#include "bus/bus.h"
#include "custody-rules.h"
#include "worker.h"

/* Config space of what is being reset cannot be read before that ends, which may take a minute. */
#define PATIENCE_USEC 2000000ULL

struct ide_reader {
        Manager *manager;
        Worker *worker;
        sd_event_source *patience;
        struct json_object *streams; /* what the round under way has brought so far */
        struct json_object *bridges; /* of the last one; NULL: none yet */
        uint64_t from;
        bool busy, again, late;
};

static struct json_object *copy(struct json_object *o) {
        struct json_object *c = NULL;

        if (o && json_object_deep_copy(o, &c, NULL) < 0)
                log_oom();
        return c ? c : json_new_array();
}

static struct json_object *find(struct json_object *list, const char *name) {
        for (size_t i = 0; list && i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);

                if (streq(json_str_or(o, "name", ""), name))
                        return o;
        }
        return NULL;
}

static bool is_secure(struct json_object *stream) {
        return streq(json_str_or(stream, "secure", ""), "yes");
}

static void say(struct json_object *stream, char *buf, size_t size) {
        const char *port = json_str_or(stream, "port", "");

        if (is_secure(stream))
                snprintf(buf, size, "%s is secure", json_str_or(stream, "name", ""));
        else
                snprintf(buf, size, "%s is %s: function %s is %s, port %s is %s", json_str_or(stream, "name", ""),
                         streq(json_str_or(stream, "secure", ""), "no") ? "not secure" : "not known to be secure", json_str_or(stream, "function", ""),
                         json_str_or(stream, "function_state", ""), *port ? port : "(none)", json_str_or(stream, "port_state", ""));
}

/* Takes what was read of a function's streams, or NULL; true when something has changed. */
static bool take(Device *d, struct json_object *streams) {
        size_t n = streams ? json_object_array_length(streams) : 0;
        struct json_object *before = d->streams;
        bool changed = n != (before ? json_object_array_length(before) : 0);
        char bdf[TDI_BDF_MAX], words[256];

        for (size_t i = 0; i < n; i++) {
                struct json_object *o = json_object_array_get_idx(streams, i), *was = find(before, json_str_or(o, "name", ""));

                if (was && json_object_equal(o, was))
                        continue;
                changed = true;
                say(o, words, sizeof(words));
                if (is_secure(o))
                        log_info("%s: %s", tdi_bdf_format(d->bdf, bdf), words);
                else
                        log_warning("%s: %s", tdi_bdf_format(d->bdf, bdf), words);
        }
        if (!changed)
                return false;
        d->streams = n > 0 ? json_object_get(streams) : NULL;
        json_object_put(before);
        return true;
}

void ide_forget(Device *d) {
        (void) take(d, NULL);
}

/* ---- the reader ---- */

static void put(struct json_object **o) {
        json_object_put(*o);
        *o = NULL;
}

static void take_all(Manager *m, struct json_object *streams) {
        char path[64];

        for (size_t i = 0; i < json_object_array_length(streams); i++) {
                struct json_object *o = json_object_array_get_idx(streams, i);
                struct tdi_bdf bdf;
                Device *d = tdi_bdf_parse(json_str_or(o, "function", ""), &bdf) < 0 ? NULL : device_find(m, bdf);

                if (!d || d->gone)
                        continue;
                if (!d->new_streams)
                        d->new_streams = json_new_array();
                json_push_take(d->new_streams, json_object_get(o));
        }
        for (size_t i = 0; i < m->n_devices; i++) {
                Device *d = m->devices[i];

                if (take(d, d->new_streams))
                        bus_changed(m, device_path(d->bdf, path), BUS_DEVICE, "Streams", NULL);
                put(&d->new_streams);
        }
}

/* Nobody knows any more what they are like. */
static void take_unknown(Manager *m) {
        for (size_t i = 0; i < m->n_devices; i++) {
                Device *d = m->devices[i];
                _cleanup_json_ struct json_object *streams = d->streams ? copy(d->streams) : NULL;

                for (size_t k = 0; streams && k < json_object_array_length(streams); k++) {
                        struct json_object *o = json_object_array_get_idx(streams, k);

                        json_set_str(o, "function_state", "unknown");
                        json_set_str(o, "port_state", "unknown");
                        json_set_str(o, "secure", "unknown");
                }
                if (streams)
                        (void) take(d, streams);
        }
}

static void read_on(struct ide_reader *i);

static void begin(struct ide_reader *i) {
        i->again = false;
        i->from = 0;
        put(&i->streams);
        i->streams = json_new_array();
        read_on(i);
}

static void on_read(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct ide_reader *i = userdata;
        struct json_object *streams, *bridges;

        i->patience = sd_event_source_disable_unref(i->patience);
        i->busy = i->late = false;
        if (r < 0) {
                log_warning("could not read IDE streams: %s", text);
                i->worker = r == -ECONNRESET ? worker_free(w) : w;
                take_unknown(i->manager);
        } else if (i->manager->n_tsms > 0 && json_get_array(values, "streams", &streams) >= 0) {
                if (json_get_array(values, "bridges", &bridges) >= 0) {
                        put(&i->bridges);
                        i->bridges = json_object_get(bridges);
                }
                for (size_t k = 0; k < json_object_array_length(streams); k++)
                        json_push_take(i->streams, json_object_get(json_object_array_get_idx(streams, k)));
                if (json_get_u64(values, "more", &i->from) >= 0) {
                        read_on(i);
                        return;
                }
                take_all(i->manager, i->streams);
        }
        if (i->again && i->manager->n_tsms > 0)
                begin(i);
        manager_touch(i->manager);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct ide_reader *i = userdata;

        i->patience = sd_event_source_disable_unref(i->patience);
        i->late = true;
        log_notice("reading the ports of IDE streams takes long: one is being reset; what they are like is unknown until that ends");
        take_unknown(i->manager);
        manager_touch(i->manager);
        return 0;
}

/* Asks for the next answer of a round. */
static void read_on(struct ide_reader *i) {
        _cleanup_json_ struct json_object *args = json_new();
        int r = 0;

        json_set_u64(args, "from", i->from);
        if (!i->worker)
                r = worker_new(i->manager, -EBADF, &i->worker);
        if (r >= 0)
                r = worker_call(i->worker, "read.ide", "do", args, NULL, 0, on_read, i);
        if (r < 0) {
                /* The next round tries again. */
                log_warning("could not start reading IDE streams: %s", strerror(-r));
                i->worker = worker_free(i->worker);
                return;
        }
        i->busy = true;
        if (sd_event_add_time_relative(i->manager->event, &i->patience, CLOCK_MONOTONIC, PATIENCE_USEC, 0, on_patience, i) < 0)
                log_oom();
}

void ide_refresh(Manager *m) {
        struct ide_reader *i = m->ide;

        if (m->n_tsms == 0) {
                if (i) {
                        put(&i->streams);
                        put(&i->bridges);
                        i->streams = json_new_array();
                        take_all(m, i->streams);
                }
                return;
        }
        if (!i) {
                i = m->ide = calloc(1, sizeof(*i));
                if (!i)
                        log_oom();
                i->manager = m;
        }
        if (i->busy)
                i->again = true;
        else
                begin(i);
}

bool ide_is_reading(const Manager *m) {
        return m->ide && m->ide->busy && !m->ide->late;
}

void ide_free(Manager *m) {
        struct ide_reader *i = m->ide;

        if (!i)
                return;
        sd_event_source_disable_unref(i->patience);
        worker_free(i->worker);
        put(&i->streams);
        put(&i->bridges);
        free(i);
        m->ide = NULL;
}

/* ---- what follows from it ---- */

/* The streams of its DSM; NULL. */
static struct json_object *streams_of(const Custody *c) {
        struct tdi_bdf bdf;
        Device *dsm = tdi_bdf_parse(custody_dsm(c), &bdf) < 0 ? NULL : device_find(c->manager, bdf);

        return dsm ? dsm->streams : NULL;
}

/* One that is not secure; else one of which nobody knows; NULL. */
static struct json_object *find_insecure(struct json_object *streams) {
        struct json_object *unknown = NULL;

        for (size_t i = 0; streams && i < json_object_array_length(streams); i++) {
                struct json_object *o = json_object_array_get_idx(streams, i);

                if (streq(json_str_or(o, "secure", ""), "no"))
                        return o;
                if (!is_secure(o))
                        unknown = o;
        }
        return unknown;
}

bool ide_lets_bind(const Custody *c, char *why, size_t size) {
        struct json_object *bad = custody_requires_secure(c) ? find_insecure(streams_of(c)) : NULL;
        char words[256];

        if (json_bool_or(c->values, "ide_required", false) && (!streams_of(c) || json_object_array_length(streams_of(c)) == 0)) {
                snprintf(why, size, "%s: the policy requires a secure IDE stream (\"ide\"), and its DSM has none; connect that anew", c->name);
                return false;
        }
        if (!bad || streq(json_str_or(bad, "secure", ""), "unknown"))
                return true;
        say(bad, words, sizeof(words));
        snprintf(why, size, "%s: %s; disconnect and connect its DSM anew, or allow it in %s", c->name, words,
                 json_bool_or(c->values, "ide_required", false) ? "the policy (\"ide\")" : "tdid.conf (ide.require_secure)");
        return false;
}

int ide_all_secure(const Device *dsm) {
        size_t n = dsm->streams ? json_object_array_length(dsm->streams) : 0;
        int r = n > 0 ? 1 : -EAGAIN;

        for (size_t i = 0; i < n; i++) {
                const char *secure = json_str_or(json_object_array_get_idx(dsm->streams, i), "secure", "");

                if (streq(secure, "no"))
                        return 0;
                if (!streq(secure, "yes"))
                        r = -EAGAIN;
        }
        return r;
}

const char *ide_in_words(const Custody *c, char *buf, size_t size) {
        struct json_object *streams = streams_of(c), *bad = find_insecure(streams);

        if (!streams)
                return NULL;
        if (!bad)
                return "secure";
        say(bad, buf, size);
        return buf;
}

struct json_object *ide_describe(const Device *d) {
        return copy(d->streams);
}

struct json_object *ide_describe_host(Manager *m) {
        struct json_object *o = json_new(), *bridges = copy(m->ide ? m->ide->bridges : NULL), *streams = json_new_array();

        for (size_t i = 0; i < m->n_devices; i++)
                for (size_t k = 0; m->devices[i]->streams && k < json_object_array_length(m->devices[i]->streams); k++) {
                        struct json_object *stream = NULL;

                        if (json_object_deep_copy(json_object_array_get_idx(m->devices[i]->streams, k), &stream, NULL) < 0)
                                log_oom();
                        json_push_take(streams, stream);
                }
        json_set_bool(o, "require_secure", m->config.require_secure);
        json_set_u64(o, "reserved_streams", m->config.reserved_streams);
        json_set_take(o, "bridges", bridges);
        json_set_take(o, "streams", streams);
        return o;
}
