/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TSMs that come and go. */
#include "tsm.h"

#include <stdio.h>

#include "bus/bus.h"
#include "device.h"

const struct platform *platform_of_host(Manager *m) {
        const struct platform *p = m->n_tsms > 0 ? platform_find(m->tsms[0]->platform) : NULL;

        return p ? p : platform_find("plain");
}

static Tsm *free_one(Tsm *t) {
        free(t->name);
        free(t->parent);
        free(t->driver);
        free(t);
        return NULL;
}

Tsm *tsm_find(Manager *m, const char *name) {
        for (size_t i = 0; i < m->n_tsms; i++)
                if (streq(m->tsms[i]->name, name))
                        return m->tsms[i];
        return NULL;
}

char *tsm_path(const Tsm *t, char buf[static 64]) {
        snprintf(buf, 64, BUS_ROOT "/tsm/%s", t->name);
        return buf;
}

static bool still_listed(struct json_object *list, const Tsm *t) {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);

                if (streq(json_str_or(o, "name", ""), t->name) && streq(json_str_or(o, "parent", ""), t->parent))
                        return true;
        }
        return false;
}

/* Only what can stand in an object path may become one. */
static bool is_tsm_name(const char *name) {
        return startswith(name, "tsm") && name[3] && strspn(name + 3, "0123456789") == strlen(name + 3) && strlen(name) < 16;
}

static void add(Manager *m, struct json_object *o) {
        const struct platform *p = platform_of_tsm(json_str_or(o, "parent", ""), json_str_or(o, "driver", ""));
        Tsm *t = calloc(1, sizeof(*t));
        char path[64];

        if (!t || free_and_strdup(&t->name, json_str_or(o, "name", "")) < 0 ||
            free_and_strdup(&t->parent, json_str_or(o, "parent", "")) < 0 || free_and_strdup(&t->driver, json_str_or(o, "driver", "")) < 0)
                log_oom();
        t->platform = p ? p->name : "unknown";
        m->tsms = reallocarray(m->tsms, m->n_tsms + 1, sizeof(*m->tsms));
        if (!m->tsms)
                log_oom();
        m->tsms[m->n_tsms++] = t;
        log_info("%s has arrived: %s, platform %s", t->name, t->parent, t->platform);
        bus_added(m, tsm_path(t, path), BUS_TSM);
}

void tsm_update(Manager *m, struct json_object *list) {
        size_t before = m->n_tsms;
        bool changed = false;
        char path[64];

        for (size_t i = 0; i < m->n_tsms;) {
                if (still_listed(list, m->tsms[i])) {
                        i++;
                        continue;
                }
                log_info("%s has gone", m->tsms[i]->name);
                bus_removed(m, tsm_path(m->tsms[i], path), BUS_TSM);
                free_one(m->tsms[i]);
                memmove(m->tsms + i, m->tsms + i + 1, (--m->n_tsms - i) * sizeof(*m->tsms));
                changed = true;
        }
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);
                const char *name = json_str_or(o, "name", "");

                if (!is_tsm_name(name) || tsm_find(m, name))
                        continue;
                add(m, o);
                changed = true;
        }
        if (changed || before != m->n_tsms)
                bus_changed(m, BUS_ROOT, BUS_MANAGER, "Platform", NULL);
}

void tsm_free_all(Manager *m) {
        for (size_t i = 0; i < m->n_tsms; i++)
                free_one(m->tsms[i]);
        free(m->tsms);
        m->tsms = NULL;
        m->n_tsms = 0;
}
