/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a trapped access takes: a client of a tdid-vm of its own, whose devices are memory, beside what the same bytes cost
 * on a bare socket between two processes. All of it on one processor, in turns, in the same run: only the ratios mean anything.
 *
 *      vfio-user [--json] [--rounds=N] [--stuck-seconds=N] TDID-VM
 *
 * Prints a line a figure: NAME value=… baseline=… ratio=… goal=…; "n/a" with its reason where something cannot be had here.
 */
#include <dirent.h>
#include <err.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "figures.h"
#include "holder.h"
#include "stuck.h"

#define REQUEST_SIZE 32
#define REPLY_SIZE 36
#define PER_ROUND 1000
#define COUNTED_READS 2000
#define STEPPED_READS 50
#define THREADS_MAX 64

static unsigned rounds = 30, stuck_seconds = 6;

/* ---- what is measured ---- */

static void reads(int connection, unsigned n, struct samples *s) {
        for (unsigned i = 0; i < n; i++) {
                uint64_t begin = bench_now_ns();

                bench_read(connection, i % 1024 * UINT64_C(4));
                if (s)
                        sample(s, bench_now_ns() - begin);
        }
}

static void latency(int connection, int floor_fd) {
        struct samples bare = {}, served = {};

        for (unsigned round = 0; round <= rounds; round++) {
                for (unsigned i = 0; i < PER_ROUND; i++) {
                        uint64_t begin = bench_now_ns();

                        floor_turn(floor_fd, REQUEST_SIZE, REPLY_SIZE);
                        /* The first round warms up. */
                        if (round > 0)
                                sample(&bare, bench_now_ns() - begin);
                }
                reads(connection, PER_ROUND, round > 0 ? &served : NULL);
        }
        figure("vfio_user_read_p50", percentile_us(&served, 50), percentile_us(&bare, 50), 1.5, "us");
        figure("vfio_user_read_p99", percentile_us(&served, 99), percentile_us(&bare, 99), 2, "us");
        free(bare.ns);
        free(served.ns);
}

/* Time of a posted write by that of a read: half of it or less is twice the rate. */
static void posted(int connection) {
        uint64_t writing = 0, reading = 0;

        for (unsigned round = 0; round <= rounds; round++) {
                uint64_t begin = bench_now_ns(), middle;

                for (unsigned i = 0; i < PER_ROUND; i++)
                        bench_post(connection, i % 1024 * UINT64_C(4), i);
                /* All of them are done when this is answered. */
                bench_read(connection, 0);
                middle = bench_now_ns();
                reads(connection, PER_ROUND, NULL);
                if (round > 0) {
                        writing += middle - begin;
                        reading += bench_now_ns() - middle;
                }
        }
        figure("vfio_user_posted_write", (double) writing / 1000 / PER_ROUND / rounds, (double) reading / 1000 / PER_ROUND / rounds, 0.5, "us");
}

/* ---- what a read costs the server ---- */

static size_t threads_of(pid_t pid, pid_t tids[]) {
        const struct dirent *e;
        char path[64];
        size_t n = 0;
        DIR *d;

        snprintf(path, sizeof(path), "/proc/%d/task", (int) pid);
        d = opendir(path);
        if (!d)
                err(1, "%s", path);
        while (n < THREADS_MAX && (e = readdir(d)))
                if (e->d_name[0] != '.')
                        tids[n++] = (pid_t) strtol(e->d_name, NULL, 10);
        (void) closedir(d);
        return n;
}

/* Those of all threads, as the processor counts them; 0 where it does not. */
static double count_instructions(pid_t server, int connection) {
        struct perf_event_attr attr = {
                .type = PERF_TYPE_HARDWARE,
                .size = sizeof(attr),
                .config = PERF_COUNT_HW_INSTRUCTIONS,
                .exclude_kernel = 1,
                .exclude_hv = 1,
        };
        pid_t tids[THREADS_MAX];
        int fds[THREADS_MAX];
        size_t n = threads_of(server, tids), open_fds = 0;
        uint64_t before = 0, after = 0, value;

        while (open_fds < n) {
                fds[open_fds] = (int) syscall(SYS_perf_event_open, &attr, tids[open_fds], -1, -1, PERF_FLAG_FD_CLOEXEC);
                if (fds[open_fds] < 0)
                        break;
                open_fds++;
        }
        if (open_fds == n) {
                for (size_t i = 0; i < n; i++)
                        before += read(fds[i], &value, sizeof(value)) == sizeof(value) ? value : 0;
                reads(connection, COUNTED_READS, NULL);
                for (size_t i = 0; i < n; i++)
                        after += read(fds[i], &value, sizeof(value)) == sizeof(value) ? value : 0;
        }
        while (open_fds > 0)
                (void) close(fds[--open_fds]);
        return (double) (after - before) / COUNTED_READS;
}

