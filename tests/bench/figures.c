/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "figures.h"

#include <err.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "util/util.h"

bool figures_json;

void sample(struct samples *s, uint64_t ns) {
        if (s->n == s->max) {
                s->max = s->max ? s->max * 2 : 4096;
                s->ns = reallocarray(s->ns, s->max, sizeof(*s->ns));
                if (!s->ns)
                        err(1, "samples");
        }
        s->ns[s->n++] = ns;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

double percentile_us(struct samples *s, unsigned percent) {
        size_t at = s->n * percent / 100;

        if (s->n == 0)
                errx(1, "nothing was measured");
        qsort(s->ns, s->n, sizeof(*s->ns), compare);
        return (double) s->ns[at] / 1000;
}

void figure(const char *name, double value, double baseline, double goal, const char *unit) {
        double ratio = baseline > 0 ? value / baseline : 0;

        if (figures_json) {
                printf("{\"name\": \"%s\", \"value\": %.3f, \"baseline\": ", name, value);
                if (baseline > 0)
                        printf("%.3f, \"ratio\": %.3f", baseline, ratio);
                else
                        printf("null, \"ratio\": null");
                if (goal >= 0)
                        printf(", \"goal\": %g", goal);
                else
                        printf(", \"goal\": null");
                printf(", \"unit\": \"%s\"}\n", unit);
        } else {
                char base[32] = "-", by[32] = "-", wanted[32] = "-";

                if (baseline > 0) {
                        snprintf(base, sizeof(base), "%.3f%s", baseline, unit);
                        snprintf(by, sizeof(by), "%.3f", ratio);
                }
                if (goal >= 0)
                        snprintf(wanted, sizeof(wanted), "%g", goal);
                printf("%s value=%.3f%s baseline=%s ratio=%s goal=%s%s\n", name, value, unit, base, by, wanted,
                       goal >= 0 && (baseline > 0 ? ratio : value) > goal ? " MISSED" : "");
        }
        fflush(stdout);
}

void unavailable(const char *name, const char *why) {
        if (figures_json)
                printf("{\"name\": \"%s\", \"value\": null, \"baseline\": null, \"ratio\": null, \"goal\": null, \"unit\": \"\", \"why\": \"%s\"}\n", name, why);
        else
                printf("%s value=n/a baseline=- ratio=- goal=- (%s)\n", name, why);
        fflush(stdout);
}

static bool receive(int fd, void *buf, size_t size) {
        return recv(fd, buf, size, MSG_WAITALL) == (ssize_t) size;
}

static bool transmit(int fd, const void *buf, size_t size) {
        return send(fd, buf, size, MSG_NOSIGNAL) == (ssize_t) size;
}

pid_t floor_start(int type, size_t request, size_t answer, int *ret) {
        char buf[FLOOR_MAX] = {};
        int pair[2];
        pid_t pid;

        if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0)
                err(1, "socketpair");
        pid = fork();
        if (pid < 0)
                err(1, "fork");
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) close(pair[0]);
                while (receive(pair[1], buf, request) && transmit(pair[1], buf, answer))
                        ;
                _exit(0);
        }
        (void) close(pair[1]);
        *ret = pair[0];
        return pid;
}

void floor_turn(int fd, size_t request, size_t answer) {
        char buf[FLOOR_MAX] = {};

        if (!transmit(fd, buf, request) || !receive(fd, buf, answer))
                err(1, "the other end of the ping-pong");
}

void one_processor(void) {
        cpu_set_t all, one;
        int cpu = 0;

        if (sched_getaffinity(0, sizeof(all), &all) < 0)
                err(1, "sched_getaffinity");
        /* The last one: interrupts go to the first. */
        for (int i = 0; i < CPU_SETSIZE; i++)
                if (CPU_ISSET(i, &all))
                        cpu = i;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof(one), &one) < 0)
                err(1, "sched_setaffinity");
}
