/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the programs tell: one record a refusal, in a ring that is theirs as long as they are pinned. A process that is refused without end
 * writes without end: so many are read at a time, and what finds no room in the ring is only counted.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>

#include "audit.h"
#include "custody.h"
#include "guard/guard.h"
#include "guard/names.h"
#include "vm.h"

#define AT_ONCE 32
#define PAUSE_USEC 100000ULL

const bool guard_is_built_in = true;

struct guard_listener {
        Manager *manager;
        char set[17];
        int functions;
        struct ring_buffer *ring;
        sd_event_source *source, *pause;
        unsigned read; /* in this round */
};

struct guard_listener *guard_listener_free(struct guard_listener *l) {
        if (!l)
                return NULL;
        sd_event_source_disable_unref(l->source);
        sd_event_source_disable_unref(l->pause);
        ring_buffer__free(l->ring);
        close_fd(l->functions);
        free(l);
        return NULL;
}

static int on_event(void *userdata, void *data, size_t size) {
        struct guard_listener *l = userdata;
        const struct guard_event *e = data;
        const Custody *c = NULL;
        char comm[17] = "";

        if (size < sizeof(*e))
                return 0;
        for (size_t i = 0; i < l->manager->n_custodies; i++)
                if (tdi_bdf_number(l->manager->custodies[i]->bdf) == e->function)
                        c = l->manager->custodies[i];
        memcpy(comm, e->comm, sizeof(e->comm));
        audit_guard_refused(c, guard_kind_to_string(e->kind), (pid_t) e->pid, comm, e->uid);
        /* The one that was read is gone from the ring; the others wait. */
        return ++l->read >= AT_ONCE ? -EAGAIN : 0;
}

static int on_pause(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct guard_listener *l = userdata;

        return sd_event_source_set_enabled(l->source, SD_EVENT_ON);
}

static int on_ring(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        struct guard_listener *l = userdata;

        l->read = 0;
        if (ring_buffer__consume(l->ring) == -EAGAIN) {
                (void) sd_event_source_set_enabled(l->source, SD_EVENT_OFF);
                (void) sd_event_source_set_time_relative(l->pause, PAUSE_USEC);
                (void) sd_event_source_set_enabled(l->pause, SD_EVENT_ONESHOT);
        }
        return 0;
}

static int open_pin(const char *set, const char *pin) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), GUARD_FOLDER "/%.16s/%s", set, pin);
        fd = bpf_obj_get(path);
        return fd < 0 ? -errno : fd;
}

/* A set that was taken away and made anew has the same name and other maps. */
static bool is_current(const struct guard_listener *l, const char *set, int functions) {
        struct bpf_map_info old = {}, new = {};
        __u32 n = sizeof(old), k = sizeof(new);

        return l && streq(l->set, set) && bpf_obj_get_info_by_fd(l->functions, &old, &n) == 0 && bpf_obj_get_info_by_fd(functions, &new, &k) == 0 &&
               old.id == new.id;
}

static int listen_to(Manager *m, const char *set, int functions, struct guard_listener **ret) {
        struct guard_listener *l = calloc(1, sizeof(*l));
        _cleanup_close_ int events = -EBADF;
        int r;

        if (!l)
                log_oom();
        l->manager = m;
        l->functions = functions;
        snprintf(l->set, sizeof(l->set), "%s", set);
        events = open_pin(set, "events");
        if (events >= 0)
                l->ring = ring_buffer__new(events, on_event, l, NULL);
        r = events < 0 ? events : !l->ring ? -errno : 0;
        if (r >= 0)
                r = sd_event_add_io(m->event, &l->source, ring_buffer__epoll_fd(l->ring), EPOLLIN, on_ring, l);
        if (r >= 0)
                r = sd_event_add_time(m->event, &l->pause, CLOCK_MONOTONIC, 0, 0, on_pause, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->pause, SD_EVENT_OFF);
        if (r < 0) {
                guard_listener_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

void guard_listen(Manager *m, const char *set) {
        struct guard_listener *l = NULL;
        int functions, r;

        functions = open_pin(set, "functions");
        if (functions >= 0 && is_current(m->guard->listener, set, functions)) {
                close_fd(functions);
                return;
        }
        m->guard->listener = guard_listener_free(m->guard->listener);
        r = functions < 0 ? functions : listen_to(m, set, functions, &l);
        if (r < 0)
                log_warning("mmap guard: its refusals are not heard of: " GUARD_FOLDER "/%s cannot be opened: %s", set, strerror(-r));
        m->guard->listener = l;
}

struct json_object *guard_read_refusals(struct guard_listener *l, uint32_t function) {
        struct guard_function f;
        struct json_object *o;

        if (bpf_map_lookup_elem(l->functions, &function, &f) < 0)
                return NULL;
        o = json_new();
        for (unsigned i = 0; i < GUARD_KIND_MAX; i++)
                if (f.refused[i] > 0)
                        json_set_u64(o, guard_kind_to_string(i), f.refused[i]);
        return o;
}