/* The thread that waits for requests: the one that is in recvmsg(2). */
static pid_t serving_thread(pid_t server) {
        pid_t tids[THREADS_MAX];
        size_t n = threads_of(server, tids);

        for (size_t i = 0; i < n; i++) {
                char path[64];
                long number = -1;
                FILE *f;

                snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int) server, (int) tids[i]);
                f = fopen(path, "re");
                if (f && fscanf(f, "%ld", &number) == 1 && number == SYS_recvmsg) {
                        (void) fclose(f);
                        return tids[i];
                }
                if (f)
                        (void) fclose(f);
        }
        return -1;
}

/* The same one by one: a step is an instruction, or a call with all that the kernel does in it. 0 where we may not. */
static double step_instructions(pid_t server, int connection) {
        pid_t thread, client;
        uint64_t steps = 0;
        int status, go[2];

        usleep(100000);
        thread = serving_thread(server);
        if (thread < 0 || pipe2(go, O_CLOEXEC) < 0)
                return 0;
        client = fork();
        if (client < 0)
                err(1, "fork");
        if (client == 0) {
                char c;

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (read(go[0], &c, 1) == 1)
                        reads(connection, STEPPED_READS, NULL);
                _exit(0);
        }
        if (ptrace(PTRACE_SEIZE, thread, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, thread, NULL, NULL) < 0 ||
            waitpid(thread, &status, __WALL) != thread || write(go[1], "", 1) != 1) {
                (void) kill(client, SIGKILL);
                (void) waitpid(client, NULL, 0);
        } else {
                while (ptrace(PTRACE_SINGLESTEP, thread, NULL, NULL) == 0 && waitpid(-1, &status, __WALL) == thread)
                        steps++;
        }
        (void) close(go[0]);
        (void) close(go[1]);
        return (double) steps / STEPPED_READS;
}

static void instructions(pid_t server, int connection) {
        double n;

        n = count_instructions(server, connection);
        if (n <= 0)
                n = step_instructions(server, connection);
        if (n <= 0)
                unavailable("vfio_user_read_instructions", "the processor does not count them, and the server may not be traced");
        else
                figure("vfio_user_read_instructions", n, 0, 2000, "");
}

/* Whether a tracer has all of a process's threads. */
static bool traced(pid_t pid) {
        pid_t tids[THREADS_MAX];
        size_t n = threads_of(pid, tids);

        for (size_t i = 0; i < n; i++) {
                char path[64], line[256];
                int tracer = 0;
                FILE *f;

                snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int) pid, (int) tids[i]);
                f = fopen(path, "re");
                while (f && fgets(line, sizeof(line), f))
                        if (startswith(line, "TracerPid:"))
                                tracer = (int) strtol(line + strlen("TracerPid:"), NULL, 10);
                if (f)
                        (void) fclose(f);
                if (tracer == 0)
                        return false;
        }
        return true;
}

static void count_calls(const char *path, double *ret_device, double *ret_other) {
        FILE *f = fopen(path, "re");
        char line[256];

        *ret_device = *ret_other = 0;
        while (f && fgets(line, sizeof(line), f)) {
                char *fields[8], *save = NULL;
                int n = 0;

                for (char *p = strtok_r(line, " \n", &save); p && n < 8; p = strtok_r(NULL, " \n", &save))
                        fields[n++] = p;
                /* % time, seconds, usecs/call, calls, errors or nothing, name. */
                if (n < 5 || strspn(fields[0], "0123456789.") != strlen(fields[0]) || streq(fields[n - 1], "total"))
                        continue;
                if (streq(fields[n - 1], "pread64") || streq(fields[n - 1], "pwrite64"))
                        *ret_device += strtod(fields[3], NULL);
                else
                        *ret_other += strtod(fields[3], NULL);
        }
        if (f)
                (void) fclose(f);
}

