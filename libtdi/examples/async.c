/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libtdi in a program with a loop of its own: usage: async BUS VM BDF
 *
 * Nothing here waits for a device. The function is attached, the VM sealed and destroyed by jobs that are only started; what tdid says of
 * them, and of everything else, comes while the loop runs. The loop is poll(); any other does the same with the descriptor, the events and the time.
 *
 *     cc async.c $(pkg-config --cflags --libs libtdi)
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <tdi/client.h>

struct program {
        struct tdi_client *client;
        const char *vm_id;
        enum { ATTACHING, SEALING, DESTROYING, DONE } step;
        int ready; /* the step's job has ended: the next one may begin */
        int failed;
};

static const char *const names[] = { "attach", "seal", "destroy" };

/* A callback may not call the library: it notes what is to be done. */
static void on_job(const struct tdi_job_report *report, void *userdata) {
        struct program *p = userdata;

        printf("%s: %s%s%s\n", names[p->step], tdi_job_state_to_string(report->state), *report->text ? ": " : "", report->text);
        if (report->state == TDI_JOB_RUNNING)
                return;
        p->failed |= report->result < 0;
        p->ready = 1;
}

static int on_event(const struct tdi_event *event, void *userdata) {
        const struct program *p = userdata;

        if (event->kind == TDI_EVENT_CHANGED && strcmp(event->type, "vm") == 0 && strcmp(event->id, p->vm_id) == 0 &&
            strcmp(event->key, "phase") == 0)
                printf("the VM is %s\n", event->value ? event->value : "changed");
        return 0;
}

/* Milliseconds for poll(), from a time of CLOCK_MONOTONIC. */
static int timeout_until(uint64_t until_usec) {
        struct timespec now;
        uint64_t now_usec;

        if (until_usec == UINT64_MAX)
                return -1;
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        now_usec = (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
        return until_usec <= now_usec ? 0 : (int) ((until_usec - now_usec + 999) / 1000 % 1000000);
}

/* What follows a job that has ended. */
static int go_on(struct program *p) {
        p->ready = 0;
        if (p->step == ATTACHING && !p->failed) {
                p->step = SEALING;
                return tdi_client_seal(p->client, p->vm_id);
        }
        if (p->step == DESTROYING) {
                p->step = DONE;
                return 0;
        }
        p->step = DESTROYING;
        return tdi_client_destroy(p->client, p->vm_id, 0);
}

static int loop(struct program *p) {
        int r = 0;

        while (r >= 0 && p->step != DONE) {
                struct pollfd fd = { .fd = tdi_client_get_fd(p->client) };
                uint64_t until;

                /* Once before the first poll(): something may have come already. */
                r = tdi_client_process(p->client);
                if (r >= 0 && p->ready)
                        r = go_on(p);
                if (r >= 0)
                        r = tdi_client_get_poll(p->client, &fd.events, &until);
                if (r >= 0 && p->step != DONE && !p->ready && poll(&fd, 1, timeout_until(until)) < 0)
                        r = -1;
        }
        return r;
}

int main(int argc, char *argv[]) {
        struct tdi_function function = { .size = sizeof(function) };
        struct program p = { .step = ATTACHING };
        char *id = NULL;
        int lease = -1, r;

        if (argc != 4 || tdi_bdf_parse(argv[3], &function.bdf) < 0) {
                fprintf(stderr, "usage: %s BUS VM BDF\n", argv[0]);
                return 2;
        }
        if (tdi_client_new(&p.client) < 0)
                return 1;
        r = tdi_client_connect(p.client, argv[1]);
        /* Calls that are no jobs are answered at once. */
        if (r >= 0)
                r = tdi_client_create_vm(p.client, argv[2], NULL, &id, &lease);
        p.vm_id = id;
        if (r >= 0)
                r = tdi_client_subscribe(p.client, on_event, &p);
        tdi_client_set_async(p.client, on_job, &p);
        if (r >= 0)
                r = tdi_client_attach(p.client, id, &function, 1);
        if (r >= 0)
                r = loop(&p);
        if (r < 0)
                fprintf(stderr, "%s\n", tdi_client_error(p.client, NULL));
        tdi_client_free(p.client);
        free(id);
        if (lease >= 0)
                close(lease);
        return r < 0 || p.failed;
}
