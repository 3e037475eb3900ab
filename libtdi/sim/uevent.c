/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who listens to uevents. A listener that does not read loses events, as a netlink socket's owner does, and is told so in the
 * place of what it lost.
 */
#include "sim/server.h"

#include <limits.h>
#include <stdio.h>
#include <sys/epoll.h>

#define QUEUE_MAX 8192u /* about what 8 MiB of a netlink socket's buffer hold */

struct message {
        size_t size;
        STAILQ_ENTRY(message) link;
        char text[];
};

struct listener {
        struct endpoint *endpoint;
        STAILQ_HEAD(, message) queue;
        unsigned n;
        bool lost;
        LIST_ENTRY(listener) link;
};

static void release(_unused_ struct sim_call *c, struct sim_file *f) {
        struct listener *l = f->data;
        struct message *m;

        while ((m = STAILQ_FIRST(&l->queue))) {
                STAILQ_REMOVE_HEAD(&l->queue, link);
                free(m);
        }
        LIST_REMOVE(l, link);
        free(l);
}

static const struct sim_file_ops uevent_ops = {
        .kind = "uevents",
        .release = release,
};

bool uevent_is(const struct sim_file *f) {
        return f->ops == &uevent_ops;
}

int uevent_open(struct sim_call *c, struct sim_file **ret) {
        struct listener *l = calloc(1, sizeof(*l));
        struct sim_file *f;

        if (!l)
                return -ENOMEM;
        f = sim_file_new(c, &uevent_ops, l, O_RDWR, "socket:[uevent]", NULL);
        if (!f) {
                free(l);
                return -ENOMEM;
        }
        ((struct open_file *) f)->tree = true;
        STAILQ_INIT(&l->queue);
        LIST_INSERT_HEAD(&c->sim->listeners, l, link);
        *ret = f;
        return 0;
}

void uevent_attach(struct sim_file *f, struct endpoint *e) {
        struct listener *l = f->data;

        l->endpoint = e;
        if (e)
                snprintf(f->name, sizeof(f->name), "socket:[%llu]", (unsigned long long) e->inode);
}

static bool send_now(struct listener *l, const char *text, size_t size) {
        return send(l->endpoint->source.fd, text, size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

static void flush(struct sim *sim, struct listener *l) {
        struct message *m;

        while ((m = STAILQ_FIRST(&l->queue))) {
                if (!send_now(l, m->text, m->size))
                        return;
                STAILQ_REMOVE_HEAD(&l->queue, link);
                l->n--;
                free(m);
        }
        if (l->lost && !send_now(l, SIM_UEVENT_LOST, strlen(SIM_UEVENT_LOST)))
                return;
        l->lost = false;
        (void) source_change(sim, &l->endpoint->source, EPOLLIN | EPOLLRDHUP);
}

void uevent_flush(struct sim_file *f) {
        struct listener *l = f->data;

        if (l->endpoint)
                flush(f->sim, l);
}

static void push(struct sim *sim, struct listener *l, const char *text, size_t size) {
        struct message *m;

        if (!l->endpoint)
                return;
        if (l->n == 0 && !l->lost && send_now(l, text, size))
                return;
        m = l->n < QUEUE_MAX && !l->lost ? malloc(sizeof(*m) + size) : NULL;
        if (m) {
                m->size = size;
                memcpy(m->text, text, size);
                STAILQ_INSERT_TAIL(&l->queue, m, link);
                l->n++;
        } else
                l->lost = true;
        (void) source_change(sim, &l->endpoint->source, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
}

void sim_uevent(struct sim *sim, const char *action, const char *subsystem, struct sim_node *device) {
        char path[PATH_MAX], text[PATH_MAX + 128];
        struct listener *l;
        int n;

        node_path(device, path, sizeof(path));
        n = snprintf(text, sizeof(text), "ACTION=%s%cDEVPATH=%s%cSUBSYSTEM=%s", action, '\0', startswith(path, "/sys/") ? path + 4 : path,
                     '\0', subsystem);
        if (n < 0 || (size_t) n >= sizeof(text))
                return;
        LIST_FOREACH(l, &sim->listeners, link)
                push(sim, l, text, (size_t) n + 1);
}
