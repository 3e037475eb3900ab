/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdi-sim: arguments, the topology, the loop; and the same program as a client of another. */
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "model/json.h"
#include "sim/pci.h"
#include "sim/server.h"

#define TOPOLOGY_MAX (16UL * 1024 * 1024)
#define EXIT_OPEN 3 /* something was still open */

static const char help[] =
        "tdi-sim --socket=PATH TOPOLOGY.json\n"
        "tdi-sim --socket=PATH --open | --ask=JSON\n"
        "Simulates the Linux kernel of a machine with confidential devices. See tdi-sim(1).\n\n"
        "  --socket=PATH          where clients connect: --host=sim:PATH of tdid\n"
        "  --ready-fd=N           write a line \"ready\" to this descriptor, not to standard output\n"
        "  --check                check the topology, and end\n"
        "  --open                 print what is still open in the simulation that listens there\n"
        "  --ask=JSON             send it a command, and print the answer\n"
        "  --version, --help\n";

struct arguments {
        const char *socket, *topology, *command;
        int ready_fd;
        bool open, check;
};

static int usage(const char *what, const char *argument) {
        fprintf(stderr, "tdi-sim: %s%s%s\n%s", what, argument ? " " : "", strempty(argument), help);
        return -EINVAL;
}

static int parse_fd(const char *text, int *ret) {
        char *end;
        long n;

        errno = 0;
        n = strtol(text, &end, 10);
        if (errno || end == text || *end || n < 0 || n > INT_MAX || fcntl((int) n, F_GETFD) < 0)
                return -EINVAL;
        *ret = (int) n;
        return 0;
}

static int parse(int argc, char **argv, struct arguments *a) {
        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--socket="))
                        a->socket = argv[i] + strlen("--socket=");
                else if (startswith(argv[i], "--ready-fd=")) {
                        if (parse_fd(argv[i] + strlen("--ready-fd="), &a->ready_fd) < 0)
                                return usage("not an open descriptor:", argv[i]);
                } else if (streq(argv[i], "--check"))
                        a->check = true;
                else if (streq(argv[i], "--open"))
                        a->open = true;
                else if (startswith(argv[i], "--ask="))
                        a->command = argv[i] + strlen("--ask=");
                else if (streq(argv[i], "--version")) {
                        puts("tdi-sim " TDID_VERSION);
                        return 0;
                } else if (streq(argv[i], "--help")) {
                        fputs(help, stdout);
                        return 0;
                } else if (argv[i][0] == '-')
                        return usage("unknown option", argv[i]);
                else if (a->topology)
                        return usage("more than one topology:", argv[i]);
                else
                        a->topology = argv[i];
        }
        if (a->check)
                return a->topology ? 1 : usage("a topology is missing", NULL);
        if (!a->socket)
                return usage("--socket=PATH is missing", NULL);
        if (a->open && a->command)
                return usage("--open and --ask exclude each other", NULL);
        if ((a->open || a->command) == (a->topology != NULL))
                return usage(a->topology ? "a topology, or a question, not both" : "a topology is missing", NULL);
        return 1;
}

/* ---- as a client ---- */

static void print_open(const char *answer) {
        _cleanup_json_ struct json_object *o = json_tokener_parse(answer);
        struct json_object *list;

        if (json_get_array(o, "open", &list) >= 0)
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        struct json_object *f = json_object_array_get_idx(list, i);

                        printf("%-10s %-12s %8lld  %s\n", json_str_or(f, "kind", ""), json_str_or(f, "device", ""),
                               (long long) json_i64_or(f, "opener", 0), json_str_or(f, "name", ""));
                }
        if (json_get_array(o, "calls", &list) >= 0)
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        struct json_object *k = json_object_array_get_idx(list, i);

                        printf("call       %-12s %8lld  %s %s, %s, %lld ms\n", json_str_or(k, "device", ""),
                               (long long) json_i64_or(k, "pid", 0), json_str_or(k, "op", ""), json_str_or(k, "name", ""),
                               json_str_or(k, "state", ""), (long long) json_i64_or(k, "ms", 0));
                }
}

