/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdid: arguments, start, loop. */
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "admission.h"
#include "audit.h"
#include "bus/bus.h"
#include "confine.h"
#include "custody-table.h"
#include "device.h"
#include "guard/guard.h"
#include "pace.h"
#include "recover.h"
#include "stop.h"
#include "vm.h"
#include "watch.h"
#include "worker.h"

#define ARCHIVE_DIR "/var/lib/tdid/evidence"

static const char help[] =
        "tdid [OPTION…]\n"
        "Owns confidential device assignment on this host. See tdid(8).\n\n"
        "  --host=HOST            the kernel that devices are on: linux (default), or sim:SOCKET, a tdi-sim\n"
        "  --bus=BUS              system (default), session, or a D-Bus address\n"
        "  --state=DIR            journal and holders, /run/tdid by default\n"
        "  --config=FILE          " CONFIG_PATH " by default\n"
        "  --policy=DIR           a folder of policy files; may be given again, later ones override; by default\n"
        "                         " POLICY_DIR_SHIPPED " and " POLICY_DIR_LOCAL "\n"
        "  --archive=DIR          what devices have said of themselves; " ARCHIVE_DIR " by default, empty: none\n"
        "  --audit=WHERE          journal (default), none, or a file: lines of JSON\n"
        "  --print-actions        list the sub-actions of the custody table, and end\n"
        "  --version, --help\n";

struct arguments {
        const char *host, *bus, *state, *config, *archive, *audit, *policy[POLICY_DIRS_MAX];
        size_t n_policy;
};

static int parse(int argc, char **argv, struct arguments *a) {
        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--host="))
                        a->host = argv[i] + strlen("--host=");
                else if (startswith(argv[i], "--bus="))
                        a->bus = argv[i] + strlen("--bus=");
                else if (startswith(argv[i], "--state="))
                        a->state = argv[i] + strlen("--state=");
                else if (startswith(argv[i], "--config="))
                        a->config = argv[i] + strlen("--config=");
                else if (startswith(argv[i], "--policy=") && a->n_policy < POLICY_DIRS_MAX)
                        a->policy[a->n_policy++] = argv[i] + strlen("--policy=");
                else if (startswith(argv[i], "--archive="))
                        a->archive = argv[i] + strlen("--archive=");
                else if (startswith(argv[i], "--audit="))
                        a->audit = argv[i] + strlen("--audit=");
                else if (streq(argv[i], "--print-actions")) {
                        for (int k = 0; k < ACTION_MAX; k++)
                                puts(custody_table[k].name);
                        return 0;
                } else if (streq(argv[i], "--version")) {
                        puts("tdid " TDID_VERSION);
                        return 0;
                } else if (streq(argv[i], "--help")) {
                        fputs(help, stdout);
                        return 0;
                } else {
                        fprintf(stderr, "tdid: unknown argument %s\n%s", argv[i], help);
                        return -EINVAL;
                }
        }
        return 1;
}

static int make_dir(const char *state, const char *name, mode_t mode) {
        char path[512];

        if (snprintf(path, sizeof(path), "%s%s%s", state, name ? "/" : "", strempty(name)) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        if (mkdir(path, mode) < 0)
                return errno == EEXIST ? 0 : -errno;
        /* Whatever the umask: VMMs pass through to their sockets. */
        return chmod(path, mode) < 0 ? -errno : 0;
}

static int read_boot_id(Manager *m) {
        ssize_t n = host_read_text(m->host, "/proc/sys/kernel/random/boot_id", m->boot_id, sizeof(m->boot_id));

        return n < 0 ? (int) n : 0;
}

/* The programs that tdid starts stand beside it. */
static int find_libexec(Manager *m) {
        const char *set = getenv("TDID_LIBEXEC");
        char path[512], *slash;
        ssize_t n;

        if (set)
                return free_and_strdup(&m->libexec_dir, set);
        n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        slash = strrchr(path, '/');
        if (slash)
                *slash = '\0';
        return free_and_strdup(&m->libexec_dir, path);
}

static void on_name(Manager *m, int r) {
        if (r < 0) {
                log_error("could not own %s: %s; is another tdid running, and does the D-Bus policy allow it?", BUS_NAME, strerror(-r));
                (void) sd_event_exit(m->event, 1);
                return;
        }
        guard_sweep(m);
        (void) sd_notify(0, "READY=1\nSTATUS=Serving");
        log_notice("serving: %zu functions, %zu VMs, %zu TSMs", m->n_devices, m->n_vms, m->n_tsms);
        worker_keep_spares(m);
        manager_touch(m);
}

static void on_known(Manager *m) {
        int r = bus_request_name(m, on_name);

        if (r < 0)
                on_name(m, r);
        m->serving = true;
}

/* What is attached from now on is guarded, or nobody can. */
static void on_ready(Manager *m) {
        guard_when_known(m, on_known);
}

static void on_recovered(Manager *m) {
        int r = inventory_start(m, on_ready);

        if (r < 0) {
                log_error("could not start the readers: %s", strerror(-r));
                (void) sd_event_exit(m->event, 1);
        }
}

/* Two tdids on one state would take each other's holders and journals: the second one ends before it touches any. */
static int lock_state(const char *state) {
        char path[512];
        int fd;

        if (snprintf(path, sizeof(path), "%s/lock", state) >= (int) sizeof(path))
                return -ENAMETOOLONG;
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                int r = -errno;

                close_fd(fd);
                return r;
        }
        /* Kept open, and so locked, until the process ends. */
        return 0;
}

