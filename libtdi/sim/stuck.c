/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Processes that cannot die. A thread in uninterruptible sleep keeps every descriptor of its process open after SIGKILL, but the
 * real process, which only waits for an answer, just ends. So copies of its sockets are kept here until the call is over.
 */
#include "sim/server.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define STUCK_US 5000ULL /* how long an uninterruptible sleep lasts before its process counts as one that cannot die */
#define SCAN_US 250000ULL /* how often what a live process has is looked at again */
#define PF_EXITING 0x4u

static struct stuck *find(struct sim *sim, pid_t pid) {
        struct stuck *s;

        LIST_FOREACH(s, &sim->stuck, link)
                if (s->pid == pid && !s->dead)
                        return s;
        return NULL;
}

static bool held(const struct stuck *s, uint64_t inode) {
        for (size_t i = 0; i < s->n; i++)
                if (s->held[i].inode == inode)
                        return true;
        return false;
}

static void hold_take_fd(struct stuck *s, int fd, uint64_t inode) {
        if (s->n >= s->room) {
                size_t room = s->room ? s->room * 2 : 16;
                void *t = reallocarray(s->held, room, sizeof(*s->held));

                if (!t) {
                        close_fd(fd);
                        return;
                }
                s->held = t;
                s->room = room;
        }
        s->held[s->n].fd = fd;
        s->held[s->n++].inode = inode;
}

/* Is the process on its way out? Then what was seen of its descriptors may be half of them. */
static bool is_dying(pid_t pid) {
        char path[64], text[512], *p;
        unsigned flags = 0;
        size_t n;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        f = fopen(path, "re");
        if (!f)
                return true;
        n = fread(text, 1, sizeof(text) - 1, f);
        (void) fclose(f);
        text[n] = '\0';
        p = strrchr(text, ')');
        if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
                return true;
        return flags & PF_EXITING;
}

static void copy(struct sim *sim, struct stuck *s, int number, uint64_t inode) {
        struct stat st;
        int fd;

        fd = pidfd_getfd(s->pidfd, number, 0);
        if (fd < 0) {
                if (errno == EPERM && !sim->stuck_refused) {
                        sim->stuck_refused = true;
                        sim_log(sim, "not allowed to copy the descriptors of process %d, which loses them when it is killed in its sleep", s->pid);
                }
                return;
        }
        if (fstat(fd, &st) < 0 || st.st_ino != inode)
                close_fd(fd);
        else
                hold_take_fd(s, fd, inode);
}

/* What the process has of ours: copies of what is new, and what a live process has closed goes. */
static void scan(struct sim *sim, struct stuck *s) {
        _cleanup_free_ bool *seen = NULL;
        size_t before = s->n;
        struct dirent *e;
        char path[64];
        DIR *d;

        s->next_scan = sim_now_us() + SCAN_US;
        snprintf(path, sizeof(path), "/proc/%d/fd", s->pid);
        seen = calloc(before + 1, sizeof(*seen));
        d = opendir(path);
        if (!seen || !d) {
                if (d)
                        (void) closedir(d);
                else
                        s->dead = true;
                return;
        }
        while ((e = readdir(d))) {
                unsigned long long inode;
                char link[64];
                ssize_t n;

                n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);
                if (n < 0)
                        continue;
                link[n] = '\0';
                if (sscanf(link, "socket:[%llu]", &inode) != 1)
                        continue;
                for (size_t i = 0; i < before; i++)
                        if (s->held[i].inode == inode)
                                seen[i] = true;
                if (!held(s, inode) && endpoint_find(sim, inode))
                        copy(sim, s, atoi(e->d_name), inode);
        }
        (void) closedir(d);
        if (is_dying(s->pid)) {
                s->dead = true;
                return;
        }
        for (size_t i = before; i > 0; i--)
                if (!seen[i - 1]) {
                        close_fd(s->held[i - 1].fd);
                        s->held[i - 1] = s->held[--s->n];
                }
}

static void attach(struct sim *sim, struct call *k) {
        struct stuck *s = find(sim, k->c.pid);

        if (!s) {
                s = calloc(1, sizeof(*s));
                if (!s)
                        return;
                s->pid = k->c.pid;
                s->pidfd = pidfd_open(s->pid, 0);
                if (s->pidfd < 0) {
                        free(s);
                        return;
                }
                LIST_INSERT_HEAD(&sim->stuck, s, link);
                scan(sim, s);
        }
        s->users++;
        k->stuck = s;
        server_timer(sim, SCAN_US / 1000);
}

void stuck_sleep(struct call *k, bool at_once) {
        if (k->stuck || k->c.pid <= 0 || k->c.pid == getpid() || k->op == SIM_CONTROL)
                return;
        if (k->stuck_since == 0)
                k->stuck_since = sim_now_us();
        if (at_once)
                attach(k->c.sim, k);
        else
                server_timer(k->c.sim, STUCK_US / 1000);
}

void stuck_end(struct call *k) {
        struct stuck *s = TAKE_PTR(k->stuck);

        if (!s || --s->users > 0)
                return;
        LIST_REMOVE(s, link);
        for (size_t i = 0; i < s->n; i++)
                close_fd(s->held[i].fd);
        close_fd(s->pidfd);
        free(s->held);
        free(s);
}

void stuck_tick(struct sim *sim) {
        uint64_t now = sim_now_us(), next = UINT64_MAX;
        struct stuck *s;
        struct call *k;

        TAILQ_FOREACH(k, &sim->calls, link) {
                if (!k->cond || k->interruptible || k->stuck_since == 0 || k->stuck)
                        continue;
                if (now - k->stuck_since >= STUCK_US)
                        attach(sim, k);
                else
                        next = STUCK_US;
        }
        LIST_FOREACH(s, &sim->stuck, link) {
                if (s->dead)
                        continue;
                if (s->next_scan <= now)
                        scan(sim, s);
                if (!s->dead && next > s->next_scan - now)
                        next = s->next_scan - now;
        }
        if (next != UINT64_MAX)
                server_timer(sim, next / 1000 + 1);
}

void stuck_new_fd(struct sim *sim, pid_t pid, int fd, uint64_t inode) {
        struct stuck *s = find(sim, pid);
        int copied;

        if (!s)
                return;
        copied = fd_dup(fd);
        if (copied >= 0)
                hold_take_fd(s, copied, inode);
}

void stuck_closed(struct sim *sim, uint64_t inode) {
        struct stuck *s;

        LIST_FOREACH(s, &sim->stuck, link)
                if (!s->dead && held(s, inode))
                        scan(sim, s);
}