static int ask(const struct arguments *a) {
        _cleanup_free_ char *answer = NULL;
        int r;

        r = control_client(a->socket, a->open ? "{\"do\":\"open\"}" : a->command, &answer);
        if (!answer) {
                fprintf(stderr, "tdi-sim: %s: %s\n", a->socket, strerror(-r));
                return EXIT_FAILURE;
        }
        if (a->open && r >= 0)
                print_open(answer);
        else
                puts(answer);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- as the simulation ---- */

/* The text of a file, but for one that is too long to be a topology, or endless. */
static int read_topology(const char *path, char **ret, size_t *ret_size) {
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t have = 0, room = 65536;
        struct stat st;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (S_ISREG(st.st_mode) && (uint64_t) st.st_size > TOPOLOGY_MAX)
                return -EFBIG;
        for (;;) {
                char *t;
                ssize_t n;

                if (!text || have == room) {
                        room = text ? room * 2 : room;
                        t = realloc(text, room);
                        if (!t)
                                return -ENOMEM;
                        text = t;
                }
                n = read(fd, text + have, room - have);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                have += (size_t) n;
                if (have > TOPOLOGY_MAX)
                        return -EFBIG;
        }
        *ret = TAKE_PTR(text);
        *ret_size = have;
        return 0;
}

static int load(const char *path, struct json_object **ret) {
        _cleanup_json_ struct json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        const char *why = NULL;
        unsigned line = 0;
        char place[512];
        size_t size = 0;
        int r;

        r = read_topology(path, &text, &size);
        if (r < 0) {
                fprintf(stderr, "tdi-sim: %s: %s\n", path, r == -EFBIG ? "larger than 16 MiB" : strerror(-r));
                return r;
        }
        r = json_parse_strict(text, size, &o, &line, &why);
        if (r < 0) {
                fprintf(stderr, "tdi-sim: %s:%u: %s\n", path, line, why ? why : strerror(-r));
                return r;
        }
        r = sim_topology_check(o, place, sizeof(place));
        if (r < 0) {
                fprintf(stderr, "tdi-sim: %s: %s\n", path, place);
                return r;
        }
        *ret = TAKE_PTR(o);
        return 0;
}

static int load_faults(struct sim *sim, const char *path, struct json_object *topology) {
        struct json_object *rules;
        char why[512];
        int r;

        r = json_get_array(topology, "faults", &rules);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                snprintf(why, sizeof(why), "faults: not a list");
        else
                r = sim_faults_load(sim, rules, why, sizeof(why));
        if (r < 0)
                fprintf(stderr, "tdi-sim: %s: %s\n", path, why);
        return r;
}

/* Blocked here, before there are threads, so that only the loop takes them. */
static int watch_signals(struct sim *sim) {
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, SIGTERM);
        (void) sigaddset(&set, SIGINT);
        (void) sigprocmask(SIG_BLOCK, &set, NULL);
        (void) signal(SIGPIPE, SIG_IGN);
        sim->signals = (struct source){ .type = SOURCE_SIGNAL, .fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK) };
        if (sim->signals.fd < 0)
                return -errno;
        return source_add(sim, &sim->signals, EPOLLIN);
}

static int start(struct sim *sim, const struct arguments *a, struct json_object *topology) {
        char place[512];
        int r;

        sim_lock(sim);
        r = load_faults(sim, a->topology, topology);
        if (r >= 0) {
                r = sim_machine_boot(sim, topology, place, sizeof(place));
                if (r < 0)
                        fprintf(stderr, "tdi-sim: %s: %s\n", a->topology, place);
        }
        sim_unlock(sim);
        if (r < 0)
                return r;
        r = sim_listen(sim, a->socket);
        if (r < 0) {
                fprintf(stderr, "tdi-sim: %s: %s\n", a->socket, r == -EADDRINUSE ? "another simulation listens there" : strerror(-r));
                return r;
        }
        if (dprintf(a->ready_fd, "ready\n") < 0)
                fprintf(stderr, "tdi-sim: nobody was told that it is ready: %s\n", strerror(errno));
        return 0;
}

/* What is left after a stop sleeps in a thread: all of it stays until the process ends, reachable from here. */
static struct sim *the_simulation;
static struct json_object *the_topology;

static int finish(struct sim *sim) {
        size_t n = sim_print_open(sim, stderr);

        if (sim_stop(sim)) {
                sim_lock(sim);
                sim_machine_free(sim);
                sim_unlock(sim);
                the_simulation = sim_free(sim);
                json_putp(&the_topology);
        }
        return n > 0 ? EXIT_OPEN : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        struct arguments a = { .ready_fd = STDOUT_FILENO };
        int r;

        r = parse(argc, argv, &a);
        if (r <= 0)
                return r < 0 ? 2 : 0;
        if (a.open || a.command)
                return ask(&a);
        if (load(a.topology, &the_topology) < 0)
                return EXIT_FAILURE;
        r = sim_new(&the_simulation);
        if (r >= 0)
                r = watch_signals(the_simulation);
        if (r < 0) {
                fprintf(stderr, "tdi-sim: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        if (a.check)
                return load_faults(the_simulation, a.topology, the_topology) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (start(the_simulation, &a, the_topology) < 0)
                return EXIT_FAILURE;
        do
                r = sim_round(the_simulation, -1);
        while (r == 0);
        if (r < 0) {
                fprintf(stderr, "tdi-sim: the loop: %s\n", strerror(-r));
                return EXIT_FAILURE;
        }
        return finish(the_simulation);
}