/* Where somebody starts it again by himself. Nothing has been touched yet, and a signal that comes meanwhile is heard afterwards. */
static void keep_pace(const char *state) {
        int64_t wait;

        if (!getenv("NOTIFY_SOCKET"))
                return;
        wait = pace_begin(state);
        if (wait < 0)
                log_warning("%s/pace: %s; should tdid end again and again, nothing slows that down", state, strerror((int) -wait));
        if (wait <= 0)
                return;
        log_warning("tdid has ended badly, and been started again, more than %u times in the last minutes: it waits %.1f s before it goes on. VMs are "
                    "held meanwhile; the log of the starts before this one says what is wrong", (unsigned) (PACE_BURST_USEC / PACE_USEC), (double) wait / 1e6);
        (void) sd_notify(0, "STATUS=Started again too often; waiting");
        (void) usleep((useconds_t) wait);
}

/* What the process ends with where the loop has never run. */
static int exit_code = 1;

static int load_config(Manager *m, const char *path) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = config_load(path, &m->config, &text);
        if (r < 0 && r != -ENOENT) {
                log_error("%s", text ? text : strerror(-r));
                exit_code = EX_CONFIG;
                return r;
        }
        return 0;
}

static int start(Manager *m, const struct arguments *a) {
        sigset_t mask;
        int r;

        sigemptyset(&mask);
        sigaddset(&mask, SIGHUP);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        (void) signal(SIGPIPE, SIG_IGN);

        m->config_path = a->config;
        memcpy(m->policy_dirs, a->policy, sizeof(a->policy));
        m->n_policy_dirs = a->n_policy;
        r = load_config(m, a->config);
        if (r < 0)
                return r;
        admission_begin(m);
        r = tdi_host_new(a->host, &m->host);
        if (r < 0) {
                log_error("--host=%s: %s", a->host, r == -EINVAL ? "unknown host" : strerror(-r));
                return r;
        }
        if (free_and_strdup(&m->host_spec, a->host) < 0 || free_and_strdup(&m->state_dir, a->state) < 0 || free_and_strdup(&m->archive_dir, a->archive) < 0)
                return -ENOMEM;
        m->booted_by_systemd = streq(a->bus, "system") && getenv("INVOCATION_ID") && sd_booted() > 0;
        r = find_libexec(m);
        if (r >= 0)
                r = worker_open_program(m);
        if (r >= 0)
                r = read_boot_id(m);
        if (r >= 0)
                r = make_dir(a->state, NULL, 0755);
        if (r >= 0)
                r = make_dir(a->state, "journal", 0700);
        if (r >= 0)
                r = make_dir(a->state, "holder", 0700);
        if (r >= 0)
                r = make_dir(a->state, "vm", 0711);
        if (r >= 0)
                r = lock_state(a->state);
        if (r == -EWOULDBLOCK) {
                log_error("another tdid runs on %s", a->state);
                return r;
        }
        if (r < 0) {
                log_error("could not prepare %s: %s", a->state, strerror(-r));
                return r;
        }
        keep_pace(a->state);
        /* A host that writes down what passes through it needs its files. */
        r = startswith(a->host, "trace:") ? 0 : daemon_confine(!streq(a->host, "linux"));
        if (r < 0) {
                log_error("could not confine itself: %s; does the kernel have CONFIG_SECCOMP_FILTER?", strerror(-r));
                return r;
        }
        r = audit_open(m->event, a->audit);
        if (r < 0) {
                log_error("--audit=%s: %s", a->audit, r == -EINVAL ? "neither \"journal\" nor \"none\", nor a path" : strerror(-r));
                return r;
        }
        audit_started(a->host);
        r = bus_open(m, a->bus);
        if (r < 0) {
                log_error("could not connect to the bus %s: %s", a->bus, strerror(-r));
                return r;
        }
        r = stop_install(m);
        if (r >= 0)
                r = watch_new(m->event, m->host, "/sys/bus/pci/devices", tdi_written_to, m, &m->watch);
        if (r >= 0)
                r = sd_event_set_watchdog(m->event, true);
        if (r >= 0)
                r = recover_start(m, on_recovered);
        if (r < 0)
                log_error("could not start: %s", strerror(-r));
        return r;
}

int main(int argc, char **argv) {
        _cleanup_(manager_freep) Manager *m = NULL;
        struct arguments a = { "linux", "system", "/run/tdid", CONFIG_PATH, ARCHIVE_DIR, "journal", {}, 0 };
        int r;

        r = parse(argc, argv, &a);
        if (r <= 0)
                return r < 0 ? 2 : 0;
        log_open("tdid");
        r = manager_new(&m);
        if (r >= 0)
                r = start(m, &a);
        /* The loop ends with the code that sd_event_exit() was given. */
        if (r >= 0)
                r = sd_event_loop(m->event);
        r = r < 0 ? exit_code : r;
        if (r == 0)
                pace_end(a.state);
        audit_ended(r);
        audit_close();
        return r;
}
