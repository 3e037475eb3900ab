/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl monitor`: events as they come, a line each; with --json an object each. */
#include <stdio.h>
#include <time.h>

#include "model.h"
#include "print.h"

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

static int print_line(const struct tdi_event *event, const struct timespec *now) {
        _cleanup_(json_object_putp) json_object *value = event->value ? json_tokener_parse(event->value) : NULL;
        _cleanup_free_ char *text = event->value ? format_value(value) : strdup("?");
        char clock[16] = "";
        struct tm tm;

        if (!text)
                return -ENOMEM;
        if (localtime_r(&now->tv_sec, &tm))
                (void) strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        printf("%s.%03ld %-7s %s", clock, now->tv_nsec / 1000000, kinds[event->kind], event->type);
        if (*event->id)
                printf(" %s", event->id);
        if (event->key)
                printf(" %s=", event->key);
        else if (event->value)
                putchar(' ');
        if (event->key || event->value)
                for (const char *c = text; *c; c++)
                        putchar((unsigned char) *c < 0x20 || *c == 0x7f ? '?' : *c);
        putchar('\n');
        return 0;
}

static int on_event(const struct tdi_event *event, void *userdata) {
        struct tdictl *t = userdata;
        struct timespec now;
        int r;

        if ((size_t) event->kind >= ARRAY_SIZE(kinds))
                return 0;
        (void) clock_gettime(CLOCK_REALTIME, &now);
        r = t->json ? print_json(event, &now) : print_line(event, &now);
        /* Whoever reads us line by line waits for this one; and nobody reads any more when it fails. */
        return r < 0 || fflush(stdout) != 0;
}

int verb_monitor(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL;
        int r;

        r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_subscribe(t->client, on_event, t);
        if (r < 0)
                return fail_client(t, r);
        /* Only to say at once when there is no tdid. */
        r = model_snapshot(t, &snapshot);
        if (r < 0)
                return r;
        if (t->legend && !t->json) {
                fputs("Watching tdid. Ctrl-C ends it.\n", stderr);
                fflush(stderr);
        }
        r = tdi_client_run(t->client);
        return r < 0 ? fail_client(t, r) : 0;
}
