/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a request of a guest to its TSM costs on its way: tdi_request() to a tdid-vm of its own, whose bind provider answers at once, beside
 * the same bytes on a bare socket between two processes. All of it on one processor, in turns, in the same run.
 *
 *      requests [--json] [--rounds=N] TDID-VM
 *
 * Then 100,000 requests, and what the server has grown by.
 */
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tdi/request.h>

#include "figures.h"
#include "holder.h"

#define BDF "0000:01:00.0"
#define PER_ROUND 1000
#define MANY 100000
#define IN_SIZE 256
#define REQUEST_SIZE (sizeof(struct tdi_request_header) + IN_SIZE)
#define ANSWER_SIZE sizeof(struct tdi_answer_header)

static unsigned rounds = 30;

static void request(int fd) {
        static const uint8_t in[IN_SIZE];
        struct tdi_request q = { .size = sizeof(q), .kind = TDI_REQUEST_INFO, .in = in, .in_size = sizeof(in), .timeout_msec = -1 };
        int r = tdi_request(fd, &q);

        if (r < 0)
                errx(1, "a request: %s", strerror(-r));
}

static void latency(int fd, int floor_fd) {
        struct samples bare = {}, served = {};

        for (unsigned round = 0; round <= rounds; round++)
                for (unsigned i = 0; i < 2 * PER_ROUND; i++) {
                        uint64_t begin = bench_now_ns();

                        if (i < PER_ROUND)
                                floor_turn(floor_fd, REQUEST_SIZE, ANSWER_SIZE);
                        else
                                request(fd);
                        /* The first round warms up. */
                        if (round > 0)
                                sample(i < PER_ROUND ? &bare : &served, bench_now_ns() - begin);
                }
        figure("guest_request_p50", percentile_us(&served, 50), percentile_us(&bare, 50), 2, "us");
        figure("guest_request_p99", percentile_us(&served, 99), percentile_us(&bare, 99), 2, "us");
        free(bare.ns);
        free(served.ns);
}

static double resident_kib(pid_t pid) {
        char path[64], line[256];
        double kib = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/status", (int) pid);
        f = fopen(path, "re");
        while (f && fgets(line, sizeof(line), f))
                if (startswith(line, "VmRSS:"))
                        kib = strtod(line + strlen("VmRSS:"), NULL);
        if (f)
                (void) fclose(f);
        return kib;
}

int main(int argc, char **argv) {
        struct bench_holder holder = {};
        const char *program = NULL;
        int floor_fd, device, connection, fd;
        pid_t floor_pid;
        double before;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--json"))
                        figures_json = true;
                else if (startswith(argv[i], "--rounds="))
                        rounds = (unsigned) strtoul(argv[i] + strlen("--rounds="), NULL, 10);
                else
                        program = argv[i];
        }
        if (!program || rounds == 0) {
                fprintf(stderr, "usage: requests [--json] [--rounds=N] TDID-VM\n");
                return 2;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        one_processor();
        floor_pid = floor_start(SOCK_SEQPACKET, REQUEST_SIZE, ANSWER_SIZE, &floor_fd);
        bench_holder_start(&holder, program);
        device = bench_memory_device();
        connection = bench_holder_serve(&holder, BDF, device);
        fd = bench_holder_open_requests(&holder, BDF, 1000000);
        latency(fd, floor_fd);
        before = resident_kib(holder.pid);
        for (unsigned i = 0; i < MANY; i++)
                request(fd);
        figure("guest_requests_growth", resident_kib(holder.pid) - before, 0, 64, "KiB");
        (void) close(fd);
        (void) close(connection);
        (void) close(device);
        (void) kill(floor_pid, SIGKILL);
        (void) waitpid(floor_pid, NULL, 0);
        bench_holder_end(&holder);
        return 0;
}
