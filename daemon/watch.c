/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Watches on sysfs files of functions. */
#include "watch.h"

#include <limits.h>
#include <stdio.h>

#include "function-files.h"
#include "log.h"

static const char *const files[] = {
#define WATCHED(name, kind) name,
        FUNCTION_FILES(WATCHED)
#undef WATCHED
};

struct watched {
        struct tdi_bdf bdf;
        int number[ARRAY_SIZE(files)]; /* 0: not watched */
};

struct watch {
        TdiHost *host;
        char *folder;
        int fd;
        sd_event_source *source;
        struct watched *list;
        size_t n;
        watch_found found;
        void *userdata;
        char state[160];
};

static struct watched *find(const struct watch *w, struct tdi_bdf bdf) {
        for (size_t i = 0; i < w->n; i++)
                if (tdi_bdf_number(w->list[i].bdf) == tdi_bdf_number(bdf))
                        return w->list + i;
        return NULL;
}

static void tell(struct watch *w, int number) {
        for (size_t i = 0; i < w->n; i++)
                for (size_t k = 0; k < ARRAY_SIZE(files); k++)
                        if (w->list[i].number[k] == number) {
                                w->found(w->list[i].bdf, files[k], w->userdata);
                                return;
                        }
}

static int on_event(_unused_ sd_event_source *s, _unused_ int fd, _unused_ uint32_t revents, void *userdata) {
        struct watch *w = userdata;
        int r;

        while ((r = host_watch_read(w->host, w->fd)) > 0)
                tell(w, r);
        if (r == -ENOBUFS)
                log_warning("some writes to files of functions in custody have gone unnoticed: there were too many at once");
        else if (r != -EAGAIN) {
                log_warning("writes to files of functions in custody are no longer noticed: %s", strerror(-r));
                snprintf(w->state, sizeof(w->state), "none: %s", strerror(-r));
                w->source = sd_event_source_disable_unref(w->source);
        }
        return 0;
}

int watch_new(sd_event *event, TdiHost *host, const char *folder, watch_found found, void *userdata, struct watch **ret) {
        struct watch *w = calloc(1, sizeof(*w));
        int r;

        if (!w || free_and_strdup(&w->folder, folder) < 0) {
                free(w);
                return -ENOMEM;
        }
        w->host = host;
        w->found = found;
        w->userdata = userdata;
        w->fd = r = host_watch_open(host);
        if (r >= 0)
                r = sd_event_add_io(event, &w->source, w->fd, EPOLLIN, on_event, w);
        /* Doing without is better than not to serve. */
        if (r >= 0)
                snprintf(w->state, sizeof(w->state), "inotify");
        else {
                w->fd = close_fd(w->fd);
                snprintf(w->state, sizeof(w->state), "none: %s", r == -EOPNOTSUPP ? "this host has no inotify, as a simulated one" : strerror(-r));
        }
        *ret = w;
        return 0;
}

struct watch *watch_free(struct watch *w) {
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->source);
        close_fd(w->fd);
        free(w->list);
        free(w->folder);
        free(w);
        return NULL;
}

void watch_add(struct watch *w, struct tdi_bdf bdf) {
        char path[PATH_MAX], name[TDI_BDF_MAX];
        struct watched *o;

        if (!w || !w->source || find(w, bdf))
                return;
        o = reallocarray(w->list, w->n + 1, sizeof(*o));
        if (!o)
                log_oom();
        w->list = o;
        o = w->list + w->n++;
        *o = (struct watched){ .bdf = bdf };
        tdi_bdf_format(bdf, name);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
                int r;

                snprintf(path, sizeof(path), "%s/%s/%s", w->folder, name, files[i]);
                r = host_watch_add(w->host, w->fd, path);
                /* Not every function can be reset. */
                if (r == -ENOENT)
                        continue;
                if (r > 0)
                        o->number[i] = r;
                else {
                        snprintf(w->state, sizeof(w->state), "partly: %s: %s", path + strlen(w->folder) + 1, strerror(-r));
                        log_warning("writes to %s will not be noticed: %s%s", path, strerror(-r),
                                    r == -ENOSPC ? "; raise fs.inotify.max_user_watches" : "");
                }
        }
}

void watch_drop(struct watch *w, struct tdi_bdf bdf) {
        struct watched *o = w ? find(w, bdf) : NULL;

        if (!o)
                return;
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                if (o->number[i] > 0)
                        (void) host_watch_drop(w->host, w->fd, o->number[i]);
        *o = w->list[--w->n];
}

const char *watch_describe(const struct watch *w) {
        return w ? w->state : "none";
}
