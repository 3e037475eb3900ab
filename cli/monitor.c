/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl monitor`: events as they come, a line each; with --json an object each. */
#include <stdio.h>
#include <time.h>

#include "model.h"
#include "print.h"

/* A host that has more is told of everything. */
#define NAMES_MAX 4096
#define LAST_MAX 65536

struct watch {
        struct tdictl *t;
        json_object *names; /* of VMs, by id */
        json_object *last;  /* what was last said, by object and key */
};

static const char *const kinds[] = {
        [TDI_EVENT_ADDED] = "added",
        [TDI_EVENT_REMOVED] = "removed",
        [TDI_EVENT_CHANGED] = "changed",
        [TDI_EVENT_NOTICE] = "notice",
        [TDI_EVENT_DAEMON] = "daemon",
};

static int print_json(const struct tdi_event *event, const struct timespec *now) {
        _cleanup_(json_object_putp) json_object *o = json_object_new_object(), *e = json_object_new_object();
        json_object *value = event->value ? json_tokener_parse(event->value) : NULL;
        int64_t usec = (int64_t) now->tv_sec * 1000000 + now->tv_nsec / 1000;

        if (!o || !e || json_put_string(o, "schema", TDICTL_SCHEMA) < 0 || json_put(e, "time", json_object_new_int64(usec)) < 0 ||
            json_put_string(e, "kind", kinds[event->kind]) < 0 || json_put_string(e, "type", event->type) < 0 ||
            json_put_string(e, "id", event->id) < 0 || (event->key && json_put_string(e, "key", event->key) < 0)) {
                json_object_put(value);
                return -ENOMEM;
        }
        /* null is a value too; the member is missing where tdid did not tell one. */
        if (event->value && json_object_object_add(e, "value", value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        if (json_put(o, "event", TAKE_PTR(e)) < 0)
                return -ENOMEM;
        puts(json_text(o));
        return 0;
}

/* What people are told of an object: the name of a VM, whose id says nothing to anybody. */
static const char *label_of(struct watch *w, const char *type, const char *id) {
        const char *name = streq(type, "vm") ? json_string(w->names, id) : NULL;

        return name ?: id;
}

static void learn_name(struct watch *w, json_object *vm) {
        const char *id = json_string(vm, "id"), *name = json_string(vm, "name");

        if (id && name && json_object_object_length(w->names) < NAMES_MAX)
                (void) json_put_string(w->names, id, name);
}

/* One member, as people read it: VMs by name, times as times. NULL: it says nothing. The caller's. */
static char *format_member(struct watch *w, const char *key, json_object *value) {
        if (streq(key, "vm_id") && json_object_is_type(value, json_type_string))
                return strdup(label_of(w, "vm", json_object_get_string(value)));
        if (streq(key, "started") || streq(key, "deadline"))
                return format_time(value, true);
        if (streq(key, "finished"))
                return isempty(json_string(value, "error")) ? strdup("well") : format_value(value);
        return format_value(value);
}

/* tdid signals properties together, and says of some what was known: that is no event for people. */
static bool is_news(struct watch *w, const struct tdi_event *event, const char *text) {
        _cleanup_free_ char *key = NULL;
        bool same;

        if (event->kind != TDI_EVENT_CHANGED || asprintf(&key, "%s %s %s", event->type, event->id, event->key) < 0)
                return true;
        same = streq_ptr(json_string(w->last, key), text);
        /* What is not remembered is told once more. */
        if (json_object_object_length(w->last) < LAST_MAX || json_member(w->last, key))
                (void) json_put_string(w->last, key, text);
        return !same;
}

static void forget(struct watch *w, const struct tdi_event *event) {
        static const char *const keys[] = { "custody", "vm_id", "quarantine", "driver", "tee", "tsm", "dsm", "bound", "streams", "state", "tdisp", "phase", "tdis", "step" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                _cleanup_free_ char *key = NULL;

                if (asprintf(&key, "%s %s %s", event->type, event->id, keys[i]) >= 0)
                        json_object_object_del(w->last, key);
        }
}

/* The members of what is new, but for those that only name it. */
static char *format_added(struct watch *w, json_object *value) {
        char *text = strdup("");

        json_object_object_foreach(value, key, member) {
                _cleanup_free_ char *one = NULL;
                char *longer = NULL;

                if (streq(key, "id") || streq(key, "bdf") || streq(key, "name") || streq(key, "uuid") || value_is_empty(member))
                        continue;
                one = format_member(w, key, member);
                if (one && streq(one, "-"))
                        continue;
                if (!text || !one || asprintf(&longer, "%s %s=%s", text, streq(key, "vm_id") ? "vm" : key, one) < 0)
                        longer = NULL;
                free(text);
                text = longer;
        }
        return text;
}

static void put_line(const char *text) {
        for (; *text; text++)
                putchar((unsigned char) *text < 0x20 || *text == 0x7f ? '?' : *text);
}

static int print_line(struct watch *w, const struct tdi_event *event, const struct timespec *now) {
        _cleanup_(json_object_putp) json_object *value = event->value ? json_tokener_parse(event->value) : NULL;
        _cleanup_free_ char *text = NULL;
        bool members = !event->key && json_object_is_type(value, json_type_object);
        char clock[16] = "";
        struct tm tm;

        if (streq(event->type, "vm") && event->kind == TDI_EVENT_ADDED)
                learn_name(w, value);
        text = members ? format_added(w, value) : event->value && event->key ? format_member(w, event->key, value) : event->value ? format_value(value) : strdup("?");
        if (!text)
                return -ENOMEM;
        if (event->key && event->value && !is_news(w, event, text))
                return 0;
        if (event->kind == TDI_EVENT_REMOVED)
                forget(w, event);
        if (localtime_r(&now->tv_sec, &tm))
                (void) strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        printf("%s.%03ld %-7s %s", clock, now->tv_nsec / 1000000, kinds[event->kind], event->type);
        if (*event->id) {
                putchar(' ');
                put_line(label_of(w, event->type, event->id));
        }
        if (event->key)
                printf(" %s=", streq(event->key, "vm_id") ? "vm" : event->key);
        else if (event->value && !members)
                putchar(' ');
        if (event->key || event->value)
                put_line(text);
        putchar('\n');
        return 0;
}

static int on_event(const struct tdi_event *event, void *userdata) {
        struct watch *w = userdata;
        struct timespec now;
        int r;

        if ((size_t) event->kind >= ARRAY_SIZE(kinds))
                return 0;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        r = w->t->json ? print_json(event, &now) : print_line(w, event, &now);
        /* Whoever reads us line by line waits for this one; and nobody reads any more when it fails. */
        return r < 0 || fflush(stdout) != 0;
}

static void watch_done(struct watch *w) {
        json_object_put(w->names);
        json_object_put(w->last);
}

/* What there is, so that what is told of it later is told of names. */
static void learn_names(struct watch *w, json_object *snapshot) {
        json_object *vms = json_member(snapshot, "vms");

        for (size_t i = 0; json_object_is_type(vms, json_type_array) && i < json_object_array_length(vms); i++)
                learn_name(w, json_object_array_get_idx(vms, i));
}

int verb_monitor(struct tdictl *t) {
        _cleanup_(watch_done) struct watch watch = { .t = t, .names = json_object_new_object(), .last = json_object_new_object() };
        _cleanup_(json_object_putp) json_object *snapshot = NULL;
        int r;

        if (!watch.names || !watch.last)
                return fail_oom(t);
        r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_subscribe(t->client, on_event, &watch);
        if (r < 0)
                return fail_client(t, r);
        /* Also to say at once when there is no tdid. */
        r = model_snapshot(t, &snapshot);
        if (r < 0)
                return r;
        learn_names(&watch, snapshot);
        if (t->legend && !t->json) {
                fputs("Watching tdid. Ctrl-C ends it.\n", stderr);
                fflush(stderr);
        }
        r = tdi_client_run(t->client);
        return r < 0 ? fail_client(t, r) : 0;
}