static void calls(struct bench_holder *h, int connection) {
        char path[96], pid[16];
        double device, other;
        pid_t strace;

        snprintf(path, sizeof(path), "%s/strace", h->folder);
        snprintf(pid, sizeof(pid), "%d", (int) h->pid);
        strace = fork();
        if (strace < 0)
                err(1, "fork");
        if (strace == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) freopen("/dev/null", "we", stderr);
                execlp("strace", "strace", "-f", "-q", "-c", "-o", path, "-p", pid, NULL);
                _exit(127);
        }
        for (int i = 0; i < 500 && !traced(h->pid); i++)
                usleep(10000);
        if (!traced(h->pid)) {
                (void) kill(strace, SIGKILL);
                (void) waitpid(strace, NULL, 0);
                unavailable("vfio_user_read_calls", "strace cannot attach");
                return;
        }
        reads(connection, COUNTED_READS, NULL);
        (void) kill(strace, SIGINT);
        (void) waitpid(strace, NULL, 0);
        count_calls(path, &device, &other);
        (void) unlink(path);
        if (device < COUNTED_READS)
                unavailable("vfio_user_read_calls", "strace has counted nothing");
        else
                figure("vfio_user_read_calls", other / COUNTED_READS, 0, 3, "");
}

/* ---- beside another function that is stuck ---- */

/* For so long, in turns with the bare socket, by which other programs' load is taken out: p50 and p99 as multiples of its. */
static void multiples(int connection, int floor_fd, double *ret_p50, double *ret_p99) {
        uint64_t until = bench_now_ns() + (uint64_t) stuck_seconds * 1000000000U;
        struct samples bare = {}, served = {};

        while (bench_now_ns() < until) {
                for (unsigned i = 0; i < PER_ROUND / 4; i++) {
                        uint64_t begin = bench_now_ns();

                        floor_turn(floor_fd, REQUEST_SIZE, REPLY_SIZE);
                        sample(&bare, bench_now_ns() - begin);
                }
                reads(connection, PER_ROUND / 4, &served);
        }
        *ret_p50 = percentile_us(&served, 50) / percentile_us(&bare, 50);
        *ret_p99 = percentile_us(&served, 99) / percentile_us(&bare, 99);
        free(bare.ns);
        free(served.ns);
}

static void beside_stuck(struct bench_holder *h, int connection, int floor_fd, const struct stuck_device *stuck) {
        double p50[2], p99[2];
        pid_t pid;
        int other;

        other = bench_holder_serve(h, "0000:02:00.0", stuck->fd);
        bench_read(other, 0);
        multiples(connection, floor_fd, &p50[0], &p99[0]);
        pid = fork();
        if (pid < 0)
                err(1, "fork");
        if (pid == 0) {
                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                bench_read(other, STUCK_OFFSET);
                _exit(0);
        }
        /* From the moment on that it is stuck, over the one that it is given up, to where that is long past. */
        multiples(connection, floor_fd, &p50[1], &p99[1]);
        figure("vfio_user_read_p50_beside_stuck", p50[1], p50[0], 1.05, "x");
        figure("vfio_user_read_p99_beside_stuck", p99[1], p99[0], 1.05, "x");
        (void) kill(pid, SIGKILL);
        (void) waitpid(pid, NULL, 0);
        (void) close(other);
}

int main(int argc, char **argv) {
        struct bench_holder holder = {};
        struct stuck_device stuck;
        const char *program = NULL;
        int floor_fd, device, connection, r;
        pid_t floor_pid;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--json"))
                        figures_json = true;
                else if (startswith(argv[i], "--rounds="))
                        rounds = (unsigned) strtoul(argv[i] + strlen("--rounds="), NULL, 10);
                else if (startswith(argv[i], "--stuck-seconds="))
                        stuck_seconds = (unsigned) strtoul(argv[i] + strlen("--stuck-seconds="), NULL, 10);
                else
                        program = argv[i];
        }
        if (!program || rounds == 0 || stuck_seconds == 0) {
                fprintf(stderr, "usage: vfio-user [--json] [--rounds=N] [--stuck-seconds=N] TDID-VM\n");
                return 2;
        }
        (void) signal(SIGPIPE, SIG_IGN);
        one_processor();
        /* Before the holder, which sees our mounts. */
        r = stuck_start(&stuck);
        floor_pid = floor_start(SOCK_STREAM, REQUEST_SIZE, REPLY_SIZE, &floor_fd);
        bench_holder_start(&holder, program);
        device = bench_memory_device();
        connection = bench_holder_serve(&holder, "0000:01:00.0", device);
        latency(connection, floor_fd);
        posted(connection);
        calls(&holder, connection);
        if (r < 0)
                unavailable("vfio_user_read_beside_stuck", strerror(-r));
        else {
                beside_stuck(&holder, connection, floor_fd, &stuck);
                stuck_end(&stuck);
        }
        /* The last one: a server that was stepped may die of it. */
        instructions(holder.pid, connection);
        (void) close(connection);
        (void) close(device);
        (void) kill(floor_pid, SIGKILL);
        (void) waitpid(floor_pid, NULL, 0);
        bench_holder_end(&holder);
        return 0;
}
